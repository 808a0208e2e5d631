"""Spectra against dense decompositions of the oracle's matrices, and against what is known in closed form."""

import math

import numpy as np
import oracle
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as sla
import strategies
import threadpoolctl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import convop
from convop import Conv, ConvFilter, ConvSpec, ConvTranspose, spectrum
from convop.spectral import blocks, singular_values

MODES = strategies.MODES


@pytest.fixture(autouse=True)
def one_thread():
    """The dense decompositions to compare with are slow where their threads meet those of another test's process."""
    with threadpoolctl.threadpool_limits(1, "blas"):
        yield


# (input shape, kernel shape, stride, dilation, groups): circular, and a whole number of strides long.
CIRCULAR = {
    "signal": ((12,), (5,), 1, 1, 1),
    "signal, wide kernel": ((6,), (11,), 1, 1, 1),
    "signal, stride": ((12,), (5,), 3, 1, 1),
    "image": ((8, 9), (3, 4), 1, 1, 1),
    "image, one row": ((8, 9), (1, 4), 1, 1, 1),
    "image, strides": ((8, 9), (3, 4), (2, 3), 1, 1),
    "image, dilation": ((10, 9), (3, 2), 1, (2, 3), 1),
    "image, stride beyond the kernel": ((12, 12), (2, 2), 4, 1, 1),
    "channels up": ((2, 6, 8), (5, 2, 3, 3), 1, 1, 1),
    "channels down": ((5, 6, 8), (2, 5, 3, 3), 1, 1, 1),
    "channels, stride": ((3, 6, 8), (5, 3, 3, 3), 2, 1, 1),
    "groups": ((4, 6, 8), (6, 2, 3, 3), (2, 1), (1, 2), 2),
    "depthwise": ((4, 6, 6), (4, 1, 3, 3), 1, 1, 4),
    "volume": ((4, 6, 5), (2, 3, 3), 1, 1, 1),
    "volume, channels, strides": ((2, 4, 6, 4), (3, 2, 3, 2, 2), (2, 3, 1), 1, 1),
}


def kernel_of(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape)
    return (values + 1j * rng.standard_normal(shape) if np.dtype(dtype).kind == "c" else values).astype(dtype)


def circular(name, dtype="float64", **others):
    input_shape, kernel_shape, stride, dilation, groups = CIRCULAR[name]
    return Conv(
        kernel_of(kernel_shape, dtype), input_shape, stride=stride, dilation=dilation, groups=groups,
        padding="same", padding_mode="circular", **others,
    )  # fmt: skip


def dense(A):
    """The matrix of an operator by the plain loops of the oracle."""
    spec, transposed = A.spec, isinstance(A, ConvTranspose)
    matrix, _ = oracle.dense_matrix(A.kernel, spec.input_shape, flip=A.flip, **spec.parameters())
    return matrix.T if transposed else matrix


def values_of(A):
    return np.linalg.svd(dense(A), compute_uv=False)


def assert_values(got, expected, tolerance=1e-13):
    assert got.shape == expected.shape
    assert got.dtype == np.float64
    assert (np.diff(got) <= 0).all()
    assert np.abs(got - expected).max(initial=0) <= tolerance * max(1, len(expected)) * expected.max(initial=0)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("name", CIRCULAR)
def test_every_singular_value_of_circular_operators(name, dtype):
    A = circular(name, dtype)
    parts = blocks.exact_parts(*A.convolution())
    assert all(isinstance(part, blocks.Fourier) for part in parts)
    for operator in (A, A.T, A.H):
        assert_values(spectrum.singular_values(operator), values_of(A))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(case=strategies.cases(values="normal"), transposed=st.booleans())
def test_every_singular_value_of_any_convolution(case, transposed):
    A = Conv(case.kernel, case.input_shape, flip=case.flip, **case.parameters)
    single = A.dtype in (np.float32, np.complex64)
    operator = A.T if transposed else A
    # values of both are computed in double precision of the same numbers
    assert_values(spectrum.singular_values(operator), values_of(A).astype(np.float64), 1e-6 if single else 1e-13)


