"""Map updates between filter updates."""

from itertools import pairwise

import pytest
from sparse_coding_cases import noise_images, unit_filters

from convop.deconvnet.admm import admm_initialise
from convop.deconvnet.alternation import update_maps
from convop.deconvnet.problem import Problem


def test_update_maps_never_raises_cost():
    images = noise_images(2)
    for p in (1.0, 0.6):
        problem = Problem.from_images(unit_filters((1, 3, 3, 3)), images, 4.0, p)
        state = admm_initialise(problem)
        costs = []
        for _ in range(4):
            update_maps(problem, state, 2)
            costs.append(problem.objective(state.w))
        for before, after in pairwise(costs):
            assert (after <= before * (1 + 1e-12)).all()


def test_update_maps_replaces_admm_iterations_that_raise_cost():
    problem = Problem.from_images(unit_filters((1, 3, 3, 3)), noise_images(2), 4.0)
    state = admm_initialise(problem)
    update_maps(problem, state, 2)
    before = problem.objective(state.w)

    def diverge(problem, state, cg_iterations, maxiter):
        state.w = state.w + 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("convop.deconvnet.alternation.admm", diverge)
        update_maps(problem, state, 2)
    assert (problem.objective(state.w) <= before * (1 + 1e-12)).all()
