"""Spectral measures of data under ``A A^H``: exact by fast transforms, or by Golub-Kahan bidiagonalisation and quadrature.

For vectors y and the left singular vectors u_i of A, the measure puts the mass ``sum |<u_i, y>|^2`` at the square of each
singular value. Then ``<y, f(A A^H) y>`` is the integral of f, for Tikhonov's residuals at all dampings at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import eigh_tridiagonal

from ..arrays.backend import Array, namespace, to_cpu
from ..operators.conv import Conv, ConvTranspose
from ..spectral.axis_bases import Identity, exact_bases
from ..spectral.blocks import block_multiplicities, diagonal_blocks
from ..spectral.transform_basis import TransformBasis
from .scaled_problem import ScaledProblem

# Steps of the first call of `GolubKahan.extend`.
_FIRST_STEPS = 40


@dataclass(frozen=True)
class SpectralMeasure:
    """A discrete measure: squares of singular values, and the mass of some vectors at each.

    Attributes
    ----------
    values : ndarray of shape ``(n,)``
        Squares of singular values.
    masses : ndarray of shape ``(n,)``
        Squared moduli of the components of the vectors along the left singular vectors, summed over the vectors.
    """

    values: Array
    masses: Array

    def residual_squares(self, damps: Array) -> Array:
        """Returns ``norm((I - A A_damp) y)^2`` for each damping, summed over the vectors."""
        return self._residual_forms(damps, 2)

    def residual_products(self, damps: Array) -> Array:
        """Returns ``<y, (I - A A_damp) y>`` for each damping, summed over the vectors."""
        return self._residual_forms(damps, 1)

    def _residual_forms(self, damps: Array, power: int) -> Array:
        """Integrates ``(damp^2/(s^2 + damp^2))^power`` for each damping."""
        return np.array([((d2 / (self.values + d2)) ** power) @ self.masses for d2 in damps**2])


@dataclass(frozen=True)
class ExactMeasures:
    """The spectral measures of a convolution that fast transforms diagonalise.

    Attributes
    ----------
    data : SpectralMeasure
        The measure of the data.
    trace : SpectralMeasure
        The measure of all unit vectors together, which gives traces.
    norm : float
        The largest singular value.
    """

    data: SpectralMeasure
    trace: SpectralMeasure
    norm: float

    @classmethod
    def of(cls, problem: ScaledProblem) -> ExactMeasures | None:
        """Returns the measures of a problem, or None where transforms do not diagonalise its operator."""
        A = problem.A
        if not isinstance(A, Conv | ConvTranspose):
            return None
        (spec, taps), is_transpose = A.convolution(), isinstance(A, ConvTranspose)
        if not np.isfinite(taps).all():
            return None
        axes = exact_bases(spec, taps)
        if any(isinstance(basis, Identity) for basis in axes):
            return None
        B = diagonal_blocks(spec, taps, axes, f"the spectrum of {spec}")
        B = B.conj().swapaxes(-1, -2) if is_transpose else B
        y = to_cpu(problem.y)
        if y.dtype.kind == "c" and taps.dtype.kind != "c":
            y = np.hstack([y.real, y.imag])
        basis = TransformBasis.of(spec, axes, taps.dtype, outputs=not is_transpose)
        coefficients = basis.forward(np.ascontiguousarray(y.T).reshape(-1, *basis.shape))
        counts = block_multiplicities(axes, taps.dtype)[..., None, None]
        values, squares_along = _singular_components(B, coefficients)
        masses = counts * squares_along
        ones = np.broadcast_to(counts, values.shape).astype(np.float64)
        # Components of the data outside the range of A have the singular value zero.
        outside = max(0.0, float((counts * (np.abs(coefficients) ** 2).sum(axis=-1)).sum() - masses.sum()))
        squares = np.append(values.ravel() ** 2, 0.0)
        return cls(
            SpectralMeasure(squares, np.append(masses.ravel(), outside)),
            SpectralMeasure(squares, np.append(ones.ravel(), A.shape[0] - ones.sum())),
            float(values.max(initial=0.0)),
        )


def _singular_components(B: Array, vectors: Array) -> tuple[Array, Array]:
    """Returns the singular values of many matrices, and the squares of vectors along their left singular vectors.

    Parameters
    ----------
    B : ndarray of shape ``(..., rows, columns)``
        The matrices.
    vectors : ndarray of shape ``(..., rows, P)``
        P vectors for each.

    Returns
    -------
    (ndarray, ndarray) of shape ``(..., min(rows, columns))``
        The squares are summed over the P vectors.
    """
    if B.shape[-2] == 1:
        return np.linalg.norm(B, axis=-1), (np.abs(vectors) ** 2).sum(axis=-1)
    U, values, _ = np.linalg.svd(B, full_matrices=False)
    return values, (np.abs(U.conj().swapaxes(-1, -2) @ vectors) ** 2).sum(axis=-1)


class GolubKahan:
    """Golub and Kahan's lower bidiagonalisation, for several start vectors independently, and its quadratures.

    After k steps ``A V = U B`` with B of size (k + 1) x k. For a function of the singular values, the eigenvalues and the
    first components of the eigenvectors of ``B B^T`` are the nodes and weights of a quadrature for the start vector: the
    Gauss-Radau rule with a node at zero, and without the last row of B the Gauss rule (Golub and Meurant, Matrices,
    Moments and Quadrature, 2010). For the functions of `SpectralMeasure`, whose derivatives alternate in sign, the Gauss
    rule is a lower bound, and the Gauss-Radau rule an upper one.

    Parameters
    ----------
    A : LinearOperator
        The operator.
    start : ndarray of shape ``(M, P)``
        P start vectors.

    Attributes
    ----------
    lower, upper : SpectralMeasure
        The measures of both rules.
    steps : int
        Steps so far.
    """

    def __init__(self, A: Any, start: Array) -> None:
        self._A, self._xp = A, namespace(start)
        lengths = self._lengths(start)
        self._squares = lengths**2
        self.steps = 0
        self._u = self._divide_columns(start, lengths)
        v = A.rmatmat(self._u)
        self._diagonal: list[Array] = [self._lengths(v)]
        self._below: list[Array] = []
        self._v = self._divide_columns(v, self._diagonal[-1])
        self.lower = self.upper = SpectralMeasure(np.zeros(1), self._squares.sum(keepdims=True))

    def _lengths(self, columns: Array) -> Array:
        return np.array([float(self._xp.linalg.norm(columns[:, c])) for c in range(columns.shape[1])])

    def _divide_columns(self, columns: Array, lengths: Array) -> Array:
        quotients: Array = columns / self._xp.asarray(np.where(lengths > 0, lengths, 1).astype(columns.real.dtype))
        return quotients

    def extend(self) -> None:
        """Take half as many steps as there are, at least 40, and compute both quadratures anew."""
        A, xp = self._A, self._xp
        real = self._u.real.dtype
        for _ in range(max(_FIRST_STEPS, self.steps // 2)):
            u = A.matmat(self._v) - xp.asarray(self._diagonal[-1].astype(real)) * self._u
            self._below.append(self._lengths(u))
            self._u = self._divide_columns(u, self._below[-1])
            v = A.rmatmat(self._u) - xp.asarray(self._below[-1].astype(real)) * self._v
            self._diagonal.append(self._lengths(v))
            self._v = self._divide_columns(v, self._diagonal[-1])
            self.steps += 1
        diagonal, below = np.array(self._diagonal[: self.steps]), np.array(self._below)
        self.lower, self.upper = self._quadrature(diagonal, below[:-1]), self._quadrature(diagonal, below)

    def _quadrature(self, diagonal: Array, below: Array) -> SpectralMeasure:
        """Returns the rule from the eigenvalues of ``B B^T``, a tridiagonal matrix for each start vector."""
        nodes, masses = [], []
        for column, square in enumerate(self._squares):
            d, b = diagonal[:, column], below[:, column]
            main = np.zeros(len(b) + 1)
            main[: len(d)] = d**2
            main[1:] += b**2
            values, vectors = eigh_tridiagonal(main, d[: len(b)] * b)
            nodes.append(np.maximum(values, 0))
            masses.append(square * vectors[0] ** 2)
        return SpectralMeasure(np.concatenate(nodes), np.concatenate(masses))

    @property
    def norm(self) -> float:
        """An estimate of the norm of the operator from below."""
        return math.sqrt(float(self.upper.values.max()))
