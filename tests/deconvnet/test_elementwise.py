"""The compiled loops over elements of maps against NumPy."""

import numpy as np
import pytest

import convop
from convop.deconvnet.elementwise import SplitVariables, power_sums
from convop.deconvnet.step_loops import RUN, SUMS


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("images", "elements"), [(1, 5), (3, RUN), (2, 2 * RUN + 1029)])
def test_admm_update_matches_numpy(images, elements, dtype, threads):
    rng = np.random.default_rng(elements)
    w, u, adjoint_term = (rng.standard_normal((images, elements)).astype(dtype).T for _ in range(3))
    rho, relaxation, eps = 4.0, 1.7, float(np.finfo(dtype).eps)
    convop.set_num_threads(threads)
    try:
        for weights in (None, rng.random((elements, images)).astype(dtype)):
            split = SplitVariables(w, u, weights)
            split.divide_multipliers(2.0)
            sums = split.update(adjoint_term, rho, relaxation)
            half, threshold = u / 2, (1 if weights is None else weights) / dtype(rho)
            z = w - half + adjoint_term
            v = dtype(relaxation) * z + (1 - dtype(relaxation)) * w + half
            new = np.sign(v) * np.maximum(np.abs(v) - threshold, 0)
            np.testing.assert_allclose(split.w, new, atol=16 * eps)
            np.testing.assert_allclose(split.u, v - new, atol=16 * eps)
            np.testing.assert_array_equal(split.w == 0, new == 0)
            z, v, new, old = (a.astype(float) for a in (z, v, new, w))
            squares = [((a**2).sum(axis=0)) for a in (z - new, z, new, new - old, v - new)]
            expected = [np.abs(adjoint_term).max(axis=0), np.abs(new).sum(axis=0), *squares]
            assert sums.shape == (images, len(SUMS))
            np.testing.assert_allclose(sums.T, expected, rtol=300 * eps)
    finally:
        convop.set_num_threads(None)
    # The arguments are copied, and not written to.
    assert split.w is not w
    assert not np.shares_memory(split.w, w)
    assert not np.shares_memory(split.u, u)


@pytest.mark.parametrize("p", [0.3, 0.8, 1.0])
@pytest.mark.parametrize(("images", "elements"), [(1, 1), (2, RUN), (3, RUN + 1)])
def test_power_sums_match_numpy(images, elements, p):
    w = np.random.default_rng(0).standard_normal((images, elements))
    w[np.abs(w) < 0.5] = 0
    np.testing.assert_allclose(power_sums(w.T, p), (np.abs(w) ** p).sum(axis=1), rtol=1e-12)
    np.testing.assert_allclose(power_sums(np.asfortranarray(w).T, p), (np.abs(w) ** p).sum(axis=1), rtol=1e-12)
