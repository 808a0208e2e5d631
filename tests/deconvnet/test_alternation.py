"""Alternating minimisation: map updates and filter updates, which never raise the cost."""

from itertools import pairwise

import numpy as np
import pytest
from sparse_coding_cases import noise_images, synthesise, unit_filters

from convop.deconvnet.admm import admm, admm_initialise
from convop.deconvnet.alternation import least_squares_filters, normalise_planes, update_filters, update_maps
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


def test_least_squares_filters_solve_normal_equations():
    """With as many iterations as unknowns, ``(lam Z^T Z + p S) f = lam Z^T y`` holds on the connected planes."""
    rng = np.random.default_rng(0)
    table = np.array([[True, True, False], [True, False, True]])
    filters = unit_filters((2, 3, 3, 2)) * table[:, :, None, None]
    maps = rng.standard_normal((2, 3, 9, 8)) * (rng.random((2, 3, 9, 8)) < 0.3)
    images = rng.standard_normal((2, 2, 7, 7))
    for p, lam in ((1.0, 5.0), (0.5, 2.0)):
        S = (np.abs(maps) ** p).sum(axis=(0, 2, 3))
        found = least_squares_filters(filters, maps, images, table, p / lam * S, 60)
        unknown = np.flatnonzero(np.broadcast_to(table[:, :, None, None], filters.shape))
        columns = []
        for number in unknown:
            unit = np.zeros(filters.size)
            unit[number] = 1
            columns.append(synthesise(unit.reshape(filters.shape), maps).ravel())
        Z = np.array(columns).T
        ridge = np.broadcast_to(p * S[None, :, None, None], filters.shape).ravel()[unknown]
        expected = np.zeros(filters.size)
        expected[unknown] = np.linalg.solve(lam * Z.T @ Z + np.diag(ridge), lam * Z.T @ images.ravel())
        np.testing.assert_allclose(found.ravel(), expected, atol=1e-8)


@pytest.mark.parametrize("below", [1, 3])
@pytest.mark.parametrize("p", [1.0, 0.7])
def test_update_filters_lowers_cost_and_keeps_unit_planes(below, p):
    """With one map below, filters and maps together synthesise the images of the least-squares filters."""
    images = 5 * np.random.default_rng(7).standard_normal((2, below, 12, 12))
    filters = unit_filters((below, 4, 3, 3), smooth=False)
    table = np.ones((below, 4), dtype=bool)
    table[-1, 1:] = below == 1
    filters *= table[:, :, None, None]
    for steps in (1, 5, 40):
        problem = Problem.from_images(filters, images, 4.0, p)
        state = admm_initialise(problem)
        admm(problem, state, 2, steps)
        before, w = problem.objective(state.w).sum(), state.w
        wanted = least_squares_filters(
            filters,
            problem.shape_maps(w),
            images,
            table,
            p / 4 * (np.abs(problem.shape_maps(w)) ** p).sum(axis=(0, 2, 3)),
            2,
        )
        after, cost = update_filters(problem, state, table, 2)
        assert cost == pytest.approx(after.objective(state.w).sum(), rel=1e-12)
        assert cost < before
        np.testing.assert_allclose(np.linalg.norm(after.A.filters, axis=(2, 3)), table, rtol=1e-12)
        if below == 1:
            np.testing.assert_allclose(after.A(state.w), problem.with_filters(wanted).A(w), atol=1e-9)


def test_update_filters_rejects_step_that_raises_cost():
    images = noise_images(2)
    problem = Problem.from_images(unit_filters((1, 3, 3, 3)), images, 4.0)
    state = admm_initialise(problem)
    admm(problem, state, 2, 30)
    w = state.w
    before = problem.objective(w).sum()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("convop.deconvnet.alternation.least_squares_filters", lambda filters, *_: -filters)
        found, cost = update_filters(problem, state, np.ones((1, 3), bool), 2)
    assert found is problem
    assert state.w is w
    assert cost == pytest.approx(before)


def test_normalise_planes_keeps_former_planes_of_zeros():
    former = unit_filters((2, 2, 3, 3))
    filters = 3 * former
    filters[0, 1] = 0
    planes, norms = normalise_planes(filters, former)
    np.testing.assert_allclose(planes, former, rtol=1e-12)
    np.testing.assert_allclose(norms, [3, 3], rtol=1e-12)
    filters[1, 0] *= 2
    np.testing.assert_allclose(
        normalise_planes(filters, former)[1], [4.5, 3], rtol=1e-12
    )  # the mean over the planes of a map
