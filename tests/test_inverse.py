"""Preconditioners and Tikhonov's solutions against dense ones of the oracle's matrices."""

import math
import re

import numpy as np
import oracle
import pytest
import scipy.sparse.linalg as sla
import strategies
import threadpoolctl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convop import Conv, ConvFilter, ConvTranspose, damping, kernels, preconditioner, tikhonov
from convop.inverse import preconditioner as preconditioning
from convop.spectral.blocks import Cosine, Fourier, Window
from convop.testing import check_operator

MODES = strategies.MODES


@pytest.fixture(autouse=True)
def one_thread():
    """The dense decompositions to compare with are slow where their threads meet those of another test's process."""
    with threadpoolctl.threadpool_limits(1, "blas"):
        yield


def dense(A):
    spec = A.spec
    matrix, _ = oracle.dense_matrix(A.kernel, spec.input_shape, flip=A.flip, **spec.parameters())
    return matrix.T if isinstance(A, ConvTranspose) else matrix


def exact(matrix, y, damp):
    """Tikhonov's solution by the singular value decomposition."""
    U, s, VH = np.linalg.svd(matrix, full_matrices=False)
    factors = np.divide(s, s**2 + damp**2, out=np.zeros_like(s), where=s > 1e-12 * s.max(initial=0))
    return VH.conj().T @ (factors * (U.conj().T @ y).T).T


def kinds(P):
    """The parts of the pieces: F, C and W for frequencies, cosines and windows."""
    return ["".join(type(part).__name__[0] for part in piece.source.parts) for piece in P._pieces]


def skewed(k, seed=0):
    """A smooth blur without any symmetry, of sum 1."""
    t = np.arange(k) - k // 2
    x, y = np.meshgrid(t, t, indexing="ij")
    K = np.exp(-((x - k / 12) ** 2 / (k / 2) + (y + k / 16) ** 2 / k + x * y / (0.7 * k)))
    K += 0.3 * np.exp(-((x + k / 4) ** 2 + (y - k / 4) ** 2) / (k / 3))
    return K / K.sum()


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(case=strategies.cases(values="normal"), transposed=st.booleans(), damp=st.floats(0.01, 2))
def test_preconditioners_are_positive_definite_and_solutions_exact(case, transposed, damp):
    A = Conv(case.kernel, case.input_shape, flip=case.flip, **case.parameters)
    A = A.T if transposed else A
    matrix = dense(A).astype(np.result_type(A.dtype, "float64"))
    single = A.dtype in (np.float32, np.complex64)
    damp *= np.linalg.norm(matrix, 2) or 1
    P = preconditioner(A, damp)
    assert P.shape == (A.shape[1],) * 2
    assert (P.dims, P.dimsd, P.dtype) == (A.dims, A.dims, A.dtype)
    inverse = P.todense().astype(matrix.dtype)
    assert np.abs(inverse - inverse.conj().T).max() <= (1e-5 if single else 1e-12) * np.abs(inverse).max()
    assert np.linalg.eigvalsh(inverse + inverse.conj().T)[0] > 0
    rng = np.random.default_rng(0)
    y = rng.standard_normal(A.dimsd).astype(A.dtype)
    solution = tikhonov(A, y, damp, rtol=1e-5 if single else 1e-11)
    assert solution.converged, solution.reason
    assert solution.x.shape == A.dims
    assert solution.x.dtype == A.dtype
    expected = exact(matrix, y.ravel(), damp).reshape(A.dims)
    assert np.abs(solution.x - expected).max() <= (1e-2 if single else 1e-7) * np.abs(expected).max(initial=0)


@pytest.mark.parametrize("precondition", [True, False])
@pytest.mark.parametrize("stride", [1, 2, 3, (4, 1)])
@pytest.mark.parametrize("mode", MODES)
def test_solutions_of_blurs_in_all_modes_and_strides(mode, stride, precondition):
    """Larger than the windows at the ends, so that every kind of piece takes part."""
    A = Conv(skewed(5), (66, 40), stride=stride, padding="same", padding_mode=mode)
    x = np.random.default_rng(0).standard_normal(A.dims)
    y = A @ x
    solution = tikhonov(A, y, 1e-2, rtol=1e-11, precondition=precondition)
    matrix = A.todense()
    normal = matrix.T @ matrix + 1e-4 * np.eye(matrix.shape[1])
    expected = np.linalg.solve(normal, matrix.T @ y.ravel()).reshape(A.dims)
    assert solution.converged
    assert np.abs(solution.x - expected).max() <= 1e-7 * np.abs(expected).max()
    np.testing.assert_allclose(solution.residual_norm, np.linalg.norm(A @ solution.x - y))
    gradient = A.T @ (y - A @ solution.x) - 1e-4 * solution.x
    assert np.linalg.norm(gradient) / np.linalg.norm(A.T @ y) == pytest.approx(solution.gradient_norm, abs=1e-13)


