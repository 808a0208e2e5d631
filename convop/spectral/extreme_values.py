"""Some of the largest or smallest singular values by iterations: ARPACK, ARPACK on an inverse, and LOBPCG."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.sparse.linalg import ArpackError, lobpcg, splu, svds
from scipy.sparse.linalg import LinearOperator as ScipyLinearOperator

from ..arrays.backend import Array
from .singular_values import as_double, convolution_of, largest_value, rounding_bound

# An inverse is computed if its LU factors have at most this many entries.
_FACTOR_ENTRIES = 6 * 10**7
# LOBPCG uses a preconditioner of this damping relative to the norm. It iterates to residuals of `A^H A` of this size
# relative to the squared norm, with this many vectors besides those that are asked for.
_LOBPCG_DAMP, _LOBPCG_RTOL, _GUARD_VECTORS, _LOBPCG_STEPS = 1e-3, 1e-10, 4, 500


def largest_by_arpack(operator: ScipyLinearOperator, k: int) -> Array:
    """Returns the k largest singular values, largest first.

    Raises
    ------
    RuntimeError
        If ARPACK does not converge.
    """
    start = np.random.default_rng(0).standard_normal(min(operator.shape))  # the same digits from run to run
    try:
        found = svds(operator, k, which="LM", return_singular_vectors=False, v0=start)
    except ArpackError as error:
        raise RuntimeError(f"{k} singular values of {operator.shape} did not converge: {error}") from error
    return np.asarray(np.sort(found)[::-1])


def smallest_values(A: Any, k: int, preconditioner: Callable[[Any, float], Any]) -> tuple[Array, float]:
    """Returns the k smallest singular values, largest first, and the size below which they are not resolved.

    Parameters
    ----------
    A : Conv, ConvTranspose, LinearOperator, sparse matrix or array
        The operator, on the CPU.
    k : int
        Number of values.
    preconditioner : callable
        Maps a convolution B and a damping to an operator close to ``(B^H B + damp^2 I)^-1``.

    Returns
    -------
    (ndarray of float64, float)
        NaN for entries that are not finite.

    Raises
    ------
    RuntimeError
        If the iteration does not converge.
    """
    largest = largest_value(A, 1e-3)[0]
    if not math.isfinite(largest):
        return np.full(k, np.nan), 0.0
    if largest == 0:
        return np.zeros(k), 0.0
    P: ScipyLinearOperator | None = None
    if convolution_of(A) is not None:
        inverse, rounding = _factored_inverse(A), rounding_bound(largest, A.shape)
        if inverse is not None:
            # The norm of the inverse is at most 1/rounding, unless the matrix is singular to rounding.
            image = inverse.matvec(np.ones(A.shape[0]))
            if np.linalg.norm(image) * rounding <= math.sqrt(A.shape[0]):
                return 1 / np.sort(largest_by_arpack(inverse, k)), rounding
            if k == 1:
                return np.zeros(1), rounding
        P = as_double(preconditioner(A.H if A.shape[0] < A.shape[1] else A, _LOBPCG_DAMP * largest))
    return _smallest_by_lobpcg(as_double(A), k, largest, P), math.sqrt(_LOBPCG_RTOL) * largest


def _factored_inverse(A: Any) -> ScipyLinearOperator | None:
    """Returns the inverse of a square convolution by LU factors; None if they are too large or do not exist."""
    spec = A.spec
    # Eliminated row by row, the factors fill a band: as wide as the kernel extends along the first axis.
    band = 2 * spec.axes[0].extent * math.prod(spec.input_shape[-spec.ndim :][1:]) * max(spec.c_in, spec.c_out)
    if spec.shape[0] != spec.shape[1] or 2 * spec.shape[0] * min(band, spec.shape[0]) > _FACTOR_ENTRIES:
        return None
    double = np.result_type(A.dtype, np.float64)
    try:
        factors = splu(A.tosparse("csc").astype(double))
    except RuntimeError:  # exactly singular
        return None
    return ScipyLinearOperator(
        A.shape, matvec=factors.solve, rmatvec=lambda y: factors.solve(np.asarray(y), trans="H"), dtype=double
    )


def _smallest_by_lobpcg(operator: ScipyLinearOperator, k: int, largest: float, P: ScipyLinearOperator | None) -> Array:
    """Returns the k smallest singular values, by LOBPCG on ``A^H A`` or, if it is smaller, ``A A^H``.

    P is an approximate inverse of the same matrix. Tolerances are relative to the square of the largest singular value.
    """
    is_wide = operator.shape[0] < operator.shape[1]
    first, second = (operator.rmatmat, operator.matmat) if is_wide else (operator.matmat, operator.rmatmat)
    size = min(operator.shape)

    def apply_gram(x: Array) -> Array:
        return np.asarray(second(first(x.reshape(size, -1)))).reshape(x.shape)

    gram = ScipyLinearOperator((size, size), matvec=apply_gram, matmat=apply_gram, dtype=operator.dtype)
    start = np.random.default_rng(0).standard_normal((size, k + _GUARD_VECTORS)).astype(operator.dtype)
    tolerance = _LOBPCG_RTOL * largest**2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # convergence is checked below
        squares, vectors = lobpcg(gram, start, M=P, largest=False, tol=tolerance, maxiter=_LOBPCG_STEPS)
    order = np.argsort(squares)[:k]
    residuals = np.linalg.norm(gram.matmat(vectors[:, order]) - vectors[:, order] * squares[order], axis=0)
    if not (residuals <= 10 * tolerance).all():
        raise RuntimeError(
            f"the {k} smallest singular values did not converge in {_LOBPCG_STEPS} iterations: residuals up to "
            f"{residuals.max() / largest**2:.2g} of the norm squared; ask for fewer, or use a smaller input_shape"
        )
    return np.asarray(np.sqrt(np.maximum(0, squares[order]))[::-1])
