"""Operators on the GPU: on a CuPy that runs on the CPU (`host_cupy`), and on a real one where there is one (`gpu`)."""

import pickle
import sys
from importlib.util import find_spec

import host_cupy
import numpy as np
import oracle
import pytest
import scipy.sparse as sp
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

import convop
from convop import Conv, ConvFilter, ConvSpec, ConvTranspose, kernel2matrix
from convop.cuda.tables import Direction, compiled_kernel
from convop.geometry.axis import PADDING_MODES, Axis
from convop.geometry.gather_table import GatherTable
from convop.testing import check_operator, dottest

ENGINES = ["csr", "direct", "fft", *(["torch"] if find_spec("torch") else [])]


@pytest.fixture(scope="module", autouse=True, params=["host", pytest.param("gpu", marks=pytest.mark.gpu)])
def cupy(request):
    """The stand-in, in place of whatever CuPy is installed; or CuPy itself."""
    compiled_kernel.cache_clear()
    if request.param == "gpu":
        cupy = pytest.importorskip("cupy")
        if not cupy.cuda.is_available():
            pytest.skip("no GPU is at hand")
        yield cupy
        return
    modules = host_cupy.modules()
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    yield modules["cupy"]
    compiled_kernel.cache_clear()
    for name, module in before.items():
        if module is None:
            del sys.modules[name]
        else:
            sys.modules[name] = module


def integers(rng, shape, dtype):
    values = rng.integers(-4, 5, shape)
    return (values + 1j * rng.integers(-4, 5, shape) if np.dtype(dtype).kind == "c" else values).astype(dtype)


def assert_close(got, expected, tolerance):
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    scale = np.abs(expected).max(initial=1)
    assert np.abs(got - expected).max(initial=0) <= tolerance * scale


def tolerance(engine, dtype):
    """Integers are summed exactly but by transforms."""
    return 100 * np.finfo(dtype).eps if engine == "fft" else 0


@st.composite
def axes(draw):
    taps, dilation, inputs = draw(st.integers(1, 6)), draw(st.integers(1, 4)), draw(st.integers(1, 20))
    lo = draw(st.integers(-3, inputs + 3))
    missing = max(dilation * (taps - 1) + 1 - inputs - lo, -3)
    hi = draw(st.integers(missing, max(missing, 0) + 5))
    return Axis(inputs, taps, draw(st.integers(1, 5)), dilation, lo, hi, draw(st.sampled_from(PADDING_MODES)))


@settings(max_examples=1000, deadline=None)
@given(axis=axes(), adjoint=st.booleans())
def test_what_is_gathered_is_the_axis_or_its_transpose(axis, adjoint):
    weights = 3.0 ** np.arange(axis.taps)
    expected = np.zeros((axis.outputs, axis.inputs))
    for output in range(axis.outputs):
        for tap in range(axis.taps):
            source = oracle.extended_index(output * axis.stride + tap * axis.dilation - axis.lo, axis.inputs, axis.mode)
            if source is not None:
                expected[output, source] += weights[tap]
    gathered = GatherTable.of(axis, adjoint=adjoint)
    got = np.zeros((gathered.n_written, gathered.n_read))
    for element, (base, start, stop) in enumerate(zip(*gathered.full(), strict=True)):
        columns = base + gathered.offset[start:stop]
        assert (np.diff(columns) > 0).all()
        for column, entry in zip(columns, range(start, stop), strict=True):
            assert column >= 0
            got[element, column] = weights[gathered.taps[gathered.first[entry] : gathered.first[entry + 1]]].sum()
    assert_array_equal(got, expected.T if adjoint else expected)


@pytest.mark.parametrize("mode", PADDING_MODES)
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (4, 1), (1, 3), (2, 3), (3, 2)])
def test_most_elements_are_gathered_alike(mode, stride, dilation):
    """Lists are for the ends of an axis, and stay as small as the kernel."""
    axis = Axis(100_000, 8, stride, dilation, 4, 4, mode)
    for adjoint in (False, True):
        gathered = GatherTable.of(axis, adjoint=adjoint)
        assert len(gathered.base) <= 4 * axis.extent
        assert len(gathered.offset) <= 8 * (4 * axis.extent + 1)


