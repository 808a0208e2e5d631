"""The dual bound of the sparse coding problem against a search."""

import numpy as np
import pytest
from sparse_coding_cases import unit_filters

from convop.deconvnet.problem import Problem


def test_dual_bound_is_best_feasible_multiple_of_direction():
    filters, images = unit_filters((2, 3, 3, 3)), np.random.default_rng(0).standard_normal((2, 2, 6, 6))
    problem = Problem.from_images(filters, images, 3.0)
    direction = np.random.default_rng(1).standard_normal(problem.y.shape) + problem.y
    correlation = np.abs(problem.A.adjoint(direction)).max(axis=0)
    found = problem.dual_bound(direction, correlation)
    for image in range(2):
        t = np.linspace(-1, 1, 20001) / correlation[image]
        d, y = direction[:, image], problem.y[:, image]
        bounds = t * (d @ y) - t**2 * (d @ d) / (2 * 3.0)
        assert bounds.max() <= found[image] * (1 + 1e-12)
        assert found[image] == pytest.approx(bounds.max(), rel=1e-6)
    np.testing.assert_array_equal(problem.dual_bound(np.zeros_like(direction), np.zeros(2)), 0)
