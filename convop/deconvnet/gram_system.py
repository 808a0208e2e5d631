"""The linear system in each iteration of ADMM and of half-quadratic splitting, solved in the space of the images."""

from __future__ import annotations

from ..arrays.backend import Array
from ..inverse.conjugate_gradients import ConjugateGradients
from .problem import Problem

# Conjugate gradients run up to _EXTRA_ITERATIONS more iterations than asked for, while more than _RESIDUAL_SHARE of the
# residual is left.
_RESIDUAL_SHARE, _EXTRA_ITERATIONS = 0.05, 100


class GramSystem:
    """``(A A^T + rho/lam) s = b`` by preconditioned conjugate gradients, each solve started with the last solution.

    A few iterations suffice where the preconditioner is close to the inverse. Elsewhere they go on until the residual, in
    the norm of the preconditioner, is a small share of the first: errors that pass from one solve to the next would add
    up otherwise.

    Parameters
    ----------
    problem : Problem
        Gives A and lam.
    s : ndarray of shape ``(K0*n*m, I)``
        The first solution to start with.
    rho : float
        The weight of the quadratic penalty.
    iterations : int
        The least number of iterations of a solve.

    Attributes
    ----------
    s, image : ndarray of shape ``(K0*n*m, I)``
        The last solution and ``A A^T s``.
    """

    def __init__(self, problem: Problem, s: Array, rho: float, iterations: int) -> None:
        self._A, self._lam, self._iterations = problem.A, problem.lam, iterations
        self.s = s
        self.image = self._A.gram.matmat(s)
        self.set_rho(rho)

    def set_rho(self, rho: float, factor: float = 1.0) -> None:
        """Changes rho to `factor` times its value, and divides the solution by this factor.

        At a fixed point of ADMM ``A^T s`` is the multiplier over rho; of half-quadratic splitting, a subgradient over rho.
        """
        divisor = self.s.dtype.type(factor)
        self.s, self.image = self.s / divisor, self.image / divisor
        # With a larger shift, rounding swallows what a solve adds to the maps, and squares leave single precision.
        self._shift = float(min(rho / self._lam, 1e12 * self._A.gain))  # a NumPy scalar would promote single precision
        self._preconditioner = self._A.preconditioner(self._shift)

    def solve(self, b: Array) -> None:
        """Replaces `s` and `image` by those of the right-hand side b."""
        residual = b - self.image - self._shift * self.s
        cg = ConjugateGradients(
            self._A.gram.matmat,
            self.s,
            residual,
            shift=self._shift,
            image=self.image,
            preconditioner=self._preconditioner,
            inner=_column_sums,
        )
        enough = _RESIDUAL_SHARE**2 * cg.energy
        for _ in range(self._iterations + _EXTRA_ITERATIONS):
            cg.step()
            if cg.iterations >= self._iterations and (cg.energy <= enough).all():
                break
        self.s, self.image = cg.x, cg.image


def _column_sums(a: Array, b: Array) -> Array:
    """Returns the inner products of columns, in the dtype of the maps."""
    sums: Array = (a * b).sum(axis=0)
    return sums
