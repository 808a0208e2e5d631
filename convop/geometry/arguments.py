"""Validation of users' arguments: sizes, strides and paddings become one number or pair per axis, or an error."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np

NAMED_PADDINGS = ("valid", "same", "full")

IntOrSequence: TypeAlias = int | Sequence[int]
Padding: TypeAlias = int | str | Sequence[int] | Sequence[tuple[int, int]]


def integer(name: str, value: object) -> int:
    """An int from any integer; bools are refused."""
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be an integer, got the bool {value!r}")
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r} of type {type(value).__name__}") from None


def boolean(name: str, value: object) -> bool:
    """A bool from a bool of Python or NumPy; other values are refused."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def at_least_one(name: str, value: object) -> int:
    """An integer that is at least 1."""
    count = integer(name, value)
    if count < 1:
        raise ValueError(f"{name} must be at least 1, got {value!r}")
    return count


def number(name: str, value: Any) -> float:
    """A float from any real number; bools and text are refused."""
    if not isinstance(value, bool | np.bool_ | str | bytes) and getattr(value, "shape", ()) == ():
        try:
            return float(value)
        except (TypeError, ValueError):
            pass
    raise TypeError(f"{name} must be a number, got {value!r}")


def positive(name: str, value: Any) -> float:
    """A float that is positive and finite."""
    result = number(name, value)
    if not 0 < result < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value!r}")
    return result


def one_of(name: str, value: object, choices: Iterable[str]) -> str:
    """A string that is one of the choices."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}; got {value!r}")
    return value


def _is_sequence(value: object) -> bool:
    """Whether a value has elements; an array without axes has `__iter__`, but none."""
    return hasattr(value, "__iter__") and getattr(value, "shape", None) != ()


def _integers(name: str, value: Any) -> tuple[int, ...]:
    """A tuple of ints from an int or any sequence of ints."""
    if isinstance(value, str | bytes) or not _is_sequence(value):
        return (integer(name, value),)
    return tuple(integer(name, v) for v in value)


def sizes(name: str, value: object) -> tuple[int, ...]:
    """A shape of at least one axis, with sizes of at least 1."""
    shape = _integers(name, value)
    if not shape or min(shape) < 1:
        raise ValueError(f"{name} must have at least one axis and sizes of at least 1, got {shape}")
    return shape


def spatial_dimensions(inputs: tuple[int, ...], kernel: tuple[int, ...]) -> int:
    """Number of spatial axes of an input and a kernel with or without channels."""
    if len(kernel) == len(inputs):
        return len(inputs)
    if len(kernel) == len(inputs) + 1 and len(inputs) > 1:
        return len(inputs) - 1
    raise ValueError(
        f"kernel_shape {kernel} does not go with input_shape {inputs}: expected as many axes in both "
        "(an image and a kernel), or an input (c_in, *space) with a kernel (c_out, c_in/groups, *taps)"
    )


def per_axis(name: str, value: object, ndim: int, *, least: int = 1) -> tuple[int, ...]:
    """One integer per spatial axis, from one integer for all axes or a sequence."""
    values = _integers(name, value)
    if len(values) == 1 and not _is_sequence(value):
        values = values * ndim
    if len(values) != ndim:
        raise ValueError(f"{name} must be one integer or {ndim} (one per spatial axis), got {value!r}")
    if min(values) < least:
        raise ValueError(f"{name} must be at least {least}, got {value!r}")
    return values


def paddings(
    padding: Any,
    space: tuple[int, ...],
    taps: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
) -> tuple[tuple[int, int], ...]:
    """One ``(lo, hi)`` pair per spatial axis, from a padding in any of its forms."""
    ndim = len(space)
    if isinstance(padding, str):
        if padding not in NAMED_PADDINGS:
            raise ValueError(f"padding must be numbers or one of {', '.join(NAMED_PADDINGS)}; got {padding!r}")
        return tuple(_named_padding(padding, *axis) for axis in zip(space, taps, strides, dilations, strict=True))
    if not _is_sequence(padding):
        width = integer("padding", padding)
        return ((width, width),) * ndim
    pairs = tuple(_pair(p) for p in padding)
    if len(pairs) != ndim:
        hint = f"; for one axis with two ends write (({pairs[0][0]}, {pairs[1][0]}),)" if ndim == 1 else ""
        raise ValueError(
            f"padding must be one integer, {ndim} integers or {ndim} (lo, hi) pairs (one per spatial axis), "
            f"got {padding!r}{hint if len(pairs) == 2 else ''}"
        )
    return pairs


def _pair(value: object) -> tuple[int, int]:
    """The padding of one axis, from an int for both ends or a pair."""
    ends = _integers("padding", value)
    if len(ends) == 1 and not _is_sequence(value):
        return ends[0], ends[0]
    if len(ends) != 2:
        raise ValueError(f"padding of one axis must be an integer or a pair (lo, hi), got {value!r}")
    return ends[0], ends[1]


def _named_padding(name: str, n: int, k: int, s: int, d: int) -> tuple[int, int]:
    """The padding "valid", "full" or "same" of one axis, for n inputs, k taps, stride s and dilation d."""
    halo = d * (k - 1)
    if name == "valid":
        return 0, 0
    if name == "full":
        return halo, halo
    total = max(0, (-(-n // s) - 1) * s + halo + 1 - n)
    return total // 2, total - total // 2