@pytest.mark.parametrize("stretch", [1, 2])
def test_symmetric_kernels_in_symmetric_boundaries_have_cosines(stretch):
    """Of both axes, of one, or of none, as the taps are symmetric."""
    rng = np.random.default_rng(0)
    K = rng.standard_normal((3, 2, 5, 3))
    for flips, kinds in (((-1, -2), "CC"), ((-1,), "WC"), ((-2,), "CW"), ((), "WW")):
        taps = K
        for axis in flips:
            taps = taps + np.flip(taps, axis)
        A = Conv(taps, (2, 9, 8), padding="same", dilation=stretch, padding_mode="symmetric")
        parts = blocks.exact_parts(*A.convolution())
        assert "".join(type(part).__name__[0] for part in parts) == kinds
        assert_values(spectrum.singular_values(A), values_of(A))
    off_centre = Conv(K + np.flip(K, (-1, -2)), (2, 9, 8), padding=((1, 3), (1, 1)), padding_mode="symmetric")
    assert isinstance(blocks.exact_parts(*off_centre.convolution())[0], blocks.Window)
    assert_values(spectrum.singular_values(off_centre), values_of(off_centre))


@pytest.mark.parametrize("mode", MODES)
def test_patches_and_single_taps_need_no_boundary(mode):
    """Kernels no longer than their stride read nothing beyond the ends: any boundary is as good as a circular one."""
    A = Conv(kernel_of((8, 3, 4, 4), "float64"), (3, 16, 12), stride=4, padding_mode=mode)
    assert all(isinstance(part, blocks.Fourier) for part in blocks.exact_parts(*A.convolution()))
    assert_values(spectrum.singular_values(A), values_of(A))
    A = Conv(kernel_of((4, 3, 1, 1), "complex128"), (3, 5, 6), padding_mode=mode)
    assert_values(spectrum.singular_values(A), values_of(A))
    # ... but not where a pad is read
    assert not blocks.periodic(ConvSpec((8,), (4,), stride=4, padding=((2, 2),), padding_mode="zeros").axes[0])


def test_small_singular_values_keep_their_digits():
    """Squares would lose those below 1e-8 of the largest."""
    A = Conv([1.0, 1 - 1e-11], 64, padding="same", padding_mode="circular")
    # |1 + r exp(i theta)| at theta = pi is 1 - r
    assert spectrum.singular_values(A)[-1] == pytest.approx(1e-11, rel=1e-4)
    assert spectrum.cond(A) == pytest.approx(2e11, rel=1e-4)


def test_frequencies_left_out_are_counted_twice():
    """A wrong count at the first or the middle frequency would show in the sum of squares, which is Frobenius' norm."""
    for n in range(1, 9):
        for shape in ((n,), (3, n), (n, 3)):
            K = kernel_of((2,) * len(shape), "float64")
            A = Conv(K, shape, padding="same", padding_mode="circular")
            values = spectrum.singular_values(A)
            assert len(values) == math.prod(shape)
            assert (values**2).sum() == pytest.approx(np.linalg.norm(dense(A)) ** 2)


def test_other_operators_and_matrices():
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((7, 5))
    expected = np.linalg.svd(matrix, compute_uv=False)
    A = Conv(rng.standard_normal(3), 8)
    for op in (matrix, sp.csr_array(matrix), sla.aslinearoperator(matrix)):
        assert_values(spectrum.singular_values(op), expected)
        assert spectrum.cond(op) == pytest.approx(expected[0] / expected[-1])
        assert spectrum.norm(op) == pytest.approx(expected[0])
    assert_values(spectrum.singular_values(A.T @ A), np.append(values_of(A) ** 2, [0, 0]))
    X = ConvFilter(rng.standard_normal((2, 6, 7)), (3, 2, 3, 2))
    assert_values(spectrum.singular_values(X), np.linalg.svd(X.todense(), compute_uv=False))


