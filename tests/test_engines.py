"""Every engine against the oracle's matrix, and against the matrix engine at sizes with many blocks and threads."""

import itertools
import math
import os
import signal
import threading
import tracemalloc
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import oracle
import pytest
import strategies
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

import convop
from convop import Conv, ConvFilter, ConvSpec
from convop.engines import make, make_filter
from convop.engines.cpu import blocks, direct, fft, sweeps
from convop.engines.cpu import columns as column_transforms
from convop.engines.cpu.separable import SeparableEngine
from convop.threads import sizes

ENGINES = [
    pytest.param(name, marks=[pytest.mark.torch] if name == "torch" else []) for name in convop.engines.available()
]
# Sums of products of small integers are exact but where the values pass through a transform or a decomposition.
INEXACT = {"fft", "separable"}


def tolerance(name, dtype):
    if name not in INEXACT:
        return 0
    return 2e-5 if np.dtype(dtype).char in "fF" else 1e-12


def integers(rng, shape, dtype):
    values = rng.integers(-4, 5, shape)
    if np.dtype(dtype).kind == "c":
        values = values + 1j * rng.integers(-4, 5, shape)
    return values.astype(dtype)


def assert_close(got, expected, bound):
    assert got.shape == expected.shape
    error = np.abs(got - expected).max(initial=0)
    assert error <= bound * max(1, np.abs(expected).max(initial=0))


@pytest.mark.parametrize("name", ENGINES)
@settings(max_examples=120, deadline=None)
@given(case=strategies.cases(), columns=st.integers(0, 3), seed=st.integers(0, 2**32 - 1))
def test_operator_is_the_oracles_matrix(name, case, columns, seed):
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


@contextmanager
def only(transforms):
    """The fft engine with one kind of transforms, whatever they are predicted to cost."""
    with pytest.MonkeyPatch.context() as patch:
        if transforms == "all axes":
            patch.setattr(fft, "cut", lambda *args: None)
        else:
            lengths = fft.block_lengths
            patch.setattr(fft, "block_lengths", lambda *args: replace(lengths(*args), nanoseconds=math.inf))
        yield


@pytest.mark.parametrize("transforms", ["all axes", "first axis"])
@settings(max_examples=200, deadline=None)
@given(case=strategies.cases(), columns=st.integers(0, 3), seed=st.integers(0, 2**32 - 1))
def test_transforms_of_either_kind_are_the_oracles_matrix(transforms, case, columns, seed):
    matrix, _ = oracle.dense_matrix(case.kernel, case.input_shape, flip=case.flip, **case.parameters)
    with only(transforms):
        A = Conv(case.kernel, case.input_shape, flip=case.flip, engine="fft", **case.parameters)
        rng = np.random.default_rng(seed)
        for op, dense in ((A, matrix), (A.T, matrix.T), (A.H, matrix.conj().T), (A.conj(), matrix.conj())):
            x = integers(rng, (dense.shape[1], columns) if columns else dense.shape[1], case.kernel.dtype)
            y = op.matmat(x) if columns else op.matvec(x)
            assert_close(y, dense @ x, tolerance("fft", case.kernel.dtype))


@pytest.mark.parametrize("name", ENGINES)
@settings(max_examples=40, deadline=None)
@given(case=strategies.cases(), columns=st.integers(0, 2), seed=st.integers(0, 2**32 - 1))
def test_filter_is_linear_in_the_kernel(name, case, columns, seed):
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


# Sizes with several blocks along both ends of the axes, tails of every kind, and lines both longer and shorter than tiles.
LARGE = {
    "image": ((210, 330), (5, 4), {"padding": "same"}),
    "long image": ((3000, 7), (3, 3), {"padding": 1}),
    "wide image": ((9, 40000), (3, 5), {"padding": "full"}),
    "dilated": ((150, 170), (3, 3), {"padding": 3, "dilation": (3, 2)}),
    "strided": ((231, 190), (6, 5), {"stride": (4, 2), "padding": 2}),
    "strided and dilated": ((140, 150), (4, 3), {"stride": (2, 3), "dilation": (3, 2), "padding": (3, 1)}),
    "cropped": ((120, 131), (3, 3), {"padding": ((-5, 2), (1, -7))}),
    "signal": ((70001,), (37,), {"padding": "same"}),
    "strided signal": ((50003,), (11,), {"stride": 3, "padding": 4}),
    "volume": ((23, 31, 40), (3, 2, 4), {"padding": "same"}),
    "four axes": ((7, 9, 8, 12), (3, 2, 3, 2), {"padding": 1, "stride": (1, 2, 1, 1)}),
    "pointwise": ((9, 41, 33), (7, 9, 1, 1), {}),
    "channels": ((5, 40, 37), (7, 5, 3, 3), {"padding": 1}),
    "strided channels": ((3, 61, 64), (6, 3, 7, 7), {"padding": 3, "stride": 2}),
    "groups": ((6, 35, 36), (4, 3, 3, 3), {"padding": 1, "groups": 2}),
    "depthwise": ((9, 50, 52), (9, 1, 5, 5), {"padding": 2, "groups": 9}),
}


