"""SciPy's matrices, `scipy.signal` and `scipy.ndimage`, CuPy's versions of the last two, and PyLops."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...arrays import memory
from ...arrays.backend import Array, namespace
from ...matrix.build import kernel2matrix
from ..workloads import Problem
from .support import UNSUPPORTED, ForwardAdjoint, is_plain_filter

_NDIMAGE_MODES = {"zeros": "constant", "circular": "grid-wrap", "reflect": "mirror"}
# Limit in bytes of the matrix and its transpose together.
_MAX_MATRIX_NBYTES = 6 * 2**30


def csr_matrix(problem: Problem) -> ForwardAdjoint:
    """Prepare products with this package's matrix and with its transpose, both stored by rows."""
    spec = problem.spec
    nbytes = 2 * spec.matrix_nbytes(problem.dtype)
    free = memory.available()
    if nbytes > min(_MAX_MATRIX_NBYTES, free / 2 if free is not None else _MAX_MATRIX_NBYTES):
        return UNSUPPORTED
    matrix = kernel2matrix(problem.kernel, spec.input_shape, **spec.parameters())
    transposed = matrix.T.tocsr()
    x, y = problem.x.ravel(), problem.y.ravel()
    return lambda: matrix @ x, lambda: transposed @ y


def signal(problem: Problem, convolve: Callable[..., Array]) -> ForwardAdjoint:
    """Slice the output from the full convolution: element ``taps-1-lo + stride*o`` of each axis is output o."""
    spec = problem.spec
    if not problem.workload.is_single_channel or spec.padding_mode != "zeros" or max(spec.dilation) > 1:
        return UNSUPPORTED
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


def ndimage(problem: Problem, correlate: Callable[..., Array]) -> ForwardAdjoint:
    """Prepare correlations of the input with the kernel, and of the output with the flipped kernel."""
    spec = problem.spec
    mode = _NDIMAGE_MODES.get(spec.padding_mode)
    if mode is None or not is_plain_filter(problem):
        return UNSUPPORTED
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


def pylops_convolve(problem: Problem) -> ForwardAdjoint:
    """Prepare products with PyLops' operator of the flipped kernel, and with its adjoint."""
    spec = problem.spec
    if spec.padding_mode != "zeros" or not is_plain_filter(problem):
        return UNSUPPORTED
    from ...operators.linear_operator import pylops

    offset = tuple(a.taps - 1 - a.lo for a in spec.axes)
    try:
        operator = pylops.signalprocessing.ConvolveND(
            spec.input_shape, np.flip(problem.kernel), offset=offset, dtype=problem.dtype
        )
    except ValueError:
        return UNSUPPORTED
    return lambda: operator @ problem.x, lambda: operator.H @ problem.y