def assert_agrees(case, engine, columns, seed, cupy):
    """With the plain loops of the oracle: forward, transposed and adjoint, one vector and a batch."""
    rng = np.random.default_rng(seed)
    dtype = case.kernel.dtype
    dense, _ = oracle.dense_matrix(case.kernel, case.input_shape, flip=case.flip, **case.parameters)
    A = Conv(cupy.asarray(case.kernel), case.input_shape, flip=case.flip, engine=engine, **case.parameters)
    assert A.engine == engine
    assert A.on_gpu
    assert A.shape == dense.shape
    for operator, matrix in ((A, dense), (A.T, dense.T), (A.H, dense.conj().T)):
        for shape in ((matrix.shape[1],), (matrix.shape[1], columns)):
            x = integers(rng, shape, dtype)
            apply = operator.matvec if x.ndim == 1 else operator.matmat
            assert_close(apply(cupy.asarray(x)).get(), (matrix @ x).astype(dtype), tolerance(engine, dtype))


@pytest.mark.parametrize("engine", ENGINES)
@settings(max_examples=150, deadline=None)
@given(case=strategies.cases(), columns=st.integers(1, 3), seed=st.integers(0, 2**32 - 1))
def test_engines_agree_with_the_oracle(cupy, engine, case, columns, seed):
    assert_agrees(case, engine, columns, seed, cupy)


# Large enough for tiles of rows in both directions, with what is left of them.
LARGE = [
    ((37, 41), (3, 3), {"padding": 1}),
    ((70, 19), (5, 4), {"padding": 2, "stride": (1, 3)}),
    ((90, 23), (7, 3), {"padding": (3, 1), "stride": (2, 1)}),
    ((120, 23), (7, 3), {"padding": (3, 1), "stride": (3, 2), "dilation": (2, 1)}),
    ((150, 9), (4, 2), {"padding": 5, "stride": (4, 1), "dilation": (6, 1)}),
    ((100, 9), (2, 2), {"stride": (5, 1)}),
    ((5, 40, 21), (2, 3, 3), {"padding": 1, "stride": (2, 1, 1)}),
    ((6, 60, 11), (4, 3, 3, 3), {"padding": 1, "groups": 2}),
    ((33, 12), (9, 9), {"padding": "full", "dilation": 2}),
    ((60, 12), (40, 3), {"padding": "same"}),
    ((60, 200), (1, 3), {"padding": ((0, 0), (-2, -3))}),
    ((500,), (9,), {"padding": 4, "stride": 2}),
    ((1, 300), (1, 5), {}),
    ((9, 33, 7, 5), (2, 3, 2, 1), {"padding": "same"}),
]


@pytest.mark.parametrize("mode", PADDING_MODES)
@pytest.mark.parametrize(("input_shape", "kernel_shape", "parameters"), LARGE)
@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_tiles_agree_with_the_matrix(cupy, input_shape, kernel_shape, parameters, mode, dtype):
    rng = np.random.default_rng(0)
    kernel = integers(rng, kernel_shape, dtype)
    A = Conv(cupy.asarray(kernel), input_shape, padding_mode=mode, engine="direct", **parameters)
    matrix = kernel2matrix(kernel, input_shape, padding_mode=mode, **parameters)
    x, y = integers(rng, (A.shape[1], 2), dtype), integers(rng, (A.shape[0], 2), dtype)
    assert_array_equal((A @ cupy.asarray(x)).get(), matrix @ x)
    assert_array_equal((A.H @ cupy.asarray(y)).get(), matrix.conj().T @ y)


def test_no_element_is_written_twice(cupy, monkeypatch):
    """Kernels that add to zeros what they would write give the same."""
    from convop.cuda import tables

    code = tables.kernel_source()
    adding = code.replace("] = sums[r];", "] += sums[r];")
    assert adding != code
    tables.compiled_kernel.cache_clear()
    monkeypatch.setattr(tables, "kernel_source", lambda: adding)
    monkeypatch.setattr(cupy, "empty", cupy.zeros, raising=False)
    for input_shape, kernel_shape, parameters in LARGE:
        kernel = integers(np.random.default_rng(0), kernel_shape, "float32")
        A = Conv(cupy.asarray(kernel), input_shape, engine="direct", **parameters)
        matrix = kernel2matrix(kernel, input_shape, **parameters)
        assert_array_equal((A @ cupy.ones(A.shape[1], "float32")).get(), matrix @ np.ones(A.shape[1], "float32"))
        assert_array_equal((A.T @ cupy.ones(A.shape[0], "float32")).get(), matrix.T @ np.ones(A.shape[0], "float32"))
    tables.compiled_kernel.cache_clear()


