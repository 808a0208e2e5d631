"""The linear system in the space of the images: its solution, warm starts and dtype."""

import numpy as np
import pytest
from sparse_coding_cases import unit_filters

from convop.deconvnet.gram_system import GramSystem
from convop.deconvnet.problem import Problem


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gram_system_converges_over_warm_starts_and_keeps_dtype(dtype):
    rng = np.random.default_rng(0)
    filters = unit_filters((2, 3, 3, 3)).astype(dtype)
    problem = Problem.from_images(filters, np.ones((2, 2, 6, 5), dtype), 4.0)
    rho = np.float64(2.0)  # a NumPy scalar, which must not promote single precision
    system = GramSystem(problem, np.zeros_like(problem.y), rho, 2)
    b = rng.standard_normal(problem.y.shape).astype(dtype)
    for _ in range(12):
        system.solve(b)
    W = problem.A.operator.todense().astype(float)
    expected = np.linalg.solve(W @ W.T + 0.5 * np.eye(len(W)), b)
    rtol = 1e-4 if dtype == np.float32 else 1e-10
    assert system.s.dtype == system.image.dtype == dtype
    np.testing.assert_allclose(system.s, expected, atol=rtol * np.abs(expected).max())
    np.testing.assert_allclose(system.image, W @ W.T @ expected, atol=10 * rtol * np.abs(expected).max())
    # The solution of another rho starts at the same multiple of a subgradient.
    before = system.s
    system.set_rho(8.0, 4.0)
    np.testing.assert_allclose(system.s, before / 4, rtol=1e-6)
