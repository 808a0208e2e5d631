"""The primal and the dual system of Tikhonov regularisation."""

import numpy as np
import pytest
import scipy.sparse.linalg as sla
import strategies
from inverse_cases import tikhonov_by_svd
from spectral_cases import oracle_matrix

from convop import Conv, kernels, tikhonov
from convop.bench.solving import camera_shake, natural_image


@pytest.mark.thinned
@pytest.mark.parametrize("mode", strategies.MODES)
@pytest.mark.parametrize("relative", [0.0, 1e-9, 1e-4, 1e-2])
def test_dual_system_keeps_the_null_space_out_of_the_solution(mode, relative):
    """The gradient does not show components in the null space, which must be zero for any damping."""
    A = Conv(kernels.gaussian(0.8), (48, 40), stride=2, padding="same", padding_mode=mode)
    matrix = oracle_matrix(A)
    y = A @ np.random.default_rng(0).standard_normal(A.dims).cumsum(0) + 0.01
    damp = relative * np.linalg.norm(matrix, 2)
    expected = tikhonov_by_svd(matrix, y.ravel(), damp).reshape(A.dims)
    for precondition in (True, False):
        solution = tikhonov(A, y, damp, rtol=1e-10, precondition=precondition)
        assert solution.converged, solution.reason
        assert np.abs(solution.x - expected).max() <= 1e-6 * np.abs(expected).max()
        assert solution.gradient_norm <= 1e-10
    if relative == 1e-2 and mode != "circular":
        seen = []
        tikhonov(A, y, damp, callback=seen.append, x0=np.zeros(A.dims))
        assert seen[-1].shape == A.dims


def test_dual_system_converges_to_rtol_of_the_primal_gradient():
    """`rtol` bounds the gradient of the primal system, also with fewer data than unknowns.

    For data mostly along small singular values, the dual gradient falls several times further than the primal one.
    """
    rng = np.random.default_rng(0)
    A = Conv(kernels.gaussian(2.0), (48, 48), stride=3, padding="same", padding_mode="zeros")
    U, values, _ = np.linalg.svd(A.todense(), full_matrices=False)
    damp = 0.03 * values[0]
    for share in (1e-6, 1e-2):
        y = U[:, -60:] @ rng.standard_normal(60) + share * U @ rng.standard_normal(len(values))
        y = y.reshape(A.dimsd)
        for rtol in (1e-2, 1e-6):
            for precondition in (True, False):
                solution = tikhonov(A, y, damp, rtol=rtol, precondition=precondition)
                assert solution.converged
                gradient = A.H @ (y - A @ solution.x) - damp**2 * solution.x
                assert np.linalg.norm(gradient) <= 1.01 * rtol * np.linalg.norm(A.H @ y)


def test_start_with_zero_solution_converges():
    """With ``A^H y = 0``, the gradient at zero cannot be the scale of the gradient at the start."""
    for y in (np.zeros(4), [1.0, -1.0, 1.0, -1.0]):
        A = Conv([1.0, 1.0], 4, padding="same", padding_mode="circular")
        for precondition in (True, False):
            solution = tikhonov(A, y, 0.5, x0=np.ones(4), precondition=precondition, rtol=1e-12)
            assert solution.converged
            np.testing.assert_allclose(solution.x, 0, atol=1e-11)
            assert solution.gradient_norm < 1e-10
    A = Conv([1.0, 1.0], 5)
    y = np.stack([np.zeros(4), np.ones(4)], -1)  # zero data beside others
    both = tikhonov(A, y, 0.5, x0=np.ones((5, 2)), rtol=1e-12).x
    np.testing.assert_allclose(both[:, 0], 0, atol=1e-11)
    np.testing.assert_allclose(both[:, 1], tikhonov(A, y[:, 1], 0.5, rtol=1e-12).x, atol=1e-10)