@pytest.mark.parametrize("mode", strategies.MODES)
@pytest.mark.parametrize("case", LARGE)
def test_many_blocks_and_threads(case, mode, monkeypatch):
    """All engines in all dtypes, with blocks far smaller than usual, against the matrix."""
    monkeypatch.setattr(blocks, "_CACHE", 2**14)
    monkeypatch.setattr(blocks, "_STREAMED", 2**14)
    monkeypatch.setattr(sizes, "_SMALL_WORK", 0)
    monkeypatch.setattr(sizes, "thread_count", lambda: 3)
    monkeypatch.setattr(column_transforms, "_LENGTHS", (16,))
    monkeypatch.setattr(column_transforms, "_WIDTH_CUTS", (3,))
    monkeypatch.setattr(column_transforms, "_LEAST_WIDTH", 3)
    monkeypatch.setattr(sweeps, "_LEAST_WIDTH", 3)
    monkeypatch.setattr(sweeps, "_CUTS", (3,))
    input_shape, kernel_shape, parameters = LARGE[case]
    spec = ConvSpec(input_shape, kernel_shape, padding_mode=mode, **parameters)
    rng = np.random.default_rng(0)
    for dtype in ("float64", "complex64"):
        kernel = integers(rng, kernel_shape, dtype)
        x, y = (integers(rng, (n, 2), dtype) for n in (spec.shape[1], spec.shape[0]))
        matrix = make("csr", spec, kernel)
        forward, adjoint = matrix.forward(x), matrix.adjoint(y)
        for name in ("direct", "gemm", "fft", "separable"):
            engine = make(name, spec, kernel)
            assert_close(engine.forward(x), forward, tolerance(name, dtype))
            assert_close(engine.adjoint(y), adjoint, tolerance(name, dtype))
        with only("first axis"):
            engine = make("fft", spec, kernel)
            assert_close(engine.forward(x), forward, tolerance("fft", dtype))
            assert_close(engine.adjoint(y), adjoint, tolerance("fft", dtype))
    data = x[:, 0].reshape(input_shape)
    k = integers(rng, (math.prod(kernel_shape), 2), dtype)
    exact = make_filter("csr", spec, data)
    forward, adjoint = exact.forward(k), exact.adjoint(y)
    for name in ("direct", "gemm", "fft"):
        one = make_filter(name, spec, data)
        assert_close(one.forward(k), forward, tolerance(name, dtype))
        assert_close(one.adjoint(y), adjoint, tolerance(name, dtype))


def assert_writes_nowhere_else(spec, kernel, name="direct", module=direct):
    """Scratch memory and results lie between walls that must stand: compiled loops check no bounds."""
    wall = 1234.5
    walls = []

    def walled(name, threads, size, dtype):
        array = np.full((threads, size + 512), wall, dtype)
        walls.extend((row, size) for row in array)
        return array

    engine = make(name, spec, kernel)
    original_rooms, original_result = module.rooms, module.Result

    class Walled(original_result):
        def __init__(self, plan, columns, dtype):
            super().__init__(plan, columns, dtype)
            array = np.full(self.target.size + 512, wall, self.target.dtype)
            array[: self.target.size] = 0
            walls.append((array, self.target.size))
            self.target = array[: self.target.size]
            self.columns = self.target.view(dtype).reshape(self.columns.shape)

    module.rooms, module.Result = walled, Walled
    try:
        engine.forward(np.ones(spec.shape[1], kernel.dtype))
        engine.adjoint(np.ones(spec.shape[0], kernel.dtype))
    finally:
        module.rooms, module.Result = original_rooms, original_result
    assert len(walls) >= 6
    for array, size in walls:
        assert (array[size:] == np.asarray(wall, array.dtype)).all()


