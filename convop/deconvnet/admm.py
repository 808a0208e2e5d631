"""Alternating direction method of multipliers (ADMM) for sparse coding, and reweighted l1 for p < 1.

Boyd, Parikh, Chu, Peleato and Eckstein, Distributed Optimization and Statistical Learning via ADMM, 2011,
doi:10.1561/2200000016; Candes, Wakin and Boyd, Enhancing Sparsity by Reweighted l1 Minimization, 2008,
doi:10.1007/s00041-008-9045-x.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..arrays.backend import Array
from .elementwise import SplitVariables
from .gram_system import GramSystem
from .problem import Problem

# The over-relaxation factor, and the first rho times the size of a map.
_RELAXATION, _FIRST_RHO = 1.8, 10.0
# Rho is balanced every _BALANCE_EVERY iterations if it is off by more than _BALANCE_FROM, by a factor of at most
# _BALANCE_MOST; change number n has the exponent 1/(1 + n/_BALANCE_DECAY), so that rho comes to rest.
_BALANCE_EVERY, _BALANCE_FROM, _BALANCE_MOST, _BALANCE_DECAY = 3, 1.2, 2.0, 10.0
# Reweighting: rounds, iterations in each, the first offset relative to the largest map, and its factor per round.
_ROUNDS, _ROUND_STEPS, _FIRST_OFFSET, _OFFSET_FACTOR = 6, 30, 0.1, 0.3


@dataclass
class AdmmState:
    """The variables of ADMM between two calls.

    Attributes
    ----------
    w, u : ndarray of shape ``(K1*h*w, I)``
        Sparse maps, and multipliers over rho.
    s : ndarray of shape ``(K0*n*m, I)``
        The last solution of the linear system: a dual variable.
    rho : float
        The weight of the augmented term, in the unit of one over maps.
    """

    w: Array
    u: Array
    s: Array
    rho: float


def admm_initialise(problem: Problem) -> AdmmState:
    """Returns the state of ADMM at zero."""
    zeros = problem.zeros
    return AdmmState(zeros, zeros.copy(order="K"), np.zeros_like(problem.y), _FIRST_RHO / problem.map_scale)


def admm(
    problem: Problem,
    state: AdmmState,
    cg_iterations: int,
    maxiter: int,
    *,
    stop: Callable[[Array, Array], bool] | None = None,
    weights: Array | None = None,
) -> tuple[int, bool]:
    """Advances a state by ADMM on ``lam/2 norm(A z - y)^2 + sum weights |w|`` subject to ``z = w``.

    Boyd et al., scaled form (section 3.1.1) with over-relaxation (section 3.4.3). Rho is balanced by residuals relative to
    the norms of their terms, as Wohlberg does, ADMM Penalty Parameter Selection by Residual Balancing, 2017,
    arXiv:1704.06209.

    Parameters
    ----------
    problem : Problem
        The problem; its power of the penalty is taken to be 1.
    state : AdmmState
        The state to start from; replaced in place by the last state.
    cg_iterations : int
        Conjugate-gradient iterations of each system, at least.
    maxiter : int
        Iterations, at most.
    stop : callable, optional
        Ends the iteration if it returns True for the objectives of the images and lower bounds of their minima.
    weights : ndarray of the shape of `state.w`, optional
        Weights of the penalty; by default 1.

    Returns
    -------
    (int, bool)
        The number of iterations, and whether `stop` ended them.
    """
    A, y, rho, relaxation = problem.A, problem.y, state.rho, problem.y.dtype.type(_RELAXATION)
    system = GramSystem(problem, state.s, rho, cg_iterations)
    split = SplitVariables(state.w, state.u, weights)
    Aw, Au = A(split.w), A(split.u)
    step, changes, stopped = 0, 0, False
    for step in range(1, maxiter + 1):
        # z = w - u + A^T s with (A A^T + rho/lam) s = y - A (w - u); A z follows from A A^T s.
        system.solve(y - (Aw - Au))
        sums = split.update(A.adjoint(system.s), rho, _RELAXATION)
        # With v = relaxation z + (1 - relaxation) w + u the new w is the soft threshold of v, and the new u is v - w.
        Av = Aw + (1 - relaxation) * Au + relaxation * system.image
        Aw = A(split.w)
        Au = Av - Aw
        if stop is not None and stop(problem.misfit(Aw) + sums[:, 1], problem.dual_bound(system.s, sums[:, 0])):
            stopped = True
            break
        if step % _BALANCE_EVERY == 1:
            factor = _rho_factor(*np.sqrt(sums[:, 2:].sum(axis=0)))
            if not 1 / _BALANCE_FROM < factor < _BALANCE_FROM:
                changes += 1
                factor **= 1 / (1 + changes / _BALANCE_DECAY)
                rho *= factor
                split.divide_multipliers(factor)
                Au = Au / y.dtype.type(factor)
                system.set_rho(rho, factor)
    state.w, state.u, state.s, state.rho = split.w, split.u, system.s, rho
    return step, stopped


def _rho_factor(primal: float, z: float, w: float, dual: float, u: float) -> float:
    """The factor for rho that balances the residuals, from the norms of ``z - w``, z, w, the change of w, and u."""
    if 0 in (primal, dual, u):
        return 1.0
    ratio = (primal / max(z, w)) / (dual / u)
    return min(max(math.sqrt(ratio), 1 / _BALANCE_MOST), _BALANCE_MOST)


def reweighted_l1(problem: Problem, w: Array, cg_iterations: int, maxiter: int) -> tuple[Array, int]:
    """Maps for p < 1 by ADMM with the weights ``p (|w| + e)^(p - 1)``, for an offset e that falls in each round.

    Parameters
    ----------
    problem : Problem
        The problem.
    w : ndarray of shape ``(K1*h*w, I)``
        Maps to start with, of the problem with p = 1.
    cg_iterations, maxiter : int
        As in `admm`.

    Returns
    -------
    (ndarray, int)
        The maps, and the number of iterations.
    """
    largest = float(np.abs(w).max())
    if largest == 0:
        return w, 0
    state = admm_initialise(problem)
    state.w = w
    p, steps, offset = problem.p, 0, _FIRST_OFFSET * largest
    for _ in range(_ROUNDS):
        weights = p * (np.abs(state.w) + w.dtype.type(offset)) ** w.dtype.type(p - 1)
        taken, _ = admm(problem, state, cg_iterations, min(_ROUND_STEPS, maxiter - steps), weights=weights)
        steps += taken
        offset *= _OFFSET_FACTOR
    return state.w, steps
