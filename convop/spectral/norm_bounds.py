"""Lower and upper bounds of an operator's norm, the upper ones by the Schur test and by the supremum of the symbol."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.sparse as sp

from ..arrays.backend import Array
from ..arrays.scaling import to_unit_scale
from ..geometry.spec import ConvSpec
from .axis_bases import AxisBasis, Fourier
from .blocks import scaled_diagonal_blocks
from .singular_values import as_double, batched_singular_values, convolution_of, to_dense

# Power iterations for the vector of the Schur test, and grid points of the symbol for each degree along an axis.
_POWER_STEPS = 200
_GRID_POINTS_PER_DEGREE = 16


def norm_bounds(A: Any, value: float, steps: int) -> tuple[float, float]:
    """Returns a lower and an upper bound of the norm of an operator, from the result of `largest_value`.

    Parameters
    ----------
    A : LinearOperator, sparse matrix or array
        The operator, on the CPU.
    value : float
        The largest singular value as computed.
    steps : int
        Iterations that it took.

    Returns
    -------
    (float, float)
    """
    if not math.isfinite(value) or 0 in A.shape:
        return value, value
    # Rounding errors of the products and of the recurrence, a few units in the last place each.
    margin = 64 * float(np.finfo(np.float64).eps) * (math.sqrt(max(A.shape)) + steps)
    if steps == 0:
        return value * (1 - margin), value * (1 + margin)
    convolution = convolution_of(A)
    bounds = [_schur_bound(A)]
    if convolution is not None and convolution[0].padding_mode == "zeros":
        bounds.append(_symbol_bound(*convolution))
    return value * (1 - margin), max(value, min(bounds)) * (1 + margin)


def _schur_bound(A: Any) -> float:
    """``norm(A)^2 <= max_i (|A|^T |A| x)_i / x_i`` for all ``x > 0`` (Schur test); the least over power iterates x."""
    power = 0
    if convolution_of(A) is not None and hasattr(A, "with_kernel"):
        # The moduli of the matrix are at most the matrix of the moduli of the taps, as an extension copies elements and never
        # multiplies them. Moduli of complex taps, and their sums, are in double precision: rounded down they give no bound.
        moduli, power = to_unit_scale(np.abs(A.kernel.astype(np.result_type(A.kernel.dtype, np.float64))))
        modulus = as_double(A.with_kernel(moduli))
    elif hasattr(A, "tosparse") or sp.issparse(A):
        modulus = as_double(abs(sp.csr_array(A.tosparse() if hasattr(A, "tosparse") else A)))
    else:
        modulus = as_double(np.abs(to_dense(A)))
    x = np.ones(modulus.shape[1])
    best = math.inf
    for _ in range(_POWER_STEPS):
        image = modulus.rmatvec(modulus.matvec(x))
        best = min(best, float((image / x).max()))
        if best == 0:
            break
        # Components that vanish are kept above zero: any positive vector gives a bound.
        x = np.maximum(image / image.max(), 1e-8)
    return math.ldexp(math.sqrt(best), power)


def _symbol_bound(spec: ConvSpec, taps: Array) -> float:
    """Returns an upper bound of the supremum of the symbol's norm over all angles.

    Along an axis the symbol is a trigonometric polynomial of degree d, the number of whole strides over which the kernel
    extends. The largest modulus on N > d equidistant points is at least ``cos(pi d/(2 N))`` of the supremum (from M.
    Riesz's comparison of a trigonometric polynomial near its maximum with a cosine).
    """
    bases: list[AxisBasis] = []
    factor = 1.0
    for axis in spec.axes:
        degree = (axis.extent - 1) // axis.stride + 1
        count = _GRID_POINTS_PER_DEGREE * degree
        bases.append(Fourier(count, axis.stride))
        factor /= math.cos(math.pi * degree / (2 * count))
    blocks, power = scaled_diagonal_blocks(spec, taps, bases, f"the symbol of {spec}")
    return math.ldexp(float(batched_singular_values(blocks).max()) * factor, power)
