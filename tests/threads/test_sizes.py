"""How many threads share a piece of work."""

import os
import sys
import threading

import pytest
import threadpoolctl

import convop
from convop.threads import blocks, sizes
from convop.threads.sizes import one_blas_thread


def test_thread_count_is_the_number_of_allowed_cores(monkeypatch):
    assert sizes.thread_count() >= 1
    monkeypatch.delitem(sys.modules, "threadpoolctl", raising=False)  # with the limit of the libraries it knows
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    assert sizes.thread_count() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    assert sizes.thread_count() == (os.cpu_count() or 1)


def test_set_num_threads_sets_the_count_and_none_resets_it(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(sizes, "_limit", lambda: 100)
    try:
        convop.set_num_threads(3)
        assert sizes.thread_count() == sizes.chosen_threads() == 3
        for wrong, error in ((0, ValueError), (-2, ValueError), (1.5, TypeError), (True, TypeError), ("2", TypeError)):
            with pytest.raises(error, match=r"^count must be"):
                convop.set_num_threads(wrong)
        assert sizes.thread_count() == 3
    finally:
        convop.set_num_threads(None)
    assert sizes.thread_count() == 4


def test_thread_count_respects_threadpoolctl(monkeypatch):
    if not threadpoolctl.ThreadpoolController().select(user_api="blas").lib_controllers:
        return  # a NumPy whose BLAS threadpoolctl does not know
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    with threadpoolctl.threadpool_limits(1):
        assert sizes.thread_count() == 1
        seen = set()
        blocks.run_items(lambda a, b: seen.add(threading.get_ident()), 100, work=10**9)
        assert seen == {threading.get_ident()}
    with threadpoolctl.threadpool_limits(2):
        assert sizes.thread_count() == 2


def test_transform_workers_is_one_for_small_transforms(monkeypatch):
    monkeypatch.setattr(sizes, "thread_count", lambda: 5)
    assert (sizes.transform_workers(2**16 - 1), sizes.transform_workers(2**16)) == (1, 5)


def test_one_blas_thread_ends_with_the_last_of_overlapping_contexts():
    """Each alone would restore what it found: the second one finds the limit of the first."""
    libraries = threadpoolctl.ThreadpoolController().select(user_api="blas").lib_controllers

    def counts():
        return [library.num_threads for library in libraries]

    before = counts()
    first, second = one_blas_thread(), one_blas_thread()
    first.__enter__()
    second.__enter__()
    assert set(counts()) <= {1}
    first.__exit__(None, None, None)
    assert set(counts()) <= {1}
    second.__exit__(None, None, None)
    assert counts() == before
    with pytest.raises(ZeroDivisionError), one_blas_thread():
        1 / 0  # noqa: B018
    assert counts() == before
