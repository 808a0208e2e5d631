"""The geometry of a transposed convolution, as the spec of the convolution whose transpose it is."""

from __future__ import annotations

import math
from itertools import product

from .arguments import IntOrSequence, Padding, integer, paddings, per_axis, sizes, spatial_dimensions
from .spec import ConvSpec

# Errors list up to this number of shapes; above it, the ranges of their sizes.
_LISTED_SHAPES = 100


def transposed_spec(
    input_shape: IntOrSequence,
    kernel_shape: tuple[int, ...],
    *,
    stride: IntOrSequence = 1,
    padding: Padding = 0,
    output_padding: IntOrSequence = 0,
    output_shape: IntOrSequence | None = None,
    dilation: IntOrSequence = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> ConvSpec:
    """The spec of the convolution whose transpose takes `input_shape` to the wanted output.

    With a stride ``s``, ``s`` input sizes of a convolution have the same output size, so the size of the transpose's
    output has to be given: as the smallest plus `output_padding`, or as `output_shape`.

    Parameters
    ----------
    input_shape : int or sequence of int
        Input of the transposed convolution, ``(*space)`` or ``(c_in, *space)``.
    kernel_shape : tuple of int
        ``(*taps)`` or, in PyTorch's layout, ``(c_in, c_out/groups, *taps)``.
    stride, padding, dilation, groups, padding_mode
        Parameters of the convolution, as in :class:`ConvSpec`.
    output_padding : int or sequence of int
        Elements added at the end of each spatial axis, fewer than its stride or its dilation.
    output_shape : int or sequence of int, optional
        Output of the transposed convolution, with its channels; instead of `output_padding`.

    Returns
    -------
    ConvSpec
        Its input is the transpose's output.

    Raises
    ------
    ValueError, TypeError
        For an impossible geometry; the message about a wrong `output_shape` lists the valid shapes.
    """
    inputs = sizes("input_shape", input_shape)
    kernel = sizes("kernel_shape", kernel_shape)
    ndim = spatial_dimensions(inputs, kernel)
    channels = len(kernel) > len(inputs)
    groups = integer("groups", groups)
    if channels and (groups < 1 or inputs[0] != kernel[0] or kernel[0] % groups):
        raise ValueError(
            f"kernel_shape {kernel} of a transposed convolution is (c_in, c_out/groups, *taps): expected "
            f"c_in = {inputs[0]} as in input_shape {inputs}, divisible by groups={groups}"
        )
    space, taps = inputs[-ndim:], kernel[-ndim:]
    strides, dilations = per_axis("stride", stride, ndim), per_axis("dilation", dilation, ndim)
    smallest, pads = _smallest_outputs(padding, space, taps, strides, dilations)
    front = (kernel[1] * groups,) if channels else ()
    extra = per_axis("output_padding", output_padding, ndim, least=0)
    if output_shape is not None:
        if any(extra):
            raise ValueError("give output_padding or output_shape, not both")
        extra = _extra_outputs(sizes("output_shape", output_shape), front, smallest, strides)
    for e, s, d in zip(extra, strides, dilations, strict=True):
        if e >= (s if padding == "same" else max(s, d)):
            raise ValueError(
                f"output_padding must be smaller than the stride{' or the dilation' * (padding != 'same')}, got "
                f"{output_padding!r} with stride {strides} and dilation {dilations}; valid outputs with "
                f"this stride: {_valid_shapes(front, smallest, strides)}"
            )
    outputs = tuple(n + e for n, e in zip(smallest, extra, strict=True))
    if min(outputs) < 1:
        raise ValueError(
            f"the transposed convolution of input_shape {inputs} would have the output {(*front, *outputs)}: "
            f"padding {padding!r} crops it away; use less padding or a larger input or kernel"
        )
    if padding == "same":
        pads = paddings(padding, outputs, taps, strides, dilations)
    else:
        # An extra element beyond the stride would give the convolution one more output: crop it.
        pads = tuple((lo, hi - e // s * s) for (lo, hi), e, s in zip(pads, extra, strides, strict=True))
    return ConvSpec(
        (*front, *outputs),
        kernel,
        stride=strides,
        padding=pads,
        dilation=dilations,
        groups=groups,
        padding_mode=padding_mode,
    )


def _smallest_outputs(
    padding: object, space: tuple[int, ...], taps: tuple[int, ...], strides: tuple[int, ...], dilations: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
    """Smallest input sizes of a convolution with these outputs, ``(m - 1)*s + d*(k - 1) + 1 - lo - hi``."""
    if padding == "same":  # m = ceil(n/s), for any kernel
        return tuple((m - 1) * s + 1 for m, s in zip(space, strides, strict=True)), ()
    pads = paddings(padding, space, taps, strides, dilations)
    sizes = tuple(
        (m - 1) * s + d * (k - 1) + 1 - lo - hi
        for m, k, s, d, (lo, hi) in zip(space, taps, strides, dilations, pads, strict=True)
    )
    return sizes, pads


def _extra_outputs(
    wanted: tuple[int, ...], front: tuple[int, ...], smallest: tuple[int, ...], strides: tuple[int, ...]
) -> tuple[int, ...]:
    extra = tuple(w - n for w, n in zip(wanted[len(front) :], smallest, strict=False))
    if (
        len(wanted) != len(front) + len(smallest)
        or wanted[: len(front)] != front
        or any(not 0 <= e < s for e, s in zip(extra, strides, strict=True))
    ):
        valid = _valid_shapes(front, smallest, strides)
        if not valid:
            raise ValueError(f"the padding crops all of the output away, so no output_shape fits; got {wanted}")
        raise ValueError(f"output_shape must be one of {valid} (stride {strides}), got {wanted}")
    return extra


def _valid_shapes(front: tuple[int, ...], smallest: tuple[int, ...], strides: tuple[int, ...]) -> str:
    ranges = [range(max(n, 1), n + s) for n, s in zip(smallest, strides, strict=True)]
    if not all(ranges):
        return ""
    if math.prod(strides) <= _LISTED_SHAPES:
        return ", ".join(str((*front, *shape)) for shape in product(*ranges))
    axes = " x ".join(f"[{r[0]}..{r[-1]}]" if len(r) > 1 else str(r[0]) for r in ranges)
    return f"{front[0]} channels, {axes}" if front else axes
