"""Every engine and filter against the oracle's dense matrix, on random small geometries and on inputs of every kind."""

import numpy as np
import oracle
import pytest
import strategies
from engine_cases import ENGINES, TRANSFORM_KINDS, assert_close, integers, tolerance, with_transforms
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from convop import Conv, ConvFilter, ConvSpec
from convop.engines import make
from convop.engines.cpu.fft import FftEngine

COLUMNS = st.integers(0, 3)
SEEDS = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("name", ENGINES)
@given(case=strategies.cases(), columns=COLUMNS, seed=SEEDS)
def test_operator_equals_oracle_matrix(name, case, columns, seed):
    matrix, shape = oracle.dense_matrix(case.kernel, case.input_shape, flip=case.flip, **case.parameters)
    A = Conv(case.kernel, case.input_shape, flip=case.flip, engine=name, **case.parameters)
    assert A.engine == name
    assert A.dimsd == shape
    rng = np.random.default_rng(seed)
    for op, dense in ((A, matrix), (A.T, matrix.T), (A.H, matrix.conj().T), (A.conj(), matrix.conj())):
        x = integers(rng, (dense.shape[1], columns) if columns else dense.shape[1], case.kernel.dtype)
        y = op.matmat(x) if columns else op.matvec(x)  # as an array, x might have the shape of one input
        assert y.dtype == case.kernel.dtype
        assert_close(y, dense @ x, tolerance(name, case.kernel.dtype))


@pytest.mark.parametrize("kind", TRANSFORM_KINDS)
@given(case=strategies.cases(), columns=COLUMNS, seed=SEEDS)
def test_each_kind_of_transforms_equals_oracle_matrix(kind, case, columns, seed):
    matrix, _ = oracle.dense_matrix(case.kernel, case.input_shape, flip=False, **case.parameters)
    spec = ConvSpec(case.input_shape, case.kernel.shape, **case.parameters)
    engine = FftEngine(spec, case.kernel, with_transforms(kind))
    rng = np.random.default_rng(seed)
    for some, dense in ((engine, matrix), (engine.with_kernel(case.kernel.conj()), matrix.conj())):
        for apply, m in ((some.forward, dense), (some.adjoint, dense.conj().T)):
            x = integers(rng, (m.shape[1], columns) if columns else m.shape[1], case.kernel.dtype)
            assert_close(apply(x), m @ x, tolerance("fft", case.kernel.dtype))


def check_filter(name, case, columns, seed):
    rng = np.random.default_rng(seed)
    x = integers(rng, case.input_shape, case.kernel.dtype)
    F = ConvFilter(x, case.kernel.shape, flip=case.flip, engine=name, **case.parameters)
    assert F.engine == name
    elements = case.kernel.size
    dense = np.stack(
        [
            oracle.dense_matrix(unit.reshape(case.kernel.shape), case.input_shape, flip=case.flip, **case.parameters)[0]
            @ x.ravel()
            for unit in np.eye(elements)
        ],
        axis=1,
    )
    for op, matrix in ((F, dense), (F.H, dense.conj().T), (F.T, dense.T)):
        k = integers(rng, (matrix.shape[1], columns) if columns else matrix.shape[1], case.kernel.dtype)
        result = op.matmat(k) if columns else op.matvec(k)
        assert result.dtype == case.kernel.dtype
        assert_close(result, matrix @ k, tolerance(name, case.kernel.dtype))


@pytest.mark.parametrize(
    "name",
    [pytest.param("fft", marks=pytest.mark.slow) if engine.values == ("fft",) else engine for engine in ENGINES],
)
@given(case=strategies.cases(), columns=st.integers(0, 2), seed=SEEDS)
def test_filter_equals_oracle_matrix_of_kernel(name, case, columns, seed):
    check_filter(name, case, columns, seed)


@given(case=strategies.cases(), columns=st.integers(0, 2), seed=SEEDS)
def test_fft_filter_equals_oracle_matrix_of_kernel(case, columns, seed):
    check_filter("fft", case, columns, seed)


@pytest.mark.parametrize("name", ENGINES)
def test_operator_takes_inputs_of_any_order_and_dtype_and_leaves_them_unchanged(name):
    """Batches of columns, other orders and strides, read-only arrays, wider dtypes."""
    rng = np.random.default_rng(0)
    K = rng.standard_normal((3, 3)).astype("float32")
    A = Conv(K, (12, 13), padding=1, engine=name)
    dense = A.tosparse().toarray().astype(float)
    X = rng.standard_normal((156, 4))
    for x in (X, np.asfortranarray(X), X[::-1], np.repeat(X, 2, axis=1)[:, ::2], X.astype("complex128") * 1j):
        given = x.copy()
        x.setflags(write=False)
        y = A @ x
        assert y.dtype == np.result_type(x.dtype, "float64")  # the input's precision, though the kernel has less
        np.testing.assert_allclose(y, dense @ given, rtol=0, atol=1e-13 * np.abs(dense @ given).max())
        assert_array_equal(x, given)
    assert (A @ X.astype("float32")).dtype == np.float32
    assert (A @ np.ones((156, 0))).shape == (156, 0)
    assert (A.H @ np.ones((156, 0))).shape == (156, 0)
    assert (A @ np.ones((12, 13, 2))).shape == (12, 13, 2)
    B = Conv(np.ones((4, 3, 1, 1)), (3, 5, 5), engine=name)  # pointwise kernels have paths of their own
    assert B.matmat(np.ones((75, 0))).shape == (100, 0)
    assert B.H.matmat(np.ones((100, 0))).shape == (75, 0)


@pytest.mark.parametrize("name", ["csr", "direct", "gemm"])
@pytest.mark.parametrize("mode", strategies.MODES)
def test_nan_and_infinity_stay_where_the_kernel_reads_them(name, mode):
    spec = ConvSpec((30, 40), (4, 3), stride=(1, 2), padding=2, padding_mode=mode)
    kernel = np.random.default_rng(0).standard_normal((4, 3))
    engine, matrix = make(name, spec, kernel), make("csr", spec, kernel).matrix
    for value in (np.nan, np.inf):
        x, y = np.ones(spec.shape[1]), np.ones(spec.shape[0])
        x[617], y[200] = value, value
        assert_array_equal(np.isfinite(engine.forward(x)), np.isfinite(matrix @ x))
        assert_array_equal(np.isfinite(engine.adjoint(y)), np.isfinite(matrix.T @ y))


@pytest.mark.parametrize("name", ["direct", "gemm", "fft", "separable", "winograd"])
def test_kernels_of_one_spec_share_geometries(name):
    A = Conv(np.ones((3, 3)), (40, 40), padding=1, engine=name)
    A @ np.ones(1600)
    B = A.with_kernel(np.arange(9.0).reshape(3, 3))
    assert B._engine._geometries is A._engine._geometries
    assert_array_equal(np.rint(B @ np.ones(1600)), B.tosparse() @ np.ones(1600))
