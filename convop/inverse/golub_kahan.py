"""Golub and Kahan's bidiagonalisation: bounds of the residuals of Tikhonov's solutions for all dampings at once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.linalg import eigh_tridiagonal

from ..arrays.backend import Array, namespace


class GolubKahan:
    """Golub and Kahan's lower bidiagonalisation, for several start vectors independently, and its quadratures.

    After k steps ``A V = U B`` with B of size (k + 1) x k. For a function of the singular values, the eigenvalues and the
    first components of the eigenvectors of ``B B^T`` are the nodes and weights of a quadrature for the start vector: the
    Gauss-Radau rule with a node at zero, and without the last row of B the Gauss rule (Golub and Meurant, Matrices,
    Moments and Quadrature, 2010). For the residuals, whose derivatives by the square of a singular value alternate in
    sign, the Gauss rule is a lower bound, and the Gauss-Radau rule an upper one.

    Parameters
    ----------
    A : LinearOperator
        The operator.
    start : ndarray of shape ``(M, P)``
        P start vectors.

    Attributes
    ----------
    steps : int
        Steps so far; each takes a product with `A` and one with ``A^H``.
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

    def _lengths(self, columns: Array) -> Array:
        return np.array([float(self._xp.linalg.norm(columns[:, c])) for c in range(columns.shape[1])])

    def _divide_columns(self, columns: Array, lengths: Array) -> Array:
        quotients: Array = columns / self._xp.asarray(np.where(lengths > 0, lengths, 1).astype(columns.real.dtype))
        return quotients

    def step(self) -> None:
        """Adds a column to B."""
        A, xp, real = self._A, self._xp, self._u.real.dtype
        u = A.matmat(self._v) - xp.asarray(self._diagonal[-1].astype(real)) * self._u
        self._below.append(self._lengths(u))
        self._u = self._divide_columns(u, self._below[-1])
        v = A.rmatmat(self._u) - xp.asarray(self._below[-1].astype(real)) * self._v
        self._diagonal.append(self._lengths(v))
        self._v = self._divide_columns(v, self._diagonal[-1])
        self.steps += 1

    def residual_squares(self, damps: Array) -> tuple[Array, Array]:
        """Returns bounds of ``norm((I - A A_damp) y)^2`` for each damping, summed over the start vectors."""
        return self._bounds(damps, 2)

    def residual_products(self, damps: Array) -> tuple[Array, Array]:
        """Returns bounds of ``<y, (I - A A_damp) y>`` for each damping, summed over the start vectors."""
        return self._bounds(damps, 1)

    def _bounds(self, damps: Array, power: int) -> tuple[Array, Array]:
        """Returns the lower and the upper quadrature of ``(damp^2/(s^2 + damp^2))^power``.

        With the diagonal ``a_i`` of B, the numbers ``b_i`` below it and ``c = damp^2``, the differential qd algorithm gives
        the factors of ``B B^T + c = L D L^T`` (Parlett, Acta Numerica 1995, section 4):

            D_i = a_i^2 + e_i,    e_1 = c,    e_(i+1) = c + b_(i+1)^2 e_i/D_i,    L_(i+1,i) = a_i b_(i+1)/D_i.

        The first element of the inverse is the sum of ``q_i/D_i``, where ``q_1 = 1`` and ``q_(i+1) = L_(i+1,i)^2 q_i``.
        Minus its derivative by c is the first element of the squared inverse. All terms are positive, so that none cancel.
        """
        c = (damps**2)[:, None]
        e, e_slope = np.broadcast_to(c, (len(damps), len(self._squares))), np.ones((len(damps), len(self._squares)))
        q, fall = np.ones_like(e_slope), np.zeros_like(e_slope)  # fall = -d log q/dc
        total = np.zeros_like(e_slope)
        # Without rows below it, B is empty: the rule is the whole mass at zero, which bounds from above only.
        for a, b in zip(self._diagonal, self._below, strict=False):
            d = a**2 + e
            slope = e_slope / d  # d log D/dc
            total = total + (q / d if power == 1 else q / d * (fall + slope))
            q = q * (a * b / d) ** 2
            fall = fall + 2 * slope
            e, e_slope = c + b**2 * e / d, 1 + (a * b / d) ** 2 * e_slope
        last = q / e if power == 1 else q / e * (fall + e_slope / e)
        lower, upper = ((sums * c**power) @ self._squares for sums in (total, total + last))
        return lower, upper

    @property
    def norm(self) -> float:
        """An estimate of the norm of the operator from below: the largest singular value of B."""
        diagonal, below = np.array(self._diagonal[: self.steps]), np.array(self._below)
        largest = 0.0
        for column in range(len(self._squares)):
            d, b = diagonal[:, column], below[:, column]
            main = np.zeros(self.steps + 1)
            main[:-1] = d**2
            main[1:] += b**2
            last = (self.steps, self.steps)
            values = eigh_tridiagonal(main, d * b, eigvals_only=True, select="i", select_range=last)
            largest = max(largest, float(values[0]))
        return math.sqrt(largest)
