"""ADMM and reweighted l1: warm starts and weights."""

import numpy as np
from sparse_coding_cases import photographs, unit_filters

from convop.deconvnet import sparse_codes
from convop.deconvnet.admm import admm, admm_initialise, reweighted_l1
from convop.deconvnet.problem import Problem


def test_admm_stays_at_solution_when_restarted():
    images, filters = photographs(1, 24), unit_filters((1, 4, 5, 5))
    problem = Problem.from_images(filters, images, 10.0)
    state = admm_initialise(problem)
    admm(problem, state, 2, 400)
    w = state.w.copy()
    admm(problem, state, 2, 20)
    np.testing.assert_allclose(state.w, w, atol=1e-4 * np.abs(w).max())


def test_reweighted_l1_weights_follow_maps_and_falling_offset(monkeypatch):
    """``p (|w| + e)^(p - 1)``, where e starts at a tenth of the largest map and falls to 0.3 of itself in each round."""
    images, filters = photographs(1, 24), unit_filters((1, 4, 5, 5))
    problem = Problem.from_images(filters, images, 8.0, 0.6)
    start = sparse_codes(filters, images, lam=8.0).maps.reshape(1, -1).T
    seen = []

    def spy(problem, state, cg_iterations, maxiter, weights):
        seen.append((state.w.copy(), weights, maxiter))
        return admm(problem, state, cg_iterations, maxiter, weights=weights)

    monkeypatch.setattr("convop.deconvnet.admm.admm", spy)
    _, steps = reweighted_l1(problem, start, 2, 100)
    assert steps == 100
    assert [maxiter for *_, maxiter in seen] == [30, 30, 30, 10, 0, 0]
    np.testing.assert_array_equal(seen[0][0], start)
    for number, (w, weights, _) in enumerate(seen):
        offset = 0.1 * np.abs(start).max() * 0.3**number
        np.testing.assert_allclose(weights, 0.6 * (np.abs(w) + offset) ** -0.4, rtol=1e-12)
