"""Half-quadratic splitting for sparse coding: Krishnan and Fergus, Fast Image Deconvolution using Hyper-Laplacian Priors, 2009."""

from __future__ import annotations

import numpy as np

from ..arrays.backend import Array
from .elementwise import prox_lp
from .gram_system import GramSystem
from .problem import Problem
from .proximal_gradient import Momentum

# Weights beta of the quadratic between the maps and their sparse copies, by stage, for maps whose largest is about 1.
BETAS = (1.0, 10.0, 100.0, 1e3, 1e4, 1e5)
# A stage ends when the relative change of its maps is at most _STAGE_CHANGE, or after _STAGE_STEPS steps.
_STAGE_CHANGE, _STAGE_STEPS = 3e-4, 120


def half_quadratic(
    problem: Problem, w: Array, betas: tuple[float, ...], cg_iterations: int, maxiter: int
) -> tuple[Array, int]:
    """Minimises ``lam/2 norm(A z - y)^2 + beta/2 norm(z - w)^2 + sum |w|^p`` over z and w in turn, for growing beta.

    The minimum over z of the first two terms is a smooth function of w with the gradient ``beta (w - z)``. The step in w is
    therefore a proximal gradient step of length 1/beta; with momentum, which is used for p = 1, it is a step of FISTA.

    Returns
    -------
    (ndarray, int)
        The maps, and the number of steps.
    """
    A, y = problem.A, problem.y
    unit = problem.map_scale ** (problem.p - 2)
    system = GramSystem(problem, np.zeros_like(y), betas[0] * unit, cg_iterations)
    steps, previous = 0, betas[0]
    for beta in betas:
        rho = beta * unit
        system.set_rho(rho, beta / previous)
        previous = beta
        iterate = Momentum(w, A(w))
        for _ in range(min(_STAGE_STEPS, maxiter - steps)):
            system.solve(y - iterate.Av)
            z = A.adjoint(system.s)
            z += iterate.v
            new = prox_lp(z, rho, problem.p)
            steps += 1
            change, size = np.linalg.norm(new - iterate.w), np.linalg.norm(new)
            iterate.advance(new, A(new), accelerate=problem.p == 1)
            if change <= _STAGE_CHANGE * size:
                break
        # Maps that are zero stay zero for larger beta: a stage that loses all maps of an image is skipped for it.
        w = np.where(iterate.w.any(axis=0), iterate.w, w)
    return w, steps
