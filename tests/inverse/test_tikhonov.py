"""Tikhonov's solutions against dense solutions of the same matrices; arguments and results of `tikhonov`."""

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as sla
import strategies
from inverse_cases import skewed_blur, tikhonov_by_svd
from spectral_cases import oracle_matrix

from convop import Conv, ConvFilter, tikhonov


@pytest.mark.thinned
@pytest.mark.parametrize("precondition", [True, False])
@pytest.mark.parametrize("stride", [1, *(pytest.param(s, marks=pytest.mark.slow) for s in (2, 3)), (4, 1)])
@pytest.mark.parametrize("mode", strategies.MODES)
def test_tikhonov_solves_blurs_in_all_modes_and_strides(mode, stride, precondition):
    """The images are larger than the subdomains at the ends, so that terms of every kind take part."""
    A = Conv(skewed_blur(5), (66, 40), stride=stride, padding="same", padding_mode=mode)
    x = np.random.default_rng(0).standard_normal(A.dims)
    y = A @ x
    solution = tikhonov(A, y, 1e-2, rtol=1e-11, precondition=precondition)
    matrix = A.tosparse()
    normal = (matrix.T @ matrix + 1e-4 * sp.eye_array(matrix.shape[1])).tocsc()
    expected = sla.spsolve(normal, matrix.T @ y.ravel()).reshape(A.dims)
    assert solution.converged
    assert np.abs(solution.x - expected).max() <= 1e-7 * np.abs(expected).max()
    np.testing.assert_allclose(solution.residual_norm, np.linalg.norm(A @ solution.x - y))
    gradient = A.T @ (y - A @ solution.x) - 1e-4 * solution.x
    assert np.linalg.norm(gradient) / np.linalg.norm(A.T @ y) == pytest.approx(solution.gradient_norm, abs=1e-13)


def test_tikhonov_without_damping_is_least_squares():
    rng = np.random.default_rng(0)
    A = Conv(rng.standard_normal((3, 3)), (10, 11), padding=2)  # more outputs than inputs: one solution
    y = rng.standard_normal(A.dimsd)
    expected = np.linalg.lstsq(oracle_matrix(A), y.ravel())[0].reshape(A.dims)
    for precondition in (True, False):
        solution = tikhonov(A, y, 0, rtol=1e-12, precondition=precondition)
        assert solution.converged
        np.testing.assert_allclose(solution.x, expected, atol=1e-8)


def test_tikhonov_solves_several_data_and_keeps_their_shape():
    A = Conv(skewed_blur(3), (20, 30), stride=2, padding="same", padding_mode="reflect")
    rng = np.random.default_rng(0)
    y = rng.standard_normal((*A.dimsd, 3))
    y[..., 1] *= 1e6  # each column converges relative to its own data
    y[..., 2] = 0
    together = tikhonov(A, y, 0.1, rtol=1e-10)
    flat = tikhonov(A, y.reshape(-1, 3), 0.1, rtol=1e-10)
    assert together.x.shape == (*A.dims, 3)
    assert flat.x.shape == (A.shape[1], 3)
    np.testing.assert_array_equal(flat.x.reshape(together.x.shape), together.x)
    assert together.residual_norm.shape == together.gradient_norm.shape == (3,)
    for c in range(3):
        alone = tikhonov(A, y[..., c], 0.1, rtol=1e-10)
        assert alone.x.shape == A.dims
        assert isinstance(alone.residual_norm, float)
        assert np.abs(alone.x - together.x[..., c]).max() <= 1e-8 * np.abs(alone.x).max()
        assert tikhonov(A, y[..., c].ravel(), 0.1).x.shape == (A.shape[1],)
    assert not together.x[..., 2].any()
    assert tikhonov(A, np.zeros(A.dimsd), 0.1).converged
    with pytest.raises(ValueError, match=r"y must have the shape \(10, 15\) or \(150,\).*got \(20, 30\)"):
        tikhonov(A, np.ones((20, 30)), 0.1)
    with pytest.raises(ValueError, match=r"got \(\)"):
        tikhonov(A, 1.0, 0.1)


def test_tikhonov_dtype_follows_operator_and_data():
    A = Conv(skewed_blur(3).astype("float32"), (20, 30), padding="same")
    y = np.random.default_rng(0).standard_normal(A.dimsd)
    assert tikhonov(A, y.astype("float32"), 0.1).x.dtype == np.float32
    assert tikhonov(A, y, 0.1).x.dtype == np.float64
    mixed = tikhonov(A, y * (1 + 2j), 0.1, rtol=1e-9)
    assert mixed.x.dtype == np.complex128
    np.testing.assert_allclose(mixed.x, (1 + 2j) * tikhonov(A, y, 0.1, rtol=1e-9).x, atol=1e-6)
    assert tikhonov(A, np.arange(600).reshape(20, 30), 0.1).x.dtype == np.float64


