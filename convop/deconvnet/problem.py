"""What is minimised, how far from the minimum it is, and the systems in between."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..arrays.backend import Array
from .elementwise import power_sums
from .synthesis import Synthesis

__all__ = ["ARRAYS", "SETTLED_SHARE", "SETTLED_STEPS", "Monitor", "Problem", "Systems", "norm", "shifted"]

# Arrays of the size of the maps that a solver has at once, at most, with those of a product.
ARRAYS = 10
# Iterations settle when the objective has moved by less than a share of the tolerance over so many of them, and over one in
# so many of all: what falls as slowly as 1/n has four times as far to go at most. The gap is no larger than so many times
# the tolerance.
SETTLED_STEPS, SETTLED_SHARE, _WINDOW, _SETTLED_GAP = 10, 0.1, 5, 10.0

# Conjugate gradients go on beyond the iterations asked for while more than this share of the residual is left; and how many
# more at most.
_RESIDUAL_SHARE, _CG_MOST = 0.05, 100


def shifted(weight: float, power: float) -> float:
    """A weight times a power of two, or the nearest to it that has an inverse."""
    whole = math.floor(power)
    with np.errstate(over="ignore", under="ignore"):
        return float(np.clip(np.ldexp(weight * 2 ** (power - whole), whole), 1e-300, 1e300))


class Problem:
    """Images and filters, as columns: one an image."""

    def __init__(self, synthesis: Synthesis, data: Array, lam: float) -> None:
        self.A = synthesis
        self.lam = lam
        self.y = data.reshape(len(data), -1).T

    def of(self, images: slice) -> Problem:
        """The problem of some of the images."""
        return Problem(self.A, self.shaped_data[images], self.lam)

    def weighing(self, lam: float) -> Problem:
        """The problem with another weight of the data."""
        return Problem(self.A, self.shaped_data, lam)

    def with_filters(self, filters: Array) -> Problem:
        """The problem with other filters of the same shape."""
        return Problem(Synthesis(filters, self.A.space), self.shaped_data, self.lam)

    @property
    def image_nbytes(self) -> int:
        """Bytes of the maps of an image."""
        nbytes: int = math.prod(self.A.dims) * self.y.dtype.itemsize
        return nbytes

    def __str__(self) -> str:
        return f"{self.y.shape[1]} images, {' x '.join(map(str, self.A.dims))} each,"

    @property
    def steepest(self) -> float:
        """The largest modulus of ``A^T y``."""
        return float(np.abs(self.A.adjoint(self.y)).max())

    @property
    def largest(self) -> float:
        """How large a map can be that is alone: the largest gradient over the mean square of a filter's norm."""
        return self.steepest / (self.A.energy or 1.0) or 1.0

    def convex_weight(self, p: float) -> float:
        """The lam for p = 1 that weighs maps as this one does for p, where they are about as large as a single one can be.

        At maps m the penalty of an element grows by ``p m^(p - 1)``, and by 1 for p = 1.
        """
        return self.lam / p * math.pow(self.largest, 1 - p)

    @property
    def zeros(self) -> Array:
        """Maps with nothing in them."""
        return np.zeros((self.y.shape[1], math.prod(self.A.dims)), self.y.dtype).T

    @property
    def shaped_data(self) -> Array:
        """Images with their axes."""
        return self.y.T.reshape(-1, *self.A.dimsd)

    def shaped(self, columns: Array) -> Array:
        """Maps with their axes."""
        return columns.T.reshape(-1, *self.A.dims)

    def objective(self, w: Array, Aw: Array, p: float) -> Array:
        """Of each image, in double precision."""
        return self.misfit(Aw) + power_sums(w, p)

    def misfit(self, Aw: Array) -> Array:
        """The first term of the objective."""
        return self.lam / 2 * _sums((Aw - self.y) ** 2)

    def dual(self, direction: Array, correlation: Array) -> Array:
        """A lower bound of each image's minimum for p = 1, from any direction d and the largest of ``|A^T d|``.

        ``<u, y> - norm(u)^2/(2 lam)`` for the best ``u = t d`` with ``max |A^T u| <= 1``.
        """
        along, square = _sums(direction * self.y), _sums(direction * direction)
        most = np.divide(1, correlation, out=np.full(len(along), math.inf), where=correlation > 0)
        best = self.lam * np.divide(along, square, out=np.zeros_like(along), where=square > 0)
        t = np.clip(best, -most, most)
        return t * along - t * (t / self.lam) * square / 2