@settings(max_examples=300, deadline=None)
@given(case=strategies.cases(dtypes=("float64", "float32", "complex64")))
def test_direct_engine_writes_nowhere_else(case):
    assert_writes_nowhere_else(ConvSpec(case.input_shape, case.kernel.shape, **case.parameters), case.kernel)


@settings(max_examples=300, deadline=None)
@given(case=strategies.cases(dtypes=("float64", "float32", "complex64")))
def test_transforms_of_columns_write_nowhere_else(case):
    spec = ConvSpec(case.input_shape, case.kernel.shape, **case.parameters)
    assume(spec.ndim > 1 and spec.axes[0].extent > spec.axes[0].stride)
    with only("first axis"):
        assert_writes_nowhere_else(spec, case.kernel, "fft", column_transforms)


@settings(max_examples=300, deadline=None)
@given(case=strategies.cases(dtypes=("float64", "float32", "complex64")))
def test_sweeps_write_nowhere_else(case):
    spec = ConvSpec(case.input_shape, case.kernel.shape, **case.parameters)
    assert_writes_nowhere_else(spec, case.kernel, "separable", sweeps)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_tiles_of_all_numbers_of_planes_end_with_their_lines(dtype):
    """Channels that fill tiles of four, three, two and one, on lines shorter and longer than each."""
    for channels, width in itertools.product(range(1, 10), (1, 3, 5, 9, 17, 37)):
        for taps in (1, 2):
            shape = (channels, 2, taps, taps)
            spec = ConvSpec((2, 4, width), shape, padding=taps - 1)
            assert_writes_nowhere_else(spec, np.ones(shape, dtype))


@pytest.mark.parametrize("name", ENGINES)
def test_inputs_of_every_kind(name):
    """Lists of columns, other orders and strides, read-only ones, wider dtypes; and inputs are left as they were."""
    rng = np.random.default_rng(0)
    K = rng.standard_normal((3, 3)).astype("float32")
    A = Conv(K, (12, 13), padding=1, engine=name)
    dense = A.tosparse().toarray().astype(float)
    X = rng.standard_normal((156, 4))
    for x in (X, np.asfortranarray(X), X[::-1], np.repeat(X, 2, axis=1)[:, ::2], X.astype("complex128") * 1j):
        given = x.copy()
        x.setflags(write=False)
        y = A @ x
        assert y.dtype == np.result_type(x.dtype, "float64")  # the input's precision, though the kernel's is less
        np.testing.assert_allclose(y, dense @ given, rtol=0, atol=1e-13 * np.abs(dense @ given).max())
        assert_array_equal(x, given)
    assert (A @ X.astype("float32")).dtype == np.float32
    assert (A @ np.ones((156, 0))).shape == (156, 0)
    assert (A.H @ np.ones((156, 0))).shape == (156, 0)
    assert (A @ np.ones((12, 13, 2))).shape == (12, 13, 2)
    B = Conv(np.ones((4, 3, 1, 1)), (3, 5, 5), engine=name)  # which has ways of its own
    assert B.matmat(np.ones((75, 0))).shape == (100, 0)
    assert B.H.matmat(np.ones((100, 0))).shape == (75, 0)


@pytest.mark.parametrize("name", ["csr", "direct", "gemm"])
@pytest.mark.parametrize("mode", strategies.MODES)
def test_nan_stays_where_the_kernel_reads_it(name, mode):
    spec = ConvSpec((30, 40), (4, 3), stride=(1, 2), padding=2, padding_mode=mode)
    kernel = np.random.default_rng(0).standard_normal((4, 3))
    engine, matrix = make(name, spec, kernel), make("csr", spec, kernel).matrix
    for value in (np.nan, np.inf):
        x, y = np.ones(spec.shape[1]), np.ones(spec.shape[0])
        x[617], y[200] = value, value
        assert_array_equal(np.isfinite(engine.forward(x)), np.isfinite(matrix @ x))
        assert_array_equal(np.isfinite(engine.adjoint(y)), np.isfinite(matrix.T @ y))