def test_solution_reason_names_the_cause():
    A = Conv(skewed_blur(5), (60, 60), padding="same")
    y = A @ np.random.default_rng(0).standard_normal(A.dims)
    few = tikhonov(A, y, 1e-3, precondition=False, maxiter=5)
    assert not few.converged
    assert few.iterations == 5
    assert "maxiter=5" in few.reason
    small = Conv(skewed_blur(5).astype("float32"), (12, 12), padding="same")
    single = tikhonov(small, y[:12, :12].astype("float32"), 1e-3, rtol=1e-12)
    assert not single.converged
    assert "rounding errors of float32" in single.reason
    assert single.gradient_norm < 1e-4
    none = tikhonov(A, y, 1e-3, maxiter=0)
    assert (none.iterations, none.converged) == (0, False)
    assert not none.x.any()
    broken = sla.LinearOperator((4, 4), matvec=lambda x: x * np.nan, rmatvec=lambda x: x * np.nan, dtype=float)
    stopped = tikhonov(broken, np.ones(4), 0.1)
    assert not stopped.converged
    assert "NaN" in stopped.reason


def test_tikhonov_calls_callback_once_per_iteration_and_starts_at_x0(capsys):
    A = Conv(skewed_blur(5), (60, 60), padding="same")
    y = A @ np.random.default_rng(0).standard_normal(A.dims)
    seen = []
    solution = tikhonov(A, y, 1e-2, callback=lambda x: seen.append(x.copy()), progress=True)
    assert len(seen) == solution.iterations > 1
    assert seen[-1].shape == A.dims
    np.testing.assert_array_equal(seen[-1], solution.x)
    assert f"{solution.iterations} iterations" in capsys.readouterr().err
    restarted = tikhonov(A, y, 1e-2, x0=solution.x)
    assert restarted.iterations == 0
    start = solution.x * 0.9
    kept = start.copy()
    assert 0 < tikhonov(A, y, 1e-2, x0=start).iterations <= solution.iterations
    np.testing.assert_array_equal(start, kept)
    with pytest.raises(ValueError, match=r"x0 must have the shape \(60, 60\)"):
        tikhonov(A, y, 1e-2, x0=np.ones(3600))


def test_tikhonov_takes_matrices_and_other_operators():
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((20, 12))
    y = rng.standard_normal(20)
    expected = tikhonov_by_svd(matrix, y, 0.3)
    for op in (matrix, sla.aslinearoperator(matrix)):
        np.testing.assert_allclose(tikhonov(op, y, 0.3, rtol=1e-12).x, expected, atol=1e-9)
    X = ConvFilter(rng.standard_normal((9, 8)), (3, 2))
    y = rng.standard_normal(X.dimsd)
    expected = tikhonov_by_svd(X.todense(), y.ravel(), 0.3).reshape(3, 2)
    np.testing.assert_allclose(tikhonov(X, y, 0.3, rtol=1e-12).x, expected, atol=1e-9)


def test_tikhonov_rejects_invalid_arguments():
    A = Conv(skewed_blur(3), (9, 9), padding="same")
    y = np.ones((9, 9))
    for bad in (-1, np.nan, np.inf):
        with pytest.raises(ValueError, match="damp must be finite and at least 0"):
            tikhonov(A, y, bad)
    with pytest.raises(TypeError, match="damp must be a number, got 'a'"):
        tikhonov(A, y, "a")
    with pytest.raises(ValueError, match="rtol must be at least 0 and less than 1, got 2"):
        tikhonov(A, y, 0.1, rtol=2)
    with pytest.raises(ValueError, match="maxiter must be at least 0"):
        tikhonov(A, y, 0.1, maxiter=-1)
    with pytest.raises(TypeError, match="callback must be callable"):
        tikhonov(A, y, 0.1, callback=3)
    with pytest.raises(ValueError, match="y must be finite"):
        tikhonov(A, y * np.nan, 0.1)
    with pytest.raises(ValueError, match="x0 must be finite"):
        tikhonov(A, y, 0.1, x0=y * np.inf)
    with pytest.raises(ValueError, match="finite taps"):
        tikhonov(Conv([[np.nan]], (9, 9)), y, 0.1)


def test_tikhonov_of_zero_kernel_is_zero():
    A = Conv(np.zeros((3, 3)), (40, 40), padding="same")
    for damp in (0, 0.1):
        solution = tikhonov(A, np.ones((40, 40)), damp)
        assert solution.converged
        assert not solution.x.any()
