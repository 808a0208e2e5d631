import copy
import gc
import os
import pickle
import signal
import threading
import weakref

import numpy as np
import oracle
import pylops
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as sla
from hypothesis import given
from numpy.testing import assert_allclose, assert_array_equal
from strategies import DTYPES, cases

import convop
from convop import Conv, ConvFilter, ConvTranspose, kernel2matrix
from convop.testing import check_operator, dottest, parametrize_with_checks


def operator(case, **more):
    return Conv(case.kernel, case.input_shape, flip=case.flip, **case.parameters, **more)


def integers(rng, shape, dtype):
    x = rng.integers(-4, 5, shape)
    return (x + 1j * rng.integers(-4, 5, shape) if np.dtype(dtype).kind == "c" else x).astype(dtype)


@given(cases())
def test_operator_is_the_oracles_matrix(case):
    """Forward, `.T`, `.H` and both ways of undoing them, vectors and batches, in the operator's dtype, exactly."""
    dense, output_shape = oracle.dense_matrix(case.kernel, case.input_shape, flip=case.flip, **case.parameters)
    A, rng = operator(case), np.random.default_rng(0)
    assert (A.dims, A.dimsd, A.shape) == (case.input_shape, output_shape, dense.shape)
    for op, matrix in (
        (A, dense),
        (A.T, dense.T),
        (A.H, dense.conj().T),
        (A.T.T, dense),
        (A.H.H, dense),
        (A.H.T, dense.conj()),
        (A.T.H, dense.conj()),
        (A.conj(), dense.conj()),
    ):
        assert op.shape == matrix.shape
        x, X = (integers(rng, (matrix.shape[1], *p), A.dtype) for p in ((), (3,)))
        y, Y = (integers(rng, (matrix.shape[0], *p), A.dtype) for p in ((), (3,)))
        assert_array_equal(op @ x, matrix @ x, strict=True)
        assert_array_equal(op @ X, matrix @ X, strict=True)
        assert_array_equal(op.rmatvec(y), matrix.conj().T @ y, strict=True)
        assert_array_equal(op.rmatmat(Y), matrix.conj().T @ Y, strict=True)
        assert_array_equal(op @ x.reshape(op.dims), (matrix @ x).reshape(op.dimsd), strict=True)
        assert_array_equal(op @ X.reshape(*op.dims, 3), (matrix @ X).reshape(*op.dimsd, 3), strict=True)
        assert_array_equal(op.todense(), matrix, strict=True)
        stored = op.tosparse()
        stored.check_format(full_check=True)
        assert stored.has_canonical_format
        assert stored.nnz == A.spec.nnz


@given(cases())
def test_types_and_equality_of_the_turned_operators(case):
    A = operator(case)
    assert type(A.T) is type(A.H) is ConvTranspose
    assert type(A.T.T) is type(A.H.H) is Conv
    assert A.T.T == A == A.H.H
    again = ConvTranspose(case.kernel, A.dimsd, output_shape=A.dims, flip=case.flip, **case.parameters)
    assert again == A.T
    assert hash(again) == hash(A.T)
    assert A.T != A
    assert A.with_kernel(A.kernel + 1) != A
    flipped = Conv(np.flip(case.kernel, tuple(range(-A.spec.ndim, 0))), A.dims, flip=not case.flip, **case.parameters)
    assert flipped == A


@given(cases())
def test_filter_operator_is_linear_in_the_kernel(case):
    rng = np.random.default_rng(0)
    x = integers(rng, case.input_shape, case.kernel.dtype)
    F = ConvFilter(x, case.kernel.shape, flip=case.flip, **case.parameters)
    A = operator(case)
    assert_array_equal(F @ case.kernel, A @ x, strict=True)
    columns = []
    for unit in np.eye(case.kernel.size):
        matrix, _ = oracle.dense_matrix(
            unit.reshape(case.kernel.shape), case.input_shape, flip=case.flip, **case.parameters
        )
        columns.append(matrix @ x.ravel())
    dense = np.stack(columns, axis=1).astype(x.dtype)
    for op, matrix in (
        (F, dense),
        (F.H, dense.conj().T),
        (F.T, dense.T),
        (F.H.H, dense),
        (F.T.T, dense),
        (F.H.T, dense.conj()),
        (F.conj(), dense.conj()),
    ):
        X = integers(rng, (matrix.shape[1], 3), x.dtype)
        assert_array_equal(op @ X, matrix @ X, strict=True)
        assert_array_equal(op @ X[:, 0], matrix @ X[:, 0], strict=True)
        assert_array_equal(op.todense(), matrix, strict=True)
        op.tosparse().check_format(full_check=True)


def catalogue():
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


@parametrize_with_checks(catalogue())
def test_laws(operator, check):
    check(operator)
    assert operator.explicit is False  # a sparse matrix behind it makes other packages form dense ones


