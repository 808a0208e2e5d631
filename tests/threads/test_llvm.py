"""The atomic counter that hands out items of work, and copies of elements."""

import re
import threading

import numpy as np
import pytest
from llvmlite import ir
from numba import njit

from convop.threads.llvm import atomic_fetch_add, copy_elements, integer_constant


@njit(nogil=True)
def take(counter):
    return atomic_fetch_add(counter)


@njit(nogil=True)
def take_many(counter, taken):
    for i in range(len(taken)):
        taken[i] = atomic_fetch_add(counter)


def test_atomic_fetch_add_returns_the_old_value_and_adds_one_to_the_first_element():
    counter = np.array([5, 100, -1])
    assert [take(counter), take(counter)] == [5, 6]
    assert counter.tolist() == [7, 100, -1]
    assert take(counter[1:]) == 100
    assert counter.tolist() == [7, 101, -1]


def test_atomic_fetch_add_gives_every_thread_numbers_of_its_own():
    counter, taken = np.zeros(1, np.int64), np.zeros((4, 200_000), np.int64)
    take_many(counter, taken[0, :0])  # compiled
    barrier = threading.Barrier(len(taken))

    def work(row):
        barrier.wait()
        take_many(counter, row)

    threads = [threading.Thread(target=work, args=(row,)) for row in taken]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter[0] == taken.size
    np.testing.assert_array_equal(np.sort(taken, axis=None), np.arange(taken.size))
    assert (np.diff(taken, axis=1) > 0).all()


def test_atomic_fetch_add_is_one_instruction():
    """Threads may happen to take their numbers one after another, so the code itself is looked at."""
    take(np.zeros(1, np.int64))
    (code,) = take.inspect_llvm().values()
    assert re.search(r"atomicrmw add \S+ %\S+, i64 1 monotonic", code)


def test_integer_constant_has_64_bits():
    assert str(integer_constant(-3)) == "i64 -3"
    assert integer_constant(2**40).type == ir.IntType(64)


@njit
def copy(source, source_at, source_step, target, target_at, target_step, count):
    copy_elements(source, source_at, source_step, target, target_at, target_step, count)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("steps", [(1, 1), (3, 1), (1, 2), (2, 5)])
@pytest.mark.parametrize("count", [-1, 0, 1, 2, 7, 31, 64])
def test_copy_elements_copies_so_many_and_nothing_else(dtype, steps, count):
    source, target = np.arange(400, dtype=dtype), np.full(400, -1, dtype)
    expected = target.copy()
    for i in range(count):
        expected[11 + i * steps[1]] = source[7 + i * steps[0]]
    copy(source, 7, steps[0], target, 11, steps[1], count)
    np.testing.assert_array_equal(target, expected)