@pytest.mark.parametrize("name", ["direct", "gemm", "fft", "separable"])
def test_plans_are_shared_by_kernels_of_one_spec(name):
    A = Conv(np.ones((3, 3)), (40, 40), padding=1, engine=name)
    A @ np.ones(1600)
    B = A.with_kernel(np.arange(9.0).reshape(3, 3))
    assert B._engine._geometries is A._engine._geometries
    assert_array_equal(np.rint(B @ np.ones(1600)), B.tosparse() @ np.ones(1600))


@pytest.mark.parametrize(("free", "reads"), [(2**40, 1), (2 * 10**6, 3)])
def test_the_input_of_a_filter_is_transformed_once_if_that_fits(free, reads, monkeypatch):
    from convop.engines.cpu import transforms

    x = np.random.default_rng(0).standard_normal((300, 200))
    F = ConvFilter(x, (21, 20), engine="fft")
    expected = ConvFilter(x, (21, 20), engine="direct").H @ np.ones(F.dimsd)
    count = []
    read = transforms.BlockGeometry.read_block
    monkeypatch.setattr(transforms.BlockGeometry, "read_block", lambda *args: count.append(1) or read(*args))
    monkeypatch.setattr(convop.arrays.memory, "available", lambda: free)
    for _ in range(3):
        assert_close(F.H @ np.ones(F.dimsd), expected, 1e-12)
    blocks = math.prod(F._filter._transformed["d", 1].geometry.blocks)
    assert len(count) == reads * blocks


def test_the_gradient_by_transforms_keeps_one_sum_a_thread():
    """Each of them has a spectrum for every pair of channels, which outweighs all data."""
    x = np.random.default_rng(0).standard_normal((16, 200, 200))
    F = ConvFilter(x, (16, 16, 5, 5), padding=2, engine="fft")
    y = np.ones(F.shape[0])
    expected = ConvFilter(x, (16, 16, 5, 5), padding=2, engine="gemm").H @ y
    tracemalloc.start()
    assert_close(F.H @ y, expected, 1e-12)
    geometry = F._filter._transformed["d", 1].geometry
    sums = 16 * 16 * math.prod(geometry.spectrum) * 16
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < (sizes.thread_count() + 2) * sums + 8 * x.nbytes


def test_planes_that_do_not_fit_are_refused(monkeypatch):
    k = np.ones((4, 4, 4, 2, 2))
    A = Conv(k, (1, 3, 1, 2, 4), stride=(1, 1, 1, 2, 3), dilation=(50, 11, 50, 11, 50), padding="same", engine="direct")
    monkeypatch.setattr(convop.arrays.memory, "available", lambda: 10**6)
    with pytest.raises(MemoryError, match=r"the tables of the lines of ConvSpec.*, extended takes .* only 976.6 KiB"):
        A @ np.ones(A.dims)
    monkeypatch.setattr(convop.arrays.memory, "available", lambda: 2**24)
    monkeypatch.setattr(blocks, "_scratch", threading.local())
    with pytest.raises(MemoryError, match=r"the planes of a block of the extended input takes .* only 16.0 MiB"):
        blocks.scratch("x", 2**22, np.dtype(float))


def gaussian(k, sigma=3.0):
    t = np.arange(k) - k // 2
    return np.exp(-(t**2) / (2 * sigma**2))


def test_a_kernel_of_low_rank_is_found_to_be_one():
    g = gaussian(31, 5)
    kernel = np.outer(g, g)
    A = Conv(kernel, (300, 310), padding="same")
    assert A.engine == "separable"
    assert [factor.shape for factor in A._engine.factors(np.dtype(float))] == [(1, 1, 1, 31)] * 2
    x = np.random.default_rng(0).standard_normal(A.dims)
    for name in ("direct", "fft"):
        y = Conv(kernel, (300, 310), padding="same", engine=name) @ x
        assert np.abs(A @ x - y).max() <= 1e-13 * np.abs(y).max()
    rough = kernel + 1e-9 * np.random.default_rng(1).standard_normal(kernel.shape)  # not to rounding
    B = A.with_kernel(rough)
    assert B.engine == Conv(rough, (300, 310), padding="same").engine != "separable"
    assert B.with_kernel(kernel).engine == "separable"
    assert Conv(kernel.astype("float32"), (300, 310), padding="same").engine == "separable"


