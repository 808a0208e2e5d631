"""Operators on the GPU: moving there and back, errors, memory, the laws, PyLops' solvers."""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
import strategies
from engine_cases import integers
from gpu_cases import ENGINES
from numpy.testing import assert_array_equal

import convop
from convop import Conv, ConvFilter, ConvTranspose, kernel2matrix
from convop.testing import check_operator, dottest


def test_operator_multiplies_sparse_matrix_of_the_gpu_only(cupy):
    A = Conv(cupy.asarray(np.ones((3, 3))), (4, 5), padding=1)
    x = sp.random_array((20, 3), density=0.3, rng=0, format="csr")
    assert_array_equal((A @ A.tosparse()).get(), A.todense(backend="numpy") @ A.todense(backend="numpy"))
    with pytest.raises(TypeError, match="x must be a CuPy array"):
        A @ x


@pytest.mark.parametrize("make", [Conv, ConvTranspose, ConvFilter])
def test_operator_moves_to_gpu_and_back(cupy, make):
    rng = np.random.default_rng(0)
    kernel, shape = integers(rng, (4, 3), "float64"), (9, 8)
    A = (
        make(kernel, shape, padding=1, engine="gemm")
        if make is not ConvFilter
        else make(integers(rng, shape, float), (4, 3))
    )
    G = A.to_gpu()
    assert type(G) is type(A)
    assert (A.on_gpu, G.on_gpu, G.to_cpu().on_gpu) == (False, True, False)
    assert (G.spec, G.dims, G.dimsd, G.dtype, G.name) == (A.spec, A.dims, A.dimsd, A.dtype, A.name)
    x = integers(rng, A.dims, "float64")
    y = G @ cupy.asarray(x)
    assert isinstance(y, cupy.ndarray)
    assert_array_equal(y.get(), A @ x)
    assert_array_equal(G.to_cpu() @ x, A @ x)
    assert_array_equal(G.to_gpu().todense().get(), A.todense())
    assert_array_equal(G.todense(backend="numpy"), A.todense())
    assert_array_equal(A.todense(backend="cupy").get(), A.todense())
    assert_array_equal(G.H.to_cpu().todense(), A.H.todense())
    assert_array_equal(pickle.loads(pickle.dumps(G)).todense().get(), A.todense())
    assert G.norm() == A.norm()
    assert G.cond() == A.cond()
    if make is not ConvFilter:
        assert G == G.T.T
        assert G != A
        assert G.to_cpu() == A
        assert hash(G) == hash(G.to_gpu())
        assert (G.with_kernel(cupy.asarray(2 * kernel)) @ cupy.asarray(x)).get().tolist() == (2 * (A @ x)).tolist()


def test_errors_name_array_library(cupy):
    kernel, x = np.ones((2, 2)), np.ones((3, 3))
    A = Conv(kernel, (3, 3))
    G = Conv(cupy.asarray(kernel), (3, 3))
    with pytest.raises(
        TypeError, match=r"x must be a CuPy array, because the operator is on the GPU; got a NumPy array"
    ):
        G @ x
    with pytest.raises(
        TypeError, match=r"x must be a NumPy array, because the operator is on the CPU; got a CuPy array"
    ):
        A @ cupy.asarray(x)
    with pytest.raises(TypeError, match=r"kernel must be a CuPy array, as the operator's is; got a NumPy array"):
        G.with_kernel(kernel)
    with pytest.raises(TypeError, match=r"kernel must be a NumPy array, as the operator's is; got a CuPy array"):
        A.with_kernel(cupy.asarray(kernel))
    with pytest.raises(
        ValueError, match=r"engine of an operator on the GPU must be one of auto, measure, csr, .*'gemm'"
    ):
        Conv(cupy.asarray(kernel), (3, 3), engine="gemm")
    with pytest.raises(ValueError, match=r"x must have the shape \(3, 3\) or \(9,\)"):
        G @ cupy.asarray(np.ones((4, 3)))
    with pytest.raises(TypeError, match="dtype=float32 would drop the imaginary part"):
        Conv(cupy.asarray(kernel * 1j), (3, 3), dtype="float32")


