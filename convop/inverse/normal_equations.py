"""Conjugate gradients on the normal equations of damped least squares, primal or dual, for several right-hand sides."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, TypeAlias

import numpy as np

from ..arrays.backend import Array, namespace
from ..operators.block_diagonal import BlockOperator
from .conjugate_gradients import ConjugateGradients, divide_or_zero
from .scaled_problem import ScaledProblem, Solution, column_norms


class Judge(Protocol):
    """Says when a preconditioner is to be given up, and when one is to be tried after all."""

    def plain_limit(self) -> int:
        """Returns the iterations without a preconditioner after which to go on with one."""

    def is_hopeless(self, iterations: int, reduction: float, goal: float) -> bool:
        """Returns whether to go on without it, from the iterations so far, the residual's reduction and its goal."""


# Called with x, as scaled columns, and the reduction of the residual, after each iteration.
Report: TypeAlias = Callable[[Array, float], None]

# A gradient counts as rounding error if it is below so many units in the last place of the terms that it is a
# difference of.
_ROUNDING_ULPS = 2
# After so many iterations without a smaller gradient, the recurrences restart. With little damping, the gradient of a problem
# that converges may not fall for a thousand iterations. Where plain iterations can follow, a preconditioner gets fewer.
_PATIENCE, _JUDGED_PATIENCE = 1500, 300
# Residuals of conjugate gradients grow by a factor of at most gain/damp, the root of the condition number (Hestenes and
# Stiefel 1952). So many times more come from rounding errors.
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

    @cached_property
    def right_hand_side(self) -> Array:
        """b: the data of the dual system, ``A^H y`` of the primal one."""
        b: Array = self.problem.y if self.is_dual else self.problem.A.rmatmat(self.problem.y)
        return b

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
        self,
        start: Array | None,
        preconditioner: BlockOperator | None,
        rtol: float,
        maxiter: int,
        report: Report,
        judge: Judge | None = None,
        rescue: Callable[[], BlockOperator] | None = None,
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
        judge : Judge, optional
            When to go on without the preconditioner; by default never. With a judge, the iteration also goes on without the
            preconditioner if it cannot proceed with it.
        rescue : callable, optional
            Without a preconditioner, computes the one to go on with after the judge's `plain_limit`.

        Returns
        -------
        Solution
        """
        problem, y = self.problem, self.problem.y
        b = self.right_hand_side
        xp, length = namespace(y), problem.A.shape[1] if self.is_dual else problem.A.shape[0]
        v = xp.zeros_like(b) if start is None else start
        image = xp.zeros((length, b.shape[1]), b.dtype) if start is None else self.image(v)
        residual = b if start is None else self.residual(v, image)
        scale = column_norms(b)
        if start is not None:  # where b is zero, the residual at the start sets the scale
            scale = np.where(scale == 0, column_norms(residual), scale)
        state = _Iteration(self, scale, rtol, maxiter, report)
        if judge is None or (preconditioner is None and rescue is None):
            state.run(v, residual, image, preconditioner)
        else:
            if preconditioner is not None:
                state.run(v, residual, image, preconditioner, judge)
            else:
                state.run(v, residual, image, None, most=judge.plain_limit())
                if rescue is not None and state.may_go_on:
                    state.run(state.v, state.residual, state.image, rescue(), judge)
            if state.may_go_on:
                state.run(state.v, state.residual, state.image, None)
        x = state.image if self.is_dual else state.v
        return problem.solution(x, state.iterations, state.converged, state.reason)


@dataclass
class _Iteration:
    """A solution under way: where it is, and why it ended.

    Attributes
    ----------
    equations : NormalEquations
        What is solved.
    scale : ndarray of shape ``(P,)``
        Norms that residuals are relative to.
    rtol, maxiter, report
        As in `NormalEquations.solve`.
    v, residual, image : ndarray
        The vectors v, their residual and ``B v``, computed from their definition.
    iterations : int
        Steps so far.
    converged : bool
        Whether `rtol` is reached.
    reason : str
        Why the last run ended.
    """

    equations: NormalEquations
    scale: Array
    rtol: float
    maxiter: int
    report: Report
    iterations: int = 0
    converged: bool = False
    reason: str = ""

    @property
    def may_go_on(self) -> bool:
        """Whether the goal is not met, and iterations are left."""
        return not self.converged and self.iterations < self.maxiter

    def run(
        self,
        v: Array,
        residual: Array,
        image: Array,
        preconditioner: BlockOperator | None,
        judge: Judge | None = None,
        most: int | None = None,
    ) -> None:
        """Iterates from a start until the goal is met, or cannot be met with this preconditioner, or after `most` steps."""
        self.v, self.residual, self.image = v, residual, image
        equations, goal, reached = self.equations, self.rtol, math.inf
        cg: ConjugateGradients | None = None
        first = self.iterations
        limit = self.maxiter if most is None else min(self.maxiter, first + most)
        while True:
            # Here residuals come from their definition: at the start, and after the recurrences have met the goal.
            worst = float(self._reductions(self.residual).max(initial=0.0))
            at = f"with the gradient at {worst:.2g} of its first size"
            if not math.isfinite(worst):
                self.reason = "stopped: the operator gave NaN or infinity"
                return
            # rtol bounds the gradient of the primal system, also where the iteration runs on the dual one.
            reduction = equations.primal_reduction(self.residual) if equations.is_dual else worst
            if reduction <= self.rtol:
                self.converged = True
                self.reason = (
                    f"converged: the gradient fell to {reduction:.2g} of its first size, rtol is {self.rtol:g}"
                )
                return
            if worst <= goal:
                goal, reached = goal * self.rtol / (2 * reduction), math.inf
            if self.iterations >= limit:
                self.reason = f"stopped after maxiter={self.maxiter} iterations, {at}"
                return
            if worst > reached / 2:
                self.reason = f"stopped by rounding errors of {equations.problem.y.dtype.name}, {at}"
                return
            reached = worst
            if cg is None:
                cg = ConjugateGradients(
                    equations.image,
                    self.v,
                    self.residual,
                    shift=equations.problem.damp**2,
                    image=self.image,
                    preconditioner=None if preconditioner is None else preconditioner.matmat,
                    normal_residual=equations.residual,
                    dtype=equations.problem.y.dtype,
                )
            else:
                cg.restart(self.residual, self.image)
            gave_up = self._iterate(cg, goal, limit - first, judge)
            self.iterations, self.v = first + cg.iterations, cg.x
            self.image = equations.image(cg.x)
            self.residual = equations.residual(cg.x, self.image)
            if gave_up:
                return

    def _reductions(self, residual: Array) -> Array:
        return divide_or_zero(column_norms(residual), self.scale)

    def _iterate(self, cg: ConjugateGradients, goal: float, maxiter: int, judge: Judge | None) -> bool:
        """Runs iterations until the recurrences meet the goal, reach rounding errors or make no progress.

        Each column ends at its iterate with the least residual: where rounding errors limit it, further steps can make x
        grow without bound.

        Returns
        -------
        bool
            Whether the judge says to go on without the preconditioner.
        """
        problem = self.equations.problem
        eps, damp = float(np.finfo(problem.y.dtype).eps), problem.damp
        reductions = self._reductions(cg.residual)
        least, best = reductions, cg.x
        least_worst, least_at = float(reductions.max()), cg.iterations
        active, gives_up = reductions > goal, False
        patience = _PATIENCE if judge is None else _JUDGED_PATIENCE
        while cg.iterations < maxiter and cg.iterations - least_at < patience:
            cg.step(active=active)  # finished and diverging columns stay as they are
            lengths = column_norms(cg.residual)
            reductions = divide_or_zero(lengths, self.scale)
            worst = float(reductions.max())
            self.report(cg.image if self.equations.is_dual else cg.x, worst)
            best = _replaced(best, cg.x, reductions < least)
            least = np.fmin(least, reductions)
            if worst < least_worst:
                least_worst, least_at = worst, cg.iterations
            growth = min(cg.gain / damp, 1 / eps) if damp else 1 / eps
            active = (reductions > goal) & (reductions <= _DIVERGENCE * max(1.0, growth))
            rounding = _ROUNDING_ULPS * eps * (cg.gain * column_norms(cg.image) + damp**2 * column_norms(cg.x))
            if not (active & (lengths > rounding)).any():  # also if they are NaN
                break
            gives_up = judge is not None and judge.is_hopeless(cg.iterations, least_worst, goal)
            if gives_up:
                break
        cg.x = best
        return gives_up


def _replaced(old: Array, new: Array, is_replaced: Array) -> Array:
    """Returns the old columns, and the new ones where `is_replaced`."""
    if is_replaced.all():
        return new
    xp = namespace(old)
    return xp.where(xp.asarray(is_replaced), new, old) if is_replaced.any() else old