def test_channels_that_share_few_planes_are_found():
    rng = np.random.default_rng(0)
    shape = (64, 56, 56)
    few = np.einsum("or,rc,ri,rj->ocij", *(rng.standard_normal(s) for s in ((64, 3), (3, 64), (3, 7), (3, 7))))
    A = Conv(few, shape, padding=3)
    assert A.engine == "separable"
    x = rng.standard_normal(shape)
    assert_close(A @ x, Conv(few, shape, padding=3, engine="direct") @ x, 1e-13)
    assert Conv(few + 1e-9 * rng.standard_normal(few.shape), shape, padding=3).engine != "separable"
    assert Conv(rng.standard_normal(few.shape), shape, padding=3).engine != "separable"


def test_sums_of_outer_products_and_more_axes():
    rng = np.random.default_rng(0)
    u, v, w = rng.standard_normal((3, 2, 15))
    spec = ConvSpec((40, 41, 42), (15, 15, 15), padding="same", padding_mode="reflect")
    kernel = np.einsum("ri,rj,rk->ijk", u, v, w)
    engine = make("auto", spec, kernel)
    assert isinstance(engine, SeparableEngine)
    x = rng.standard_normal(spec.shape[1])
    expected = make("fft", spec, kernel)
    assert_close(engine.forward(x), expected.forward(x), 1e-12)
    assert_close(engine.adjoint(x), expected.adjoint(x), 1e-12)
    assert [factor.shape[1:3] for factor in engine.factors(x.dtype)] == [(1, 2), (2, 2), (2, 1)]


@pytest.mark.parametrize("space", [(64, 64, 64), (512, 512), (30, 20, 10, 10)])
def test_ranks_are_searched_for_only_where_sweeps_of_them_are_faster(space):
    """The time of sweeps grows with the square of the rank where three axes or more are swept."""
    from convop.engines import choose, costs

    spec, dtype = ConvSpec(space, (5,) * len(space), padding="same"), np.dtype(float)
    for factor in (1, 3, 10, 30):
        seconds = factor * costs.sweeps_seconds(spec, 1, dtype) * 1.01
        rank = choose._worthwhile_rank(spec, dtype, seconds)
        assert rank >= 1
        assert costs.sweeps_seconds(spec, rank, dtype) < seconds
        assert rank == choose._HIGHEST_RANK or costs.sweeps_seconds(spec, rank + 1, dtype) >= seconds
    kernel = np.random.default_rng(0).standard_normal(spec.kernel_shape)
    assert make("auto", spec, kernel).name != "separable"


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e150, 1e300])
def test_factors_neither_over_nor_underflow(scale):
    kernel = np.outer(gaussian(9), gaussian(9)) * scale
    y = make("separable", ConvSpec((20, 20), (9, 9)), kernel).forward(np.ones(400))
    np.testing.assert_allclose(y, kernel.sum(), rtol=1e-13)


def test_factors_of_numbers_whose_modulus_is_out_of_range():
    kernel = np.full((9, 9), 1.7e308 * (1 + 1j))
    y = make("separable", ConvSpec((64, 64), (9, 9)), kernel).forward(np.full(4096, 1e-300))
    np.testing.assert_allclose(y, 81 * 1.7e8 * (1 + 1j), rtol=1e-12)


def test_kernels_that_are_zero_or_not_finite_choose_an_engine():
    for value in (0.0, np.nan, np.inf):
        A = Conv(np.full((31, 31), value), (300, 300), padding="same")
        y = A @ np.ones((300, 300))
        assert (y == 0).all() if value == 0 else not np.isfinite(y).any()
    for scale in (1e-300, 1e300):
        A = Conv(np.full((31, 31), scale), (300, 300), padding="same")
        assert A.engine == "separable"
        np.testing.assert_allclose((A @ np.ones((300, 300)))[150, 150], 961 * scale, rtol=1e-12)


def test_a_kernel_that_is_not_finite_has_no_factors():
    with pytest.raises(ValueError, match="kernel must be finite for engine='separable'"):
        Conv([[np.nan, 1.0]], (5, 5), engine="separable")


def test_the_matrix_is_for_tiny_problems():
    assert Conv([[1, 2], [3, 4]], (3, 3)).engine == "csr"
    assert Conv(np.random.default_rng(0).standard_normal((3, 3)), (512, 512)).engine == "direct"
    assert Conv(np.random.default_rng(0).standard_normal((101, 101)), (900, 900)).engine == "fft"


