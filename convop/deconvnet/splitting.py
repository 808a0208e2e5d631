"""Alternating directions: ADMM."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..arrays.backend import Array
from .elementwise import SplitStep
from .problem import Problem, Systems

__all__ = ["Splitting", "alternate", "begun", "reweighted"]

# Over-relaxation; where rho begins; how often it is balanced, by how much at most, and from
# which imbalance on.
_RELAXATION, _FIRST_RHO, _BALANCE_EVERY, _BALANCE_MOST, _BALANCE_FROM, _BALANCE_CALMS = 1.8, 10.0, 3, 2.0, 1.2, 10.0
# Reweighting: rounds of iterations, and by what the offset begins and shrinks, relative to the largest map.
_ROUNDS, _ROUND_STEPS, _FIRST_OFFSET, _OFFSET_SHRINKS = 6, 30, 0.1, 0.3


@dataclass
class Splitting:
    """The state of ADMM: sparse maps, multipliers, the dual solution of the last system, and rho."""

    w: Array
    u: Array
    s: Array
    rho: float


def begun(problem: Problem) -> Splitting:
    """ADMM's state at zero.

    Rho has the unit of one over maps.
    """
    zeros = problem.zeros
    return Splitting(
        zeros,
        zeros.copy(order="K"),
        np.zeros_like(problem.y),
        _FIRST_RHO / problem.largest,
    )


def alternate(
    problem: Problem,
    state: Splitting,
    cg: int,
    limit: int,
    done: Callable[[Array, Array], bool] | None = None,
    weights: Array | None = None,
) -> tuple[int, bool]:
    """ADMM on ``lam/2 norm(A z - y)^2 + sum weights |w|`` with ``z = w``, from a state and in it.

    Boyd, Parikh, Chu, Peleato and Eckstein (2011), scaled form, with over-relaxation (section 3.4.3) and rho balanced as
    Wohlberg (2017) does, by residuals relative to what they are residuals of.

    Returns
    -------
    (int, bool)
        The iterations, and whether `done` ended them.
    """
    A, y, rho, relaxed = problem.A, problem.y, state.rho, problem.y.dtype.type(_RELAXATION)
    systems = Systems(problem, state.s, rho, cg)
    split = SplitStep(state.w, state.u, weights)
    Aw, Au = A(split.w), A(split.u)
    step, changes, ended = 0, 0, False
    for step in range(1, limit + 1):
        # z = w - u + A^T s with (A A^T + rho/lam) s = y - A (w - u); A z follows from A A^T s.
        systems.solve(y - (Aw - Au))
        sums = split(A.adjoint(systems.s), rho, _RELAXATION)
        # A v of v = relaxed z + (1 - relaxed) w + u, of which the new u is what the new w leaves.
        Av = Aw + (1 - relaxed) * Au + relaxed * systems.image
        Aw = A(split.w)
        Au = Av - Aw
        if done is not None and done(problem.misfit(Aw) + sums[:, 1], problem.dual(systems.s, sums[:, 0])):
            ended = True
            break
        if step % _BALANCE_EVERY == 1:
            factor = _imbalance(*np.sqrt(sums[:, 2:].sum(axis=0)))
            if not 1 / _BALANCE_FROM < factor < _BALANCE_FROM:
                changes += 1
                factor **= 1 / (1 + changes / _BALANCE_CALMS)
                rho *= factor
                split.rescale(factor)
                Au = Au / y.dtype.type(factor)
                systems.rescale(factor)
                systems.set(rho)
    state.w, state.u, state.s, state.rho = split.w, split.u, systems.s, rho
    return step, ended


def _imbalance(primal: float, z: float, w: float, moved: float, u: float) -> float:
    """By what to multiply rho, from the norms of ``z - w``, z, w, the change of w, and u."""
    if 0 in (primal, moved, u):
        return 1.0
    share = (primal / max(z, w)) / (moved / u)
    return min(max(math.sqrt(share), 1 / _BALANCE_MOST), _BALANCE_MOST)


def reweighted(problem: Problem, w: Array, p: float, cg: int, limit: int) -> tuple[Array, int]:
    """Maps for p < 1 from those for p = 1, by weights ``p (|w| + e)^(p - 1)`` with smaller and smaller e."""
    state = begun(problem)
    state.w = w
    largest = float(np.abs(w).max())
    if largest == 0:
        return w, 0
    steps, offset = 0, _FIRST_OFFSET * largest
    for _ in range(_ROUNDS):
        weights = p * (np.abs(state.w) + w.dtype.type(offset)) ** w.dtype.type(p - 1)
        taken, _ = alternate(problem, state, cg, min(_ROUND_STEPS, limit - steps), weights=weights)
        steps += taken
        offset *= _OFFSET_SHRINKS
    return state.w, steps