def iterations(A, damp, precondition=True, rtol=1e-6):
    x = np.random.default_rng(1).random(A.dims)
    y = A @ x + 1e-2 * np.random.default_rng(2).standard_normal(A.dimsd)
    solution = tikhonov(A, y, damp, precondition=precondition, rtol=rtol)
    assert solution.converged, solution.reason
    return solution.iterations


@pytest.mark.parametrize(
    ("mode", "fewer"), [("zeros", 10), ("symmetric", 10), ("reflect", 10), ("replicate", 8), ("circular", None)]
)
def test_iterations_fall_in_every_mode(mode, fewer):
    """That the preconditioner only follows its boundary shows nowhere else: any definite one gives the solution."""
    A = Conv(skewed(9), (128, 128), padding="same", padding_mode=mode)
    plain, fast = iterations(A, 1e-2, False), iterations(A, 1e-2)
    if fewer is None:
        assert fast == 0
    else:
        assert fast * fewer <= plain


@pytest.mark.parametrize(
    ("input_shape", "kernel_shape", "parameters", "fewer"),
    [
        ((3000,), (31,), {}, 8),
        ((128, 96), (9, 9), {"stride": 2}, 10),
        ((128, 96), (7, 7), {"dilation": 2}, 2),
        ((40, 36, 30), (5, 5, 5), {}, 1.2),
        ((3, 80, 80), (3, 3, 5, 5), {}, 5),
        ((4, 80, 80), (8, 2, 3, 3), {"groups": 2}, 8),
    ],
)
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate"])
def test_iterations_fall_for_every_geometry(input_shape, kernel_shape, parameters, fewer, mode):
    rng = np.random.default_rng(0)
    ndim = len(kernel_shape) - (len(kernel_shape) > len(input_shape))
    K = rng.random(kernel_shape)
    for axis in range(-ndim, 0):  # smooth, so that it is a blur
        K = K + np.roll(K, 1, axis)
    K /= K.sum() / math.prod(kernel_shape[:-ndim])
    A = Conv(K, input_shape, padding="same", padding_mode=mode, **parameters)
    for operator in (A, A.T):
        assert fewer * iterations(operator, 1e-2) <= iterations(operator, 1e-2, False)


def test_parts_follow_the_boundary():
    K = skewed(5)
    assert kinds(preconditioner(Conv(K, (200, 200), padding="same", padding_mode="circular"), 0.1)) == ["FF"]
    G = kernels.gaussian(1.0)
    assert kinds(preconditioner(Conv(G, (200, 200), padding="same", padding_mode="symmetric"), 0.1)) == ["CC"]
    nearly = G * (1 + 0.02 * np.arange(9))
    assert kinds(preconditioner(Conv(nearly, (200, 200), padding="same", padding_mode="symmetric"), 0.1)) == ["CC"]
    for mode in ("zeros", "reflect", "symmetric", "replicate"):
        P = preconditioner(Conv(skewed(17), (200, 200), padding="same", padding_mode=mode), 1e-2)
        assert sorted(kinds(P)) == ["FF", *["FW"] * 2, *["WF"] * 2, *["WW"] * 4]
    # short axes are taken whole, and axes without a boundary by frequencies
    assert kinds(preconditioner(Conv(K, (12, 12), padding="same"), 0.1)) == ["WW"]
    assert sorted(kinds(preconditioner(Conv(K[:1], (90, 2000), padding="same"), 0.1))) == ["FF", "FW", "FW"]
    # many channels leave no room for windows
    K = np.random.default_rng(0).standard_normal((64, 64, 5, 5))
    P = preconditioner(Conv(K, (64, 40, 40), padding="same"), 1.0)
    assert kinds(P) == ["FF"]
    assert P._pieces[0].source.parts[0].count > 40