@pytest.mark.parametrize("x_dtype", ["bool", "int8", "uint8", "int64", "float16", *DTYPES])
@pytest.mark.parametrize("dtype", DTYPES)
def test_inputs_of_other_dtypes(dtype, x_dtype):
    A = Conv(np.array([[1, 2], [3, 4]]), (3, 3), dtype=dtype)
    x = np.array([[1, 0, 1], [1, 1, 0], [0, 1, 1]]).astype(x_dtype)
    expected = np.result_type(np.dtype(dtype), np.float64 if x.dtype.kind in "bui" else x.dtype)
    y = A @ x
    assert y.dtype == expected
    assert_array_equal(y, A.todense().dot(x.ravel()).reshape(2, 2))


def test_integer_inputs_never_wrap():
    assert Conv([[200]], (2, 2)).matvec(np.full(4, 200, np.uint8)).tolist() == [40000.0] * 4


def test_complex_input_of_a_real_operator():
    A = Conv(np.arange(4.0).reshape(2, 2), (5, 6), padding_mode="symmetric", padding=2)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((30, 4)) + 1j * rng.standard_normal((30, 4))
    for order in ("C", "F"):
        Z = np.asarray(X, order=order)
        assert_allclose(A @ Z, (A @ Z.real) + 1j * (A @ Z.imag), rtol=1e-14)
        assert_allclose(A @ Z[:, 1], (A @ Z)[:, 1], rtol=1e-14)


@pytest.mark.parametrize("shape", [(4, 3), (10,), (3, 4, 2, 2), (2, 3, 4), (12, 2, 1), ()])
def test_wrong_shapes_are_named(shape):
    with pytest.raises(ValueError, match=r"x must have the shape \(3, 4\) or \(12,\)"):
        Conv(np.ones((2, 2)), (3, 4)) @ np.ones(shape)


def test_wrong_arrays_are_named():
    A = Conv(np.ones((2, 2)), (3, 4))
    for words in (np.array(["a"] * 12), "abc"):
        with pytest.raises(TypeError, match="x must be an array of numbers"):
            A.dot(words)
    with pytest.raises(TypeError, match="x must hold real or complex numbers up to double precision"):
        A @ np.ones(12, dtype="longdouble")


def test_lists_and_sparse_arrays_apply():
    A = Conv([[1, 2], [3, 4]], (3, 3))
    assert_array_equal(A @ [[0, 1, 2], [3, 4, 5], [6, 7, 8]], [[27, 37], [57, 67]])
    X = sp.csr_array(np.random.default_rng(0).standard_normal((9, 3)) * (np.arange(27).reshape(9, 3) % 3 == 1))
    assert_allclose(A @ X, A @ X.toarray(), rtol=1e-15)


@pytest.mark.parametrize("x_dtype", [float, complex, int])
def test_a_batch_may_be_empty(x_dtype):
    A = Conv(np.ones((2, 2)), (3, 4))
    for op in (A, A.T, ConvFilter(np.ones((3, 4)), (2, 2)), ConvFilter(np.ones((3, 4)), (2, 2)).H):
        assert (op @ np.zeros((op.shape[1], 0), x_dtype)).shape == (op.shape[0], 0)
        assert (op @ np.zeros((*op.dims, 0), x_dtype)).shape == (*op.dimsd, 0)


def test_kernel_is_a_read_only_copy():
    K = np.arange(4.0).reshape(2, 2)
    A = Conv(K, (3, 3))
    K[:] = 0
    assert A.kernel.tolist() == [[0, 1], [2, 3]]
    with pytest.raises(ValueError, match="read-only"):
        A.kernel[0, 0] = 1


def test_tosparse_is_the_callers_own():
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


def test_with_kernel_shares_the_structure_of_a_built_matrix():
    rng = np.random.default_rng(0)
    A = Conv(rng.standard_normal((3, 3)), (12, 12), padding=1, engine="csr")
    A @ np.ones(144)
    B = A.with_kernel(1j * rng.standard_normal((3, 3)))
    assert isinstance(B, Conv)
    assert B.spec is A.spec
    assert B.dtype == np.complex128
    assert np.shares_memory(A._engine.matrix.indices, B._engine.matrix.indices)
    assert_array_equal(B.todense(), kernel2matrix(B.kernel, (12, 12), padding=1).toarray())
    assert_allclose(B @ np.ones(144), B.todense() @ np.ones(144))
    assert_allclose(A.T.with_kernel(B.kernel) @ np.ones(144), B.todense().T @ np.ones(144))
    with pytest.raises(ValueError, match=r"kernel must keep the shape \(3, 3\), got \(3, 4\)"):
        A.with_kernel(np.ones((3, 4)))


