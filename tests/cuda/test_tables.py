import numpy as np
import pytest
from engine_cases import integers
from gpu_cases import TILED
from numpy.testing import assert_array_equal

from convop import Conv, ConvSpec, kernel2matrix
from convop.cuda import tables
from convop.cuda.tables import Direction
from convop.geometry.axis import PADDING_MODES


@pytest.mark.thinned
@pytest.mark.parametrize("mode", PADDING_MODES)
@pytest.mark.parametrize(("input_shape", "kernel_shape", "parameters"), TILED)
@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_register_tiles_agree_with_matrix(cupy, input_shape, kernel_shape, parameters, mode, dtype):
    rng = np.random.default_rng(0)
    kernel = integers(rng, kernel_shape, dtype)
    A = Conv(cupy.asarray(kernel), input_shape, padding_mode=mode, engine="direct", **parameters)
    matrix = kernel2matrix(kernel, input_shape, padding_mode=mode, **parameters)
    x, y = integers(rng, (A.shape[1], 2), dtype), integers(rng, (A.shape[0], 2), dtype)
    assert_array_equal((A @ cupy.asarray(x)).get(), matrix @ x)
    assert_array_equal((A.H @ cupy.asarray(y)).get(), matrix.conj().T @ y)


def test_correlate_writes_every_element_once(cupy, monkeypatch):
    """Kernels that add to zeros instead of writing give the same results."""
    code = tables.kernel_source()
    adding = code.replace("] = sums[r];", "] += sums[r];")
    assert adding != code
    tables.compiled_kernel.cache_clear()
    monkeypatch.setattr(tables, "kernel_source", lambda: adding)
    monkeypatch.setattr(cupy, "empty", cupy.zeros, raising=False)
    for input_shape, kernel_shape, parameters in TILED[::3]:
        kernel = integers(np.random.default_rng(0), kernel_shape, "float32")
        A = Conv(cupy.asarray(kernel), input_shape, engine="direct", **parameters)
        matrix = kernel2matrix(kernel, input_shape, **parameters)
        assert_array_equal((A @ cupy.ones(A.shape[1], "float32")).get(), matrix @ np.ones(A.shape[1], "float32"))
        assert_array_equal((A.T @ cupy.ones(A.shape[0], "float32")).get(), matrix.T @ np.ones(A.shape[0], "float32"))
    tables.compiled_kernel.cache_clear()


def test_register_tiles_cover_interior_rows():
    """In both directions, all rows of a large plane but those at its ends are computed by tiles."""
    for parameters, tiled in (
        ({}, (8, 8)),
        ({"stride": 2}, (8, 8)),
        ({"dilation": (20, 1)}, (0, 0)),
        ({"stride": 60}, (0, 8)),
    ):
        spec = ConvSpec((4000, 64), (7, 7), padding=3, **parameters)
        for adjoint, rows in zip((False, True), tiled, strict=True):
            direction = Direction(spec, adjoint)
            tile = direction.register_tile(4)
            assert (tile.rows if tile.taps else 0) == rows
            tasks = direction.tasks(tile.rows)
            written = np.concatenate([first + step * np.arange(skip, n) for first, n, step, skip in tasks.tolist()])
            assert_array_equal(np.sort(written), np.arange(direction.axes[-2].n_written))  # each once
            if rows:
                assert (tasks[:, 1] == 1).sum() <= 30


def test_positions_outside_plane_do_not_overflow(cupy):
    """A first entry far outside and an offset far inside, each times the length of a row beyond 32 bits."""
    kernel = np.ones((3, 1), "float32")
    arguments = {"dilation": (10001, 1), "padding": ((10000, 10002), (0, 0))}
    A = Conv(cupy.asarray(kernel), (3, 214748), engine="direct", **arguments)
    x = integers(np.random.default_rng(0), A.dims, "float32")
    assert_array_equal((A @ cupy.asarray(x)).get(), Conv(kernel, A.dims, engine="csr", **arguments) @ x)
    assert not Direction(A.spec, False).options(np.dtype("float32"), 1).wide
    # positions alone may leave the range of int
    far = ConvSpec((3, 3), (2, 1), dilation=(2**31, 1), padding=((2**31 - 2, 2), (0, 0)))
    assert Direction(far, False).options(np.dtype("float32"), 1).wide


def test_integers_are_wide_where_int_overflows(cupy, monkeypatch):
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
