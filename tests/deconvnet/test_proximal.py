"""The proximal operator of |.|^p against a grid search and closed forms."""

import numpy as np
import pytest

from convop.deconvnet import prox


@pytest.mark.thinned
@pytest.mark.parametrize("p", [0.05, 0.3, 0.5, 2 / 3, 0.8, 0.95, 1.0])
@pytest.mark.parametrize("beta", [1.0, 7.0, 1e2, 1e3, 1e4, 1e5])
def test_prox_is_minimiser_on_grid(p, beta):
    bound = 4 * (1 / beta) ** (1 / (2 - p)) + 0.1
    v = np.linspace(-bound, bound, 83)
    grid = np.linspace(-bound, bound, 40_001)
    grid[20_000] = 0
    spacing = grid[1] - grid[0]
    w = prox(v, beta, p)

    def cost(w, v):
        return np.abs(w) ** p + beta / 2 * (w - v) ** 2

    costs = cost(grid, v[:, None])
    assert (cost(w, v) <= costs.min(axis=1) * (1 + 1e-12) + 1e-15).all()
    # Where zero and the other minimum have about the same cost, either is right.
    others = np.where(np.abs(grid) > 2 * spacing, costs, np.inf).min(axis=1)
    tied = np.abs(costs[:, 20_000] - others) <= beta * spacing**2 + 3 * p * (2 * spacing) ** p * (p == 1)
    assert (np.abs(w - grid[costs.argmin(axis=1)])[~tied] <= 1.01 * spacing).all()
    assert tied.mean() < 0.3
    np.testing.assert_array_equal(prox(-v, beta, p), -w)


def test_prox_matches_closed_forms():
    """Soft thresholding for p = 1; the half thresholding of Xu et al. (2012), a cosine of a third of an angle, for p = 1/2."""
    rng = np.random.default_rng(0)
    v, beta = rng.standard_normal(1000) * 3, 2.0
    np.testing.assert_array_equal(prox(v, beta, 1), np.sign(v) * np.maximum(np.abs(v) - 0.5, 0))
    threshold = 1.5 * beta ** (-2 / 3)
    angle = np.arccos(np.clip(1 / (4 * beta) * (np.abs(v) / 3) ** -1.5, -1, 1))
    expected = np.where(np.abs(v) > threshold, 2 / 3 * v * (1 + np.cos(2 * np.pi / 3 - 2 / 3 * angle)), 0)
    np.testing.assert_allclose(prox(v, beta, 0.5), expected, atol=1e-12)


def test_prox_keeps_dtype_and_shape():
    assert prox(np.float32([1, 2]), 1, 0.5).dtype == np.float32
    assert prox([1, 2], 1, 0.5).dtype == np.float64
    assert prox(3.0, 1, 1).shape == ()
    assert prox(np.zeros((0, 3)), 1, 0.5).shape == (0, 3)


def test_prox_rejects_invalid_arguments():
    for p in (0, -1, 1.5, np.nan):
        with pytest.raises(ValueError, match="p must be more than 0 and at most 1"):
            prox([1.0], 1, p)
    for beta in (0, -1, np.inf, np.nan):
        with pytest.raises(ValueError, match="beta must be positive"):
            prox([1.0], beta, 1)
    with pytest.raises(TypeError, match="v must be real"):
        prox([1j], 1, 1)
    with pytest.raises(TypeError, match="beta must be a number"):
        prox([1.0], "a", 1)


def test_prox_clips_threshold_to_range_of_dtype():
    assert prox(np.float32([np.inf, 1]), 1e-40, 1.0).tolist() == [np.inf, 0]


def test_prox_passes_infinity_and_nan():
    for p in (0.5, 0.8, 1):
        w = prox([np.nan, np.inf, -np.inf, 3.0], 1, p)
        assert np.isnan(w[0])
        assert w[1:3].tolist() == [np.inf, -np.inf]
        assert w[3] == prox(3.0, 1, p)
