"""The dot-product test: it passes right operators and fails wrong operators, with every seed."""

import math

import numpy as np
import pylops
import pytest
import scipy.sparse as sp
from scipy.sparse.linalg import LinearOperator, aslinearoperator
from strategies import DTYPES

from convop import Conv, ConvFilter, kernel2matrix
from convop.testing import assert_adjoint, dottest

SEEDS = 1000
# Fewer seeds for operators that take seconds per hundred.
FEWER_SEEDS = {"large": 30, "threefold": 200, "difference": 200, "ones": 200, "subnormal": 200, "diagonal": 200}


def random(rng, shape, dtype):
    x = rng.standard_normal(shape)
    return (x + 1j * rng.standard_normal(shape) if np.dtype(dtype).kind == "c" else x).astype(dtype)


def operator(forward, adjoint, shape, dtype):
    return LinearOperator(shape, matvec=forward, rmatvec=adjoint, dtype=dtype)


def right_operators():
    rng = np.random.default_rng(0)
    h = rng.random((3, 5)).astype(np.float32)
    for shape in ((11, 13), (30, 40)):
        yield f"pylops Convolve2D {shape}", pylops.signalprocessing.Convolve2D(shape, h, offset=(1, 2), dtype="float32")
    for dtype in DTYPES:
        K = random(rng, (4, 2, 3, 2), dtype)
        parameters = {"stride": (2, 1), "padding": ((2, 0), (1, 3)), "groups": 2, "padding_mode": "reflect"}
        yield f"conv {dtype}", Conv(K, (4, 7, 6), **parameters)
        yield f"conv of an image {dtype}", Conv(random(rng, (5, 6), dtype), (40, 41), padding="same")
        yield f"filter {dtype}", ConvFilter(random(rng, (4, 7, 6), dtype), K.shape, **parameters)
    yield "a sum of many", np.ones((3, 4000), dtype=np.float32)
    yield "running sum", pylops.CausalIntegration((500,), dtype="float32")
    yield "large running sum", pylops.CausalIntegration((100_000,), kind="full", dtype="float64")
    yield "real parts only", pylops.signalprocessing.FFT((32,), real=True)
    yield "one entry", np.array([[3.0]], dtype=np.float32)
    yield "rows of very different size", sp.diags_array(10.0 ** np.arange(-20, 20)).astype(np.float32)
    yield "zero", np.zeros((4, 7))
    yield "no entries", np.zeros((0, 5))
    # rounding errors that are correlated, coherent, larger than the result, or of the size of the entries
    for dtype in ("float32", "float64"):
        C = pylops.CausalIntegration((3000,), dtype=dtype)
        yield f"threefold integral {dtype}", C @ C @ C
        M = pylops.MatrixMult(rng.standard_normal((60, 70)).astype(dtype), dtype=dtype)
        yield f"difference of large parts {dtype}", M + 1000 * M - 1000 * M
    yield "diagonal beyond squares", pylops.Diagonal(10.0 ** rng.uniform(-100, 100, 12))
    yield "ones", np.ones((1, 5000), dtype=np.complex64)
    yield "subnormal", rng.standard_normal((100, 90)) * 1e-310
    yield (
        "diagonal of very different entries",
        pylops.Diagonal((10.0 ** rng.uniform(-15, 15, 1000)).astype("float32"), dtype="float32"),
    )


@pytest.mark.thinned
@pytest.mark.parametrize("share", [0.005, pytest.param(1.0, marks=pytest.mark.slow, id="all")])
@pytest.mark.parametrize(("name", "op"), [pytest.param(n, op, id=n) for n, op in right_operators()])
def test_dottest_passes_right_operators_with_every_seed(name, op, share):
    seeds = next((n for start, n in FEWER_SEEDS.items() if name.startswith(start)), SEEDS)
    failed = [
        str(r) for seed in range(math.ceil(share * seeds)) if not (r := dottest(op, rng=seed, raise_error=False)).passed
    ]
    assert failed == []