def test_memory_of_gpu_is_checked_first(cupy, monkeypatch):
    monkeypatch.setattr(cupy.cuda.runtime, "memGetInfo", lambda: (10**6, 10**9))
    with pytest.raises(MemoryError, match=r"the matrix of ConvSpec.* takes .* but only 976.6 KiB of the GPU's memory"):
        kernel2matrix(cupy.asarray(np.ones((3, 3))), (1000, 1000))
    with pytest.raises(MemoryError, match="the transformed kernel of ConvSpec"):
        Conv(cupy.asarray(np.ones((9, 9, 3, 3))), (9, 100, 100), engine="fft") @ cupy.asarray(np.ones((9, 100, 100)))
    with pytest.raises(MemoryError, match="the dense matrix"):
        Conv(cupy.asarray(np.ones((3, 3))), (50, 50)).todense()


@pytest.mark.thinned
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", strategies.DTYPES)
def test_dottest_passes_on_gpu(cupy, engine, dtype):
    rng = np.random.default_rng(0)
    kernel = integers(rng, (2, 3, 3), dtype)
    A = Conv(cupy.asarray(kernel), (5, 9, 8), stride=(1, 2, 1), padding="same", padding_mode="reflect", engine=engine)
    assert dottest(A).passed
    assert dottest(A.T).passed


@pytest.fixture
def pylops_with_cupy(cupy, monkeypatch):
    """PyLops, which was imported before the stand-in, told to use it."""
    import pylops
    from pylops.utils import backend

    monkeypatch.setattr(backend.deps, "cupy_enabled", True)
    monkeypatch.setattr(backend, "cp", cupy, raising=False)
    return pylops


def test_laws_hold_for_operators_on_gpu(cupy, pylops_with_cupy):
    A = Conv(cupy.asarray(np.ones((3, 3))), (7, 6), padding=1)
    for op in (2 * A, A.T @ A, A.tosparse(), A.todense()):
        assert dottest(op).passed
    for op in (A, A.T, A.tosparse(), A.todense()):
        check_operator(op)
    check_operator(ConvFilter(cupy.asarray(np.ones((7, 6))), (3, 3)))
    check_operator(Conv(cupy.asarray(1j * np.ones((3, 3))), (7, 6), stride=2))

    class Wrong:
        shape, dtype = A.shape, A.dtype
        matvec = staticmethod(A.matvec)
        rmatvec = staticmethod(lambda y: 2 * A.rmatvec(y))

    with pytest.raises(AssertionError, match="relative error"):
        dottest(Wrong())


def test_plots_of_operator_on_gpu_equal_plots_on_cpu(cupy):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    A = Conv(cupy.asarray(np.arange(4.0).reshape(2, 2)), (3, 3))
    for draw in (convop.plot.matrix, convop.plot.kernel):
        shown, expected = (draw(op, ax=matplotlib.figure.Figure().subplots()) for op in (A, A.to_cpu()))
        assert_array_equal(shown.images[0].get_array(), expected.images[0].get_array())


def test_operator_copies_kernel(cupy):
    kernel = cupy.asarray(np.ones((2, 2)))
    A = Conv(kernel, (3, 3))
    kernel[0, 0] = 100
    assert A.kernel.get().max() == 1
    x = cupy.asarray(np.ones((3, 3)))
    A @ x
    assert (x.get() == 1).all()
    assert sp.issparse(convop.kernel2matrix([[1.0]], (2, 2)))


def deblurring_problem(cupy, mode="reflect"):
    rng = np.random.default_rng(0)
    kernel = np.outer(*[np.exp(-(np.arange(-2.0, 3) ** 2))] * 2)
    A = Conv(cupy.asarray(kernel), (24, 20), padding=2, padding_mode=mode)
    x = rng.standard_normal(A.shape[1])
    return A, cupy.asarray(x), x


def test_pylops_solvers_run_on_gpu(cupy, pylops_with_cupy):
    cgls, fista = pylops_with_cupy.cgls, pylops_with_cupy.optimization.sparsity.fista
    A, x, expected = deblurring_problem(cupy)
    y = A @ x
    solved = cgls(A, y, x0=cupy.zeros(A.shape[1]), niter=400, damp=0, tol=0)[0]
    assert isinstance(solved, cupy.ndarray)
    np.testing.assert_allclose(solved.get(), expected, atol=1e-5)
    limits = {"niter": 30, "eps": 0.01, "alpha": 0.2, "tol": 0, "threshkind": "soft"}
    sparse = fista(A, y, x0=cupy.zeros(A.shape[1]), **limits)[0]
    assert isinstance(sparse, cupy.ndarray)
    same = fista(A.to_cpu(), y.get(), x0=np.zeros(A.shape[1]), **limits)[0]
    np.testing.assert_allclose(sparse.get(), same, atol=1e-12)