def test_off_centre_kernels_do_not_use_cosines():
    """Their spectrum has the symmetry of cosines, and their boundary has not."""
    t = np.arange(9)
    K = np.outer(np.exp(-t / 2), np.exp(-t / 3))
    assert "CC" not in kinds(preconditioner(Conv(K, (96, 96), padding="same", padding_mode="symmetric"), 1e-2))


def test_amplitudes_are_a_partition():
    for n, length in ((50, 10), (48, 24), (51, 3)):
        for axis in Conv(np.ones(3), n, padding=1).spec.axes:
            zones = preconditioning._cut(axis, length, False)
            total = np.zeros(n)
            for zone in zones:
                part = zone.part
                where = slice(part.start, part.stop) if isinstance(part, Window) else slice(None)
                total[where] += zone.amplitude**2
            np.testing.assert_allclose(total, 1)


def test_preconditioners_obey_all_laws():
    rng = np.random.default_rng(0)
    for dtype in ("float32", "float64", "complex64", "complex128"):
        for mode, shape in (("zeros", (60, 61)), ("circular", (12, 10)), ("symmetric", (30,))):
            K = rng.standard_normal((3,) * len(shape))
            K = (K + 1j * rng.standard_normal(K.shape) if np.dtype(dtype).kind == "c" else K).astype(dtype)
            check_operator(preconditioner(Conv(K, shape, padding="same", padding_mode=mode), 0.5))


def test_exactness_of_cosines_and_frequencies():
    rng = np.random.default_rng(0)
    K = rng.standard_normal((3, 2, 3, 5))
    even = K + np.flip(K, (-1, -2)) + np.flip(K, -1) + np.flip(K, -2)
    for A in (
        Conv(K, (2, 8, 9), padding="same", padding_mode="circular"),
        Conv(K, (2, 8, 9), stride=(2, 3), padding="same", padding_mode="circular"),
        Conv(even, (2, 8, 9), padding="same", padding_mode="symmetric"),
    ):
        for operator in (A, A.T):
            matrix = dense(operator)
            H = matrix.T @ matrix + 0.25 * np.eye(matrix.shape[1])
            np.testing.assert_allclose(preconditioner(operator, 0.5).todense() @ H, np.eye(len(H)), atol=1e-12)
            y = rng.standard_normal(operator.dimsd)
            solution = tikhonov(operator, y, 0.5)
            assert solution.iterations == 0
            assert "directly" in solution.reason
            expected = exact(matrix, y.ravel(), 0.5)
            np.testing.assert_allclose(solution.x.ravel(), expected, atol=1e-12)


@pytest.mark.parametrize("damp", [0.0, 1e-9, 1e-5])
def test_little_damping_of_direct_solutions(damp):
    """Normal matrices would lose the digits that the singular values have."""
    K = np.outer([1.0, 0.99], [1.0, 0.98])
    A = Conv(K[None, None] * np.array([[1.0, 0.2], [0.1, 1.0]])[..., None, None], (2, 8, 8), padding="same",
             padding_mode="circular")  # fmt: skip
    y = np.random.default_rng(0).standard_normal(A.dimsd)
    expected = exact(dense(A), y.ravel(), damp)
    np.testing.assert_allclose(tikhonov(A, y, damp).x.ravel(), expected, rtol=1e-8, atol=1e-8 * np.abs(expected).max())


def test_least_squares_without_damping():
    rng = np.random.default_rng(0)
    A = Conv(rng.standard_normal((3, 3)), (10, 11), padding=2)  # more outputs than inputs: one solution
    y = rng.standard_normal(A.dimsd)
    expected = np.linalg.lstsq(dense(A), y.ravel())[0].reshape(A.dims)
    for precondition in (True, False):
        solution = tikhonov(A, y, 0, rtol=1e-12, precondition=precondition)
        assert solution.converged
        np.testing.assert_allclose(solution.x, expected, atol=1e-8)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("relative", [0.0, 1e-9, 1e-4, 1e-2])