@pytest.mark.parametrize("seed", range(3))
def test_solution_in_single_precision_stays_near_its_least_residual(seed):
    """After some ten steps only rounding errors are left; the 300 more that are allowed end at 1e10 and beyond."""
    rng = np.random.default_rng(seed)
    arguments = {"padding": ((-1, 4), (5, 2)), "dilation": (3, 1), "padding_mode": "reflect"}
    A = Conv(rng.standard_normal((3, 6)), (10, 5), **arguments)
    y = A @ rng.standard_normal(A.dims)
    expected = tikhonov(A, y, 0.1).x
    got = tikhonov(A.with_kernel(np.float32(A.kernel)), np.float32(y), 0.1)
    assert got.x.dtype == np.float32
    assert np.abs(got.x - expected).max() <= 1e-3 * np.abs(expected).max()
    assert got.gradient_norm <= 1e-4


def test_columns_in_single_precision_stay_near_their_own_least_residuals():
    """The columns reach their rounding errors after different numbers of steps."""
    A = Conv(kernels.gaussian(1.5), (40, 44), padding="same")
    rng = np.random.default_rng(0)
    smooth, rough = A @ np.ones(A.dims), rng.standard_normal(A.dims)
    y = np.stack([smooth, A @ rough, rough, np.zeros(A.dims)], -1)
    single = A.with_kernel(np.float32(A.kernel))
    for precondition in (True, False):
        expected = tikhonov(A, y, 1e-2, rtol=1e-10, precondition=precondition).x
        got = tikhonov(single, np.float32(y), 1e-2, rtol=1e-9, precondition=precondition)
        assert not got.converged
        assert (got.gradient_norm <= 1e-4).all()
        errors = np.abs(got.x - expected).max(axis=(0, 1))
        assert (errors <= 1e-3 * np.abs(expected).max(axis=(0, 1))).all()


def test_operator_that_gives_nan_during_the_iteration_is_the_reason():
    products = []

    def forward(x):
        products.append(None)
        return np.arange(1.0, 41) * x.ravel() * (np.nan if len(products) > 6 else 1)

    operator = sla.LinearOperator((40, 40), forward, lambda y: np.arange(1.0, 41) * y.ravel(), dtype=float)
    solution = tikhonov(operator, np.ones(40), 0.1)
    assert solution.iterations > 3
    assert "NaN or infinity" in solution.reason


def test_residual_that_grows_before_it_falls_is_no_sign_of_rounding_errors():
    """Residuals grow by up to gain/damp, here 7e3, in the first of a few iterations."""
    for seed in range(40):
        r = np.random.default_rng(seed)
        A = Conv(r.standard_normal((3, 2, 2)), (2, 5), stride=2, padding=((0, 1),), padding_mode="reflect")
        y = r.standard_normal(A.dimsd)
        for relative in (1e-4, 3e-5):
            solution = tikhonov(A, y, relative * float(A.norm()), precondition=False)
            assert solution.converged, (seed, relative, solution.reason)


@pytest.mark.parametrize("precondition", ["auto", True, False])
@pytest.mark.parametrize("mode", ["circular", "symmetric", "zeros"])
def test_complex_data_of_a_real_operator_are_two_real_problems(mode, precondition):
    kernel = np.outer([1.0, 2, 1], [1.0, 3, 1])
    A = Conv(kernel, (6, 8), padding="same", padding_mode=mode)
    rng = np.random.default_rng(0)
    y = rng.standard_normal((6, 8)) + 1j * rng.standard_normal((6, 8))
    solution = tikhonov(A, y, 1.0, precondition=precondition, rtol=1e-10)
    parts = [tikhonov(A, part, 1.0, precondition=precondition, rtol=1e-10).x for part in (y.real, y.imag)]
    assert solution.converged
    np.testing.assert_allclose(solution.x, parts[0] + 1j * parts[1], atol=1e-9)


@pytest.mark.slow
def test_gradient_that_does_not_fall_for_some_hundred_iterations_may_fall_again():
    """With a damping of 1e-4, plain conjugate gradients stood at 2.7e-6 when they had 300 iterations to improve."""
    A = Conv(camera_shake(15), (128, 128), padding="same", padding_mode="reflect")
    y = A @ natural_image((128, 128)) + 0.01 * np.random.default_rng(1).standard_normal((128, 128))
    solution = tikhonov(A, y, 1e-4, precondition=False, maxiter=8000)
    assert solution.converged, solution.reason
    assert solution.gradient_norm <= 1e-6
