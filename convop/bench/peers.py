"""What else applies a convolution: PyTorch, PyLops, SciPy's signal and ndimage, and its sparse matrices.

Each as its users would call it, with everything prepared that they can prepare. A peer has no function for a workload
it does not cover, and none for an adjoint that it does not have.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, TypeAlias

import numpy as np
import scipy.ndimage
import scipy.signal

from .. import memory
from ..backend import Array
from ..matrix import kernel2matrix
from .workloads import Problem

__all__ = ["Pair", "elements", "peers"]

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
        "SciPy ndimage": _ndimage(problem),
        "PyLops ConvolveND": _pylops(problem),
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
    reverse = np.flip(kernel)
    taken = tuple(
        slice(a.taps - 1 - a.lo, a.taps - 1 - a.lo + (a.outputs - 1) * a.stride + 1, a.stride) for a in spec.axes
    )
    spread = np.zeros([(a.outputs - 1) * a.stride + 1 for a in spec.axes], problem.dtype)
    back = tuple(slice(a.lo, a.lo + a.inputs) for a in spec.axes)

    def adjoint() -> Array:
        spread[tuple(slice(None, None, s) for s in spec.stride)] = y
        full = convolve(spread, kernel)[back]
        missing = [(0, n - m) for n, m in zip(spec.input_shape, full.shape, strict=True)]
        return np.pad(full, missing) if any(m for _, m in missing) else full

    return lambda: convolve(x, reverse)[taken], adjoint


def _ndimage(problem: Problem) -> Pair:
    spec = problem.spec
    mode = _NDIMAGE_MODES.get(spec.padding_mode)
    same = all(a.outputs == a.inputs for a in spec.axes)
    if not problem.workload.one_channel or mode is None or not same or max(*spec.stride, *spec.dilation) > 1:
        return None, None
    # its centre is element k//2, ours element lo
    forward_origin = [a.lo - a.taps // 2 for a in spec.axes]
    kernel, x, y = problem.kernel, problem.x, problem.y

    def forward() -> Array:
        result: Array = scipy.ndimage.correlate(x, kernel, mode=mode, origin=forward_origin)
        return result

    if spec.padding_mode == "reflect":
        return forward, None  # the mirrored filter of a mirrored boundary is not its adjoint
    reverse = np.flip(kernel)
    origin = [a.taps - 1 - a.lo - a.taps // 2 for a in spec.axes]

    def adjoint() -> Array:
        result: Array = scipy.ndimage.correlate(y, reverse, mode=mode, origin=origin)
        return result

    return forward, adjoint


def _pylops(problem: Problem) -> Pair:
    spec = problem.spec
    same = all(a.outputs == a.inputs for a in spec.axes)
    zeros = spec.padding_mode == "zeros"
    if not problem.workload.one_channel or not zeros or not same or max(*spec.stride, *spec.dilation) > 1:
        return None, None
    from ..linear_operator import pylops

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
    x = torch.from_numpy(problem.x.reshape(1, *extra, *problem.x.shape))
    y = torch.from_numpy(problem.y.reshape(1, *extra, *problem.y.shape))
    kernel = torch.from_numpy(problem.kernel.reshape(*extra, *extra, *problem.kernel.shape))
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

    def without_graph() -> Any:
        with torch.inference_mode():
            return forward()

    return without_graph, lambda: torch.autograd.grad(graph, leaf, y, retain_graph=True)[0]


def elements(result: Any) -> Array:
    """A result of any peer as a flat array."""
    array: Array = np.asarray(result.detach() if hasattr(result, "detach") else result).reshape(-1)
    return array
