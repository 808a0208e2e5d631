"""Proximal gradient methods for sparse coding: ISTA for any p, and FISTA, its acceleration by momentum, for p = 1.

Beck and Teboulle, A Fast Iterative Shrinkage-Thresholding Algorithm, 2009, doi:10.1137/080716542; O'Donoghue and Candes,
Adaptive Restart for Accelerated Gradient Schemes, 2015, doi:10.1007/s10208-013-9150-3.
"""

from __future__ import annotations

import math

import numpy as np

from ..arrays.backend import Array
from .elementwise import prox_lp
from .problem import Problem
from .stopping import SETTLED_SHARE, SETTLED_STEPS, ConvergenceMonitor


def ista(problem: Problem, w: Array, rtol: float, maxiter: int) -> tuple[Array, int, bool]:
    """Proximal gradient steps, each of which lowers the objective, from maps w until the objective settles.

    A step is ``w <- prox(w - lam A^T (A w - y)/L)``, with the proximal operator of ``|.|^p/L`` and the Lipschitz constant
    ``L = lam gain`` of the gradient, where gain bounds the largest singular value of ``A A^T``.

    Returns
    -------
    (ndarray, int, bool)
        The maps, the number of steps, and whether the objective has settled.
    """
    A = problem.A
    Aw = A(w)
    objective = problem.objective(w, Aw)
    step = 0
    for step in range(1, maxiter + 1):
        w = _proximal_step(problem, A.adjoint(problem.y - Aw), w)
        Aw = A(w)
        if step % SETTLED_STEPS == 0:
            before, objective = objective, problem.objective(w, Aw)
            if (before - objective <= SETTLED_SHARE * rtol * objective).all():
                return w, step, True
    return w, step, False


def fista(problem: Problem, w: Array, monitor: ConvergenceMonitor, maxiter: int) -> tuple[Array, int, bool]:
    """Proximal gradient steps with momentum, for p = 1, from maps w until the monitor ends them.

    Returns
    -------
    (ndarray, int, bool)
        The maps, the number of steps, and whether the monitor has ended them.
    """
    A = problem.A
    iterate = Momentum(w, A(w))
    for step in range(1, maxiter + 1):
        residual = problem.y - iterate.Av
        adjoint_term = A.adjoint(residual)
        bound = problem.dual_bound(residual, np.abs(adjoint_term).max(axis=0))
        new = _proximal_step(problem, adjoint_term, iterate.v)
        iterate.advance(new, A(new))
        if monitor.update(problem.objective(iterate.w, iterate.Aw), bound):
            return iterate.w, step, True
    return iterate.w, maxiter, False


def _proximal_step(problem: Problem, adjoint_term: Array, v: Array) -> Array:
    """Returns ``prox(v + adjoint_term/gain)`` for an adjoint term ``A^T (y - A v)``, which is overwritten."""
    gain = problem.A.gain
    adjoint_term *= v.dtype.type(1 / gain)
    adjoint_term += v
    return prox_lp(adjoint_term, problem.lam * gain, problem.p)


class Momentum:
    """The iterate w of FISTA and the extrapolated point v, at which the next step starts; with ``A w`` and ``A v``.

    The momentum is reset where it points uphill (O'Donoghue and Candes, the gradient scheme).
    """

    def __init__(self, w: Array, Aw: Array) -> None:
        self.w = self.v = w
        self.Aw = self.Av = Aw
        self._t = 1.0

    def advance(self, new: Array, Anew: Array, *, accelerate: bool = True) -> None:
        """Moves to a new iterate, and extrapolates beyond it if `accelerate`."""
        if not accelerate:
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
