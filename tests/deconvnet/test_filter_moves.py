"""Recentring of filters and reinitialisation of dead filters."""

import math

import numpy as np
from sparse_coding_cases import noise_images, synthesise, unit_filters

from convop.deconvnet.admm import admm, admm_initialise
from convop.deconvnet.filter_moves import recentre_filters, reinitialise_dead_filters
from convop.deconvnet.problem import Problem


def test_recentre_filters_restores_cut_off_filter():
    """The filter is learned a pixel off its centre, without its last row."""
    rng = np.random.default_rng(0)
    planted = unit_filters((1, 2, 5, 5), seed=3, smooth=False)
    maps = 3 * rng.standard_normal((2, 2, 36, 36)) * (rng.random((2, 2, 36, 36)) < 0.01)
    images, table = synthesise(planted, maps), np.ones((1, 2), dtype=bool)
    cut = planted.copy()
    cut[0, 0] = 0
    cut[0, 0, 1:] = planted[0, 0, :4]
    cut[0, 0] /= np.linalg.norm(cut[0, 0])
    problem = Problem.from_images(cut, images, 2.0)
    state = admm_initialise(problem)
    admm(problem, state, 2, 100)
    before = problem.objective(state.w).sum()
    moved = recentre_filters(problem, state, table, 2)
    assert moved.objective(state.w).sum() < 0.95 * before
    for k in range(2):
        assert np.abs((moved.A.filters[0, k] * planted[0, k]).sum()) > 0.99
    # Centred filters stay, and so do their maps.
    w = state.w
    assert recentre_filters(moved, state, table, 2) is moved
    assert state.w is w


def test_recentre_filters_moves_maps_and_undoes_move_that_raises_cost(monkeypatch):
    """The move keeps the synthesised images; it is undone if the alternation step after it does not lower the cost."""
    rng = np.random.default_rng(0)
    whole = np.zeros((1, 1, 6, 5))
    whole[0, 0, 1:4, 1:3] = rng.standard_normal((3, 2))
    whole /= np.linalg.norm(whole)
    off_centre = np.roll(whole, (3, 2), axis=(2, 3))  # at the edges, and complete
    maps = rng.standard_normal((2, 1, 25, 24)) * (rng.random((2, 1, 25, 24)) < 0.02)
    maps[:, :, :4], maps[:, :, -4:], maps[:, :, :, :4], maps[:, :, :, -4:] = 0, 0, 0, 0
    images = synthesise(off_centre, maps)
    problem = Problem.from_images(off_centre, images, 5.0)
    state = admm_initialise(problem)
    state.w = maps.reshape(2, -1).T
    wide = np.zeros((1, 1, 10, 9))
    wide[:, :, 2:8, 2:7] = off_centre
    wide[:, :, 8:, 7:] = 0.5  # gives another window more energy
    monkeypatch.setattr("convop.deconvnet.filter_moves.least_squares_filters", lambda *_: wide)
    tried = []

    def alternate_to(cost):
        return lambda moved, trial, *_: tried.append((moved, trial)) or (moved, cost)

    monkeypatch.setattr("convop.deconvnet.filter_moves.alternate", alternate_to(math.inf))
    w, u = state.w, state.u
    assert recentre_filters(problem, state, np.ones((1, 1), bool), 2) is problem
    assert state.w is w
    assert state.u is u
    ((moved, trial),) = tried
    shift = np.argwhere(problem.shape_maps(trial.w)[0, 0])[0] - np.argwhere(maps[0, 0])[0]
    assert shift.tolist() == [2, 2]
    kept = np.zeros_like(wide)
    kept[:, :, 4:, 4:] = moved.A.filters
    unit = wide[:, :, 4:, 4:]
    np.testing.assert_allclose(moved.A.filters, unit / np.linalg.norm(unit))
    # In the interior, which no shifted map leaves, the moved filter synthesises the images of the wide filter's window.
    np.testing.assert_allclose(
        moved.A(trial.w).T.reshape(images.shape)[:, :, 2:-2, 2:-2],
        synthesise(np.where(kept != 0, wide, 0), maps),
        atol=1e-12,
    )
    monkeypatch.setattr("convop.deconvnet.filter_moves.alternate", alternate_to(0.0))
    assert recentre_filters(problem, state, np.ones((1, 1), bool), 2) is tried[1][0]
    assert state.w is tried[1][1].w


def test_reinitialise_dead_filters_takes_patches_of_residual():
    images = np.concatenate([noise_images(2), noise_images(4)[2:]], axis=1)
    table = np.array([[True, True, True], [False, True, True]])
    filters = unit_filters((2, 3, 3, 3)) * table[:, :, None, None]
    problem = Problem.from_images(filters, images, 4.0)
    state = admm_initialise(problem)
    assert reinitialise_dead_filters(problem, state, table) is problem  # all maps are zero
    state.w = np.zeros_like(state.w)
    maps = problem.shape_maps(state.w)
    maps[0, 0, 5, 6] = 2.0
    state.w = maps.reshape(2, -1).T
    residual = images - synthesise(filters, problem.shape_maps(state.w))
    found = reinitialise_dead_filters(problem, state, table)
    np.testing.assert_array_equal(found.A.filters[:, 0], filters[:, 0])
    np.testing.assert_array_equal(found.A(state.w), problem.A(state.w))
    windows = [residual[i, :, r : r + 3, c : c + 3] for i in range(2) for r in range(10) for c in range(10)]
    best = max(windows, key=lambda patch: (patch**2).sum())
    expected = best / np.linalg.norm(best, axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(found.A.filters[:, 1], expected, rtol=1e-9)
    # The next filter takes another patch.
    assert np.abs(found.A.filters[:, 2] - expected).max() > 0.1
    np.testing.assert_allclose(np.linalg.norm(found.A.filters, axis=(2, 3)), table, rtol=1e-12)
    # The residual must be worth a map, and as large as a filter.
    low_weight = problem.with_penalty(0.05, 1.0)
    assert reinitialise_dead_filters(low_weight, state, table) is low_weight
    small = Problem.from_images(filters, images[:, :, :2], 4.0)
    state = admm_initialise(small)
    state.w = np.zeros_like(state.w)
    state.w[0] = 1
    assert reinitialise_dead_filters(small, state, table) is small