def test_tiles_are_used_where_they_can_be():
    """Every row of a large plane but those at its ends, in both directions."""
    for parameters, tiled in (
        ({}, (8, 8)),
        ({"stride": 2}, (8, 8)),
        ({"dilation": (20, 1)}, (0, 0)),
        ({"stride": 60}, (0, 8)),
    ):
        spec = ConvSpec((4000, 64), (7, 7), padding=3, **parameters)
        for adjoint, rows in zip((False, True), tiled, strict=True):
            direction = Direction(spec, adjoint)
            together, taps, _, _ = direction.register_tile(4)
            assert (together if taps else 0) == rows
            tasks = direction.tasks(together)
            written = np.concatenate([first + step * np.arange(skip, n) for first, n, step, skip in tasks.tolist()])
            assert_array_equal(np.sort(written), np.arange(direction.axes[-2].n_written))  # each once
            if rows:
                assert (tasks[:, 1] == 1).sum() <= 30


@settings(max_examples=150, deadline=None)
@given(case=strategies.cases(), adjoint=st.booleans())
def test_matrices_are_those_of_the_cpu(cupy, case, adjoint):
    arguments = {"flip": case.flip, **case.parameters}
    expected = kernel2matrix(case.kernel, case.input_shape, **arguments)
    got = kernel2matrix(cupy.asarray(case.kernel), case.input_shape, **arguments)
    A = Conv(cupy.asarray(case.kernel), case.input_shape, **arguments)
    if adjoint:
        got, expected = A.T.tosparse(), Conv(case.kernel, case.input_shape, **arguments).T.tosparse()
    assert type(got).__module__.startswith("cupyx.scipy.sparse")
    assert got.has_canonical_format
    for part in ("indptr", "indices", "data"):
        mine, theirs = getattr(got, part).get(), getattr(expected, part)
        assert mine.dtype == theirs.dtype
        assert_array_equal(mine, theirs)


def test_formats_of_matrices(cupy):
    kernel = cupy.asarray(np.ones((2, 2)))
    for format in ("csr", "csc", "coo"):
        assert kernel2matrix(kernel, (3, 3), format=format).format == format
        assert Conv(kernel, (3, 3)).tosparse(format).format == format
    for format in ("bsr", "dia"):
        with pytest.raises(ValueError, match="format of a matrix on the GPU must be one of csr, csc, coo; got"):
            kernel2matrix(kernel, (3, 3), format=format)
        with pytest.raises(ValueError, match="format of a matrix on the GPU must be one of csr, csc, coo; got"):
            Conv(kernel, (3, 3)).T.tosparse(format)


def test_products_of_positions_do_not_overflow(cupy):
    """A first entry far outside and an offset far inside, each times the length of a row beyond 32 bits."""
    kernel = np.ones((3, 1), "float32")
    arguments = {"dilation": (10001, 1), "padding": ((10000, 10002), (0, 0))}
    A = Conv(cupy.asarray(kernel), (3, 214748), engine="direct", **arguments)
    x = integers(np.random.default_rng(0), A.dims, "float32")
    assert_array_equal((A @ cupy.asarray(x)).get(), Conv(kernel, A.dims, engine="csr", **arguments) @ x)
    assert not Direction(A.spec, False).options(np.dtype("float32"), 1).wide
    # positions alone may be too far away
    far = ConvSpec((3, 3), (2, 1), dilation=(2**31, 1), padding=((2**31 - 2, 2), (0, 0)))
    assert Direction(far, False).options(np.dtype("float32"), 1).wide


