"""`ConvSpec`: the validated geometry of a convolution, its shapes, axes and sizes. Integers only."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ..arrays.dtypes import as_dtype
from .arguments import IntOrSequence, Padding, integer, one_of, paddings, per_axis, sizes, spatial_dimensions
from .axis import PADDING_MODES, Axis

# Positions o*s + t*d - lo are computed in int64; this bound keeps every sum of two of them in range.
_LARGEST_EXTENT = 2**61


@dataclass(frozen=True, init=False, repr=False)
class ConvSpec:
    """Geometry of a convolution, validated once: which inputs every output reads, and the size of the matrix.

    Parameters
    ----------
    input_shape : int or sequence of int
        Shape of the input, ``(*space)`` or ``(c_in, *space)``.
    kernel_shape : int or sequence of int
        Shape of the kernel: ``(*taps)`` for an input without channels, or
        ``(c_out, c_in/groups, *taps)`` for one with channels.
    stride, dilation : int or sequence of int
        One number for all spatial axes, or one per axis; at least 1.
    padding : int, sequence or {"valid", "same", "full"}
        One int for all axes, one per axis, or one ``(lo, hi)`` pair per axis. Negative numbers crop.
        ``"same"`` gives ``ceil(n/stride)`` outputs and puts the odd element at the end; ``"full"`` reads
        every position that any tap meets.
    groups : int
        Groups of channels that do not mix; divides ``c_in`` and ``c_out``.
    padding_mode : {"zeros", "circular", "reflect", "symmetric", "replicate"}
        Values beyond the ends of an axis; :func:`numpy.pad` calls them constant, wrap, reflect,
        symmetric and edge.

    Raises
    ------
    ValueError, TypeError
        For an impossible geometry; the message names the argument, the value and the expected value.

    See Also
    --------
    convop.kernel2matrix : The matrix of this geometry and a kernel.

    Attributes
    ----------
    axes : tuple of Axis
        One per spatial dimension, outermost first.
    output_shape : tuple of int
        Shape of the output, ``(*space)`` or ``(c_out, *space)``.
    shape : (int, int)
        Rows and columns of the matrix: elements of the output and of the input.

    Notes
    -----
    Named and abbreviated parameters are resolved, and specs compared by the resolved values: ``padding="same"``
    equals the pairs that it stands for.

    Examples
    --------
    >>> spec = ConvSpec((3, 3), (2, 2))
    >>> spec.output_shape, spec.shape, spec.nnz
    ((2, 2), (4, 9), 16)
    >>> ConvSpec((3, 64, 64), (8, 3, 5, 5), stride=2, padding="same", padding_mode="reflect")
    ConvSpec((3, 64, 64), (8, 3, 5, 5), stride=(2, 2), padding=((1, 2), (1, 2)), padding_mode='reflect')
    """

    input_shape: tuple[int, ...]
    kernel_shape: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int
    padding_mode: str
    axes: tuple[Axis, ...] = field(init=False, compare=False)
    output_shape: tuple[int, ...] = field(init=False, compare=False)
    shape: tuple[int, int] = field(init=False, compare=False)

    def __init__(
        self,
        input_shape: IntOrSequence,
        kernel_shape: IntOrSequence,
        *,
        stride: IntOrSequence = 1,
        padding: Padding = 0,
        dilation: IntOrSequence = 1,
        groups: int = 1,
        padding_mode: str = "zeros",
    ) -> None:
        inputs = sizes("input_shape", input_shape)
        kernel = sizes("kernel_shape", kernel_shape)
        ndim = spatial_dimensions(inputs, kernel)
        channels = len(kernel) > len(inputs)
        strides = per_axis("stride", stride, ndim)
        dilations = per_axis("dilation", dilation, ndim)
        groups = integer("groups", groups)
        _check_channels(inputs, kernel, groups, channels)
        padding_mode = one_of("padding_mode", padding_mode, PADDING_MODES)
        space, taps = inputs[-ndim:], kernel[-ndim:]
        pads = paddings(padding, space, taps, strides, dilations)
        set_field = object.__setattr__  # the dataclass is frozen
        set_field(self, "input_shape", inputs)
        set_field(self, "kernel_shape", kernel)
        set_field(self, "stride", strides)
        set_field(self, "padding", pads)
        set_field(self, "dilation", dilations)
        set_field(self, "groups", groups)
        set_field(self, "padding_mode", padding_mode)
        axes = tuple(
            Axis(n, k, s, d, lo, hi, padding_mode)
            for n, k, s, d, (lo, hi) in zip(space, taps, strides, dilations, pads, strict=True)
        )
        for number, axis in enumerate(axes):
            _check_axis(number, axis)
        set_field(self, "axes", axes)
        outputs = (*kernel[: int(channels)], *(axis.outputs for axis in axes))
        set_field(self, "output_shape", outputs)
        set_field(self, "shape", (math.prod(outputs), math.prod(inputs)))

    @property
    def ndim(self) -> int:
        """Number of spatial dimensions."""
        return len(self.stride)

    @property
    def channels(self) -> bool:
        """Whether input, kernel and output have channel axes."""
        return len(self.kernel_shape) > len(self.input_shape)

    @property
    def c_in(self) -> int:
        return self.input_shape[0] if self.channels else 1

    @property
    def c_out(self) -> int:
        return self.kernel_shape[0] if self.channels else 1

    @cached_property
    def nnz(self) -> int:
        """Number of entries that the matrix stores, exact and without building it.

        Taps of a row that read the same input merge; since rows are outer products over the axes,
        ``nnz = c_out * (c_in/groups) * prod_axis sum_o unique(source[o, :])``. Zeros of the kernel are
        stored: the structure depends on the geometry and not on values.
        """
        return self.c_out * (self.c_in // self.groups) * math.prod(axis.nnz for axis in self.axes)

    @cached_property
    def index_dtype(self) -> np.dtype[Any]:
        """int32 where every index of the matrix fits, int64 otherwise."""
        return np.dtype(np.int32 if max(self.nnz, *self.shape) < 2**31 else np.int64)

    def matrix_nbytes(self, dtype: npt.DTypeLike = np.float64) -> int:
        """Bytes of the CSR matrix with values of a dtype: values, column indices and row pointers.

        Parameters
        ----------
        dtype : dtype_like
            Dtype of the values.

        Returns
        -------
        int

        Raises
        ------
        TypeError
            If `dtype` is not one of float32, float64, complex64 and complex128.

        Examples
        --------
        >>> ConvSpec((3, 3), (2, 2)).matrix_nbytes("float64")
        212
        """
        index = self.index_dtype.itemsize
        return self.nnz * (as_dtype("dtype", dtype).itemsize + index) + (self.shape[0] + 1) * index

    def parameters(self) -> dict[str, Any]:
        """The resolved keyword parameters of :class:`ConvSpec` and of the operators."""
        return {
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
            "padding_mode": self.padding_mode,
        }

    def __repr__(self) -> str:
        one = (1,) * self.ndim
        defaults = {
            "stride": one,
            "padding": ((0, 0),) * self.ndim,
            "dilation": one,
            "groups": 1,
            "padding_mode": "zeros",
        }
        named = [f"{k}={v!r}" for k, v in self.parameters().items() if v != defaults[k]]
        return f"ConvSpec({', '.join([repr(self.input_shape), repr(self.kernel_shape), *named])})"


def _check_channels(inputs: tuple[int, ...], kernel: tuple[int, ...], groups: int, channels: bool) -> None:
    if groups < 1:
        raise ValueError(f"groups must be at least 1, got {groups}")
    if not channels:
        if groups != 1:
            raise ValueError(
                f"groups={groups} needs channel axes: an input (c_in, *space) and a kernel "
                f"(c_out, c_in/groups, *taps); got shapes {inputs} and {kernel}"
            )
        return
    c_in, c_out = inputs[0], kernel[0]
    if c_in % groups or c_out % groups:
        raise ValueError(f"groups={groups} must divide the input's {c_in} and the kernel's {c_out} channels")
    if kernel[1] * groups != c_in:
        raise ValueError(
            f"kernel_shape {kernel} with groups={groups} takes {kernel[1] * groups} input channels, but "
            f"input_shape {inputs} has {c_in}: expected kernel_shape[1] == {c_in}/{groups}"
        )


def _check_axis(number: int, axis: Axis) -> None:
    numbers = (axis.inputs, axis.extent, axis.stride, abs(axis.lo), abs(axis.hi))
    if max(numbers) > _LARGEST_EXTENT:
        raise ValueError(
            f"spatial axis {number} is too large: sizes, strides, paddings and dilated kernels up to 2**61 "
            f"are supported, got {max(numbers)}"
        )
    padded = axis.inputs + axis.lo + axis.hi
    if padded < axis.extent:
        raise ValueError(
            f"kernel does not fit spatial axis {number}: it reaches over {axis.extent} elements "
            f"({axis.taps} taps, dilation {axis.dilation}), but the axis has {padded} "
            f"({axis.inputs} inputs, padding ({axis.lo}, {axis.hi})); use more padding or a smaller kernel"
        )
