"""Convolutional sparse coding as an optimisation problem: data, weight and penalty, its objective and a dual bound."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from ..arrays.backend import Array
from ..arrays.scaling import scale_by_power_of_two, to_unit_scale
from .elementwise import power_sums
from .synthesis import Synthesis

# Arrays of the size of the maps that a solver holds at the same time, at most, including those inside a product.
WORKING_ARRAYS = 10


@dataclass(frozen=True, eq=False)
class Problem:
    """Minimise ``lam/2 norm(A z - y)^2 + sum |z|^p`` over the maps z of each of I images; vectors are columns.

    Attributes
    ----------
    A : Synthesis
        Maps to images.
    y : ndarray of shape ``(K0*n*m, I)``
        Images.
    lam : float
        Weight of the data.
    p : float
        Power of the penalty.
    map_exponent : int
        The maps of the images that were given to `from_images` are ``2^map_exponent`` times the maps of this problem.
    """

    A: Synthesis
    y: Array
    lam: float
    p: float = 1.0
    map_exponent: int = 0

    @classmethod
    def from_images(cls, filters: Array, images: Array, lam: float, p: float = 1.0) -> Problem:
        """Returns the problem with filters and images scaled by powers of two, so that squares stay in range.

        Division of the filters by ``2^a`` and of the images by ``2^b`` divides the maps by ``2^(b - a)``, the penalty by
        ``2^(p (b - a))`` and the misfit by ``2^(2 b)``. The weight lam compensates the difference.
        """
        (filters, a), (images, b) = to_unit_scale(filters), to_unit_scale(images)
        synthesis = Synthesis(filters, (images.shape[2], images.shape[3]))
        return cls(synthesis, images.reshape(len(images), -1).T, _scale_weight(lam, 2 * b - p * (b - a)), p, b - a)

    def unscale_maps(self, w: Array) -> Array:
        """Maps of shape ``(I, K1, h, w)`` in the unit of the images that were given to `from_images`."""
        return scale_by_power_of_two(self.shape_maps(w), self.map_exponent)

    def unscale_objective(self, objective: Array | float) -> Array:
        """Objectives in the unit of the images that were given to `from_images`."""
        return np.asarray(objective * np.exp2(self.p * self.map_exponent))

    def select(self, images: slice) -> Problem:
        """The problem of some of the images."""
        return replace(self, y=self.y[:, images])

    def with_filters(self, filters: Array) -> Problem:
        """The problem with other filters of the same shape."""
        return replace(self, A=Synthesis(filters, self.A.space))

    def with_penalty(self, lam: float, p: float) -> Problem:
        """The problem with another weight of the data and another power of the penalty."""
        return replace(self, lam=lam, p=p)

    @property
    def convex_weight(self) -> float:
        """The weight of the data with which p = 1 penalises maps of the size `map_scale` about as much as p does.

        The derivative of the penalty at m is ``p m^(p - 1)`` for p, and 1 for p = 1.
        """
        return self.lam / self.p * math.pow(self.map_scale, 1 - self.p)

    @property
    def max_correlation(self) -> float:
        """The largest modulus of ``A^T y``. For p = 1 zero is the solution if this is at most 1/lam."""
        return float(np.abs(self.A.adjoint(self.y)).max())

    @property
    def map_scale(self) -> float:
        """The size of a single element of the maps: the largest correlation over the mean square norm of a filter."""
        return self.max_correlation / (self.A.energy or 1.0) or 1.0

    @property
    def image_nbytes(self) -> int:
        """Bytes of the maps of one image."""
        nbytes: int = math.prod(self.A.dims) * self.y.dtype.itemsize
        return nbytes

    def __str__(self) -> str:
        return f"{self.y.shape[1]} images, {' x '.join(map(str, self.A.dims))} each,"

    @property
    def zeros(self) -> Array:
        """Maps of zeros."""
        return np.zeros((self.y.shape[1], math.prod(self.A.dims)), self.y.dtype).T

    @property
    def images(self) -> Array:
        """The images as an array of shape ``(I, K0, n, m)``."""
        return self.y.T.reshape(-1, *self.A.dimsd)

    def shape_maps(self, w: Array) -> Array:
        """Maps as an array of shape ``(I, K1, n + k - 1, m + k - 1)``."""
        return w.T.reshape(-1, *self.A.dims)

    def objective(self, w: Array, Aw: Array | None = None) -> Array:
        """The objective of each image in double precision, from the maps w and, where it is known, ``A w``."""
        return self.misfit(self.A(w) if Aw is None else Aw) + power_sums(w, self.p)

    def misfit(self, Aw: Array) -> Array:
        """``lam/2 norm(A w - y)^2`` of each image."""
        return self.lam / 2 * _column_sums((Aw - self.y) ** 2)

    def dual_bound(self, direction: Array, correlation: Array) -> Array:
        """A lower bound of each image's minimum for p = 1, from any direction d and the maximum of ``|A^T d|``.

        The dual objective ``<u, y> - norm(u)^2/(2 lam)`` is maximised over ``u = t d`` with ``max |A^T u| <= 1``.
        """
        along, square = _column_sums(direction * self.y), _column_sums(direction * direction)
        feasible = np.divide(1, correlation, out=np.full(len(along), math.inf), where=correlation > 0)
        unconstrained = self.lam * np.divide(along, square, out=np.zeros_like(along), where=square > 0)
        t = np.clip(unconstrained, -feasible, feasible)
        return t * along - t * (t / self.lam) * square / 2


def _scale_weight(lam: float, power: float) -> float:
    """``lam 2^power``, clipped to the range of numbers with a finite reciprocal."""
    whole = math.floor(power)
    with np.errstate(over="ignore", under="ignore"):
        return float(np.clip(np.ldexp(lam * 2 ** (power - whole), whole), 1e-300, 1e300))


def _column_sums(columns: Array) -> Array:
    return np.asarray(columns.sum(axis=0, dtype=np.float64))
