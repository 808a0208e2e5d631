"""Workspaces: alignment, reuse from product to product, and the size up to which they are kept."""

import threading

import numpy as np
import pytest

import convop
from convop.engines.cpu import workspace
from convop.engines.cpu.workspace import padded, per_thread, row_length, scratch

DOUBLE, SINGLE = np.dtype("float64"), np.dtype("float32")


@pytest.fixture(autouse=True)
def no_workspaces(monkeypatch):
    """Starts each test without workspaces of earlier products."""
    monkeypatch.setattr(workspace, "_kept", threading.local())


def in_a_thread(function):
    """Returns what a function returns in a thread of its own."""
    results = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


@pytest.mark.parametrize(
    ("elements", "itemsize", "expected"),
    [(0, 8, 8), (1, 8, 8), (8, 8, 8), (9, 8, 24), (16, 8, 24), (17, 8, 24), (25, 8, 40), (16, 4, 16), (17, 4, 48)],
)
def test_padded_is_an_odd_number_of_cache_lines(elements, itemsize, expected):
    assert padded(elements, itemsize) == expected


@pytest.mark.parametrize(
    ("elements", "itemsize", "expected"),
    [(1, 8, 8), (8, 8, 8), (9, 8, 16), (17, 4, 32), (120, 8, 120), (121, 8, 136), (136, 8, 136), (512, 8, 520)],
)
def test_rows_are_whole_lines_and_long_rows_an_odd_number_of_them(elements, itemsize, expected):
    assert row_length(elements, itemsize) == expected


@pytest.mark.parametrize("dtype", [DOUBLE, SINGLE])
def test_scratch_has_the_size_and_begins_with_a_cache_line(dtype):
    for size in (1, 7, 100, 1001):
        array = scratch(f"size {size}", size, dtype)
        assert array.shape == (size,)
        assert array.dtype == dtype
        assert array.ctypes.data % 64 == 0


def test_scratch_of_a_name_is_reused_with_its_contents():
    first = scratch("x", 100, DOUBLE)
    first[:] = np.arange(100)
    smaller = scratch("x", 40, DOUBLE)
    assert smaller.shape == (40,)
    assert smaller.ctypes.data == first.ctypes.data
    assert (smaller == np.arange(40)).all()
    assert scratch("x", 100, DOUBLE).ctypes.data == first.ctypes.data  # the larger one is still kept
    assert not np.shares_memory(scratch("x", 101, DOUBLE), first)


def test_scratch_of_other_names_dtypes_and_threads_is_other_memory():
    array = scratch("x", 100, DOUBLE)
    assert not np.shares_memory(array, scratch("y", 100, DOUBLE))
    assert not np.shares_memory(array, scratch("x", 100, SINGLE))
    assert not np.shares_memory(array, in_a_thread(lambda: scratch("x", 100, DOUBLE)))


def test_scratch_is_kept_up_to_a_size_for_each_thread_that_shares_it(monkeypatch):
    """With 1024 bytes for a thread: 128 numbers, and three times as many for three threads that the main thread calls."""
    monkeypatch.setattr(workspace, "_KEPT", 1024)

    def is_kept(size, threads):
        array = scratch("x", size, DOUBLE, threads=threads)
        return scratch("x", size, DOUBLE, threads=threads).ctypes.data == array.ctypes.data

    assert is_kept(128, 1)
    assert not is_kept(129, 1)
    assert is_kept(384, 3)
    assert not is_kept(385, 3)
    assert in_a_thread(lambda: is_kept(128, 3))
    assert not in_a_thread(lambda: is_kept(129, 3))


def test_scratch_checks_free_memory_for_large_arrays_only(monkeypatch):
    monkeypatch.setattr(convop.arrays.memory, "available", lambda: 2**24)
    scratch("x", 2**21, DOUBLE)
    with pytest.raises(MemoryError, match=r"the planes of a block of the extended input takes .* only 16.0 MiB"):
        scratch("x", 2**22, DOUBLE)


def test_per_thread_gives_each_thread_a_padded_row():
    rows = per_thread("x", 3, 20, DOUBLE)
    assert rows.shape == (3, 24)
    assert rows.flags.c_contiguous
    assert all(row.ctypes.data % 64 == 0 for row in rows)
    assert np.shares_memory(rows, scratch("x", 1, DOUBLE))
