"""Half-quadratic splitting."""

from __future__ import annotations

import numpy as np

from ..backend import Array
from .elementwise import shrunk
from .problem import Problem, Systems, norm
from .proximal_gradient import Momentum

__all__ = ["BETAS", "half_quadratic"]

# Weights of the quadratic between the maps and their sparse copies, stage by stage.
BETAS = (1.0, 10.0, 100.0, 1e3, 1e4, 1e5)
# A stage ends when its maps change by less than this, or after so many steps.
_STAGE_CHANGE, _STAGE_STEPS = 3e-4, 120


def half_quadratic(problem: Problem, betas: tuple[float, ...], cg: int, limit: int) -> tuple[Array, int, bool]:
    """``min lam/2 norm(A z - y)^2 + beta/2 norm(z - w)^2 + sum |w|`` for growing beta, by turns in z and w.

    Minimised over z, the first two terms are a smooth function of w with the gradient ``beta (w - z)``, and the turn in w is
    a proximal gradient step of length 1/beta: with momentum it is FISTA.

    Returns
    -------
    (ndarray, int, bool)
        The maps, how many turns were taken, and whether the last stage has ended.
    """
    A, y = problem.A, problem.y
    w = problem.zeros
    systems = Systems(problem, np.zeros_like(y), betas[0], cg)
    taken = 0
    for beta in betas:
        systems.set(beta)
        at = Momentum(w, A(w))
        for _ in range(_STAGE_STEPS):
            if taken == limit:
                return at.w, taken, False
            systems.solve(y - at.Av)
            z = A.adjoint(systems.s)
            z += at.v
            new = shrunk(z, beta, 1.0)
            taken += 1
            change, size = norm(new - at.w), norm(new)
            at.goes(new, A(new))
            if change <= _STAGE_CHANGE * size:
                break
        w = at.w
    return w, taken, True