def test_fewer_data_than_unknowns(mode, relative):
    """What the operator does not see must stay zero, however small the damping: the gradient does not show it."""
    A = Conv(kernels.gaussian(0.8), (48, 40), stride=2, padding="same", padding_mode=mode)
    matrix = dense(A)
    y = A @ np.random.default_rng(0).standard_normal(A.dims).cumsum(0) + 0.01
    damp = relative * np.linalg.norm(matrix, 2)
    expected = exact(matrix, y.ravel(), damp).reshape(A.dims)
    for precondition in (True, False):
        solution = tikhonov(A, y, damp, rtol=1e-10, precondition=precondition)
        assert solution.converged, solution.reason
        assert np.abs(solution.x - expected).max() <= 1e-6 * np.abs(expected).max()
        assert solution.gradient_norm <= 1e-10
    if relative == 1e-2 and mode != "circular":
        seen = []
        tikhonov(A, y, damp, callback=seen.append, x0=np.zeros(A.dims))
        assert seen[-1].shape == A.dims


def test_shapes_of_data():
    A = Conv(skewed(3), (20, 30), stride=2, padding="same", padding_mode="reflect")
    rng = np.random.default_rng(0)
    y = rng.standard_normal((*A.dimsd, 3))
    y[..., 1] *= 1e6  # each column has a goal of its own
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


def test_dtypes_of_solutions():
    A = Conv(skewed(3).astype("float32"), (20, 30), padding="same")
    y = np.random.default_rng(0).standard_normal(A.dimsd)
    assert tikhonov(A, y.astype("float32"), 0.1).x.dtype == np.float32
    assert tikhonov(A, y, 0.1).x.dtype == np.float64
    mixed = tikhonov(A, y * (1 + 2j), 0.1, rtol=1e-9)
    assert mixed.x.dtype == np.complex128
    np.testing.assert_allclose(mixed.x, (1 + 2j) * tikhonov(A, y, 0.1, rtol=1e-9).x, atol=1e-6)
    assert tikhonov(A, np.arange(600).reshape(20, 30), 0.1).x.dtype == np.float64


def test_a_result_that_says_why_it_ended():
    A = Conv(skewed(5), (60, 60), padding="same")
    y = A @ np.random.default_rng(0).standard_normal(A.dims)
    few = tikhonov(A, y, 1e-3, precondition=False, maxiter=5)
    assert not few.converged
    assert few.iterations == 5
    assert "maxiter=5" in few.reason
    single = tikhonov(
        Conv(skewed(5).astype("float32"), (60, 60), padding="same"), y.astype("float32"), 1e-3, rtol=1e-12
    )
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


def test_beginnings_callbacks_and_bars(capsys):
    A = Conv(skewed(5), (60, 60), padding="same")
    y = A @ np.random.default_rng(0).standard_normal(A.dims)
    seen = []
    solution = tikhonov(A, y, 1e-2, callback=lambda x: seen.append(x.copy()), progress=True)
    assert len(seen) == solution.iterations > 1
    assert seen[-1].shape == A.dims
    np.testing.assert_array_equal(seen[-1], solution.x)
    assert f"{solution.iterations} iterations" in capsys.readouterr().err
    begun = tikhonov(A, y, 1e-2, x0=solution.x)
    assert begun.iterations == 0
    start = solution.x * 0.9
    kept = start.copy()
    assert 0 < tikhonov(A, y, 1e-2, x0=start).iterations <= solution.iterations
    np.testing.assert_array_equal(start, kept)
    with pytest.raises(ValueError, match=r"x0 must have the shape \(60, 60\)"):
        tikhonov(A, y, 1e-2, x0=np.ones(3600))


def test_other_operators():
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((20, 12))
    y = rng.standard_normal(20)
    expected = exact(matrix, y, 0.3)
    for op in (matrix, sla.aslinearoperator(matrix)):
        np.testing.assert_allclose(tikhonov(op, y, 0.3, rtol=1e-12).x, expected, atol=1e-9)
    X = ConvFilter(rng.standard_normal((9, 8)), (3, 2))
    y = rng.standard_normal(X.dimsd)
    expected = exact(X.todense(), y.ravel(), 0.3).reshape(3, 2)
    np.testing.assert_allclose(tikhonov(X, y, 0.3, rtol=1e-12).x, expected, atol=1e-9)