def _sums(columns: Array) -> Array:
    return np.asarray(columns.sum(axis=0, dtype=np.float64))


def norm(columns: Array) -> float:
    """The Euclidean norm of all elements."""
    return float(np.linalg.norm(columns))


@dataclass
class Monitor:
    """Says when to stop, for p = 1.

    Attributes
    ----------
    problem : Problem
        What is solved.
    rtol : float
        By how much the objective may be above its minimum, relative to itself.
    best_dual : ndarray of shape ``(I,)``
        The largest lower bound so far.
    history : list of ndarray of shape ``(I,)``
        Objectives.
    gap : ndarray of shape ``(I,)``
        The last one, relative to the objective.
    """

    problem: Problem
    rtol: float
    best_dual: Array
    history: list[Array]
    gap: Array

    @classmethod
    def of(cls, problem: Problem, rtol: float) -> Monitor:
        """With nothing known yet."""
        count = problem.y.shape[1]
        return cls(problem, rtol, np.full(count, -math.inf), [], np.full(count, math.inf))

    def done(self, objective: Array, dual: Array) -> bool:
        """Whether these objectives and lower bounds are close enough, for every image."""
        self.best_dual = np.maximum(self.best_dual, dual)
        scale = np.where(objective > 0, objective, 1)
        self.gap = (objective - self.best_dual) / scale
        self.history.append(objective)
        if (self.gap <= self.rtol).all():
            return True
        window = max(SETTLED_STEPS, len(self.history) // _WINDOW)
        if len(self.history) <= window:
            return False
        moved = np.ptp(self.history[-1 - window :], axis=0) / scale
        settled = (moved <= SETTLED_SHARE * self.rtol) & (self.gap <= _SETTLED_GAP * self.rtol)
        return bool((settled | (self.gap <= self.rtol)).all())


class Systems:
    """``(A A^T + rho/lam) s = b`` by conjugate gradients, each begun with the last solution.

    A few iterations are enough where the preconditioner is close. Where it is not, they go on until the residual, in the
    norm of the preconditioner, is a share of what it was: errors that are passed on from one system to the next one would
    add up otherwise.
    """

    def __init__(self, problem: Problem, s: Array, rho: float, iterations: int) -> None:
        self._gram = problem.A.gram
        self._A, self._lam, self._iterations = problem.A, problem.lam, iterations
        self.s = s
        self.image = self._gram.matmat(s)  # A A^T s
        self.set(rho)

    def set(self, rho: float) -> None:
        """Another rho."""
        # Beyond, what a system adds to maps is lost in rounding, and squares of its solution leave single precision.
        self._damp = min(rho / self._lam, 1e12 * self._A.gain)
        self._preconditioner = self._A.preconditioner(self._damp)

    def rescale(self, factor: float) -> None:
        """The solution over a factor."""
        self.s, self.image = (array / self.s.dtype.type(factor) for array in (self.s, self.image))

    def solve(self, b: Array) -> None:
        """The next `s`, and its `image`."""
        s, image, damp = self.s, self.image, self.s.dtype.type(self._damp)
        r = b - image - damp * s
        z = self._preconditioner(r)
        direction, energy = z, (r * z).sum(axis=0)
        enough = _RESIDUAL_SHARE**2 * energy
        for number in range(1, self._iterations + _CG_MOST + 1):
            product = self._gram.matmat(direction)
            curvature = (direction * (product + damp * direction)).sum(axis=0)
            step = np.divide(energy, curvature, out=np.zeros_like(energy), where=curvature > 0)
            s = s + step * direction
            image = image + step * product
            r = r - step * (product + damp * direction)
            z = self._preconditioner(r)
            before, energy = energy, (r * z).sum(axis=0)
            if number >= self._iterations and (energy <= enough).all():
                break
            direction = z + np.divide(energy, before, out=np.zeros_like(energy), where=before > 0) * direction
        self.s, self.image = s, image
