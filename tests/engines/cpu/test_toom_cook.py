"""Short algorithms for correlations: against the definition, exact examples, and how much they amplify rounding errors."""

import numpy as np
import pytest

from convop.engines.cpu.toom_cook import MOST_MULTIPLICATIONS, ToomCook

SIZES = [(m, r) for m in range(1, 9) for r in range(1, 9) if m + r - 1 <= MOST_MULTIPLICATIONS]


def correlation(taps, elements):
    return [taps @ elements[i : i + len(taps)] for i in range(len(elements) - len(taps) + 1)]


@pytest.mark.parametrize(("results", "taps"), SIZES)
def test_algorithm_computes_a_correlation(results, taps):
    rng = np.random.default_rng(0)
    g, d = rng.standard_normal(taps), rng.standard_normal(results + taps - 1)
    algorithm = ToomCook.of(results, taps)
    y = algorithm.to_results @ ((algorithm.from_taps @ g) * (algorithm.from_input @ d))
    np.testing.assert_allclose(y, correlation(g, d), rtol=0, atol=1e-13)


def test_two_results_of_three_taps_are_winograds():
    """F(2, 3) at 0, 1, -1 and infinity, up to signs of the points (Winograd 1980, page 34)."""
    algorithm = ToomCook.of(2, 3)
    np.testing.assert_array_equal(algorithm.from_input, [[-1, 0, 1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, -1, 0, 1]])
    np.testing.assert_array_equal(algorithm.from_taps, [[-1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
    np.testing.assert_array_equal(algorithm.to_results, [[1, 1, 1, 0], [0, 1, -1, 1]])


@pytest.mark.parametrize(("results", "taps"), SIZES)
def test_errors_in_single_precision_are_amplified_as_stated(results, taps):
    """Sums over many channels at every point, in single precision, against double precision."""
    rng = np.random.default_rng(1)
    algorithm = ToomCook.of(results, taps)
    B, G, A = (m.astype(np.float32) for m in (algorithm.from_input, algorithm.from_taps, algorithm.to_results))
    channels, runs = 64, 2000
    g = rng.standard_normal((taps, channels)).astype(np.float32)
    d = rng.standard_normal((results + taps - 1, channels, runs)).astype(np.float32)
    products = sequential_sums((G @ g)[..., None] * np.einsum("kj,jcr->kcr", B, d))
    y = A @ products
    windows = np.stack([d[i : i + taps] for i in range(results)])
    direct = sequential_sums(sequential_sums(np.swapaxes(g[None, ..., None] * windows, 1, 2)))
    exact = np.einsum("sc,iscr->ir", g.astype(float), windows.astype(float))
    error, error_of_direct = (np.sqrt(((v - exact) ** 2).mean(axis=1)).max() for v in (y, direct))
    assert error <= 3 * algorithm.amplification * error_of_direct


def sequential_sums(products):
    """Returns sums over the axis before the last, one product after another as the microkernels add them."""
    total = np.zeros_like(products[..., 0, :])
    for c in range(products.shape[-2]):
        total = total + products[..., c, :]
    return total


def test_all_algorithms_amplify_little():
    used = [(m, r) for m, r in SIZES if m <= 6]
    assert max(ToomCook.of(m, r).amplification for m, r in used) < 8
