"""Proximal gradient steps, with momentum and without."""

from __future__ import annotations

import math

import numpy as np

from ..arrays.backend import Array
from .elementwise import shrunk
from .problem import SETTLED_SHARE, SETTLED_STEPS, Monitor, Problem

__all__ = ["Momentum", "accelerated", "descended"]


def descended(problem: Problem, w: Array, p: float, rtol: float, limit: int) -> tuple[Array, int, bool]:
    """Proximal gradient steps ``w <- prox(w - A^T (A w - y)/L)``, each of which lowers the objective, until they settle.

    Returns
    -------
    (ndarray, int, bool)
        The maps, how many steps were taken, and whether they have settled.
    """
    A, L = problem.A, problem.lam * problem.A.gain
    Aw = A(w)
    objective = problem.objective(w, Aw, p)
    step = 0
    for step in range(1, limit + 1):
        moved = A.adjoint(problem.y - Aw)
        moved *= w.dtype.type(1 / A.gain)
        moved += w
        w = shrunk(moved, L, p)
        Aw = A(w)
        if step % SETTLED_STEPS == 0:
            before, objective = objective, problem.objective(w, Aw, p)
            if (before - objective <= SETTLED_SHARE * rtol * objective).all():
                return w, step, True
    return w, step, False


class Momentum:
    """Points w, and the points v beyond them from which the next step is taken; with what A makes of both.

    Beck and Teboulle (2009), begun anew where the step points uphill (O'Donoghue and Candes, 2015).
    """

    def __init__(self, w: Array, Aw: Array) -> None:
        self.w = self.v = w
        self.Aw = self.Av = Aw
        self._t = 1.0

    def goes(self, new: Array, Anew: Array, *, momentum: bool = True) -> None:
        """On to a new point, and beyond it if there is momentum."""
        if not momentum:
            self.w = self.v = new
            self.Aw = self.Av = Anew
            return
        difference = new - self.w
        if np.vdot((self.v - new).T, difference.T) > 0:
            self._t = 1.0
        before, self._t = self._t, (1 + math.sqrt(1 + 4 * self._t**2)) / 2
        factor = new.dtype.type((before - 1) / self._t)
        difference *= factor
        difference += new
        self.v, self.Av = difference, Anew + factor * (Anew - self.Aw)
        self.w, self.Aw = new, Anew


def accelerated(problem: Problem, w: Array, monitor: Monitor, limit: int) -> tuple[Array, int, bool]:
    """FISTA: proximal gradient steps with momentum, for p = 1, from maps w.

    Returns
    -------
    (ndarray, int, bool)
        The maps, how many steps were taken, and whether the monitor ended them.
    """
    A, y, L = problem.A, problem.y, problem.lam * problem.A.gain
    at = Momentum(w, A(w))
    for step in range(1, limit + 1):
        residual = y - at.Av
        pulled = A.adjoint(residual)
        dual = problem.dual(residual, np.abs(pulled).max(axis=0))
        pulled *= y.dtype.type(1 / A.gain)
        pulled += at.v
        new = shrunk(pulled, L, 1.0)
        at.goes(new, A(new))
        if monitor.done(problem.objective(at.w, at.Aw, 1.0), dual):
            return at.w, step, True
    return at.w, limit, False