def test_scale_does_not_matter():
    K, y = skewed(5), np.random.default_rng(0).standard_normal((60, 60))
    one = tikhonov(Conv(K, (60, 60), padding="same"), y, 1e-2)
    for scale in (1e-100, 1e100):
        other = tikhonov(Conv(K * scale, (60, 60), padding="same"), y, 1e-2 * scale)
        assert other.converged, other.reason
        assert abs(other.iterations - one.iterations) <= 1
        np.testing.assert_allclose(other.x * scale, one.x, rtol=1e-4, atol=1e-6)
    small = tikhonov(Conv(K, (60, 60), padding="same"), y * 1e-200, 1e-2)
    assert small.converged, small.reason
    np.testing.assert_allclose(small.x * 1e200, one.x, rtol=1e-4, atol=1e-6)


def test_errors_say_what_to_do():
    A = Conv(skewed(3), (9, 9), padding="same")
    y = np.ones((9, 9))
    with pytest.raises(TypeError, match="A must be a Conv or a ConvTranspose, got ConvFilter"):
        preconditioner(ConvFilter(y, (3, 3)), 0.1)
    for bad in (-1, np.nan, np.inf):
        with pytest.raises(ValueError, match="damp must be finite and at least 0"):
            preconditioner(A, bad)
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
    with pytest.raises(ValueError, match="finite taps"):
        preconditioner(Conv([[1.0, np.inf]], (9, 9)), 0.1)


def test_a_kernel_of_zeros():
    A = Conv(np.zeros((3, 3)), (40, 40), padding="same")
    for damp in (0, 0.1):
        solution = tikhonov(A, np.ones((40, 40)), damp)
        assert solution.converged
        assert not solution.x.any()


def decomposed(A, y):
    """Squares of the singular values of all of the data's directions, and of the data along them."""
    U, s, _ = np.linalg.svd(A.todense())
    squares = np.zeros(A.shape[0])
    squares[: len(s)] = s**2
    return squares, np.abs(U.conj().T @ y.ravel()) ** 2


DAMPED = [
    # by bidiagonalisation
    lambda: Conv(kernels.gaussian(1.0), (40, 40), padding="same", padding_mode="reflect"),
    lambda: Conv(skewed(5), (40, 30), padding="same", padding_mode="zeros"),
    # by transforms
    lambda: Conv(kernels.gaussian(1.0), (40, 40), padding="same", padding_mode="symmetric"),
    lambda: Conv(skewed(5), (40, 30), stride=(2, 1), padding="same", padding_mode="circular").T,
    lambda: Conv(skewed(5) * (1 + 0.3j), (30, 40), padding="same", padding_mode="circular"),
    lambda: Conv(np.stack([skewed(5), skewed(5).T])[:, None], (1, 24, 24), padding="same", padding_mode="circular"),
]


@pytest.mark.parametrize("make", DAMPED)
@pytest.mark.parametrize("noise", [0.3, 0.01])
def test_gcv_is_its_formula(make, noise):
    """``norm((I - A A_d) y)^2/trace(I - A A_d)^2`` from the dense decomposition, but for the estimate of the trace."""
    rng = np.random.default_rng(0)
    A = make()
    y = A @ rng.standard_normal(A.dims).cumsum(-2) + noise * rng.standard_normal(A.dimsd)
    squares, parts = decomposed(A, y)

    def score(damp):
        left = damp**2 / (squares + damp**2)
        return (left**2 @ parts) / left.sum() ** 2

    damps = np.geomspace(1e-7, 10, 600) * math.sqrt(squares.max())
    best = min(damps, key=score)
    if best < 1.1 * damps[0]:
        with pytest.raises(ValueError, match="cross-validation finds no damping"):
            damping.gcv(A, y)
        return
    found = damping.gcv(A, y)
    assert score(found) <= 1.01 * score(best)
    assert 0.8 < found / best < 1.25
    assert damping.gcv(A, np.stack([y, y], -1)) == pytest.approx(found, rel=0.1)


@pytest.mark.parametrize("make", DAMPED)
@pytest.mark.parametrize("noise", [1e-1, 1e-2, 1e-3, 1e-4])
def test_the_discrepancy_of_the_dense_decomposition(make, noise):
    """Also where so little is wanted that small singular values decide: it must not be said to be impossible."""
    rng = np.random.default_rng(0)
    A = make()
    x = rng.standard_normal(A.dims).cumsum(-2).cumsum(-1)
    y = A @ (x / np.abs(x).max()) + noise * rng.standard_normal(A.dimsd)
    squares, parts = decomposed(A, y)
    damp = damping.discrepancy(A, y, 1.1 * noise)
    residual = ((damp**2 / (squares + damp**2)) ** 2) @ parts
    assert math.sqrt(residual / y.size) == pytest.approx(1.1 * noise, rel=0.03)