@pytest.mark.parametrize("which", ["LM", "SM"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how", ["all", "iterations"])
def test_some_singular_values(mode, which, how, monkeypatch):
    if how == "iterations":
        monkeypatch.setattr(singular_values, "_DENSE_WORK", 0)
    for A in (
        Conv(kernel_of((3, 4), "float64"), (12, 13), padding="same", padding_mode=mode),
        Conv(kernel_of((3, 3), "complex128"), (12, 13), padding=2, padding_mode=mode),
        Conv(kernel_of((4, 2, 3, 3), "float64"), (2, 12, 13), padding=1, padding_mode=mode).T,
    ):
        values = values_of(A)
        for k in (1, 3):
            got = spectrum.singular_values(A, k, which)
            expected = values[:k] if which == "LM" else values[-k:]
            assert_values(got, expected, 1e-5 if (which, how) == ("SM", "iterations") else 1e-9)


def test_smallest_singular_values_of_square_operators_by_the_inverse(monkeypatch):
    monkeypatch.setattr(singular_values, "_DENSE_WORK", 0)
    t = np.arange(-3, 4)
    A = Conv(np.exp(-(t[:, None] ** 2 + t**2) / 4.0), (30, 31), padding="same")
    values = values_of(A)
    assert values[-1] < 1e-6 * values[0]  # far below what the square of the operator would show
    np.testing.assert_allclose(spectrum.singular_values(A, 3, "SM"), values[-3:], rtol=1e-6)
    monkeypatch.setattr(singular_values, "DENSE_SIDE", 100)
    assert spectrum.cond(A) == pytest.approx(values[0] / values[-1], rel=1e-6)


def test_iterations_of_operators_that_are_zero_or_not_finite(monkeypatch):
    monkeypatch.setattr(singular_values, "_DENSE_WORK", 0)
    zero = Conv(np.zeros((3, 3)), (12, 12))
    assert spectrum.norm(zero) == 0
    assert spectrum.singular_values(zero, 2, "SM").tolist() == [0, 0]
    broken = Conv([[1.0, np.nan], [0.0, 1.0]], (12, 12))
    assert math.isnan(spectrum.norm(broken))
    assert np.isnan(spectrum.singular_values(broken, 2, "SM")).all()


def test_what_is_not_finite():
    for bad in (np.nan, np.inf):
        A = Conv([[1.0, bad], [0.0, 1.0]], (6, 6))
        assert np.isnan(spectrum.singular_values(A)).all()
        assert math.isnan(spectrum.norm(A))
        assert math.isnan(spectrum.cond(A))
        assert all(math.isnan(bound) for bound in spectrum.norm(A, bounds=True))


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1.0, 1e30, 1e160])
def test_norm_by_iterations_does_not_depend_on_scale(scale, monkeypatch):
    K = kernel_of((3, 3), "float64")
    expected = values_of(Conv(K, (12, 12)))[0]
    monkeypatch.setattr(singular_values, "_DENSE_WORK", 0)
    assert spectrum.norm(Conv(K * scale, (12, 12)), rtol=1e-12) == pytest.approx(expected * scale, rel=1e-9)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("input_shape", "kernel_shape", "parameters"),
    [
        ((24, 25), (5, 4), {"padding": "same"}),
        ((24, 25), (5, 4), {"padding": "full"}),
        ((24, 25), (5, 5), {"stride": 2, "padding": 2}),
        ((60,), (4,), {"stride": 3, "dilation": 2, "padding": 3}),
        ((3, 20, 20), (4, 3, 3, 3), {"padding": 1}),
        ((4, 20, 20), (4, 2, 3, 3), {"padding": 1, "groups": 2, "dilation": 2}),
    ],
)
def test_bounds_of_the_norm_hold(input_shape, kernel_shape, parameters, mode, signed, monkeypatch):
    K = kernel_of(kernel_shape, "float64")
    A = Conv(K if signed else np.abs(K), input_shape, padding_mode=mode, **parameters)
    expected = values_of(A)[0]
    monkeypatch.setattr(singular_values, "_DENSE_WORK", 0)
    for operator in (A, A.T):
        lower, upper = spectrum.norm(operator, bounds=True)
        assert lower <= expected * (1 + 1e-14)
        assert upper >= expected * (1 - 1e-14)
        assert lower >= expected * (1 - 1e-6)
        if not signed or (mode == "zeros" and "dilation" not in parameters):
            assert upper <= 1.1 * expected


