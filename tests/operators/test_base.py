"""Inputs, results and matrices of all operators, the laws that they obey, and the solvers of SciPy and PyLops."""

import numpy as np
import pylops
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as sla
from numpy.testing import assert_allclose, assert_array_equal
from strategies import DTYPES

import convop
from convop import Conv, ConvFilter
from convop.testing import check_operator, dottest, parametrize_with_checks


def law_operators():
    """Yields operators of each type and dtype, and some that are large enough for engines other than the matrix."""
    rng = np.random.default_rng(0)
    for dtype in DTYPES:
        K = (rng.standard_normal((4, 2, 3, 2)) * (1 + 2j if np.dtype(dtype).kind == "c" else 1)).astype(dtype)
        parameters = {"stride": (2, 1), "padding": ((2, 0), (1, 3)), "groups": 2, "padding_mode": "reflect"}
        A = Conv(K, (4, 7, 6), **parameters)
        F = ConvFilter(rng.standard_normal((4, 7, 6)).astype(dtype), K.shape, **parameters)
        for name, op in (("conv", A), ("T", A.T), ("H", A.H), ("filter", F), ("filterH", F.H), ("filterT", F.T)):
            yield pytest.param(op, id=f"{name}-{dtype}")
    yield pytest.param(Conv(rng.standard_normal((5, 4)), (60, 50), padding="same", padding_mode="circular"), id="large")
    yield pytest.param(Conv(rng.standard_normal(9), 400, padding="full", stride=3).T, id="large-1d-T")


@pytest.mark.thinned
@parametrize_with_checks(law_operators())
def test_operators_obey_the_laws(operator, check):
    check(operator)
    assert operator.explicit is False  # explicit operators make other packages form dense matrices


@pytest.mark.parametrize("x_dtype", ["bool", "int8", "uint8", "int64", "float16", *DTYPES])
@pytest.mark.parametrize("dtype", DTYPES)
def test_inputs_of_other_dtypes_are_promoted(dtype, x_dtype):
    A = Conv(np.array([[1, 2], [3, 4]]), (3, 3), dtype=dtype)
    x = np.array([[1, 0, 1], [1, 1, 0], [0, 1, 1]]).astype(x_dtype)
    expected = np.result_type(np.dtype(dtype), np.float64 if x.dtype.kind in "bui" else x.dtype)
    y = A @ x
    assert y.dtype == expected
    assert_array_equal(y, A.todense().dot(x.ravel()).reshape(2, 2))


def test_integer_inputs_never_wrap():
    assert Conv([[200]], (2, 2)).matvec(np.full(4, 200, np.uint8)).tolist() == [40000.0] * 4


def test_real_operators_apply_to_complex_inputs():
    A = Conv(np.arange(4.0).reshape(2, 2), (5, 6), padding_mode="symmetric", padding=2)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((30, 4)) + 1j * rng.standard_normal((30, 4))
    for order in ("C", "F"):
        Z = np.asarray(X, order=order)
        assert_allclose(A @ Z, (A @ Z.real) + 1j * (A @ Z.imag), rtol=1e-14)
        assert_allclose(A @ Z[:, 1], (A @ Z)[:, 1], rtol=1e-14)


@pytest.mark.parametrize("shape", [(4, 3), (10,), (3, 4, 2, 2), (2, 3, 4), (12, 2, 1), ()])
def test_wrong_shapes_raise_value_error(shape):
    with pytest.raises(ValueError, match=r"x must have the shape \(3, 4\) or \(12,\)"):
        Conv(np.ones((2, 2)), (3, 4)) @ np.ones(shape)


def test_arrays_without_numbers_raise_type_error():
    A = Conv(np.ones((2, 2)), (3, 4))
    for words in (np.array(["a"] * 12), "abc"):
        with pytest.raises(TypeError, match="x must be an array of numbers"):
            A.dot(words)
    with pytest.raises(TypeError, match="x must hold real or complex numbers up to double precision"):
        A @ np.ones(12, dtype="longdouble")


