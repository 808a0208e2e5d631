"""Scaling of operator, data and damping by powers of two."""

import math

import numpy as np
import pytest
from inverse_cases import skewed_blur

from convop import Conv, tikhonov
from convop.inverse.scaled_problem import ScaledProblem


def test_tikhonov_is_invariant_under_scaling():
    K, y = skewed_blur(5), np.random.default_rng(0).standard_normal((60, 60))
    reference = tikhonov(Conv(K, (60, 60), padding="same"), y, 1e-2, precondition=True)
    for scale in (1e-100, 1e100):
        other = tikhonov(Conv(K * scale, (60, 60), padding="same"), y, 1e-2 * scale, precondition=True)
        assert other.converged, other.reason
        assert abs(other.iterations - reference.iterations) <= 1
        np.testing.assert_allclose(other.x * scale, reference.x, rtol=1e-4, atol=1e-6)
    small = tikhonov(Conv(K, (60, 60), padding="same"), y * 1e-200, 1e-2, precondition=True)
    assert small.converged, small.reason
    np.testing.assert_allclose(small.x * 1e200, reference.x, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("power", [-1000, -664, 660, 900])
@pytest.mark.parametrize("mode", ["circular", "zeros", "symmetric"])
def test_tikhonov_of_taps_near_the_ends_of_the_range(power, mode):
    rng = np.random.default_rng(0)
    A = Conv(rng.standard_normal((3, 3)), (12, 13), padding="same", padding_mode=mode)
    y = A @ rng.standard_normal((12, 13)) + 0.1 * rng.standard_normal((12, 13))
    scaled = A.with_kernel(np.ldexp(A.kernel, power))
    reference = tikhonov(A, y, 0.3, rtol=1e-12)
    solution = tikhonov(scaled, y, math.ldexp(0.3, power), rtol=1e-12)
    assert solution.converged
    assert solution.residual_norm == pytest.approx(reference.residual_norm, rel=1e-9)
    np.testing.assert_allclose(solution.x, np.ldexp(reference.x, -power), rtol=1e-9)
    again = tikhonov(scaled, y, math.ldexp(0.3, power), rtol=1e-12, x0=solution.x)
    assert again.iterations <= 2


def test_tikhonov_of_enormous_dampings_and_data_is_finite():
    rng = np.random.default_rng(0)
    A = Conv(rng.standard_normal((3, 3)), (8, 8), padding="same")
    for dtype in (np.float32, np.float64):
        B, y = A.with_kernel(A.kernel.astype(dtype)), rng.random((8, 8)).astype(dtype)
        for damp in (1e30, 1e200, 1e308):
            assert np.abs(tikhonov(B, y, damp).x).max() < 1e-30
    assert np.isfinite(tikhonov(A, np.full((8, 8), 1.5e308), 1.0).x).all()


def test_scaled_problem_is_near_one_and_unscales_exactly():
    rng = np.random.default_rng(0)
    K, x, y = rng.standard_normal((3, 3)), rng.standard_normal((8, 8)), rng.standard_normal((8, 8))
    A = Conv(np.ldexp(K, -700), (8, 8), padding="same")
    problem = ScaledProblem.of(A, np.ldexp(y, -600), math.ldexp(0.5, -700))
    assert 0.1 < np.abs(problem.A.kernel).max() < 10
    assert 0.1 < np.abs(problem.y).max() < 10
    assert 0.01 < problem.damp < 10
    assert problem.unscale_damp(problem.damp) == math.ldexp(0.5, -700)
    assert problem.unscale_data(problem.scale_data(3.0)) == 3.0
    start = problem.scale_start(x)
    np.testing.assert_array_equal(problem.unscale_solution(start), x)
    np.testing.assert_array_equal(np.ldexp(problem.y, problem.data_power).reshape(8, 8), np.ldexp(y, -600))