@pytest.mark.parametrize("engine", ENGINES)
def test_batches_without_columns(cupy, engine):
    A = Conv(cupy.asarray(np.ones((2, 3, 3), "float32")), (5, 6, 7), padding=1, engine=engine)
    assert (A @ cupy.zeros((210, 0))).shape == (A.shape[0], 0)
    assert (A.H @ cupy.zeros((A.shape[0], 0), "float32")).shape == (210, 0)
    F = ConvFilter(cupy.asarray(np.ones((6, 7))), (3, 3), engine=engine)
    assert F.matmat(cupy.zeros((9, 0))).shape == (F.shape[0], 0)
    assert F.H.matmat(cupy.zeros((F.shape[0], 0))).shape == (9, 0)


def test_sparse_input(cupy):
    A = Conv(cupy.asarray(np.ones((3, 3))), (4, 5), padding=1)
    x = sp.random_array((20, 3), density=0.3, rng=0, format="csr")
    assert_array_equal((A @ A.tosparse()).get(), A.todense(backend="numpy") @ A.todense(backend="numpy"))
    with pytest.raises(TypeError, match="x must be an array of CuPy"):
        A @ x


def test_wide_integers_are_used_for_what_int_cannot_count(cupy, monkeypatch):
    from convop.cuda import tables

    monkeypatch.setattr(tables, "INT_MAX", 100)
    rng = np.random.default_rng(0)
    kernel, x = integers(rng, (3, 3), "float64"), integers(rng, (40, 30), "float64")
    for engine in ("direct", "csr"):
        A = Conv(cupy.asarray(kernel), (40, 30), padding=1, engine=engine)
        assert_array_equal((A @ cupy.asarray(x)).get(), Conv(kernel, (40, 30), padding=1, engine="csr") @ x)
    spec = ConvSpec((2**16, 2**16), (3, 3), padding=1)
    monkeypatch.undo()
    assert Direction(spec, False).options(np.dtype("float32"), 1).wide
    assert Direction(spec, False).options(np.dtype("float32"), 1).index == "long long"
    small = ConvSpec((2**14, 2**14), (3, 3), padding=1)
    assert not Direction(small, True).options(np.dtype("float32"), 7).wide
    assert Direction(small, True).options(np.dtype("float32"), 8).wide


@settings(max_examples=150, deadline=None)
@given(
    case=strategies.cases(), columns=st.integers(1, 3), seed=st.integers(0, 2**32 - 1), engine=st.sampled_from(ENGINES)
)
def test_filters_agree_with_the_cpu(cupy, case, columns, seed, engine):
    rng = np.random.default_rng(seed)
    dtype = case.kernel.dtype
    data = integers(rng, case.input_shape, dtype)
    arguments = {"flip": case.flip, **case.parameters}
    F = ConvFilter(cupy.asarray(data), case.kernel.shape, engine=engine, **arguments)
    exact = ConvFilter(data, case.kernel.shape, engine="csr", **arguments)
    assert (F.engine, F.on_gpu, F.H.on_gpu) == (engine, True, True)
    for gpu, cpu, part in ((F, exact, tolerance(engine, dtype)), (F.H, exact.H, 0), (F.T, exact.T, 0)):
        for shape in ((cpu.shape[1],), (cpu.shape[1], columns)):
            k = integers(rng, shape, dtype)
            got, expected = (gpu.matvec, cpu.matvec) if k.ndim == 1 else (gpu.matmat, cpu.matmat)
            assert_close(got(cupy.asarray(k)).get(), expected(k), part)


def test_gradients_in_chunks(cupy):
    """Of as many outputs as are summed by several threads."""
    rng = np.random.default_rng(0)
    data, y = integers(rng, (3, 60, 61), "float64"), integers(rng, (4, 60, 61), "float64")
    arguments = {"padding": "same", "padding_mode": "reflect"}
    F = ConvFilter(cupy.asarray(data), (4, 3, 3, 3), **arguments)
    assert_array_equal((F.H @ cupy.asarray(y)).get(), ConvFilter(data, (4, 3, 3, 3), **arguments).H @ y)


@pytest.mark.parametrize("make", [Conv, ConvTranspose, ConvFilter])
def test_operators_move(cupy, make):
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