def test_bounds_are_tight_where_the_norm_is_exact():
    A = circular("channels, stride")
    lower, upper = spectrum.norm(A, bounds=True)
    assert lower <= values_of(A)[0] <= upper
    assert upper - lower < 1e-10 * upper
    assert spectrum.norm(np.zeros((3, 4)), bounds=True) == (0, 0)


def test_the_grid_of_the_symbol_is_fine_enough():
    """It costs no more than one percent."""
    K = np.cos(np.pi / 17 * np.arange(4))
    spec = ConvSpec((400,), (4,), padding=0)
    theta = np.linspace(0, 2 * np.pi, 100_001)
    true = np.abs(np.exp(1j * np.outer(theta, np.arange(4))) @ K).max()
    bound = singular_values._symbol_bound(spec, K)
    assert true <= bound <= 1.01 * true


def test_the_condition_number_is_not_that_of_eigenvalues():
    # triangular: all eigenvalues are 1
    A = Conv([1.0, -0.9], 12, padding=((0, 1),))
    assert np.allclose(np.linalg.eigvals(A.todense()), 1)
    values = values_of(A)
    assert spectrum.cond(A) == pytest.approx(values[0] / values[-1])
    assert spectrum.cond(A) > 9
    assert A.cond() == spectrum.cond(A)
    assert spectrum.cond(Conv([1.0, -1.0], 12, padding="same", padding_mode="circular")) == math.inf


@pytest.mark.parametrize("name", CIRCULAR)
def test_pseudo_inverses(name):
    for dtype in ("float32", "float64", "complex128"):
        A = circular(name, dtype)
        for operator in (A, A.T):
            inverse = spectrum.pinv(operator)
            expected = np.linalg.pinv(dense(operator).astype(np.result_type(dtype, "float64")))
            assert inverse.shape == expected.shape
            assert inverse.dtype == operator.dtype
            assert (inverse.dims, inverse.dimsd) == (operator.dimsd, operator.dims)
            bound = 1e-5 if dtype == "float32" else 1e-12
            scale = np.abs(expected).max() * np.linalg.cond(expected)
            assert np.abs(inverse.todense() - expected).max() <= bound * scale
            convop.testing.check_operator(inverse)


def test_pseudo_inverses_of_what_is_singular():
    A = Conv([1.0, -1.0], 16, padding="same", padding_mode="circular")
    np.testing.assert_allclose(spectrum.pinv(A).todense(), np.linalg.pinv(dense(A)), atol=1e-13)
    K = np.ones((2, 2, 3, 3))  # of rank one at each frequency, and zero at some
    A = Conv(K, (2, 6, 6), padding="same", padding_mode="circular")
    np.testing.assert_allclose(spectrum.pinv(A).todense(), np.linalg.pinv(dense(A)), atol=1e-13)
    zero = Conv(np.zeros((2, 2)), (4, 4), padding="same", padding_mode="circular")
    assert not spectrum.pinv(zero).todense().any()


def test_pseudo_inverses_of_symmetric_and_mixed_axes():
    K = kernel_of((3, 4), "float64")
    K = K + np.flip(K, 0)
    A = Conv(K[:, :1], (8, 9), padding=((1, 1), (0, 0)), padding_mode="symmetric")
    np.testing.assert_allclose(spectrum.pinv(A).todense(), np.linalg.pinv(dense(A)), atol=1e-11)
    with pytest.raises(ValueError, match=r"spatial axis 1 \(symmetric, 9 inputs, 9 outputs, stride 1\)"):
        spectrum.pinv(Conv(K, (8, 9), padding="same", padding_mode="symmetric"))
    with pytest.raises(TypeError, match="A must be a Conv"):
        spectrum.pinv(K)


