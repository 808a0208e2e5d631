"""The engine that calls PyTorch: oneDNN, or cuDNN on a GPU, is fast for float32 and many channels."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch

from ..arrays.backend import Array, namespace, on_gpu, to_cpu
from ..geometry.axis import Axis, Ints, extend
from ..geometry.folding import extend_axis, fold_axis
from ..geometry.spec import ConvSpec
from .cpu.components import as_columns, component_count, real_dtype, real_weights
from .cpu.filters import PlaneFilter
from .protocol import Engine

# PyTorch has convolutions of up to three dimensions; further axes are sums over their taps. With four axes of 6 to 8 elements,
# 3 taps, float32 and 16 to 32 channels, the fastest other engine takes 1.01 to 1.49 times as long. With 8 channels it takes
# 0.54 to 1.03 times as long, and with fewer channels or in float64 mostly less than half.
_MOST_AXES = 3
# Columns and channels precede the spatial axes of a tensor.
_FIRST_AXIS = 2


def has_gpu() -> bool:
    """Whether PyTorch can use a GPU."""
    return bool(torch.cuda.is_available())


class TorchEngine:
    """PyTorch's convolutions on the extended input, with PyTorch's own threads and without its gradients.

    Complex numbers are two channels. NaN and infinities spread as far as PyTorch's algorithm spreads them.

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
        # PyTorch pads by zeros itself, by equal amounts at both ends.
        symmetric = all(axis.lo == axis.hi >= 0 for axis in spec.axes)
        self._padded_by_torch = spec.padding_mode == "zeros" and symmetric and spec.ndim <= _MOST_AXES

    def with_kernel(self, kernel: Array) -> TorchEngine:
        return TorchEngine(self._spec, kernel)

    @torch.inference_mode()
    def forward(self, x: Array) -> Array:
        spec = self._spec
        dtype = np.result_type(x.dtype, self._kernel.dtype)
        if not x.size:
            return _empty_batch(x, spec.shape[0], dtype)
        tensor = _to_tensor(x, (spec.c_in, *(axis.inputs for axis in spec.axes)), dtype)
        if not self._padded_by_torch:
            tensor = _extended(tensor, spec)
        weight = self._weight(dtype, tensor.device)
        with _exact():
            result = _convolve(tensor, weight, spec.axes, spec.groups, padded_by_torch=self._padded_by_torch)
        return _to_columns(result, x, dtype)

    @torch.inference_mode()
    def adjoint(self, y: Array) -> Array:
        spec = self._spec
        dtype = np.result_type(y.dtype, self._kernel.dtype)
        if not y.size:
            return _empty_batch(y, spec.shape[1], dtype)
        tensor = _to_tensor(y, (spec.c_out, *(axis.outputs for axis in spec.axes)), dtype)
        weight = self._weight(dtype, tensor.device)
        with _exact():
            result = _input_gradient(tensor, weight, spec.axes, spec.groups, padded_by_torch=self._padded_by_torch)
        if not self._padded_by_torch:
            result = _folded(result, spec)
        return _to_columns(result, y, dtype)

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


class TorchFilter(PlaneFilter):
    """Forward by PyTorch's convolution, adjoint by PyTorch's gradient of the weights."""

    name = "torch"

    def _engine(self, spec: ConvSpec, kernel: Array) -> Engine:
        return TorchEngine(spec, kernel)

    @torch.inference_mode()
    def _products(self, x: Array, residuals: Array) -> Array:
        spec, dtype = self._spec, x.dtype
        components = component_count(dtype)
        tensor = _to_tensor(x.reshape(-1), (spec.c_in, *(axis.inputs for axis in spec.axes)), dtype)
        tensor = _extended(tensor, spec)
        outputs = (spec.c_out, *(axis.outputs for axis in spec.axes))
        shape = (spec.c_out * components, spec.c_in // spec.groups * components, *(axis.taps for axis in spec.axes))
        sums = [
            _weight_gradient(_to_tensor(column, outputs, dtype), tensor, shape, spec.axes, spec.groups)
            for column in residuals
        ]
        array: Array = torch.stack(sums).numpy()
        return array


def _exact() -> AbstractContextManager[None]:
    """Context in which a GPU sums in the precision of the numbers, with the same result in every run."""
    flags: AbstractContextManager[None] = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )
    return flags