def test_complex_input_of_a_real_operator(cupy):
    rng = np.random.default_rng(0)
    kernel, x = integers(rng, (3, 3), "float32"), integers(rng, (7, 6, 2), "complex128")
    for engine in ENGINES:
        A = Conv(cupy.asarray(kernel), (7, 6), padding=1, engine=engine)
        assert_close((A @ cupy.asarray(x)).get(), Conv(kernel, (7, 6), padding=1, engine="csr") @ x, 1e-13)


def test_errors_say_what_to_move(cupy):
    kernel, x = np.ones((2, 2)), np.ones((3, 3))
    A = Conv(kernel, (3, 3))
    G = Conv(cupy.asarray(kernel), (3, 3))
    with pytest.raises(TypeError, match=r"x must be an array of CuPy, as the operator is on the GPU; got one of NumPy"):
        G @ x
    with pytest.raises(TypeError, match=r"x must be an array of NumPy, as the operator is on the CPU; got one of CuPy"):
        A @ cupy.asarray(x)
    with pytest.raises(TypeError, match=r"kernel must be an array of CuPy, as the operator's is; got one of NumPy"):
        G.with_kernel(kernel)
    with pytest.raises(TypeError, match=r"kernel must be an array of NumPy, as the operator's is; got one of CuPy"):
        A.with_kernel(cupy.asarray(kernel))
    with pytest.raises(
        ValueError, match=r"engine of an operator on the GPU must be one of auto, measure, csr, .*'gemm'"
    ):
        Conv(cupy.asarray(kernel), (3, 3), engine="gemm")
    with pytest.raises(ValueError, match=r"x must have the shape \(3, 3\) or \(9,\)"):
        G @ cupy.asarray(np.ones((4, 3)))
    with pytest.raises(TypeError, match="dtype=float32 would drop the imaginary part"):
        Conv(cupy.asarray(kernel * 1j), (3, 3), dtype="float32")


def test_memory_is_asked_for_first(cupy, monkeypatch):
    monkeypatch.setattr(cupy.cuda.runtime, "memGetInfo", lambda: (10**6, 10**9))
    with pytest.raises(MemoryError, match=r"the matrix of ConvSpec.* takes .* but only 976.6 KiB of the GPU's memory"):
        kernel2matrix(cupy.asarray(np.ones((3, 3))), (1000, 1000))
    with pytest.raises(MemoryError, match="the transformed kernel of ConvSpec"):
        Conv(cupy.asarray(np.ones((9, 9, 3, 3))), (9, 100, 100), engine="fft") @ cupy.asarray(np.ones((9, 100, 100)))
    with pytest.raises(MemoryError, match="the dense matrix"):
        Conv(cupy.asarray(np.ones((3, 3))), (50, 50)).todense()


def test_auto_looks_at_the_number_of_taps(cupy):
    assert Conv(cupy.asarray(np.ones((3, 3))), (64, 64)).engine == "direct"
    assert Conv(cupy.asarray(np.ones((31, 31))), (64, 64)).engine == "fft"
    A = Conv(cupy.asarray(np.ones((31, 31))), (64, 64))
    assert A.with_kernel(cupy.asarray(np.zeros((31, 31)))).engine == "fft"


def test_measuring_is_done_once(cupy, monkeypatch):
    from convop.engines.gpu import choose

    stream = type("Stream", (), {"synchronize": lambda self: None})
    monkeypatch.setattr(cupy.cuda, "get_current_stream", stream, raising=False)
    monkeypatch.setattr(choose, "_measured", {})
    with monkeypatch.context() as patch:
        patch.setattr(cupy.cuda.runtime, "memGetInfo", lambda: (10**4, 10**9))  # not for the matrix or transforms
        assert Conv(cupy.asarray(np.ones((3, 3))), (30, 30), engine="measure").engine == "direct"
    A = Conv(cupy.asarray(np.ones((3, 3))), (20, 20), engine="measure")
    assert A.engine in ENGINES
    monkeypatch.setattr(choose, "_fastest", lambda *_: pytest.fail("measured again"))
    assert A.with_kernel(cupy.asarray(np.zeros((3, 3)))).engine == A.engine


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", strategies.DTYPES)
def test_dottest_runs_on_the_gpu(cupy, engine, dtype):
    rng = np.random.default_rng(0)
    kernel = integers(rng, (2, 3, 3), dtype)
    A = Conv(cupy.asarray(kernel), (5, 9, 8), stride=(1, 2, 1), padding="same", padding_mode="reflect", engine=engine)
    assert dottest(A).passed
    assert dottest(A.T).passed