@pytest.mark.parametrize("name", ["signal", "image", "volume"])
def test_determinants(name):
    for dtype in ("float64", "complex128"):
        A = circular(name, dtype)
        expected = np.linalg.slogdet(dense(A)).logabsdet
        assert spectrum.logabsdet(A) == pytest.approx(expected, abs=1e-10)
        assert spectrum.logabsdet(A.T) == pytest.approx(expected, abs=1e-10)
    A = Conv(kernel_of((4, 1, 2, 2), "float64"), (1, 6, 6), stride=2)  # square by its channels
    assert spectrum.logabsdet(A) == pytest.approx(np.linalg.slogdet(dense(A)).logabsdet)
    assert spectrum.logabsdet(Conv([1.0, -1.0], 8, padding="same", padding_mode="circular")) == -math.inf
    assert math.isnan(spectrum.logabsdet(Conv([1.0, np.nan], 8, padding="same", padding_mode="circular")))
    # triangular, with a smallest singular value of 1e-18
    assert spectrum.logabsdet(Conv([1.0, 2.0], 60, padding=((0, 1),))) == pytest.approx(0, abs=1e-10)
    assert spectrum.logabsdet(Conv([0.0, 2.0], 60, padding=((0, 1),))) == -math.inf
    assert spectrum.logabsdet(Conv([2.0], 8, stride=2, padding=((0, 7),))) == -math.inf
    with pytest.raises(TypeError, match="A must be a Conv"):
        spectrum.logabsdet(np.eye(3))
    with pytest.raises(ValueError, match=r"square to have a determinant, got shape \(4, 5\)"):
        spectrum.logabsdet(Conv([1.0, 2.0], 5))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(case=strategies.cases(values="normal"), seed=st.integers(0, 2**32 - 1))
def test_the_symbol_is_its_formula(case, seed):
    """``sum_t K[t] exp(+i theta . t d)``, by plain loops."""
    A = Conv(case.kernel, case.input_shape, flip=case.flip, **case.parameters)
    spec, ndim = A.spec, A.spec.ndim
    theta = np.random.default_rng(seed).uniform(-4, 4, (2, ndim))
    got = spectrum.symbol(A, theta)
    taps = case.kernel.reshape(spec.c_out, -1, *case.kernel.shape[-ndim:])
    expected = np.zeros((2, spec.c_out, spec.c_in), dtype=complex)
    inputs = spec.c_in // spec.groups
    for (co, ci, *t), value in np.ndenumerate(taps):
        tap = [k - 1 - i if case.flip else i for i, k in zip(t, case.kernel.shape[-ndim:], strict=True)]
        group = co // (spec.c_out // spec.groups)
        for z in range(2):
            angle = sum(a * i * d for a, i, d in zip(theta[z], tap, spec.dilation, strict=True))
            expected[z, co, group * inputs + ci] += value * np.exp(1j * angle)
    if not spec.channels:
        expected = expected[:, 0, 0]
    np.testing.assert_allclose(got, expected, atol=1e-5 if A.dtype.char in "fF" else 1e-12)
    np.testing.assert_allclose(
        spectrum.symbol(A.T, -theta), expected if not spec.channels else expected.swapaxes(-1, -2), atol=1e-5
    )


def test_the_symbol_is_what_waves_are_multiplied_by():
    K = kernel_of((2, 3), "float64")
    n = (12, 10)
    A = Conv(K, n, padding=((1, 0), (0, 2)), padding_mode="circular")
    theta = 2 * np.pi * np.array([2 / 12, -3 / 10])
    rows, columns = np.mgrid[:12, :10]
    wave = np.exp(1j * (theta[0] * rows + theta[1] * columns))
    lo = np.array([1, 0])
    np.testing.assert_allclose(A @ wave, spectrum.symbol(A, theta) * np.exp(-1j * theta @ lo) * wave, atol=1e-12)