def test_turning_shares_the_engine_where_it_can():
    real = Conv(np.ones((2, 2)), (3, 3))
    assert real.T._engine is real.H._engine is real.T.T._engine is real._engine
    complex_ = Conv(np.ones((2, 2)) * 1j, (3, 3))
    assert complex_.H._engine is complex_.H.H._engine is complex_._engine


def test_pickles_and_copies():
    rng = np.random.default_rng(0)
    A = Conv(rng.standard_normal((2, 3)) * 1j, (5, 6), stride=2, padding="same", flip=True, name="blur")
    F = ConvFilter(rng.standard_normal((5, 6)), (2, 3), padding_mode="circular", padding=1)
    for op in (A, A.T, A.H, F, F.H):
        for same in (pickle.loads(pickle.dumps(op)), copy.deepcopy(op), copy.copy(op)):
            assert type(same) is type(op)
            assert (same.name, same.dims, same.dimsd, same.dtype) == (op.name, op.dims, op.dimsd, op.dtype)
            assert_array_equal(same.todense(), op.todense())
    assert pickle.loads(pickle.dumps(A.T)) == A.T


def test_eight_threads_build_one_matrix(monkeypatch):
    from convop.engines.cpu import csr

    built = []
    original = csr.build
    monkeypatch.setattr(csr, "build", lambda *arguments: built.append(1) or original(*arguments))
    A = Conv(np.random.default_rng(0).standard_normal((5, 5)), (64, 64), padding=2, engine="csr")
    expected = kernel2matrix(A.kernel, (64, 64), padding=2) @ np.ones(4096)
    results, barrier = [None] * 8, threading.Barrier(8)

    def work(i):
        barrier.wait()
        results[i] = (A @ np.ones(4096), A.H @ np.ones(4096))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sum(built) == 1
    for forward, adjoint in results:
        assert_array_equal(forward, expected)
        assert_array_equal(adjoint, results[0][1])


@pytest.mark.parametrize("padding_mode", ["zeros", "reflect", "symmetric"])
def test_cond_and_norm_by_singular_values(padding_mode):
    A = Conv([[4.0, 1.0], [-1.5, 0.25]], (9, 8), padding=((0, 1), (1, 0)), padding_mode=padding_mode)
    values = np.linalg.svd(A.todense(), compute_uv=False)
    assert A.cond() == pytest.approx(values[0] / values[-1], rel=1e-10)
    assert A.norm() == pytest.approx(values[0], rel=1e-12)
    assert A.T.cond() == pytest.approx(A.cond(), rel=1e-8)  # rounding moves it by eps*cond
    # the eigenvalues, which PyLops' own default uses, say something else
    eigenvalues = np.abs(np.linalg.eigvals(A.todense()))
    assert abs(A.cond() / (eigenvalues.max() / eigenvalues.min()) - 1) > 0.01


def test_cond_of_a_singular_operator_is_infinite():
    assert Conv([1.0, -1.0], 16, padding=((0, 1),), padding_mode="circular").cond() == np.inf
    assert Conv(np.zeros(3), 5).cond() == np.inf


def test_norm_and_cond_of_what_is_not_finite_or_zero_or_mostly_unread():
    for size in (3, 40):
        assert Conv(np.zeros((3, 3)), (size, size)).norm() == 0
    broken = Conv([[1.0, np.nan], [0.0, 1.0]], (6, 6))
    assert np.isnan(broken.norm())
    assert np.isnan(broken.cond())
    sparse = Conv(np.arange(1.0, 10).reshape(3, 3), (8000, 8000), stride=4000)
    assert sparse.norm() == pytest.approx(np.linalg.norm(np.arange(1.0, 10)))
    assert sparse.cond() == pytest.approx(1)
    assert Conv(np.ones(2), 9, stride=4).T.cond() == pytest.approx(1)
    assert Conv(np.ones(1), 4, padding=2).cond() == pytest.approx(1)  # rows that read nothing, all columns read
    assert Conv(np.ones(1), 9, stride=4, padding=((4, 0),)).cond() == np.inf  # one row of four reads nothing
    assert Conv(np.ones(2), 9, stride=4, padding=((0, 9),)).cond() == np.inf


def test_cond_in_single_precision_is_computed_in_double():
    K = np.array([1.0, -0.999], dtype=np.float32)
    single, double = (Conv(K.astype(d), 400, padding=((0, 1),)) for d in ("float32", "float64"))
    assert single.cond() == pytest.approx(double.cond(), rel=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e-6, 1.0, 1e18, 1e160])