def test_dampings_of_complex_data_of_a_real_operator():
    rng = np.random.default_rng(0)
    for make in DAMPED[:4]:
        A = make()
        y = A @ rng.standard_normal(A.dims).cumsum(-2) + 0.1 * rng.standard_normal(A.dimsd)
        z = A @ rng.standard_normal(A.dims).cumsum(-2) + 0.1 * rng.standard_normal(A.dimsd)
        both = damping.discrepancy(A, np.stack([y, z], -1), 0.15)
        assert damping.discrepancy(A, y + 1j * z, 0.15 * math.sqrt(2)) == pytest.approx(both, rel=0.06)


@pytest.mark.parametrize("noise", [0.01, 0.1, 1.0])
def test_the_discrepancy_is_the_noise(noise):
    rng = np.random.default_rng(0)
    for A in (
        Conv(skewed(5), (50, 60), stride=2, padding="same", padding_mode="symmetric"),
        Conv(skewed(5) * (1 + 0.2j), (50, 60), padding="same"),
    ):
        y = A @ rng.standard_normal(A.dims).cumsum(0).cumsum(1) + noise * rng.standard_normal(A.dimsd)
        damp = damping.discrepancy(A, y, 1.1 * noise)
        residual = tikhonov(A, y, damp, rtol=1e-8).residual_norm
        assert residual == pytest.approx(1.1 * noise * math.sqrt(y.size), rel=0.01)


def test_dampings_that_do_not_exist():
    along = np.exp(-((np.arange(6) - 2.5) ** 2) / 2)
    A = Conv(np.outer(along, along) / along.sum() ** 2, (64, 64), stride=2, padding=2, padding_mode="symmetric")
    x = np.random.default_rng(0).standard_normal((64, 64)).cumsum(0).cumsum(1)
    y = A @ (x / np.abs(x).max()) + 0.003 * np.random.default_rng(1).standard_normal(A.dimsd)
    with pytest.raises(ValueError, match="cross-validation finds no damping"):
        damping.gcv(A, y)
    A = Conv(kernels.gaussian(3.0), (40, 40), padding="same")
    y = np.random.default_rng(0).standard_normal((40, 40))
    with pytest.raises(ValueError, match="as large as the data"):
        damping.discrepancy(A, y, 2.0)
    assert damping.discrepancy(A, y, 0.1) > 0  # any data are A of something
    for mode in ("zeros", "circular"):
        enlarged = Conv(kernels.gaussian(1.0), (40, 40), stride=2, padding="same", padding_mode=mode).T
        least = np.linalg.lstsq(enlarged.todense(), y.ravel())[1][0]
        with pytest.raises(ValueError, match="less than what no solution explains: the residual is at least") as error:
            damping.discrepancy(enlarged, y, 0.1)
        said = float(re.search(r"at least ([\d.]+)", str(error.value))[1])
        assert 0.1 < said < 1.00001 * math.sqrt(least / y.size)
    for bad in (0, -1, np.nan):
        with pytest.raises(ValueError, match="positive standard deviation"):
            damping.discrepancy(A, y, bad)
    for method in (damping.gcv, lambda A, y: damping.discrepancy(A, y, 1.0)):
        with pytest.raises(ValueError, match="y must not be zero everywhere"):
            method(A, np.zeros((40, 40)))


@pytest.mark.parametrize("shape", [(4000,), (80, 61), (20, 21, 22)])
def test_noise_levels(shape):
    rng = np.random.default_rng(0)
    smooth = sum(np.cos(g / 50) for g in np.meshgrid(*map(np.arange, shape), indexing="ij"))
    for noise in (0.1, 3.0):
        level = damping.noise_level(smooth + noise * rng.standard_normal(shape))
        assert level == pytest.approx(noise, rel=0.1)
    both = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    assert damping.noise_level(both) == pytest.approx(math.sqrt(2), rel=0.1)
    rounded = np.rint(255 * (0.5 + 0.01 * rng.standard_normal(shape))) / 255  # few levels, as in a file of 8 bits
    assert damping.noise_level(rounded) == pytest.approx(0.01, rel=0.15)
    with pytest.raises(ValueError, match="two or more elements along each axis"):
        damping.noise_level(np.ones((1, 5)))


