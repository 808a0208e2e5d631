"""Other libraries that apply a convolution: PyTorch, PyLops, SciPy's signal, ndimage and sparse matrices, CuPy.

Each peer is called as its users call it, with everything prepared that they can prepare beforehand. A peer has no function
for a workload that it does not support, and none for an adjoint that it does not have.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any, TypeAlias

import numpy as np
import scipy.ndimage
import scipy.signal

from ..arrays import memory
from ..arrays.backend import Array, gpu_module, namespace, on_gpu, to_cpu
from ..matrix.build import kernel2matrix
from .workloads import Problem

ForwardAdjoint: TypeAlias = tuple[Callable[[], Any] | None, Callable[[], Any] | None]

_UNSUPPORTED: ForwardAdjoint = (None, None)
_NDIMAGE_MODES = {"zeros": "constant", "circular": "grid-wrap", "reflect": "mirror"}
_TORCH_MODES = {"zeros": "constant", "circular": "circular", "reflect": "reflect", "replicate": "replicate"}
# Limit in bytes of the matrix and its transpose together.
_MAX_MATRIX_NBYTES = 6 * 2**30


def cpu_peers(problem: Problem) -> dict[str, ForwardAdjoint]:
    """Prepare forward and adjoint of every installed peer that supports a workload.

    Parameters
    ----------
    problem : Problem
        The workload and its data.

    Returns
    -------
    dict of (callable or None, callable or None)
        By name. The functions take no arguments; their results have the elements of the output and of the input, in any
        shape.
    """
    found = {
        "SciPy CSR": _csr(problem),
        "SciPy fftconvolve": _signal(problem, scipy.signal.fftconvolve),
        "SciPy oaconvolve": _signal(problem, scipy.signal.oaconvolve),
        "SciPy ndimage": _ndimage(problem, scipy.ndimage.correlate),
        "PyLops ConvolveND": _pylops(problem),
        "PyTorch": _torch(problem),
    }
    return {name: pair for name, pair in found.items() if pair != _UNSUPPORTED}


def gpu_peers(problem: Problem) -> dict[str, ForwardAdjoint]:
    """Prepare forward and adjoint of every installed peer that supports a workload on the GPU.

    Parameters
    ----------
    problem : Problem
        The workload and its data, arrays on the GPU.

    Returns
    -------
    dict of (callable or None, callable or None)
        As from `cpu_peers`.
    """
    signal, ndimage = gpu_module("signal"), gpu_module("ndimage")
    found = {
        "CuPy fftconvolve": _signal(problem, signal.fftconvolve),
        "CuPy oaconvolve": _signal(problem, signal.oaconvolve),
        "CuPy ndimage": _ndimage(problem, ndimage.correlate),
        "PyTorch": _torch(problem),
    }
    return {name: pair for name, pair in found.items() if pair != _UNSUPPORTED}


def _csr(problem: Problem) -> ForwardAdjoint:
    spec = problem.spec
    nbytes = 2 * spec.matrix_nbytes(problem.dtype)
    free = memory.available()
    if nbytes > min(_MAX_MATRIX_NBYTES, free / 2 if free is not None else _MAX_MATRIX_NBYTES):
        return _UNSUPPORTED
    matrix = kernel2matrix(problem.kernel, spec.input_shape, **spec.parameters())
    transposed = matrix.T.tocsr()
    x, y = problem.x.ravel(), problem.y.ravel()
    return lambda: matrix @ x, lambda: transposed @ y


def _signal(problem: Problem, convolve: Callable[..., Array]) -> ForwardAdjoint:
    """Slice the output from the full convolution: element ``taps-1-lo + stride*o`` of each axis is output o."""
    spec = problem.spec
    if not problem.workload.is_single_channel or spec.padding_mode != "zeros" or max(spec.dilation) > 1:
        return _UNSUPPORTED
    kernel, x, y = problem.kernel, problem.x, problem.y
    xp = namespace(kernel)
    flipped = xp.flip(kernel)
    outputs = tuple(
        slice(a.taps - 1 - a.lo, a.taps - 1 - a.lo + (a.outputs - 1) * a.stride + 1, a.stride) for a in spec.axes
    )
    upsampled = xp.zeros([(a.outputs - 1) * a.stride + 1 for a in spec.axes], problem.dtype)
    inputs = tuple(slice(a.lo, a.lo + a.inputs) for a in spec.axes)

    def adjoint() -> Array:
        upsampled[tuple(slice(None, None, s) for s in spec.stride)] = y
        full = convolve(upsampled, kernel)[inputs]
        missing = [(0, n - m) for n, m in zip(spec.input_shape, full.shape, strict=True)]
        padded: Array = xp.pad(full, missing) if any(m for _, m in missing) else full
        return padded

    return lambda: convolve(x, flipped)[outputs], adjoint


def _is_plain_filter(problem: Problem) -> bool:
    """Whether the workload is a filter of one channel with output size = input size, stride 1 and dilation 1."""
    spec = problem.spec
    same_size = all(a.outputs == a.inputs for a in spec.axes)
    return problem.workload.is_single_channel and same_size and max(*spec.stride, *spec.dilation) == 1


def _ndimage(problem: Problem, correlate: Callable[..., Array]) -> ForwardAdjoint:
    spec = problem.spec
    mode = _NDIMAGE_MODES.get(spec.padding_mode)
    if mode is None or not _is_plain_filter(problem):
        return _UNSUPPORTED
    # ndimage centres the kernel at element taps//2 + origin, this package at element lo.
    forward_origin = [a.lo - a.taps // 2 for a in spec.axes]
    kernel, x, y = problem.kernel, problem.x, problem.y

    def forward() -> Array:
        return correlate(x, kernel, mode=mode, origin=forward_origin)

    if spec.padding_mode == "reflect":
        return forward, None  # the flipped filter with a reflected boundary is not the adjoint
    flipped = namespace(kernel).flip(kernel)
    origin = [a.taps - 1 - a.lo - a.taps // 2 for a in spec.axes]

    def adjoint() -> Array:
        return correlate(y, flipped, mode=mode, origin=origin)

    return forward, adjoint


def _pylops(problem: Problem) -> ForwardAdjoint:
    spec = problem.spec
    if spec.padding_mode != "zeros" or not _is_plain_filter(problem):
        return _UNSUPPORTED
    from ..operators.linear_operator import pylops

    offset = tuple(a.taps - 1 - a.lo for a in spec.axes)
    try:
        operator = pylops.signalprocessing.ConvolveND(
            spec.input_shape, np.flip(problem.kernel), offset=offset, dtype=problem.dtype
        )
    except ValueError:
        return _UNSUPPORTED
    return lambda: operator @ problem.x, lambda: operator.H @ problem.y


def _torch(problem: Problem) -> ForwardAdjoint:
    """Prepare a layer's forward pass, and the gradient by its input on a recorded graph."""
    spec = problem.spec
    if find_spec("torch") is None or spec.ndim > 3 or spec.padding_mode not in _TORCH_MODES:
        return _UNSUPPORTED
    import torch

    channel_axis = () if spec.channels else (1,)
    tensor = torch.from_dlpack if on_gpu(problem.x) else torch.from_numpy
    x = tensor(problem.x.reshape(1, *channel_axis, *problem.x.shape))
    y = tensor(problem.y.reshape(1, *channel_axis, *problem.y.shape))
    kernel = tensor(problem.kernel.reshape(*channel_axis, *channel_axis, *problem.kernel.shape))
    convolve = getattr(torch.nn.functional, f"conv{spec.ndim}d")
    mode = _TORCH_MODES[spec.padding_mode]
    padding = [side for pair in reversed(spec.padding) for side in pair]
    symmetric_zeros = spec.padding_mode == "zeros" and all(lo == hi >= 0 for lo, hi in spec.padding)

    def forward(x: Any = x) -> Any:
        if symmetric_zeros:
            pads: Any = [lo for lo, _ in spec.padding]
        else:
            x, pads = torch.nn.functional.pad(x, padding, mode=mode), 0
        return convolve(x, kernel, stride=spec.stride, padding=pads, dilation=spec.dilation, groups=spec.groups)

    leaf = x.clone().requires_grad_(True)
    graph = forward(leaf)

    # By default cuDNN rounds float32 to TF32, which has fewer digits.
    without_tf32 = partial(torch.backends.cudnn.flags, enabled=True, benchmark=True, allow_tf32=False)

    def forward_without_graph() -> Any:
        with torch.inference_mode(), without_tf32():
            return forward()

    def input_gradient() -> Any:
        with without_tf32():
            return torch.autograd.grad(graph, leaf, y, retain_graph=True)[0]

    return forward_without_graph, input_gradient


def to_flat_numpy(result: Any) -> Array:
    """Convert the result of any peer to a one-dimensional NumPy array.

    Parameters
    ----------
    result : array or tensor
        Of NumPy, CuPy or PyTorch.

    Returns
    -------
    ndarray of shape (size,)
    """
    result = result.detach().cpu() if hasattr(result, "detach") else to_cpu(result)
    array: Array = np.asarray(result).reshape(-1)
    return array