def _empty_batch(like: Array, length: int, dtype: np.dtype[Any]) -> Array:
    columns: Array = namespace(like).zeros((length, 0), dtype)
    return columns


def _to_tensor(x: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> torch.Tensor:
    """A tensor (columns, planes, *space) of one array or columns of arrays; a complex number's components are two planes."""
    columns = as_columns(x, dtype)
    if not on_gpu(columns) and not columns.flags.writeable:  # PyTorch warns of such arrays
        columns = columns.copy()
    components = component_count(dtype)
    planes = columns.view(real_dtype(dtype)).reshape(len(columns), shape[0], *shape[1:], components)
    tensor = torch.from_dlpack(planes) if on_gpu(planes) else torch.from_numpy(planes)
    return tensor.movedim(-1, 2).reshape(len(columns), shape[0] * components, *shape[1:])


def _to_columns(result: torch.Tensor, like: Array, dtype: np.dtype[Any]) -> Array:
    """The inverse of `_to_tensor`: an array of the library and the number of dimensions of another one."""
    components = component_count(dtype)
    columns, planes, *space = result.shape
    numbers = result.reshape(columns, planes // components, components, *space).movedim(2, -1).reshape(columns, -1)
    array: Array = namespace(like).from_dlpack(numbers.contiguous()) if on_gpu(like) else numbers.contiguous().numpy()
    array = array.view(dtype)
    return array[0] if like.ndim == 1 else array.T


def _extended(x: torch.Tensor, spec: ConvSpec) -> torch.Tensor:
    """The input with its extension along all axes."""
    for a, axis in enumerate(spec.axes, start=_FIRST_AXIS):
        if not axis.lo and not axis.hi:
            continue
        if axis.mode == "zeros":
            x = _shifted(x, a, axis.lo, _padded_length(axis))
        else:
            x = extend_axis(x, a, _extension(axis), _index_on(x.device))
    return x


def _folded(x: torch.Tensor, spec: ConvSpec) -> torch.Tensor:
    """The transpose of `_extended`."""
    for a, axis in enumerate(spec.axes, start=_FIRST_AXIS):
        if not axis.lo and not axis.hi:
            continue
        if axis.mode == "zeros":
            x = _shifted(x, a, -axis.lo, axis.inputs)
        else:
            into = x.new_zeros((*x.shape[:a], axis.inputs, *x.shape[a + 1 :]))
            x = fold_axis(x, into, a, _extension(axis), _index_on(x.device))
    return x


def _index_on(device: torch.device) -> Callable[[Ints], torch.Tensor]:
    """A function that makes tensors of indices on a device."""
    return lambda index: torch.from_numpy(index).to(device)


def _shifted(x: torch.Tensor, a: int, shift: int, length: int) -> torch.Tensor:
    """Axis `a` with another length, on which element ``i`` moves to ``i + shift``; the other elements are zero."""
    start, stop = max(0, shift), min(length, shift + x.shape[a])
    result = x.new_zeros((*x.shape[:a], length, *x.shape[a + 1 :]))
    if start < stop:
        result.narrow(a, start, stop - start).copy_(x.narrow(a, start - shift, stop - start))
    return result


def _padded_length(axis: Axis) -> int:
    return axis.inputs + axis.lo + axis.hi


def _extension(axis: Axis) -> Ints:
    """The input at every position of the padded axis, those that no output reads included."""
    return extend(np.arange(_padded_length(axis)) - axis.lo, axis.inputs, axis.mode)


def _convolve(
    x: torch.Tensor, weight: torch.Tensor, axes: tuple[Axis, ...], groups: int, *, padded_by_torch: bool = False
) -> torch.Tensor:
    """Strided and dilated convolution of the extended input, or of an input that PyTorch pads by zeros."""
    if len(axes) <= _MOST_AXES:
        convolve = getattr(torch.nn.functional, f"conv{len(axes)}d")
        result: torch.Tensor = convolve(
            x,
            weight,
            stride=[a.stride for a in axes],
            padding=[a.lo if padded_by_torch else 0 for a in axes],
            dilation=[a.dilation for a in axes],
            groups=groups,
        )
        return result
    axis, *inner = axes
    total: Any = 0
    for t in range(axis.taps):
        rows, restore = _axis_to_columns(x[:, :, _read_by(axis, t)])
        total = total + restore(_convolve(rows, weight[:, :, t], tuple(inner), groups))
    sums: torch.Tensor = total
    return sums


def _input_gradient(
    y: torch.Tensor, weight: torch.Tensor, axes: tuple[Axis, ...], groups: int, *, padded_by_torch: bool = False
) -> torch.Tensor:
    """The transpose of `_convolve`: its gradient by the input."""
    sizes = [a.inputs if padded_by_torch else _padded_length(a) for a in axes]
    shape = (y.shape[0], weight.shape[1] * groups, *sizes)
    if len(axes) <= _MOST_AXES:
        template = y.new_empty(1).expand(shape)  # only its shape is read
        padding = [a.lo if padded_by_torch else 0 for a in axes]
        return _backward(y, template, weight, axes, groups, padding, of_input=True)
    axis, *inner = axes
    total = y.new_zeros(shape)
    rows, restore = _axis_to_columns(y)
    for t in range(axis.taps):
        total[:, :, _read_by(axis, t)] += restore(_input_gradient(rows, weight[:, :, t], tuple(inner), groups))
    return total


def _weight_gradient(
    y: torch.Tensor, x: torch.Tensor, shape: tuple[int, ...], axes: tuple[Axis, ...], groups: int
) -> torch.Tensor:
    """The gradient of `_convolve` by its weights, which have the given shape."""
    if len(axes) <= _MOST_AXES:
        template = y.new_empty(1).expand(shape)  # only its shape is read
        return _backward(y, x, template, axes, groups, [0] * len(axes), of_input=False)
    axis, *inner = axes
    rows, _ = _axis_to_columns(y)
    gradients = []
    for t in range(axis.taps):
        read, _ = _axis_to_columns(x[:, :, _read_by(axis, t)])
        gradients.append(_weight_gradient(rows, read, (*shape[:2], *shape[3:]), tuple(inner), groups))
    return torch.stack(gradients, dim=2)


def _backward(
    y: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    axes: tuple[Axis, ...],
    groups: int,
    padding: list[int],
    *,
    of_input: bool,
) -> torch.Tensor:
    """PyTorch's gradient of a convolution of up to three dimensions, by its input or by its weights."""
    stride, dilation = [a.stride for a in axes], [a.dilation for a in axes]
    transposed, output_padding = False, [0] * len(axes)
    geometry = (stride, padding, dilation, transposed, output_padding, groups)
    gradients = torch.ops.aten.convolution_backward(y, x, weight, None, *geometry, [of_input, not of_input, False])
    result: torch.Tensor = gradients[0 if of_input else 1]
    return result


def _axis_to_columns(x: torch.Tensor) -> tuple[torch.Tensor, Any]:
    """The first spatial axis joined with the columns, and the function that separates them again."""
    columns, _, steps = x.shape[:3]
    joined = x.movedim(2, 1).reshape(columns * steps, x.shape[1], *x.shape[3:])
    return joined, lambda y: y.reshape(columns, steps, *y.shape[1:]).movedim(1, 2)


def _read_by(axis: Axis, tap: int) -> slice:
    """The positions of the extended axis that a tap reads."""
    start = tap * axis.dilation
    return slice(start, start + (axis.outputs - 1) * axis.stride + 1, axis.stride)
