"""Conjugate gradients on the normal equations of damped least squares, primal or dual, for several right-hand sides."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from ..arrays.backend import Array, namespace
from ..operators.block_diagonal import BlockOperator
from .conjugate_gradients import ConjugateGradients, column_products, divide_or_zero
from .scaled_problem import ScaledProblem, Solution, column_norms

# Called with x, as scaled columns, and the reduction of the residual, after each iteration.
Report: TypeAlias = Callable[[Array, float], None]

# A gradient counts as rounding error if it is below so many units in the last place of the terms that it is a
# difference of.
_ROUNDING_ULPS = 2
# After so many iterations without a smaller gradient, the recurrences restart.
_PATIENCE = 300
# A residual above the first one, and so many times the least one, comes from rounding errors that grow.
_DIVERGENCE = 1e3


@dataclass(frozen=True)
class NormalEquations:
    """The normal equations of a damped least-squares problem.

    The primal system is ``(A^H A + damp^2) x = A^H y``. With fewer data than unknowns the dual system,
    ``(A A^H + damp^2) u = y`` with ``x = A^H u``, is the smaller one, and the null space of `A` stays out of x by
    construction. Both have the form ``(B^H B + damp^2) v = b``: with ``B = A`` and ``v = x``, or ``B = A^H`` and
    ``v = u``.

    Attributes
    ----------
    problem : ScaledProblem
        The least-squares problem.
    is_dual : bool
        Whether to solve the dual system.
    """

    problem: ScaledProblem
    is_dual: bool

    def image(self, v: Array) -> Array:
        """Returns ``B v``."""
        A = self.problem.A
        image: Array = A.rmatmat(v) if self.is_dual else A.matmat(v)
        return image

    def residual(self, v: Array, image: Array) -> Array:
        """Returns ``b - (B^H B + damp^2) v`` from v and ``B v``; of the primal system, minus half the gradient."""
        A, y, damp = self.problem.A, self.problem.y, self.problem.damp
        residual: Array = y - A.matmat(image) if self.is_dual else A.rmatmat(y - image)
        return residual - damp**2 * v if damp else residual

    def primal_reduction(self, residual: Array) -> float:
        """Returns ``norm(A^H r)/norm(A^H y)`` for the dual residual r: the primal gradient relative to the one at zero."""
        A = self.problem.A
        ratios = divide_or_zero(column_norms(A.rmatmat(residual)), column_norms(A.rmatmat(self.problem.y)))
        return float(ratios.max(initial=0.0))

    def solve(
        self, start: Array | None, preconditioner: BlockOperator | None, rtol: float, maxiter: int, report: Report
    ) -> Solution:
        """Runs conjugate gradients until the gradient is small enough, or cannot become smaller.

        Parameters
        ----------
        start : ndarray or None
            Start vectors v; None for zeros.
        preconditioner : BlockOperator or None
            An approximate inverse of ``B^H B + damp^2``.
        rtol : float
            The reduction of the primal gradient to reach.
        maxiter : int
            Most iterations.
        report : callable
            Called with x and the reduction of the residual after each iteration.

        Returns
        -------
        Solution
        """
        problem, y = self.problem, self.problem.y
        P = None if preconditioner is None else preconditioner.matmat
        b = y if self.is_dual else problem.A.rmatmat(y)
        lengths, energies = column_norms(b), column_products(b, b if P is None else P(b))
        v = namespace(y).zeros_like(b) if start is None else start
        image = self.image(v)
        cg = ConjugateGradients(
            self.image,
            v,
            self.residual(v, image),
            shift=problem.damp**2,
            image=image,
            preconditioner=P,
            normal_residual=self.residual,
            dtype=y.dtype,
        )
        if start is not None:  # where b is zero, the residual at the start sets the scale
            is_zero = lengths == 0
            lengths = np.where(is_zero, column_norms(cg.residual), lengths)
            energies = np.where(is_zero, cg.energy, energies)
        initial, goal, reached = _ResidualNorms(lengths, energies), rtol, math.inf
        while True:
            # Here residuals come from their definition: at the start, and after the recurrences have met the goal.
            x = cg.image if self.is_dual else cg.x
            worst = float(_ResidualNorms.of(cg).relative_to(initial).max(initial=0.0))
            at = f"with the gradient at {worst:.2g} of its first size"
            if not math.isfinite(worst):
                return problem.solution(x, cg.iterations, False, "stopped: the operator gave NaN or infinity")
            # rtol bounds the gradient of the primal system, also where the iteration runs on the dual one.
            reduction = self.primal_reduction(cg.residual) if self.is_dual else worst
            if reduction <= rtol:
                reason = f"converged: the gradient fell to {reduction:.2g} of its first size, rtol is {rtol:g}"
                return problem.solution(x, cg.iterations, True, reason)
            if worst <= goal:
                goal, reached = goal * rtol / (2 * reduction), math.inf
            if cg.iterations >= maxiter:
                return problem.solution(x, cg.iterations, False, f"stopped after maxiter={maxiter} iterations, {at}")
            if worst > reached / 2:
                reason = f"stopped by rounding errors of {y.dtype.name}, {at}"
                return problem.solution(x, cg.iterations, False, reason)
            reached = worst
            self._iterate(cg, initial, goal, maxiter, report)
            image = self.image(cg.x)
            cg.restart(self.residual(cg.x, image), image)

    def _iterate(
        self, cg: ConjugateGradients, initial: _ResidualNorms, goal: float, maxiter: int, report: Report
    ) -> None:
        """Runs iterations until the recurrences meet the goal, reach rounding errors or make no progress.

        Each column ends at its iterate with the least residual: where rounding errors limit it, further steps can make x
        grow without bound.
        """
        eps, damp = float(np.finfo(self.problem.y.dtype).eps), self.problem.damp
        reductions = _ResidualNorms.of(cg).relative_to(initial)
        least, best = reductions, cg.x
        least_worst, least_at = float(reductions.max()), cg.iterations
        active = reductions > goal
        while cg.iterations < maxiter and cg.iterations - least_at < _PATIENCE:
            cg.step(active=active)  # finished and diverging columns stay as they are
            norms = _ResidualNorms.of(cg)
            reductions = norms.relative_to(initial)
            worst = float(reductions.max())
            report(cg.image if self.is_dual else cg.x, worst)
            best = _replaced(best, cg.x, reductions < least)
            least = np.fmin(least, reductions)
            if worst < least_worst:
                least_worst, least_at = worst, cg.iterations
            active = (reductions > goal) & (reductions <= np.maximum(1.0, _DIVERGENCE * least))
            rounding = _ROUNDING_ULPS * eps * (cg.gain * column_norms(cg.image) + damp**2 * column_norms(cg.x))
            if not (active & (norms.length > rounding)).any():  # also if they are NaN
                break
        cg.x = best


def _replaced(old: Array, new: Array, is_replaced: Array) -> Array:
    """Returns the old columns, and the new ones where `is_replaced`."""
    if is_replaced.all():
        return new
    xp = namespace(old)
    return xp.where(xp.asarray(is_replaced), new, old) if is_replaced.any() else old


@dataclass(frozen=True)
class _ResidualNorms:
    """Euclidean norms of residuals r, and their energies ``<r, P r>``, about the energies of the errors of v."""

    length: Array
    energy: Array

    @classmethod
    def of(cls, cg: ConjugateGradients) -> _ResidualNorms:
        return cls(column_norms(cg.residual), cg.energy)

    def relative_to(self, initial: _ResidualNorms) -> Array:
        """Returns the reduction of each residual: the larger of the ratios of norms and of roots of energies."""
        energies = np.sqrt(np.maximum(0, divide_or_zero(self.energy, initial.energy)))
        return np.asarray(np.maximum(divide_or_zero(self.length, initial.length), energies))
