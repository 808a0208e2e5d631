"""The largest singular value of an operator by Lanczos' method."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.linalg import eigvalsh_tridiagonal

from ..arrays.backend import Array

# The method stops when this many steps do not change the largest value.
_CHECK_INTERVAL = 20
_MOST_STEPS = 4000
# Remainders below this share of the largest diagonal entry so far are rounding errors.
_BREAKDOWN = 1e-14


def largest_by_lanczos(operator: Any, rtol: float) -> tuple[float, int]:
    """Returns the largest singular value, by Lanczos' method on ``A A^H`` without restarts.

    Orthogonality is lost as the largest Ritz value converges, which costs repeated steps and no digits of that
    value (Paige, 1976). Restarted methods do not converge where the largest values lie close together.

    Parameters
    ----------
    operator : LinearOperator or matrix
        With ``shape``, ``dtype``, ``matvec`` and ``rmatvec``, in double precision.
    rtol : float
        The method stops when 20 steps change the value by less than this, relative to itself.

    Returns
    -------
    (float, int)
        The value, which is a lower bound but for rounding, and the number of steps.
    """
    is_wide = operator.shape[0] <= operator.shape[1]
    first, second = (operator.rmatvec, operator.matvec) if is_wide else (operator.matvec, operator.rmatvec)
    side = min(operator.shape)
    # A seeded start makes the last digits the same from run to run.
    rng = np.random.default_rng(0)
    q: Array = rng.standard_normal(side)
    if operator.dtype.kind == "c":
        q = q + 1j * rng.standard_normal(side)
    q /= np.linalg.norm(q)
    # The operator is divided by its own magnitude, because it is squared.
    scale = float(np.abs(first(q)).max(initial=0.0))
    if not 0 < scale < math.inf:
        return (0.0 if scale == 0 else math.nan), 0
    steps = min(_MOST_STEPS, 4 * side)
    previous_q, diagonal, off_diagonal, largest, step = np.zeros_like(q), [], [0.0], 0.0, 0
    for step in range(1, steps + 1):
        w = second(first(q) / scale) / scale - off_diagonal[-1] * previous_q
        diagonal.append(float(np.vdot(q, w).real))
        w -= diagonal[-1] * q
        off_diagonal.append(float(np.linalg.norm(w)))
        if not math.isfinite(off_diagonal[-1]):
            return math.nan, step
        # A remainder of rounding errors is no new direction: the Krylov space of the start is exhausted.
        is_last = off_diagonal[-1] <= _BREAKDOWN * max(diagonal) or step == steps
        if step % _CHECK_INTERVAL == 0 or is_last:
            previous = largest
            (largest,) = eigvalsh_tridiagonal(
                diagonal, off_diagonal[1:-1], select="i", select_range=(step - 1, step - 1), lapack_driver="stemr"
            )
            # `largest` is a square: the value itself changes by half as much.
            if is_last or largest - previous <= 2 * rtol * largest:
                break
        previous_q, q = q, w / off_diagonal[-1]
    return math.sqrt(max(0.0, largest)) * scale, step
