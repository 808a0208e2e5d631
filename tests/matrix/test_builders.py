"""Two builders of one matrix: NumPy's broadcast for small matrices, compiled loops for large ones."""

import os
import threading
import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp
from matrix_cases import assert_canonical
from numpy.testing import assert_array_equal
from strategies import MODES

from convop import kernel2matrix
from convop.arrays import memory
from convop.matrix import builders


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("input_shape", "kernel_shape", "parameters"),
    [
        ((150, 140), (7, 6), {"padding": "same"}),
        ((70_000,), (5,), {"padding": ((3, 9),), "stride": 2}),
        ((30, 29, 28), (3, 4, 5), {"padding": (2, 0, 3), "dilation": (2, 1, 3)}),
        ((6, 40, 41), (9, 2, 3, 4), {"padding": "full", "groups": 3}),
        ((300, 2), (3, 2), {"padding": ((50, 70), 3)}),
        ((4, 3, 5), (4, 4, 9, 11), {"padding": "same"}),
    ],
)
def test_builders_agree_beyond_size_of_oracle(mode, input_shape, kernel_shape, parameters, monkeypatch):
    """Beyond the oracle's reach: two builders that share no code but the tables give the same arrays."""
    kernel = np.random.default_rng(0).standard_normal(kernel_shape)
    built = []
    for limit in (2**62, -1):
        monkeypatch.setattr(builders, "SMALL", limit)
        built.append(kernel2matrix(kernel, input_shape, padding_mode=mode, **parameters))
    assert_canonical(built[1])
    for name in ("indptr", "indices", "data"):
        assert_array_equal(getattr(built[0], name), getattr(built[1], name))


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_large_matrix_does_not_depend_on_blocks(threads, monkeypatch):
    kernel = np.random.default_rng(0).standard_normal((4, 2, 3, 3))
    arguments = {"padding": 1, "groups": 2, "padding_mode": "circular"}
    monkeypatch.setattr(builders, "SMALL", -1)
    expected = kernel2matrix(kernel, (4, 37, 31), **arguments)
    monkeypatch.setattr(builders, "thread_count", lambda: threads)
    monkeypatch.setattr(builders, "_BLOCKS_PER_WORKER", 13)
    assert (kernel2matrix(kernel, (4, 37, 31), **arguments) != expected).nnz == 0


def test_builders_take_33_dimensions():
    """More than a broadcast over outputs and entries has axes for."""
    built = kernel2matrix(np.arange(1.0, 9).reshape((1,) * 30 + (2, 2, 2)), (2,) * 3 + (1,) * 27 + (3, 3, 3))
    expected = sp.kron(sp.eye_array(8), kernel2matrix(np.arange(1.0, 9).reshape(2, 2, 2), (3, 3, 3)))
    assert (built != expected).nnz == 0


def test_read_only_kernel_is_not_compiled_again():
    from convop.matrix import loops

    kernel = np.ones((9, 9))
    kernel2matrix(kernel, (150, 150))
    compiled = len(loops.fill_values.signatures)
    kernel.setflags(write=False)
    kernel2matrix(kernel, (150, 150))
    kernel2matrix(kernel[::-1], (150, 150), flip=True)
    assert len(loops.fill_values.signatures) == compiled


@pytest.mark.parametrize(
    ("input_shape", "kernel_shape", "parameters"),
    [
        (250, 250, {"padding": 10**6}),
        (1, 10001, {"padding": 10**6, "padding_mode": "replicate"}),
        (1000, 3, {"padding": 10**8}),
        (2000, 2000, {"padding": "full", "padding_mode": "reflect"}),
    ],
)
def test_tables_and_padded_rows_count_as_memory(input_shape, kernel_shape, parameters, monkeypatch):
    """A matrix may be small and what it is made from large: nothing beyond the free memory is touched."""
    free = 100 * 2**20
    monkeypatch.setattr(memory, "available", lambda: free)
    tracemalloc.start()
    message = "built"
    try:
        kernel2matrix(np.ones(kernel_shape), input_shape, **parameters)
    except MemoryError as error:
        message = str(error)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert message == "built" or message.endswith("of memory is free")  # ours, and not NumPy's after the fact
    assert peak < 1.2 * free


def build_large(results, i):
    results[i] = kernel2matrix(np.arange(25.0).reshape(5, 5), (90, 90), padding=2)


def test_threads_build_matrices_at_once(monkeypatch):
    monkeypatch.setattr(builders, "SMALL", -1)
    results = [None] * 8
    threads = [threading.Thread(target=build_large, args=(results, i)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert all((r != results[0]).nnz == 0 for r in results)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_forked_child_builds_matrix():
    expected = kernel2matrix(np.ones((9, 9)), (120, 120))  # compiled, in threads
    child = os.fork()
    if child == 0:  # pragma: no cover - in the child
        same = (kernel2matrix(np.ones((9, 9)), (120, 120)) != expected).nnz == 0
        os._exit(0 if same else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
