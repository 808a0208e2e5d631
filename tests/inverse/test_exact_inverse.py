"""Direct solutions where fast transforms diagonalise the operator."""

import numpy as np
import pytest
from inverse_cases import tikhonov_by_svd
from spectral_cases import oracle_matrix

from convop import Conv, preconditioner, tikhonov


def test_direct_solution_and_preconditioner_are_exact_in_fourier_and_cosine_bases():
    rng = np.random.default_rng(0)
    K = rng.standard_normal((3, 2, 3, 5))
    even = K + np.flip(K, (-1, -2)) + np.flip(K, -1) + np.flip(K, -2)
    for A in (
        Conv(K, (2, 8, 9), padding="same", padding_mode="circular"),
        Conv(K, (2, 8, 9), stride=(2, 3), padding="same", padding_mode="circular"),
        Conv(even, (2, 8, 9), padding="same", padding_mode="symmetric"),
    ):
        for operator in (A, A.T):
            matrix = oracle_matrix(operator)
            H = matrix.T @ matrix + 0.25 * np.eye(matrix.shape[1])
            np.testing.assert_allclose(preconditioner(operator, 0.5).todense() @ H, np.eye(len(H)), atol=1e-12)
            y = rng.standard_normal(operator.dimsd)
            solution = tikhonov(operator, y, 0.5)
            assert solution.iterations == 0
            assert "directly" in solution.reason
            expected = tikhonov_by_svd(matrix, y.ravel(), 0.5)
            np.testing.assert_allclose(solution.x.ravel(), expected, atol=1e-12)


@pytest.mark.parametrize("damp", [0.0, 1e-9, 1e-5])
def test_direct_solution_with_little_damping_keeps_digits(damp):
    """Normal matrices would lose digits that the singular values keep."""
    K = np.outer([1.0, 0.99], [1.0, 0.98])
    channels = np.array([[1.0, 0.2], [0.1, 1.0]])[..., None, None]
    A = Conv(K[None, None] * channels, (2, 8, 8), padding="same", padding_mode="circular")
    y = np.random.default_rng(0).standard_normal(A.dimsd)
    expected = tikhonov_by_svd(oracle_matrix(A), y.ravel(), damp)
    np.testing.assert_allclose(tikhonov(A, y, damp).x.ravel(), expected, rtol=1e-8, atol=1e-8 * np.abs(expected).max())


def test_direct_solution_without_damping_is_nearest_to_x0():
    A = Conv([1.0, -1.0], 16, padding="same", padding_mode="circular")
    x = np.random.default_rng(0).standard_normal(16)
    for precondition in (True, False):
        solution = tikhonov(A, A @ x, 0, x0=np.full(16, 5.0), precondition=precondition, rtol=1e-12)
        np.testing.assert_allclose(solution.x, x - x.mean() + 5, atol=1e-9)


def test_direct_solution_reports_whether_rtol_is_reached():
    rng = np.random.default_rng(0)
    A = Conv(rng.random((3, 3)).astype(np.float32), (16, 16), padding="same", padding_mode="circular")
    y = rng.random((16, 16))
    assert tikhonov(A, y, 0.1, rtol=1e-13).converged  # computed in the precision of the data
    single = tikhonov(A, y.astype(np.float32), 0.1, rtol=1e-11)
    assert not single.converged
    assert "to the precision of float32" in single.reason
    assert single.gradient_norm < 1e-6


@pytest.mark.parametrize("channels", [1, 2])
def test_singular_values_at_rounding_level_count_as_zero_without_damping(channels):
    """The taps sum to 1e-15 and not to zero: a mean of the data divided by that sum would be about 1e14."""
    K = np.array([1.0, 1e-15 - 1])
    rng = np.random.default_rng(0)
    kernel = np.einsum("ij,t->ijt", rng.standard_normal((channels, channels)), K)
    A = Conv(kernel, (channels, 16), padding="same", padding_mode="circular")
    y = rng.standard_normal(A.dimsd)  # with a part outside the range
    expected = np.linalg.lstsq(oracle_matrix(A), y.ravel(), rcond=1e-12)[0].reshape(A.dims)
    np.testing.assert_allclose(tikhonov(A, y, 0).x, expected, atol=1e-10)
