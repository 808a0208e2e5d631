"""What `convop deblur` does between reading an image and writing one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from .. import damping, kernels
from ..arrays.backend import Array
from ..files import Picture, read_kernel
from ..inverse.tikhonov import Solution, tikhonov
from ..operators.conv import Conv

__all__ = ["Damping", "Recovered", "deblurred", "parsed_damping", "point_spread"]

# An estimate of the noise is taken times this: a residual too small ruins an image, one too large leaves it smooth.
_CAUTION = 1.2


@dataclass(frozen=True)
class Damping:
    """A damping, and how it came about, in words."""

    value: float
    how: str


@dataclass(frozen=True)
class Recovered:
    """A picture, what damped it, and what the solver says."""

    picture: Picture
    damping: Damping
    solution: Solution


def point_spread(text: str, shape: tuple[int, int]) -> Array:
    """The kernel of a blur, by its name and numbers, or as it is.

    Parameters
    ----------
    text : str
        ``gaussian:SIGMA``, ``motion:LENGTH,ANGLE``, or what `convop.files.read_kernel` takes.
    shape : (int, int)
        Rows and columns of the image, which the kernel has to fit in. Asked before a named one is made.

    Returns
    -------
    ndarray
        Of two dimensions and sum 1.

    Raises
    ------
    ValueError
        If it is no kernel of a blur, or larger than the image.
    OSError
        If there is no such file.
    """
    name, _, numbers = text.partition(":")
    if name == "gaussian":
        (sigma,) = _floats("kernel", numbers, 1, "gaussian:SIGMA", text)
        _require_within(kernels.gaussian_shape(sigma), shape)
        return kernels.gaussian(sigma)
    if name == "motion":
        length, angle = _floats("kernel", numbers, 2, "motion:LENGTH,ANGLE", text)
        _require_within(kernels.motion_shape(length, angle), shape)
        return kernels.motion(length, angle)
    try:
        point = np.asarray(read_kernel(text))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"kernel {text} is no file, and none of gaussian:SIGMA, motion:LENGTH,ANGLE and [[...], [...]]"
        ) from None
    if point.ndim != 2 or point.size == 0:
        raise ValueError(f"kernel of a blur must have two dimensions, got shape {point.shape}")
    if point.dtype.kind == "c":
        raise ValueError("kernel of a blur must be real, got complex numbers")
    point = point.astype(np.float64)
    with np.errstate(over="ignore"):
        total = float(point.sum())
    if not 0 < total < math.inf:
        raise ValueError(f"kernel of a blur must have a sum that is positive and finite, got {total:g}")
    _require_within(point.shape, shape)
    return point / total


def _require_within(size: tuple[int, ...], shape: tuple[int, int]) -> None:
    if size[0] > shape[0] or size[1] > shape[1]:
        raise ValueError(f"kernel of {size[0]}x{size[1]} pixels is larger than the image of {shape[0]}x{shape[1]}")


def parsed_damping(text: str) -> Callable[[Conv, Array, Picture], Damping]:
    """How the damping is to be found, from what was typed.

    Parameters
    ----------
    text : str
        A number, ``gcv``, ``discrepancy`` or ``discrepancy:NOISE``.

    Returns
    -------
    callable
        Takes the operator, the image over its mean, and the image itself.

    Raises
    ------
    ValueError
        If it is none of these.
    """
    name, _, number = text.partition(":")
    if name == "gcv" and not number:
        return lambda A, y, _picture: Damping(damping.gcv(A, y), "generalised cross-validation")
    if name == "discrepancy":
        if not number:
            return _estimated
        (noise,) = _floats("damp", number, 1, "discrepancy:NOISE", text)
        return lambda A, y, _picture: Damping(
            damping.discrepancy(A, y, noise), f"discrepancy principle, noise {noise:.3g}"
        )
    (value,) = _floats("damp", text, 1, "a number, gcv, discrepancy or discrepancy:NOISE", text)
    if not 0 <= value < math.inf:
        raise ValueError(f"damp must be at least 0 and finite, got {text!r}")
    return lambda _A, _y, _picture: Damping(value, "as given")


def _estimated(A: Conv, y: Array, picture: Picture) -> Damping:
    """By the discrepancy principle with the noise estimated, and never less than an image without structure would want.

    Of an image whose pixels are independent with deviation s, Wiener's damping is ``noise/s``; images with structure
    want more. That is also what is left to do where no damping explains the noise: with another blur, say.
    """
    colours = picture.values.reshape(*picture.values.shape[:2], -1)
    noise = max(_noise_level(colours), picture.rounding)  # a file has at least the noise of its own rounding
    if picture.lossy:
        # Where the finest details were left out, and the noise with them, the next ones tell more.
        noise = max(noise, _noise_level(_halved(colours)))
    noise *= _CAUTION
    deviation = float(np.sqrt((y**2).mean()))
    if deviation == 0:
        return Damping(noise, "of an image of one colour")
    least = noise / deviation
    try:
        found = damping.discrepancy(A, y, noise)
    except ValueError:
        found = 0.0
    if found > least:
        return Damping(found, f"discrepancy principle, noise {noise:.3g}, estimated with a margin")
    return Damping(least, f"noise {noise:.3g}, estimated, over the image's deviation {deviation:.3g}")


def _noise_level(colours: Array) -> float:
    """Of all colours together."""
    levels = [damping.noise_level(colours[..., c]) for c in range(colours.shape[-1])]
    return math.sqrt(float(np.mean(np.square(levels))))


def _halved(colours: Array) -> Array:
    """The means of two by two pixels."""
    rows, columns = (n // 2 for n in colours.shape[:2])
    whole = colours[: 2 * rows, : 2 * columns]
    return np.asarray(whole.reshape(rows, 2, columns, 2, -1).mean(axis=(1, 3)))


def deblurred(
    picture: Picture,
    point: Array,
    padding_mode: str,
    choose: Callable[[Conv, Array, Picture], Damping],
    *,
    progress: bool,
) -> Recovered:
    """The picture whose blur is given, by `convop.tikhonov` about the mean of each colour.

    Parameters
    ----------
    picture : Picture
        The blurred one.
    point : ndarray
        The blur, from `point_spread`.
    padding_mode : str
        What lies beyond the image.
    choose : callable
        From `parsed_damping`.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Recovered
    """
    values = picture.values
    A = Conv(point, values.shape[:2], padding="same", padding_mode=padding_mode, flip=True)
    # Damping draws towards zero: that is to be the mean, and not black.
    mean = np.broadcast_to(values.mean(axis=(0, 1)), values.shape)
    deviations = values - A @ mean
    chosen = choose(A, deviations, picture)
    solution = tikhonov(A, deviations, chosen.value, progress=progress)
    return Recovered(replace(picture, values=mean + solution.x), chosen, solution)


def _floats(name: str, numbers: str, count: int, expected: str, text: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in numbers.split(","))
    except ValueError:
        values = ()
    if len(values) != count:
        raise ValueError(f"{name} must be {expected}, got {text!r}")
    return values