def test_dottest_of_other_operators_on_the_gpu(cupy, pylops_with_cupy):
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


def test_pictures_of_operators_on_the_gpu(cupy):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    A = Conv(cupy.asarray(np.arange(4.0).reshape(2, 2)), (3, 3))
    for draw in (convop.plot.matrix, convop.plot.kernel):
        shown, expected = (draw(op, ax=matplotlib.figure.Figure().subplots()) for op in (A, A.to_cpu()))
        assert_array_equal(shown.images[0].get_array(), expected.images[0].get_array())


def test_nothing_stays_of_shared_arrays(cupy):
    kernel = cupy.asarray(np.ones((2, 2)))
    A = Conv(kernel, (3, 3))
    kernel[0, 0] = 100
    assert A.kernel.get().max() == 1
    x = cupy.asarray(np.ones((3, 3)))
    A @ x
    assert (x.get() == 1).all()
    assert sp.issparse(convop.kernel2matrix([[1.0]], (2, 2)))


def test_the_bench_runs(cupy, monkeypatch):
    """On the stand-in nothing can be said of times."""
    from convop import bench
    from convop.bench import gpu

    monkeypatch.setattr(gpu, "_CALLS", (2, 2))
    monkeypatch.setattr(gpu, "_MAX_SETS", 2)
    results = bench.run(["applying", "extras"], quick=True, repeats=1, device="gpu")
    assert results.machine.device
    assert results.machine.threads == 0
    assert {(line.dtype, line.direction) for line in results.applying} == {
        (dtype, direction) for dtype in ("float32", "float64") for direction in ("forward", "adjoint")
    }
    for line in results.applying:
        assert {"auto", "csr", "direct", "fft"} <= set(line.seconds)
        if line.workload.startswith("blur"):
            assert {"CuPy fftconvolve", "CuPy oaconvolve", "CuPy ndimage"} <= set(line.peers)
    assert len(results.comparisons) == 2 * 2 * 3
    assert all(isinstance(table, object) for table in bench.tables(results))
    monkeypatch.setattr(gpu, "gpu_peers", lambda problem: {"wrong": (lambda: 2 * problem.x, None)})
    with pytest.raises(AssertionError, match="wrong differs by"):
        bench.run(["applying"], quick=True, repeats=1, device="gpu")


def problem(cupy, mode="reflect"):
    rng = np.random.default_rng(0)
    kernel = np.outer(*[np.exp(-(np.arange(-2.0, 3) ** 2))] * 2)
    A = Conv(cupy.asarray(kernel), (24, 20), padding=2, padding_mode=mode)
    x = rng.standard_normal(A.shape[1])
    return A, cupy.asarray(x), x


@pytest.fixture
def pylops_with_cupy(cupy, monkeypatch):
    """PyLops was imported without the stand-in."""
    import pylops
    from pylops.utils import backend

    monkeypatch.setattr(backend.deps, "cupy_enabled", True)
    monkeypatch.setattr(backend, "cp", cupy, raising=False)
    return pylops


def test_solvers_of_pylops(cupy, pylops_with_cupy):
    cgls, fista = pylops_with_cupy.cgls, pylops_with_cupy.optimization.sparsity.fista
    A, x, expected = problem(cupy)
    y = A @ x
    solved = cgls(A, y, x0=cupy.zeros(A.shape[1]), niter=400, damp=0, tol=0)[0]
    assert isinstance(solved, cupy.ndarray)
    np.testing.assert_allclose(solved.get(), expected, atol=1e-5)
    limits = {"niter": 30, "eps": 0.01, "alpha": 0.2, "tol": 0, "threshkind": "soft"}
    sparse = fista(A, y, x0=cupy.zeros(A.shape[1]), **limits)[0]
    assert isinstance(sparse, cupy.ndarray)
    same = fista(A.to_cpu(), y.get(), x0=np.zeros(A.shape[1]), **limits)[0]
    np.testing.assert_allclose(sparse.get(), same, atol=1e-12)


