"""What else applies a convolution: PyTorch, PyLops, SciPy's signal and ndimage, and its sparse matrices.

Each as its users would call it, with everything prepared that they can prepare. A peer has no function for a workload
it does not cover, and none for an adjoint that it does not have.
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

__all__ = ["Pair", "elements", "gpu_peers", "peers"]

Pair: TypeAlias = tuple[Callable[[], Any] | None, Callable[[], Any] | None]

_NDIMAGE_MODES = {"zeros": "constant", "circular": "grid-wrap", "reflect": "mirror"}
_TORCH_MODES = {"zeros": "constant", "circular": "circular", "reflect": "reflect", "replicate": "replicate"}
# The matrix and its transpose up to so many bytes together.
_MATRIX_NBYTES = 6 * 2**30


def peers(problem: Problem) -> dict[str, Pair]:
    """Forward and adjoint of every installed peer that covers a workload, as functions of nothing.

    Parameters
    ----------
    problem : Problem
        What is to be computed.

    Returns
    -------
    dict of (callable or None, callable or None)
        By name. Results have the elements of the output and of the input, in any shape.
    """
    found = {
        "SciPy CSR": _csr(problem),
        "SciPy fftconvolve": _signal(problem, scipy.signal.fftconvolve),
        "SciPy oaconvolve": _signal(problem, scipy.signal.oaconvolve),
        "SciPy ndimage": _ndimage(problem, scipy.ndimage.correlate),
        "PyLops ConvolveND": _pylops(problem),
        "PyTorch": _torch(problem) if find_spec("torch") is not None else (None, None),
    }
    return {name: pair for name, pair in found.items() if pair != (None, None)}


def gpu_peers(problem: Problem) -> dict[str, Pair]:
    """Forward and adjoint of every peer on the GPU that covers a workload, as `peers` has them.

    Parameters
    ----------
    problem : Problem
        What is to be computed, with arrays on the GPU.

    Returns
    -------
    dict of (callable or None, callable or None)
    """
    signal, ndimage = gpu_module("signal"), gpu_module("ndimage")
    found = {
        "CuPy fftconvolve": _signal(problem, signal.fftconvolve),
        "CuPy oaconvolve": _signal(problem, signal.oaconvolve),
        "CuPy ndimage": _ndimage(problem, ndimage.correlate),
        "PyTorch": _torch(problem) if find_spec("torch") is not None else (None, None),
    }
    return {name: pair for name, pair in found.items() if pair != (None, None)}


def _csr(problem: Problem) -> Pair:
    spec = problem.spec
    nbytes = 2 * spec.matrix_nbytes(problem.dtype)
    free = memory.available()
    if nbytes > min(_MATRIX_NBYTES, free / 2 if free is not None else _MATRIX_NBYTES):
        return None, None
    matrix = kernel2matrix(problem.kernel, spec.input_shape, **spec.parameters())
    transposed = matrix.T.tocsr()
    x, y = problem.x.ravel(), problem.y.ravel()
    return lambda: matrix @ x, lambda: transposed @ y


def _signal(problem: Problem, convolve: Callable[..., Array]) -> Pair:
    """The full convolution, of which the results are a part; a stride takes every so many of them."""
    spec = problem.spec
    if not problem.workload.one_channel or spec.padding_mode != "zeros" or max(spec.dilation) > 1:
        return None, None
    kernel, x, y = problem.kernel, problem.x, problem.y
    xp = namespace(kernel)
    reverse = xp.flip(kernel)
    taken = tuple(
        slice(a.taps - 1 - a.lo, a.taps - 1 - a.lo + (a.outputs - 1) * a.stride + 1, a.stride) for a in spec.axes
    )
    spread = xp.zeros([(a.outputs - 1) * a.stride + 1 for a in spec.axes], problem.dtype)
    back = tuple(slice(a.lo, a.lo + a.inputs) for a in spec.axes)

    def adjoint() -> Array:
        spread[tuple(slice(None, None, s) for s in spec.stride)] = y
        full = convolve(spread, kernel)[back]
        missing = [(0, n - m) for n, m in zip(spec.input_shape, full.shape, strict=True)]
        padded: Array = xp.pad(full, missing) if any(m for _, m in missing) else full
        return padded

    return lambda: convolve(x, reverse)[taken], adjoint


def _ndimage(problem: Problem, correlate: Callable[..., Array]) -> Pair:
    spec = problem.spec
    mode = _NDIMAGE_MODES.get(spec.padding_mode)
    same = all(a.outputs == a.inputs for a in spec.axes)
    if not problem.workload.one_channel or mode is None or not same or max(*spec.stride, *spec.dilation) > 1:
        return None, None
    # its centre is element k//2, ours element lo
    forward_origin = [a.lo - a.taps // 2 for a in spec.axes]
    kernel, x, y = problem.kernel, problem.x, problem.y

    def forward() -> Array:
        return correlate(x, kernel, mode=mode, origin=forward_origin)

    if spec.padding_mode == "reflect":
        return forward, None  # the mirrored filter of a mirrored boundary is not its adjoint
    reverse = namespace(kernel).flip(kernel)
    origin = [a.taps - 1 - a.lo - a.taps // 2 for a in spec.axes]

    def adjoint() -> Array:
        return correlate(y, reverse, mode=mode, origin=origin)

    return forward, adjoint


def _pylops(problem: Problem) -> Pair:
    spec = problem.spec
    same = all(a.outputs == a.inputs for a in spec.axes)
    zeros = spec.padding_mode == "zeros"
    if not problem.workload.one_channel or not zeros or not same or max(*spec.stride, *spec.dilation) > 1:
        return None, None
    from ..operators.linear_operator import pylops

    offset = tuple(a.taps - 1 - a.lo for a in spec.axes)
    try:
        operator = pylops.signalprocessing.ConvolveND(
            spec.input_shape, np.flip(problem.kernel), offset=offset, dtype=problem.dtype
        )
    except ValueError:
        return None, None
    return lambda: operator @ problem.x, lambda: operator.H @ problem.y


def _torch(problem: Problem) -> Pair:
    """A layer's forward pass, and the backward pass by its input on a recorded graph."""
    import torch

    spec = problem.spec
    if spec.ndim > 3 or spec.padding_mode not in _TORCH_MODES:
        return None, None
    extra = () if spec.channels else (1,)
    tensor = torch.from_dlpack if on_gpu(problem.x) else torch.from_numpy
    x = tensor(problem.x.reshape(1, *extra, *problem.x.shape))
    y = tensor(problem.y.reshape(1, *extra, *problem.y.shape))
    kernel = tensor(problem.kernel.reshape(*extra, *extra, *problem.kernel.shape))
    convolve = getattr(torch.nn.functional, f"conv{spec.ndim}d")
    mode = _TORCH_MODES[spec.padding_mode]
    padding = [side for pair in reversed(spec.padding) for side in pair]
    even = spec.padding_mode == "zeros" and all(lo == hi >= 0 for lo, hi in spec.padding)

    def forward(x: Any = x) -> Any:
        if even:
            pads: Any = [lo for lo, _ in spec.padding]
        else:
            x, pads = torch.nn.functional.pad(x, padding, mode=mode), 0
        return convolve(x, kernel, stride=spec.stride, padding=pads, dilation=spec.dilation, groups=spec.groups)

    leaf = x.clone().requires_grad_(True)
    graph = forward(leaf)

    # On a GPU PyTorch rounds to fewer digits unless told otherwise.
    exactly = partial(torch.backends.cudnn.flags, enabled=True, benchmark=True, allow_tf32=False)

    def without_graph() -> Any:
        with torch.inference_mode(), exactly():
            return forward()

    def gradient() -> Any:
        with exactly():
            return torch.autograd.grad(graph, leaf, y, retain_graph=True)[0]

    return without_graph, gradient


def elements(result: Any) -> Array:
    """A result of any peer as a flat array."""
    result = result.detach().cpu() if hasattr(result, "detach") else to_cpu(result)
    array: Array = np.asarray(result).reshape(-1)
    return array