def test_named_kernels():
    G = kernels.gaussian(1.5)
    assert G.shape == (13, 13)
    assert G.sum() == pytest.approx(1)
    assert G[6, 6 + 3] / G[6, 6] == pytest.approx(np.exp(-2))
    assert kernels.motion(5, 0).tolist() == [[0.2] * 5]
    assert kernels.motion(5, 90).shape == (5, 1)
    assert kernels.motion(1, 33).tolist() == [[1.0]]
    slanted = kernels.motion(15, 30)
    assert slanted.sum() == pytest.approx(1)
    np.testing.assert_allclose(slanted, np.flip(slanted), atol=0.01)
    # counterclockwise, as it is seen: it begins at the lower left
    rows, columns = slanted.shape
    assert slanted[rows // 2 + 1 :, : columns // 2].sum() > 0.3
    assert slanted[: rows // 2, : columns // 2].sum() == 0
    for wrong in (0, -1, np.nan, np.inf):
        with pytest.raises(ValueError, match="sigma must be a positive number"):
            kernels.gaussian(wrong)
    with pytest.raises(ValueError, match="length must be at least 1"):
        kernels.motion(0.5, 0)
    with pytest.raises(ValueError, match="angle must be a number"):
        kernels.motion(3, np.nan)


def test_wrong_preconditioners_are_found():
    """What the tests above have to catch: a wrapped circulant in zeros, and an interior with the wrong sign of phase."""
    A = Conv(skewed(17), (128, 128), padding="same")
    plain, fast = iterations(A, 1e-2, False), iterations(A, 1e-2)
    circulant = preconditioner(Conv(skewed(17), (128, 128), padding="same", padding_mode="circular"), 1e-2)
    b = (A.T @ (A @ np.random.default_rng(1).random(A.dims))).ravel()
    count = [0]
    H = sla.LinearOperator(A.shape, matvec=lambda x: A.rmatvec(A.matvec(x)) + 1e-4 * x, dtype=float)
    M = sla.LinearOperator(A.shape, matvec=circulant.matvec, dtype=float)

    def counted(_):
        count[0] += 1

    sla.cg(H, b, rtol=1e-6, M=M, callback=counted, maxiter=1000)
    assert fast < plain / 5
    assert count[0] > plain / 2


def test_parts_are_what_they_say():
    assert Fourier(4, 2).table(Conv(np.ones(3), 8, padding="same").spec.axes[0], True).shape == (3, 3, 2)
    assert Cosine(8).table(Conv(np.ones(3), 8, padding=1).spec.axes[0], False).shape == (3, 8, 1)


def test_a_beginning_where_zero_is_the_solution():
    """``A^H y = 0``: the gradient at zero says nothing about how far it is from where one begins."""
    for y in (np.zeros(4), [1.0, -1.0, 1.0, -1.0]):
        A = Conv([1.0, 1.0], 4, padding="same", padding_mode="circular")
        for precondition in (True, False):
            solution = tikhonov(A, y, 0.5, x0=np.ones(4), precondition=precondition, rtol=1e-12)
            assert solution.converged
            np.testing.assert_allclose(solution.x, 0, atol=1e-11)
            assert solution.gradient_norm < 1e-10
    A = Conv([1.0, 1.0], 5)
    y = np.stack([np.zeros(4), np.ones(4)], -1)  # one of two
    both = tikhonov(A, y, 0.5, x0=np.ones((5, 2)), rtol=1e-12).x
    np.testing.assert_allclose(both[:, 0], 0, atol=1e-11)
    np.testing.assert_allclose(both[:, 1], tikhonov(A, y[:, 1], 0.5, rtol=1e-12).x, atol=1e-10)


def test_a_beginning_of_a_direct_solution_without_damping():
    A = Conv([1.0, -1.0], 16, padding="same", padding_mode="circular")
    x = np.random.default_rng(0).standard_normal(16)
    for precondition in (True, False):
        solution = tikhonov(A, A @ x, 0, x0=np.full(16, 5.0), precondition=precondition, rtol=1e-12)
        np.testing.assert_allclose(solution.x, x - x.mean() + 5, atol=1e-9)


def test_direct_solutions_say_whether_they_are_as_good_as_asked_for():
    rng = np.random.default_rng(0)
    A = Conv(rng.random((3, 3)).astype(np.float32), (16, 16), padding="same", padding_mode="circular")
    y = rng.random((16, 16))
    assert tikhonov(A, y, 0.1, rtol=1e-13).converged  # in the precision of the data
    single = tikhonov(A, y.astype(np.float32), 0.1, rtol=1e-11)
    assert not single.converged
    assert "to the precision of float32" in single.reason
    assert single.gradient_norm < 1e-6


@pytest.mark.parametrize("power", [-1000, -664, 660, 900])
@pytest.mark.parametrize("mode", ["circular", "zeros", "symmetric"])
def test_operators_and_data_near_the_ends_of_the_range(power, mode):
    rng = np.random.default_rng(0)
    A = Conv(rng.standard_normal((3, 3)), (12, 13), padding="same", padding_mode=mode)
    y = A @ rng.standard_normal((12, 13)) + 0.1 * rng.standard_normal((12, 13))
    scaled = A.with_kernel(np.ldexp(A.kernel, power))
    reference = tikhonov(A, y, 0.3, rtol=1e-12)
    solution = tikhonov(scaled, y, math.ldexp(0.3, power), rtol=1e-12)
    assert solution.converged
    assert solution.residual_norm == pytest.approx(reference.residual_norm, rel=1e-9)
    np.testing.assert_allclose(solution.x, np.ldexp(reference.x, -power), rtol=1e-9)
    begun = tikhonov(scaled, y, math.ldexp(0.3, power), rtol=1e-12, x0=solution.x)
    assert begun.iterations <= 2
    damp = damping.discrepancy(A, y, 0.1)
    assert damping.discrepancy(scaled, y, 0.1) == pytest.approx(math.ldexp(damp, power), rel=1e-6)
    y = y + rng.standard_normal((12, 13))
    damp = damping.gcv(A, y)
    assert damping.gcv(scaled, y) == pytest.approx(math.ldexp(damp, power), rel=1e-6)


def test_dampings_and_data_that_are_enormous():
    rng = np.random.default_rng(0)
    A = Conv(rng.standard_normal((3, 3)), (8, 8), padding="same")
    for dtype in (np.float32, np.float64):
        B, y = A.with_kernel(A.kernel.astype(dtype)), rng.random((8, 8)).astype(dtype)
        for damp in (1e30, 1e200, 1e308):
            assert np.abs(tikhonov(B, y, damp).x).max() < 1e-30
    assert np.isfinite(tikhonov(A, np.full((8, 8), 1.5e308), 1.0).x).all()
    for B, damp in ((A, 1e200), (A.with_kernel(A.kernel * 1e200), 1.0), (A.with_kernel(A.kernel * 1e-200), 1e-200)):
        with pytest.raises(ValueError, match="squares within the range of float64"):
            preconditioner(B, damp)


@pytest.mark.parametrize("channels", [1, 8, 16])
@pytest.mark.parametrize("damp", [0.0, 1e-4, 1e-3])
def test_preconditioners_in_single_precision_are_positive_definite(channels, damp):
    A = Conv(np.ones((1, channels, 3, 3), np.float32), (channels, 8, 8), padding=1)
    P = preconditioner(A, damp * A.norm()).todense().astype(np.float64)
    values = np.linalg.eigvalsh((P + P.T) / 2)
    assert values[0] > 0
    np.testing.assert_allclose(P, P.T, atol=1e-6 * values[-1])


def test_dampings_of_operators_that_see_nothing():
    checkered = np.indices((6, 6)).sum(0) % 2 * 2.0 - 1
    for A, y in (
        (Conv(np.zeros((3, 3)), (6, 6), padding="same"), np.ones((6, 6))),
        (Conv([[1.0, 1.0]], (6, 6), padding="same", padding_mode="circular"), checkered),
    ):
        for method in (damping.gcv, lambda A, y: damping.discrepancy(A, y, 0.1)):
            with pytest.raises(ValueError, match="y must not be orthogonal"):
                method(A, y)


def test_the_dual_gradient_is_not_the_primal_one():
    """With fewer data than unknowns: what is promised is the gradient of the primal system.

    Of data that the operator hardly gives, the dual gradient falls several times further than the primal one.
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