def test_shapes_of_angles():
    A = Conv([1.0, 2.0], 8)
    assert spectrum.symbol(A, 0.0) == 3
    assert spectrum.symbol(A, [0.0]) == 3
    assert spectrum.symbol(A, np.zeros((4, 3))).shape == (4, 3)
    assert spectrum.symbol(A, np.zeros((4, 1))).shape == (4,)
    B = Conv(np.ones((3, 2, 2, 2)), (2, 8, 8))
    assert spectrum.symbol(B, np.zeros((5, 4, 2))).shape == (5, 4, 3, 2)
    assert spectrum.symbol(B.T, np.zeros(2)).shape == (2, 3)
    with pytest.raises(ValueError, match=r"theta must have 2 angles in its last axis.*got \(3,\)"):
        spectrum.symbol(B, np.zeros(3))
    with pytest.raises(TypeError, match="A must be a Conv"):
        spectrum.symbol(np.eye(3), 0.0)


@pytest.mark.parametrize("mode", MODES)
def test_singular_values_follow_the_symbol(mode):
    """Ever closer as the input grows: the mean difference of both, sorted, falls."""
    K = kernel_of((3, 3), "float64")
    distances = []
    for n in (8, 16, 32):
        A = Conv(K, (n, n), padding="same", padding_mode=mode)
        distances.append(np.abs(spectrum.singular_values(A) - spectrum.symbol_values(A)).mean())
    if mode == "circular":
        assert max(distances) < 1e-12
    else:
        assert distances[0] > distances[1] > distances[2]
        assert distances[2] < 0.4 * distances[0]


def test_symbol_values_of_strides_and_channels():
    for name in ("image, strides", "channels, stride", "groups"):
        A = circular(name)
        np.testing.assert_allclose(spectrum.symbol_values(A), spectrum.singular_values(A), atol=1e-12)
        np.testing.assert_allclose(spectrum.symbol_values(A.T), spectrum.singular_values(A), atol=1e-12)
    with pytest.raises(TypeError, match="A must be a Conv"):
        spectrum.symbol_values(np.eye(3))


def test_errors_say_what_to_do():
    A = Conv(np.ones((3, 3)), (80, 80))
    with pytest.raises(ValueError, match=r"up to 4096 rows or columns.*\(6084, 6400\) in blocks of 6084.*k largest"):
        spectrum.singular_values(A)
    with pytest.raises(ValueError, match=r"k must be from 1 to 6084.*got 0"):
        spectrum.singular_values(A, 0)
    with pytest.raises(ValueError, match="which must be one of"):
        spectrum.singular_values(A, 2, "LA")
    with pytest.raises(TypeError, match="k must be an integer"):
        spectrum.singular_values(A, 2.5)
    with pytest.raises(TypeError, match="linear operator or a matrix, got str"):
        spectrum.norm("A")
    with pytest.raises(ValueError, match="rtol must be between 0 and 1"):
        spectrum.norm(A, rtol=0)
    with pytest.raises(ValueError, match="got an array of shape"):
        spectrum.norm(np.ones(3))


def test_memory_is_asked_for_first(monkeypatch):
    A = Conv(np.ones((64, 64, 3, 3)), (64, 256, 256), padding="same", padding_mode="circular")
    monkeypatch.setattr("convop.arrays.memory.available", lambda: 10**9)
    with pytest.raises(MemoryError, match=r"the diagonal blocks of ConvSpec.*GiB"):
        spectrum.singular_values(A)