def test_measuring_is_done_once(monkeypatch):
    from convop.engines import choose

    monkeypatch.setattr(choose._CPU, "_winners", {})
    measured = []
    original = choose._CPU._measure
    monkeypatch.setattr(choose._CPU, "_measure", lambda *args: measured.append(1) or original(*args))
    K = np.random.default_rng(0).standard_normal((11, 11))
    A = Conv(K, (200, 200), engine="measure")
    assert A.engine in convop.engines.available()
    assert Conv(2 * K, (200, 200), engine="measure").engine == A.engine
    assert A.with_kernel(3 * K).engine == A.engine
    assert len(measured) == 1


def test_costs_come_from_the_users_file_if_it_is_sound(tmp_path, monkeypatch):
    from convop.engines import costs

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    packaged = costs.seconds_per_unit()
    path = costs.costs_file()
    assert path == tmp_path / "convop" / "costs.json"
    path.parent.mkdir()
    for text in ("not json", "[]", '{"seconds": {"csr": {}}}'):
        path.write_text(text)
        costs.seconds_per_unit.cache_clear()
        assert costs.seconds_per_unit() == packaged
    path.write_text('{"seconds": {"csr": {}, "direct": {}, "fft": {}, "gemm": {}, "torch": {}}}')
    costs.seconds_per_unit.cache_clear()
    assert costs.seconds_per_unit()["fft"] == {}
    costs.seconds_per_unit.cache_clear()


@settings(max_examples=200, deadline=None)
@given(case=strategies.cases())
def test_every_kind_of_work_has_a_cost(case):
    from convop.engines import costs

    spec = ConvSpec(case.input_shape, case.kernel.shape, **case.parameters)
    for name in ("csr", "direct", "fft", "gemm"):
        assert 0 <= costs.predicted(name, spec, case.kernel.dtype) < 1
    single = np.dtype("float32")
    assert 0 <= costs.predicted("torch", spec, single) < 1
    for rank in (1, 3):
        assert 0 <= costs.sweeps_seconds(spec, rank, case.kernel.dtype) < 1


@pytest.mark.parametrize("name", ["direct", "fft", "gemm", "separable"])
def test_eight_threads_use_one_operator(name):
    K = np.random.default_rng(0).standard_normal((5, 5))
    A = Conv(K, (300, 200), padding=2, padding_mode="circular", engine=name)
    reference = Conv(K, (300, 200), padding=2, padding_mode="circular", engine="csr")
    inputs = np.random.default_rng(1).standard_normal((8, 60000))
    results, barrier = [None] * 8, threading.Barrier(8)

    def work(i):
        barrier.wait()
        results[i] = [(A @ inputs[i], A.H @ inputs[i]) for _ in range(4)]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for i in range(8):
        for forward, adjoint in results[i]:
            assert_close(forward, reference @ inputs[i], 1e-12)
            assert_close(adjoint, reference.H @ inputs[i], 1e-12)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("name", ["direct", "fft", "separable"])
def test_a_forked_child_applies(name):
    A = Conv(np.random.default_rng(0).standard_normal((9, 9)), (400, 400), padding=4, engine=name)
    x = np.ones(160000)
    expected = A @ x  # with a pool, which the child does not have
    child = os.fork()
    if child == 0:  # pragma: no cover - in the child
        signal.alarm(60)
        os._exit(0 if np.array_equal(A @ x, expected) else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_unknown_engines_are_named(monkeypatch):
    from convop.engines import selection

    with pytest.raises(ValueError, match=r"engine must be one of auto, measure, csr, direct, .*; got 'cuda'"):
        Conv([1.0, 2.0], 5, engine="cuda")
    monkeypatch.setattr(selection, "torch_is_installed", lambda: False)
    assert "torch" not in convop.engines.available()
    with pytest.raises(ValueError, match=r"engine='torch' needs PyTorch, .* pip install 'convop\[torch\]'"):
        Conv([1.0, 2.0], 5, engine="torch")


def test_transformed_kernels_that_do_not_fit_are_refused(monkeypatch):
    monkeypatch.setattr(convop.arrays.memory, "available", lambda: 10**6)
    A = Conv(np.ones((40, 40, 3, 3)), (40, 50, 50), engine="fft")
    with pytest.raises(MemoryError, match=r"the transformed kernel of ConvSpec.*engine 'fft'.* only 976.6 KiB"):
        A @ np.ones(A.dims)
