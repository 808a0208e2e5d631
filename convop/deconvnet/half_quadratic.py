"""Half-quadratic splitting."""

from __future__ import annotations

import numpy as np

from ..arrays.backend import Array
from .elementwise import shrunk
from .problem import Problem, Systems, norm
from .proximal_gradient import Momentum

__all__ = ["BETAS", "half_quadratic"]

# Weights of the quadratic between the maps and their sparse copies, stage by stage, for maps whose largest is about 1.
BETAS = (1.0, 10.0, 100.0, 1e3, 1e4, 1e5)
# A stage ends when its maps change by less than this, or after so many steps.
_STAGE_CHANGE, _STAGE_STEPS = 3e-4, 120


def half_quadratic(
    problem: Problem, w: Array, p: float, betas: tuple[float, ...], cg: int, limit: int
) -> tuple[Array, int]:
    """``min lam/2 norm(A z - y)^2 + beta/2 norm(z - w)^2 + sum |w|^p`` for growing beta, by turns in z and w.

    Minimised over z, the first two terms are a smooth function of w with the gradient ``beta (w - z)``, and the turn in w is
    a proximal gradient step of length 1/beta: with momentum, which is for p = 1, it is FISTA.

    Returns
    -------
    (ndarray, int)
        The maps, and how many turns were taken.
    """
    A, y = problem.A, problem.y
    unit = problem.largest ** (p - 2)
    systems = Systems(problem, np.zeros_like(y), betas[0] * unit, cg)
    taken, before = 0, betas[0]
    for beta in betas:
        systems.rescale(beta / before)
        systems.set(beta * unit)
        before = beta
        at = Momentum(w, A(w))
        for _ in range(min(_STAGE_STEPS, limit - taken)):
            systems.solve(y - at.Av)
            z = A.adjoint(systems.s)
            z += at.v
            new = shrunk(z, beta * unit, p)
            taken += 1
            change, size = norm(new - at.w), norm(new)
            at.goes(new, A(new), momentum=p == 1)
            if change <= _STAGE_CHANGE * size:
                break
        # Of zero nothing becomes at a larger beta: a stage that loses all maps of an image is passed over.
        w = np.where(at.w.any(axis=0), at.w, w)
    return w, taken