def wrong_operators(dtype, size):
    """Pairs of a name and an operator whose adjoint, or whose linearity, is wrong by one thing."""
    rng = np.random.default_rng(1)
    K = random(rng, (4, 3), dtype)
    parameters = {"stride": (2, 1), "padding": "same"}
    A = kernel2matrix(K, size, **parameters)
    AH = A.conj().T.tocsr()

    def with_adjoint(matrix):
        return operator(lambda x: A @ x, lambda y: matrix @ y, A.shape, dtype)

    def changed(factor, at):
        matrix = AH.copy()
        matrix.data[at] *= factor
        return with_adjoint(matrix)

    last, small = AH.nnz - 1, int(np.argmin(np.abs(AH.data)))
    for at in (0, AH.nnz // 3, last, small):
        yield f"one sign, entry {at}", changed(-1, at)
        yield f"one entry off by 5 percent, entry {at}", changed(1.05, at)
        yield f"one entry missing, entry {at}", changed(0, at)
    scaled = AH.copy()
    scaled.data *= np.float32(1.001)
    yield "scaled by 1.001", with_adjoint(scaled)
    yield "negated", with_adjoint(-AH)
    yield "unflipped kernel", with_adjoint(kernel2matrix(np.flip(K).conj(), size, **parameters).T.tocsr())
    if np.dtype(dtype).kind == "c":
        yield "unconjugated", with_adjoint(A.T.tocsr())
    else:
        reflect = {"padding": ((1, 2), (1, 1)), "padding_mode": "reflect"}
        R, again = kernel2matrix(K, size, **reflect), kernel2matrix(np.flip(K), size, **reflect)
        yield "reflect with reflect", operator(lambda x: R @ x, lambda y: again @ y, R.shape, dtype)
    tiny = np.dtype(dtype).type(1e-6)
    yield "scaled forward", operator(lambda x: np.float32(1.001) * (A @ x), lambda y: AH @ y, A.shape, dtype)
    shift = np.roll(np.arange(A.shape[1]), 1)
    yield "shifted by one", operator(lambda x: A @ x, lambda y: (AH @ y)[shift], A.shape, dtype)
    yield "affine", operator(lambda x: A @ x + tiny, lambda y: AH @ y, A.shape, dtype)
    yield "affine adjoint", operator(lambda x: A @ x, lambda y: AH @ y + tiny, A.shape, dtype)
    yield "modulus", operator(lambda x: np.abs(A @ x).astype(dtype), lambda y: AH @ y, A.shape, dtype)
    yield "clipped", operator(lambda x: (A @ x) * (np.abs(A @ x) < 4), lambda y: AH @ y, A.shape, dtype)
    yield "NaN", operator(lambda x: (A @ x) * np.nan, lambda y: AH @ y, A.shape, dtype)
    yield (
        "one NaN in the adjoint",
        operator(lambda x: A @ x, lambda y: np.where(np.arange(A.shape[1]), AH @ y, np.nan), A.shape, dtype),
    )
    yield "infinite", operator(lambda x: (A @ x) / 0, lambda y: AH @ y, A.shape, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("size", "seeds"),
    [
        ((7, 8), 5),
        pytest.param((7, 8), 100, marks=pytest.mark.slow),
        pytest.param((32, 33), 25, marks=pytest.mark.slow),
        pytest.param((200, 210), 3, marks=pytest.mark.slow),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_dottest_fails_wrong_operators_with_every_seed(dtype, size, seeds):
    missed = []
    for name, op in wrong_operators(dtype, size):
        passed = sum(dottest(op, rng=seed, raise_error=False).passed for seed in range(seeds))
        missed += [f"{name}: passed {passed} of {seeds}"] if passed else []
    assert missed == []


@pytest.mark.parametrize(
    ("size", "entry"),
    [((7, 8), 0.002), ((40, 41), 0.02), pytest.param((200, 210), 0.05, marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("direction", ["forward", "adjoint"])
def test_dottest_fails_small_entry_off_by_5_percent_in_single_precision(size, entry, direction):
    """Products of subsets of x and y show an error that rounding hides in the product of dense vectors."""
    K = np.array([[1.3, -0.9, 0.7], [0.4, entry, -1.1]], dtype=np.float32)
    A = kernel2matrix(K, size, padding="same")
    changed = A.copy()
    changed.data[np.flatnonzero(changed.data == np.float32(entry))[-1]] *= 1.05
    forward, adjoint = (changed, A) if direction == "forward" else (A, changed)
    op = operator(lambda x: forward @ x, lambda y: adjoint.T @ y, A.shape, "float32")
    assert [seed for seed in range(10) if dottest(op, rng=seed, raise_error=False).passed] == []


def test_dottest_fails_pylops_convolve1d_with_complex_filter():
    h = np.array([1 + 1j, 2 - 1j, 0.5j])
    with pytest.raises(AssertionError, match=r"Convolve1D of shape \(20, 20\): .* failed: relative error"):
        dottest(pylops.signalprocessing.Convolve1D(20, h, offset=1, dtype="complex128"))


@pytest.mark.parametrize("scale", [1e-280, 1e-30, 1e30, 1e280])
def test_dottest_does_not_depend_on_scale(scale):
    A = np.random.default_rng(0).standard_normal((20, 30)) * scale
    assert dottest(A)
    wrong = operator(lambda x: A @ x, lambda y: 1.001 * (A.T @ y), A.shape, float)
    assert not dottest(wrong, raise_error=False)
    both = operator(lambda x: A @ x, lambda y: (A / scale).T @ y, A.shape, float)
    assert not dottest(both, raise_error=False)


def matrix_mult(matrix):
    return pylops.MatrixMult(matrix, dtype=matrix.dtype)


@pytest.mark.parametrize("make", [np.asarray, sp.csr_array, sp.coo_matrix, aslinearoperator, matrix_mult])
@pytest.mark.parametrize("dtype", ["int64", "bool", *DTYPES])
def test_dottest_takes_operators_of_every_maker(make, dtype):
    op = make(np.random.default_rng(0).integers(0, 2, (5, 7)).astype(dtype))
    result = dottest(op)
    assert result.passed is True
    assert bool(result) is True
    assert result.error <= result.tolerance


@pytest.mark.parametrize("dtype", ["longdouble", "clongdouble"])
def test_dottest_tests_extended_precision_as_double(dtype):
    assert dottest(np.random.default_rng(0).standard_normal((5, 7)).astype(dtype))


@pytest.mark.parametrize("op", [3.0, "matrix", [1, 2, 3], np.ones((2, 2, 2)), object()])
def test_dottest_refuses_values_that_are_not_operators(op):
    with pytest.raises(TypeError, match="op must be a matrix, or an operator with shape, matvec and rmatvec"):
        dottest(op)


def test_dottest_fails_operator_without_adjoint():
    with pytest.raises(AssertionError, match="has no adjoint"):
        dottest(LinearOperator((3, 3), matvec=lambda x: x, dtype=float))


def test_dottest_fails_results_of_wrong_shape():
    class Short:
        shape, dtype = (3, 4), np.dtype(float)

        def matvec(self, x):
            return x[:2]

        def rmatvec(self, y):
            return np.zeros(4)

    with pytest.raises(AssertionError, match=r"must have shape \(3,\), got \(2,\)"):
        dottest(Short())


def test_dottest_depends_on_seed_alone():
    A = np.random.default_rng(0).standard_normal((30, 200))
    assert dottest(A, rng=7) == dottest(A, rng=7) == dottest(A, rng=np.random.default_rng(7))
    assert dottest(A, rng=7) != dottest(A, rng=8)


def test_rtol_allows_operators_of_limited_precision():
    A = np.random.default_rng(0).standard_normal((20, 20)) + 9 * np.eye(20)
    rough = operator(lambda x: A @ x, lambda y: A.T @ y * (1 + 1e-9), A.shape, float)
    assert not dottest(rough, raise_error=False)
    assert dottest(rough, rtol=1e-6)
    assert dottest(rough, rtol=1e-6).tolerance == 1e-6


def test_trials_must_be_positive():
    with pytest.raises(ValueError, match="trials must be at least 1, got 0"):
        dottest(np.eye(3), trials=0)
    assert dottest(np.eye(3), trials=1)


@pytest.mark.parametrize("dtype", [float, "float32", complex])
def test_assert_adjoint_of_plain_functions(dtype):
    A = Conv([[1, 2], [3, 4]], (3, 5), stride=2, padding=1)
    assert assert_adjoint(lambda x: A @ x, lambda y: A.H @ y, A.dims, A.dimsd, dtype=dtype).passed
    with pytest.raises(AssertionError, match=r"forward and adjoint: .* failed"):
        assert_adjoint(lambda x: A @ x, lambda y: -(A.H @ y), A.dims, A.dimsd, dtype=dtype)
    with pytest.raises(AssertionError, match=r"forward must return shape \(2, 4\), got \(2, 3\)"):
        assert_adjoint(lambda x: A @ x, lambda y: A.H @ y, A.dims, (2, 4), dtype=dtype)


def test_assert_adjoint_of_complex_dtype_notices_missing_conjugate():
    def forward(x):
        return 1j * x

    with pytest.raises(AssertionError, match="failed"):
        assert_adjoint(forward, forward, 4, 4, dtype=complex)