def test_norm_beyond_dense_size_does_not_depend_on_scale(dtype, scale):
    K = np.random.default_rng(0).standard_normal((3, 3))
    if dtype == "float32":
        scale = min(max(scale, 1e-30), 1e30)
    A = Conv((K * scale).astype(dtype), (26, 26))
    # of K itself, by svds, which is right at this scale
    (expected,) = sla.svds(Conv(K, (26, 26)).tosparse(), k=1, return_singular_vectors=False)
    assert A.norm() / scale == pytest.approx(expected, rel=1e-8 if dtype != "float32" else 1e-6)


def test_norm_where_singular_values_lie_close_together():
    """``2 cos(pi/(2 n))``, with the next one of n=20000 closer than 1e-8."""
    n = 20000
    assert Conv([1.0, 1.0], n).norm() == pytest.approx(2 * np.cos(np.pi / (2 * n)), rel=1e-6)


def test_norm_beyond_dense_size():
    """A circular convolution with a positive kernel has the norm of its sum."""
    A = Conv(np.ones((3, 3)) / 9, (96, 96), padding="same", padding_mode="circular")
    assert A.norm() == pytest.approx(1, rel=1e-10)
    assert A.cond() == np.inf  # by frequencies
    with pytest.raises(ValueError, match="all singular values are computed of matrices"):
        Conv(np.ones((3, 3)), (96, 96), padding="same").cond()


def test_scipy_and_pylops_take_the_operators():
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


def test_with_kernel_lets_go_of_the_old_values():
    A = Conv(np.ones(5), 4000, engine="csr")
    A @ np.ones(4000)
    matrix = weakref.ref(A._engine.matrix)
    B = A.with_kernel(np.arange(5.0))
    del A
    gc.collect()
    assert matrix() is None
    assert_array_equal(B @ np.ones(4000), np.full(3996, 10.0))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("op", [Conv(np.ones(3), 50, engine="csr"), ConvFilter(np.ones(50), 3, engine="csr")])
def test_a_child_forked_while_a_thread_builds_does_not_hang(op):
    lock = op._engine._lock if isinstance(op, Conv) else op._filter._lock
    with lock:  # as the thread holds it that does not exist in the child
        child = os.fork()
        if child == 0:  # pragma: no cover - in the child
            signal.alarm(20)
            os._exit(0 if np.isfinite(op @ np.ones(op.shape[1])).all() else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


@pytest.mark.parametrize("op", [ConvFilter, Conv])
def test_errors_name_the_argument_that_was_given(op):
    name = "x" if op is ConvFilter else "kernel"
    for value, error in ((5.0, ValueError), ([], ValueError), (np.ones(3, "longdouble"), TypeError)):
        with pytest.raises(error, match=rf"^{name} must"):
            op(value, 3)
    with pytest.raises(TypeError, match=f"would drop the imaginary part of a complex128 {name}"):
        op(np.ones(3) * 1j, 3, dtype=float)
    with pytest.raises(TypeError, match="flip must be True or False"):
        op(np.ones(3), 3, flip=1)
    with pytest.raises(ValueError, match="engine must be one of"):
        op(np.ones(3), 3, engine=["csr"])
    with pytest.raises(ValueError, match="backend must be one of numpy, cupy; got 'jax'"):
        op(np.ones(3), 3).todense(backend="jax")


def test_padding_that_crops_everything_fits_no_output_shape():
    with pytest.raises(ValueError, match="the padding crops all of the output away, so no output_shape fits"):
        ConvTranspose(np.ones((2, 2)), (3, 3), padding=5, output_shape=(1, 1))


def test_engines():
    assert "csr" in convop.engines.available()
    for name in ("auto", "measure", *convop.engines.available()):
        assert Conv([1, 2], 4, engine=name).engine in convop.engines.available()
    for make in (lambda: Conv([1, 2], 4, engine="gpu"), lambda: ConvFilter([1, 2], 1, engine="gpu")):
        with pytest.raises(ValueError, match=r"engine must be one of .*; got 'gpu'"):
            make()


@pytest.mark.parametrize("op", [Conv(np.ones((2, 2)), (40, 40)), ConvFilter(np.ones((400, 400)), (2, 2))])
def test_out_of_memory_is_said_before(op, monkeypatch):
    monkeypatch.setattr(convop.arrays.memory, "available", lambda: 10**5)
    with pytest.raises(MemoryError, match=r"only 97\.7 KiB of memory is free"):
        op.todense()


def test_output_padding_beyond_the_stride():
    """As PyTorch has it: smaller than the dilation is enough. The extra outputs receive nothing."""
    K = np.array([1.0, 2.0, 3.0])
    short = ConvTranspose(K, 4, dilation=3)
    longer = ConvTranspose(K, 4, dilation=3, output_padding=2)
    assert longer.dimsd == (short.dimsd[0] + 2,)
    assert_array_equal(longer @ np.ones(4), [*(short @ np.ones(4)), 0, 0])
    dottest(longer)
