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


def blas_threads():
    """Returns the limits of the loaded BLAS libraries."""
    return [
        library.num_threads for library in threadpoolctl.ThreadpoolController().select(user_api="blas").lib_controllers
    ]


def test_one_blas_thread_restores_the_limit():
    before = blas_threads()
    with one_blas_thread():
        assert set(blas_threads()) <= {1}
        with one_blas_thread():
            assert set(blas_threads()) <= {1}
        assert set(blas_threads()) <= {1}
    assert blas_threads() == before
    with pytest.raises(ZeroDivisionError), one_blas_thread():
        1 / 0  # noqa: B018
    assert blas_threads() == before


def test_one_blas_thread_restores_the_limit_before_a_context_of_another_thread_ends():
    """If the last context restored the limit, the other thread would have to, which OpenBLAS ignores."""
    before, entered, leave = blas_threads(), threading.Event(), threading.Event()

    def enter_and_wait():
        with one_blas_thread():
            entered.set()
            leave.wait(10)

    other = threading.Thread(target=enter_and_wait)
    with one_blas_thread():
        other.start()
        assert entered.wait(10)
    leave.set()
    other.join()
    assert blas_threads() == before
