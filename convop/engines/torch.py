"""The engine that calls PyTorch, whose oneDNN, and cuDNN on a GPU, are fast for float32 and many channels."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch

from ..arrays.backend import Array, namespace, on_gpu, to_cpu
from ..geometry.axis import Axis
from ..geometry.folding import positions_of
from ..geometry.spec import ConvSpec
from .cpu.filters import PlaneFilter
from .cpu.planes import as_columns, parts_of, real_of, real_weights

__all__ = ["TorchEngine", "TorchFilter", "has_gpu"]

# PyTorch has convolutions of up to three dimensions; further ones are sums over the taps of their axes.
_MOST_AXES = 3


def has_gpu() -> bool:
    """Whether PyTorch can use a GPU."""
    return bool(torch.cuda.is_available())


class TorchEngine:
    """PyTorch's convolutions on the extended input, with its own threads and without its gradients.

    Complex numbers are two channels. What PyTorch does with NaN, it does.

    Parameters
    ----------
    spec : ConvSpec
        Geometry.
    kernel : ndarray
        Taps in the dtype of the map, not flipped.
    """

    name = "torch"

    def __init__(self, spec: ConvSpec, kernel: Array) -> None:
        self._spec, self._kernel = spec, kernel
        self._weights: dict[str, torch.Tensor] = {}
        # PyTorch pads by zeros itself, as much on both sides.
        even = all(axis.lo == axis.hi >= 0 for axis in spec.axes)
        self._by_torch = spec.padding_mode == "zeros" and even and spec.ndim <= _MOST_AXES

    def with_kernel(self, kernel: Array) -> TorchEngine:
        return TorchEngine(self._spec, kernel)

    @torch.inference_mode()
    def forward(self, x: Array) -> Array:
        spec = self._spec
        dtype = np.result_type(x.dtype, self._kernel.dtype)
        if not x.size:
            return _nothing(x, spec.shape[0], dtype)
        tensor = _planes(x, (spec.c_in, *(axis.inputs for axis in spec.axes)), dtype)
        for a, axis in enumerate(spec.axes, start=2):
            if not self._by_torch:
                tensor = _extended(tensor, a, axis)
        with _exactly():
            result = _convolved(
                tensor, self._weight(dtype, tensor.device), list(spec.axes), spec.groups, self._by_torch
            )
        return _columns(result, x, dtype)

    @torch.inference_mode()
    def adjoint(self, y: Array) -> Array:
        spec = self._spec
        dtype = np.result_type(y.dtype, self._kernel.dtype)
        if not y.size:
            return _nothing(y, spec.shape[1], dtype)
        tensor = _planes(y, (spec.c_out, *(axis.outputs for axis in spec.axes)), dtype)
        with _exactly():
            result = _spread(tensor, self._weight(dtype, tensor.device), list(spec.axes), spec.groups, self._by_torch)
        for a, axis in enumerate(spec.axes, start=2):
            if not self._by_torch:
                result = _folded(result, a, axis)
        return _columns(result, y, dtype)

    def _weight(self, dtype: np.dtype[Any], device: torch.device) -> torch.Tensor:
        weight = self._weights.get(dtype.char)
        if weight is None:
            spec = self._spec
            taps = [axis.taps for axis in spec.axes]
            shape = (spec.groups, spec.c_out // spec.groups, spec.c_in // spec.groups, -1)
            real = real_weights(to_cpu(self._kernel).astype(dtype, copy=False).reshape(shape))
            weight = torch.tensor(np.array(real.reshape(-1, real.shape[2], *taps), order="C"), device=device)
            self._weights[dtype.char] = weight
        return weight


def _exactly() -> AbstractContextManager[None]:
    """On a GPU, sums in the precision of the numbers, and the same from run to run."""
    exactly: AbstractContextManager[None] = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )
    return exactly


def _nothing(like: Array, length: int, dtype: np.dtype[Any]) -> Array:
    """The columns of a batch without any."""
    columns: Array = namespace(like).zeros((length, 0), dtype)
    return columns


def _planes(x: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> torch.Tensor:
    """(columns, planes, *space), the parts of a complex number as two planes."""
    columns = as_columns(x, dtype)
    if not on_gpu(columns) and not columns.flags.writeable:  # PyTorch warns of such arrays
        columns = columns.copy()
    parts = parts_of(dtype)
    planes = columns.view(real_of(dtype)).reshape(len(columns), shape[0], *shape[1:], parts)
    tensor = torch.from_dlpack(planes) if on_gpu(planes) else torch.from_numpy(planes)
    return tensor.movedim(-1, 2).reshape(len(columns), shape[0] * parts, *shape[1:])


def _columns(result: torch.Tensor, like: Array, dtype: np.dtype[Any]) -> Array:
    parts = parts_of(dtype)
    columns, planes, *space = result.shape
    numbers = result.reshape(columns, planes // parts, parts, *space).movedim(2, -1).reshape(columns, -1)
    array: Array = namespace(like).from_dlpack(numbers.contiguous()) if on_gpu(like) else numbers.contiguous().numpy()
    array = array.view(dtype)
    return array[0] if like.ndim == 1 else array.T


def _extended(x: torch.Tensor, a: int, axis: Axis) -> torch.Tensor:
    """The input with its extension along an axis."""
    if not axis.lo and not axis.hi:
        return x
    if axis.mode == "zeros":
        return _shifted(x, a, axis.lo, axis.inputs + axis.lo + axis.hi)
    return x.index_select(a, torch.from_numpy(_sources(axis)).to(x.device))


def _folded(x: torch.Tensor, a: int, axis: Axis) -> torch.Tensor:
    """The transpose of `_extended`."""
    if not axis.lo and not axis.hi:
        return x
    if axis.mode == "zeros":
        return _shifted(x, a, -axis.lo, axis.inputs)
    shape = list(x.shape)
    shape[a] = axis.inputs
    folded = x.new_zeros(shape)
    # One position of each element after another: a GPU adds to different elements only, in this order.
    for element, position in positions_of(_sources(axis), axis.inputs):
        elements, positions = (torch.from_numpy(n).to(x.device) for n in (element, position))
        folded.index_copy_(a, elements, folded.index_select(a, elements) + x.index_select(a, positions))
    return folded


def _shifted(x: torch.Tensor, a: int, by: int, length: int) -> torch.Tensor:
    """What lies at ``i`` put at ``i + by`` on an axis of another length, and zeros where nothing comes to lie."""
    start, stop = max(0, by), min(length, by + x.shape[a])
    shape = list(x.shape)
    shape[a] = length
    result = x.new_zeros(shape)
    if start < stop:
        result.narrow(a, start, stop - start).copy_(x.narrow(a, start - by, stop - start))
    return result


def _sources(axis: Axis) -> Array:
    """The element at every position of the extended axis."""
    positions = Axis(axis.inputs, 1, 1, 1, axis.lo, axis.hi, axis.mode)
    return positions.source()[:, 0]


def _convolved(
    x: torch.Tensor, weight: torch.Tensor, axes: list[Axis], groups: int, pads: bool = False
) -> torch.Tensor:
    """Strided and dilated convolution of the extended input, or of the input itself that PyTorch then pads."""
    if len(axes) <= _MOST_AXES:
        convolve = getattr(torch.nn.functional, f"conv{len(axes)}d")
        stride, dilation = [a.stride for a in axes], [a.dilation for a in axes]
        padding = [a.lo if pads else 0 for a in axes]
        result: torch.Tensor = convolve(x, weight, stride=stride, padding=padding, dilation=dilation, groups=groups)
        return result
    axis, *rest = axes
    total: Any = 0
    for t in range(axis.taps):
        read = x[:, :, _read(axis, t)].movedim(2, 1)
        columns, steps = read.shape[:2]
        part = _convolved(read.reshape(columns * steps, *read.shape[2:]), weight[:, :, t], rest, groups)
        total = total + part.reshape(columns, steps, *part.shape[1:]).movedim(1, 2)
    sums: torch.Tensor = total
    return sums


def _spread(y: torch.Tensor, weight: torch.Tensor, axes: list[Axis], groups: int, pads: bool = False) -> torch.Tensor:
    """The transpose of `_convolved`."""
    sizes = [a.inputs if pads else a.inputs + a.lo + a.hi for a in axes]
    shape = [y.shape[0], weight.shape[1] * groups, *sizes]
    if len(axes) <= _MOST_AXES:
        n = len(axes)
        template = y.new_empty(1).expand(shape)  # only its shape is read
        result: torch.Tensor = torch.ops.aten.convolution_backward(
            y, template, weight, None, [a.stride for a in axes], [a.lo if pads else 0 for a in axes],
            [a.dilation for a in axes], False, [0] * n, groups, [True, False, False],
        )[0]  # fmt: skip
        return result
    axis, *rest = axes
    total = y.new_zeros(shape)
    columns, _, steps = y.shape[:3]
    rows = y.movedim(2, 1).reshape(columns * steps, y.shape[1], *y.shape[3:])
    for t in range(axis.taps):
        part = _spread(rows, weight[:, :, t], rest, groups)
        total[:, :, _read(axis, t)] += part.reshape(columns, steps, *part.shape[1:]).movedim(1, 2)
    return total


def _read(axis: Axis, tap: int) -> slice:
    """What a tap reads of the extended axis."""
    start = tap * axis.dilation
    return slice(start, start + (axis.outputs - 1) * axis.stride + 1, axis.stride)


class TorchFilter(PlaneFilter):
    """Forward by PyTorch, and PyTorch's gradient of the weights."""

    name = "torch"
    _engine = staticmethod(TorchEngine)

    @torch.inference_mode()
    def _products(self, x: Array, residuals: Array, real: np.dtype[Any], parts: int) -> Array:
        del real  # as the data are
        spec = self._spec
        dtype = x.dtype
        tensor = _planes(x.reshape(-1), (spec.c_in, *(axis.inputs for axis in spec.axes)), dtype)
        for a, axis in enumerate(spec.axes, start=2):
            tensor = _extended(tensor, a, axis)
        shape = (spec.c_out * parts, spec.c_in // spec.groups * parts, *(axis.taps for axis in spec.axes))
        sums = [
            _weight_sums(
                _planes(column, (spec.c_out, *(axis.outputs for axis in spec.axes)), dtype), tensor, shape,
                list(spec.axes), spec.groups,
            )
            for column in residuals
        ]  # fmt: skip
        array: Array = torch.stack(sums).numpy()
        return array


def _weight_sums(
    y: torch.Tensor, x: torch.Tensor, shape: tuple[int, ...], axes: list[Axis], groups: int
) -> torch.Tensor:
    """The gradient of `_convolved` by its weights."""
    if len(axes) <= _MOST_AXES:
        n = len(axes)
        template = y.new_empty(1).expand(shape)  # only its shape is read
        result: torch.Tensor = torch.ops.aten.convolution_backward(
            y, x, template, None, [a.stride for a in axes], [0] * n, [a.dilation for a in axes], False, [0] * n,
            groups, [False, True, False],
        )[1]  # fmt: skip
        return result
    axis, *rest = axes
    columns, _, steps = y.shape[:3]
    rows = y.movedim(2, 1).reshape(columns * steps, y.shape[1], *y.shape[3:])
    parts = []
    for t in range(axis.taps):
        read = x[:, :, _read(axis, t)].movedim(2, 1)
        read = read.reshape(columns * steps, *read.shape[2:])
        parts.append(_weight_sums(rows, read, (*shape[:2], *shape[3:]), rest, groups))
    return torch.stack(parts, dim=2)