@pytest.mark.parametrize("power", [-1000, -664, 660, 990])
def test_kernels_near_the_ends_of_the_range(power, monkeypatch):
    """Their squares are not numbers; multiplied by a power of two, no digit may change."""
    rng = np.random.default_rng(0)
    for mode, kernel in (("circular", rng.standard_normal((3, 3))), ("symmetric", np.outer([1, 3, 1], [2, 5, 2]))):
        A = Conv(kernel, (8, 9), padding="same", padding_mode=mode)
        B = A.with_kernel(np.ldexp(np.asarray(kernel, dtype=float), power))
        np.testing.assert_array_equal(spectrum.singular_values(B), np.ldexp(spectrum.singular_values(A), power))
        assert spectrum.cond(B) == spectrum.cond(A)
        np.testing.assert_array_equal(spectrum.norm(B, bounds=True), np.ldexp(spectrum.norm(A, bounds=True), power))
        assert spectrum.logabsdet(B) == pytest.approx(spectrum.logabsdet(A) + 72 * power * math.log(2), rel=1e-12)
        np.testing.assert_array_equal(spectrum.pinv(B).todense(), np.ldexp(spectrum.pinv(A).todense(), -power))
    monkeypatch.setattr("convop.spectral.singular_values._DENSE_WORK", 0)
    A = Conv(rng.random((3, 4)), (20, 20), padding="same")
    low, high = spectrum.norm(A.with_kernel(np.ldexp(A.kernel, power)), bounds=True, rtol=1e-2)
    truth = np.linalg.norm(A.todense(), 2)
    assert math.ldexp(low, -power) <= truth * (1 + 1e-14)
    assert math.ldexp(high, -power) >= truth


@pytest.mark.parametrize("mode", MODES)
def test_the_bounds_themselves_hold(mode):
    """Without the value that was computed, which hides a bound that is too low where it is exact."""
    rng = np.random.default_rng(0)
    for number in range(30):
        shape, ndim = rng.integers(3, 12, 2), rng.integers(1, 3)
        taps = rng.integers(1, 5, ndim)
        kernel = rng.standard_normal(taps)
        if number % 3 == 0:
            kernel = (kernel + 1j * rng.standard_normal(taps)).astype(np.complex64)
        if number % 5 == 0:
            kernel = np.full(taps, np.complex64(0.18905339 - 0.5227485j))
        A = Conv(kernel, tuple(shape[:ndim] + 4), stride=int(rng.integers(1, 3)), padding="same", padding_mode=mode)
        exact = Conv(
            kernel.astype(np.complex128), A.dims, stride=A.spec.stride, padding=A.spec.padding, padding_mode=mode
        )
        truth = float(np.linalg.norm(exact.todense(), 2))
        assert singular_values._schur_bound(A) * (1 + 1e-14) >= truth
        if mode == "zeros":
            assert singular_values._symbol_bound(*A.convolution()) * (1 + 1e-14) >= truth


def test_the_symbols_largest_value_between_the_points_of_the_grid():
    """A wave whose frequency lies in the middle between two points: without the factor the bound fails."""
    taps = 9
    count = singular_values._GRID_POINTS_PER_TAP * taps
    for degrees in (1, 2, 5):
        theta = 2 * math.pi * (degrees + 0.5) / count
        A = Conv(np.exp(-1j * theta * np.arange(taps)), 4000, padding="same")
        assert singular_values._symbol_bound(*A.convolution()) >= taps  # the sum of the moduli, reached at theta
        assert spectrum.norm(A, bounds=True)[1] >= spectrum.norm(A)


@pytest.mark.parametrize(
    ("kernel_shape", "shape", "stride", "norm"),
    [((1, 1), (69, 69), 2, 1), ((2, 2), (71, 71), 2, 2), ((1,), 4085, 2, 1), ((1, 1), (141, 141), 3, 1)],
)
def test_norms_of_operators_whose_values_are_all_alike(kernel_shape, shape, stride, norm, monkeypatch):
    """Lanczos' method sees all there is in one step, and what is left is rounding."""
    monkeypatch.setattr("convop.spectral.singular_values._DENSE_WORK", 0)
    A = Conv(np.ones(kernel_shape), shape, stride=stride)
    for B in (A, A.T):
        assert singular_values._lanczos(singular_values.double(B), 1e-12)[0] == pytest.approx(norm, rel=1e-13)
        assert spectrum.norm(B) == pytest.approx(norm, rel=1e-12)


@pytest.mark.parametrize("size", [89, 95, 121, 143])
def test_norms_of_patches_by_iterations(size):
    A = Conv(np.random.default_rng(0).random((3, 3)), (size, size), stride=3)
    truth = np.linalg.norm(A.kernel)
    assert singular_values._lanczos(singular_values.double(A), 1e-12)[0] == pytest.approx(truth, rel=1e-12)


