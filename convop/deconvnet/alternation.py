"""Alternating minimisation over maps and filters: one step of learning, which never raises the cost."""

from __future__ import annotations

import numpy as np

from ..arrays.backend import Array
from .admm import AdmmState, admm
from .filter_update import update_filters
from .problem import Problem
from .proximal_gradient import ista

__all__ = ["alternate", "update_maps"]

# Iterations of inference in a step, and the tolerance at which proximal gradient steps end earlier.
_MAP_ITERATIONS, _MAP_RTOL = 20, 1e-4


def alternate(problem: Problem, state: AdmmState, table: Array, cg_iterations: int) -> tuple[Problem, float]:
    """Updates the maps of a state and then the filters; returns the problem with the new filters, and its cost."""
    update_maps(problem, state, cg_iterations)
    return update_filters(problem, state, table, cg_iterations)


def update_maps(problem: Problem, state: AdmmState, cg_iterations: int) -> None:
    """Replaces the maps of a state by better maps; images for which none are found keep theirs."""
    if not state.w.any() and problem.lam * problem.max_correlation <= 1:
        return  # zero is the solution for p = 1
    before, old = state.w, problem.objective(state.w)
    if problem.p == 1 or not before.any():
        admm(problem, state, cg_iterations, _MAP_ITERATIONS)
    if problem.p < 1:
        state.w, _, _ = ista(problem, state.w, _MAP_RTOL, _MAP_ITERATIONS)
    worse = problem.objective(state.w) > old
    if worse.any() and before.any():
        # ADMM does not lower the objective in each iteration; proximal gradient steps from the same maps do.
        instead, _, _ = ista(problem, before, _MAP_RTOL, _MAP_ITERATIONS)
        state.w = np.where(worse, instead, state.w)