def test_dot_accepts_lists_and_sparse_arrays():
    A = Conv([[1, 2], [3, 4]], (3, 3))
    assert_array_equal(A @ [[0, 1, 2], [3, 4, 5], [6, 7, 8]], [[27, 37], [57, 67]])
    X = sp.csr_array(np.random.default_rng(0).standard_normal((9, 3)) * (np.arange(27).reshape(9, 3) % 3 == 1))
    assert_allclose(A @ X, A @ X.toarray(), rtol=1e-15)


@pytest.mark.parametrize("x_dtype", [float, complex, int])
def test_empty_batches(x_dtype):
    A = Conv(np.ones((2, 2)), (3, 4))
    for op in (A, A.T, ConvFilter(np.ones((3, 4)), (2, 2)), ConvFilter(np.ones((3, 4)), (2, 2)).H):
        assert (op @ np.zeros((op.shape[1], 0), x_dtype)).shape == (op.shape[0], 0)
        assert (op @ np.zeros((*op.dims, 0), x_dtype)).shape == (*op.dimsd, 0)


def test_tosparse_returns_a_new_matrix():
    A = Conv(np.arange(1.0, 5).reshape(2, 2), (3, 3))
    x = np.ones(9)
    before = A @ x
    A.tosparse().data[:] = 0
    A.T.tosparse().data[:] = 0
    assert_array_equal(A @ x, before)
    assert_array_equal(A.H @ np.ones(4), A.todense().T @ np.ones(4))


@pytest.mark.parametrize("format", ["csr", "csc", "coo", "bsr", "dia", "lil", "dok"])
def test_tosparse_formats(format):
    A = Conv(np.arange(1.0, 7).reshape(2, 3), (5, 6), stride=2, padding=1)
    for op in (A, A.T):
        stored = op.tosparse(format)
        assert stored.format == format
        assert_array_equal(stored.toarray(), op.todense())
    with pytest.raises(ValueError, match="format must be one of"):
        A.tosparse("matrix")


@pytest.mark.parametrize("op", [Conv(np.ones((2, 2)), (40, 40)), ConvFilter(np.ones((400, 400)), (2, 2))])
def test_todense_checks_memory_before_allocation(op, monkeypatch):
    monkeypatch.setattr(convop.arrays.memory, "available", lambda: 10**5)
    with pytest.raises(MemoryError, match=r"only 97\.7 KiB of memory is free"):
        op.todense()


def test_solvers_of_scipy_and_pylops_accept_the_operators():
    rng = np.random.default_rng(0)
    A = Conv([[0.1, -0.3, 0.2], [0.5, 2.0, -0.1], [0.3, 0.4, -0.2]], (12, 13), padding=1)
    x = rng.standard_normal(A.shape[1])
    y = A @ x
    dense = A.todense()
    best = np.linalg.lstsq(dense, y, rcond=None)[0]
    assert_allclose(sla.lsqr(A, y, atol=1e-14, btol=1e-14)[0], best, atol=1e-6)
    assert_allclose(sla.lsmr(A, y, atol=1e-14, btol=1e-14)[0], best, atol=1e-6)
    normal = A.H @ A
    assert_allclose(sla.cg(sla.aslinearoperator(normal), A.H @ y, rtol=1e-13)[0], best, atol=1e-6)
    assert_allclose(sla.svds(A, k=2)[1][::-1], np.linalg.svd(dense, compute_uv=False)[:2], rtol=1e-8)
    assert_allclose(pylops.optimization.basic.cgls(A, y, niter=600, tol=1e-13)[0].ravel(), best, atol=1e-6)
    stacked = pylops.VStack([A, 2 * A.T @ A])
    assert_allclose(stacked @ x, np.concatenate([y, 2 * dense.T @ y]), rtol=1e-12)
    check_operator(pylops.BlockDiag([A, A.T]))
    assert dottest(sla.aslinearoperator(A)).passed