@pytest.mark.parametrize("which", ["LM", "SM"])
def test_values_that_groups_have_in_common_are_counted(which, monkeypatch):
    kernel = np.repeat(np.random.default_rng(0).random((1, 1, 3, 3)), 8, 0)
    A = Conv(kernel, (8, 12, 13), padding=1, groups=8)
    truth = np.linalg.svd(A.todense(), compute_uv=False)
    monkeypatch.setattr("convop.spectral.singular_values._DENSE_WORK", 0)
    for B in (A, A.T):
        for k in (1, 8, 10):
            expected = truth[:k] if which == "LM" else truth[len(truth) - k :]
            np.testing.assert_allclose(spectrum.singular_values(B, k, which), expected, rtol=1e-8, atol=1e-9)


def test_condition_numbers_of_large_operators_that_are_singular():
    kernel = np.random.default_rng(0).standard_normal((3, 2, 3, 3))
    kernel[:, 1] = kernel[:, 0]
    with pytest.raises(RuntimeError, match=r"condition number of this operator of shape .* is more than 1e\+05"):
        spectrum.cond(Conv(kernel, (2, 48, 48), padding=1))
    assert spectrum.cond(Conv([1.0, 2.0], 5000, padding=((0, 1),))) == math.inf  # 2^5000


def test_bounds_of_operators_of_others():
    A = Conv(np.random.default_rng(0).random((3, 4)), (30, 30), padding="same")
    truth = np.linalg.norm(A.todense(), 2)
    for B in (sla.aslinearoperator(A.tosparse()), A.tosparse(), A.todense()):
        low, high = spectrum.norm(B, bounds=True)
        assert low * (1 - 1e-12) <= truth <= high


@pytest.mark.parametrize(("dtype", "asymmetry"), [(np.float64, 1e-13), (np.float64, 1e-9), (np.float32, 2**-22)])
def test_nearly_symmetric_kernels_are_not_symmetric(dtype, asymmetry):
    """Cosines would see their symmetric part alone. What rounding in double precision leaves is symmetric."""
    A = Conv(np.array([1 + asymmetry, 2, 1], dtype), 50, padding=1, padding_mode="symmetric")
    assert isinstance(blocks.exact_parts(*A.convolution())[0], blocks.Window)
    with pytest.raises(ValueError, match="diagonalised by fast transforms"):
        spectrum.pinv(A)
    truth = np.linalg.svd(A.with_kernel(A.kernel.astype(np.float64)).todense(), compute_uv=False)
    np.testing.assert_allclose(spectrum.singular_values(A), truth, atol=1e-7 if dtype == np.float32 else 1e-14)
    rounded = Conv([1 + 2**-52, 2.0, 1.0], 50, padding=1, padding_mode="symmetric")
    assert isinstance(blocks.exact_parts(*rounded.convolution())[0], blocks.Cosine)


def test_determinants_of_what_is_triangular_along_one_axis():
    assert spectrum.logabsdet(Conv([[1.0], [2.0]], (60, 4), padding=((0, 1), (0, 0)))) == pytest.approx(0, abs=1e-10)
    ill = Conv([[1.0], [0.9999]], (30, 4), padding=((0, 1), (0, 0)))
    assert spectrum.logabsdet(ill) == pytest.approx(0, abs=1e-10)
    vanishing = Conv([[1.0, -1.0], [2.0, -2.0]], (20, 8), padding=((0, 1), (0, 1)), padding_mode="circular")
    assert spectrum.logabsdet(vanishing) == -math.inf
    # A condition number of 1e8 is no reason for a determinant of zero.
    steep = Conv([1.0, 1 - 1e-8], 8, padding="same", padding_mode="circular")
    _, truth = np.linalg.slogdet(steep.todense())
    assert spectrum.logabsdet(steep) == pytest.approx(truth, rel=1e-6)
