"""Bilinear algorithms for short correlations: n = m + r - 1 multiplications for m results of r taps, instead of m r.

The product of two polynomials with m and r coefficients is known from its values at n - 1 points and its leading
coefficient (Toom 1963, Cook 1966). Transposed, this is a correlation (Winograd, Arithmetic Complexity of Computations,
1980; Lavin and Gray, 2016, arXiv:1509.09308, use it for layers of neural networks):

    y[i] = sum_s g[s] d[i + s]  =  A ((G g) * (B d))        0 <= i < m, 0 <= s < r

with, for points p_0, ..., p_(n-2) and N(x) = prod_k (x - p_k),

    A[i, k] = p_k^i,   G[k, s] = p_k^s / N'(p_k),   B[k, :] = coefficients of N(x) / (x - p_k)

and in the last place, for the leading coefficient, A[m-1] = 1, G[r-1] = 1, B[:] = coefficients of N.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import numpy as np

from ...arrays.backend import Array

_HALF = Fraction(1, 2)
# Points for each number of multiplications: of small fractions, those that amplify rounding errors least.
_POINTS = {
    1: (),
    2: (0,),
    3: (0, 1),
    4: (0, 1, -1),
    5: (0, 1, -1, 2),
    6: (0, 1, -1, 2, -_HALF),
    7: (0, 1, -1, 2, -_HALF, -2),
    8: (0, 1, -1, 2, -_HALF, -2, _HALF),
}
MOST_MULTIPLICATIONS = max(_POINTS)


@dataclass(frozen=True)
class ToomCook:
    """The matrices of one algorithm, in double precision.

    Attributes
    ----------
    from_input : ndarray of shape ``(n, n)``
        B: values at the points, from n neighbouring elements.
    from_taps : ndarray of shape ``(n, r)``
        G: values at the points, from the taps.
    to_results : ndarray of shape ``(m, n)``
        A: results, from the products at the points.
    """

    from_input: Array
    from_taps: Array
    to_results: Array

    @classmethod
    @cache
    def of(cls, results: int, taps: int) -> ToomCook:
        """Returns the algorithm for m results of r taps, whose sum is at most `MOST_MULTIPLICATIONS` + 1."""
        points = [Fraction(p) for p in _POINTS[results + taps - 1]]
        from_input, from_taps = [], []
        for k, p in enumerate(points):
            others = points[:k] + points[k + 1 :]
            scale = math.prod((p - q for q in others), start=Fraction(1))
            from_input.append([*_monic(others), Fraction(0)])
            from_taps.append([p**s / scale for s in range(taps)])
        from_input.append(_monic(points))
        from_taps.append([Fraction(s == taps - 1) for s in range(taps)])
        to_results = [[*(p**i for p in points), Fraction(i == results - 1)] for i in range(results)]
        return cls(*(np.array(matrix, dtype=np.float64) for matrix in (from_input, from_taps, to_results)))

    @property
    def amplification(self) -> float:
        """The error of a result over that of the direct sum, root mean square over random elements and taps.

        A product at a point has the variance of ``|B[k]|^2 |G[k]|^2``, and a rounding error in proportion to it, which
        ``A[i, k]`` multiplies. The result itself has the variance r.
        """
        products = (self.from_input**2).sum(axis=1) * (self.from_taps**2).sum(axis=1)
        return float(np.sqrt((self.to_results**2 @ products).max() / self.from_taps.shape[1]))


def _monic(roots: list[Fraction]) -> list[Fraction]:
    """Returns the coefficients of the polynomial with these roots and leading coefficient 1, the constant one first."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted, scaled = [Fraction(0), *coefficients], [*(root * c for c in coefficients), Fraction(0)]
        coefficients = [a - b for a, b in zip(shifted, scaled, strict=True)]
    return coefficients