@pytest.mark.parametrize("mode", PADDING_MODES)
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
@pytest.mark.parametrize("transposed", [False, True])
def test_preconditioners_and_solutions(cupy, mode, dtype, transposed):
    """Where the operator is, and the same as on the CPU."""
    rng = np.random.default_rng(0)
    K = rng.standard_normal((3, 4))
    K = (K + 1j * rng.standard_normal(K.shape) if dtype == "complex128" else K).astype(dtype)
    A = Conv(K, (70, 61), padding="same", padding_mode=mode)
    A = A.T if transposed else A
    G = A.to_gpu()
    P, Q = convop.preconditioner(A, 1.0), convop.preconditioner(G, 1.0)
    assert Q.on_gpu
    assert not P.on_gpu
    assert Q.to_cpu().dtype == P.dtype
    x = rng.standard_normal((A.shape[1], 2)).astype(dtype)
    single = dtype == "float32"
    np.testing.assert_allclose((Q @ cupy.asarray(x)).get(), P @ x, atol=1e-4 if single else 1e-12)
    y = rng.standard_normal((*A.dimsd, 2)).astype(dtype)
    rtol = 1e-4 if single else 1e-10
    on_cpu, on_gpu = convop.tikhonov(A, y, 1.0, rtol=rtol), convop.tikhonov(G, cupy.asarray(y), 1.0, rtol=rtol)
    assert on_gpu.converged, on_gpu.reason
    assert abs(on_gpu.iterations - on_cpu.iterations) <= 1
    assert on_gpu.x.shape == (*A.dims, 2)
    np.testing.assert_allclose(on_gpu.x.get(), on_cpu.x, atol=1e-3 if single else 1e-8)
    np.testing.assert_allclose(on_gpu.residual_norm, on_cpu.residual_norm, rtol=1e-4)
    with pytest.raises(TypeError, match="array of NumPy"):
        convop.tikhonov(A, cupy.asarray(y), 1.0)


def test_direct_solutions_and_spectra(cupy):
    K = np.random.default_rng(0).standard_normal((3, 2, 3, 3))
    A = Conv(K, (2, 12, 12), stride=2, padding="same", padding_mode="circular")
    G = A.to_gpu()
    y = np.random.default_rng(1).standard_normal(A.dimsd)
    solution = convop.tikhonov(G, cupy.asarray(y), 0.5)
    assert solution.iterations == 0
    np.testing.assert_allclose(solution.x.get(), convop.tikhonov(A, y, 0.5).x, atol=1e-12)
    np.testing.assert_allclose(
        (convop.spectrum.pinv(G) @ cupy.asarray(y)).get(), convop.spectrum.pinv(A) @ y, atol=1e-10
    )
    assert_array_equal(convop.spectrum.singular_values(G), convop.spectrum.singular_values(A))
    assert convop.spectrum.cond(G) == convop.spectrum.cond(A)
    assert_array_equal(convop.spectrum.symbol(G, [1.0, 2.0]), convop.spectrum.symbol(A, [1.0, 2.0]))
    even = Conv(K + np.flip(K, (2, 3)) + np.flip(K, 2) + np.flip(K, 3), (2, 9, 9), padding=1, padding_mode="symmetric")
    y = np.random.default_rng(1).standard_normal(even.dimsd)
    found = convop.tikhonov(even.to_gpu(), cupy.asarray(y), 0.5)
    assert found.iterations == 0
    np.testing.assert_allclose(found.x.get(), convop.tikhonov(even, y, 0.5).x, atol=1e-12)


def test_dampings(cupy):
    rng = np.random.default_rng(0)
    A = Conv(np.ones((5, 5)) / 25, (48, 48), padding="same", padding_mode="symmetric")
    y = A @ rng.standard_normal((48, 48)).cumsum(0) + 0.3 * rng.standard_normal((48, 48))
    G, z = A.to_gpu(), cupy.asarray(y)
    assert convop.damping.gcv(G, z) == pytest.approx(convop.damping.gcv(A, y), rel=0.05)
    assert convop.damping.discrepancy(G, z, 0.3) == pytest.approx(convop.damping.discrepancy(A, y, 0.3), rel=1e-3)
    assert convop.damping.noise_level(z) == convop.damping.noise_level(y)
