"""The worker threads: they sleep and wake, share posted work, and end with the process or after a fork."""

import os
import subprocess
import sys
import threading
import time

import numba
import numpy as np
import pytest

from convop.threads import pool, sizes
from convop.threads.fork_join import AWAKE, FREE, counters, fork_join
from convop.threads.llvm import atomic_fetch_add


@numba.njit(nogil=True)
def _count(counter, items, length, done, shares):
    worker = atomic_fetch_add(counter[8:])
    item = atomic_fetch_add(counter)
    while item < items:
        total = 0.0
        for i in range(1, length):
            total += 1.0 / (i + item)
        done[item] += 1 if total >= 0 else 2
        shares[worker] += 1
        item = atomic_fetch_add(counter)


@numba.njit(nogil=True)
def count(workers, *arguments):
    return fork_join(workers, _count, (counters(),) + arguments)  # noqa: RUF005


def counted(slots, items=200, length=2000):
    """Returns how often each item was done, and how many items each thread did."""
    done, shares = np.zeros(items, np.int64), np.zeros(len(slots) + 1, np.int64)
    assert count(slots, items, length, done, shares)
    return done, shares


@pytest.fixture
def own_pool(monkeypatch):
    """Gives the test a pool of its own, with three workers for work of any size."""
    monkeypatch.setattr(pool, "_pool", pool._Pool())
    monkeypatch.setattr(sizes, "_SMALL_WORK", 0)
    monkeypatch.setattr(sizes, "thread_count", lambda: 4)
    yield
    for worker in pool._pool.workers:
        worker.end()


def states():
    return [int(worker.slot[0]) for worker in pool._pool.workers]


def awake():
    return [bool(worker.slot[AWAKE]) for worker in pool._pool.workers]


def until(condition):
    """Waits until a condition holds that must hold soon."""
    for _ in range(2000):
        if condition():
            return True
        time.sleep(0.005)
    return False


def test_fork_join_does_every_item_once_and_workers_take_part(own_pool):
    counted(np.zeros(0, np.int64))  # compiled
    helped = False
    for _ in range(300):
        done, shares = counted(pool.awake_workers(100, 1))
        assert (done == 1).all()
        assert shares.sum() == len(done)
        helped |= (shares > 0).sum() > 1
    assert helped


def test_fork_join_returns_after_the_last_worker(own_pool):
    """Items are long, so a late worker still writes when the caller has finished its own share."""
    for _ in range(100):
        done, _ = counted(pool.awake_workers(100, 1), items=5, length=50000)
        before = done.copy()
        assert (before == 1).all()
        assert set(states()) <= {FREE}


def test_fork_join_does_not_wait_for_workers_that_never_come():
    """The slots are free, but no thread looks at them."""
    slots = np.zeros((2, 8), np.int64)
    done, shares = counted(slots.ctypes.data + 64 * np.arange(2))
    assert (done == 1).all()
    assert list(shares) == [200, 0, 0]
    assert (slots[:, 0] == FREE).all()
    assert slots[:, 1].all()  # work was posted


def test_fork_join_leaves_busy_slots_alone():
    slots = np.zeros((3, 8), np.int64)
    slots[:, 0] = [1, 3, 1]  # claimed by another loop, and running for it
    before = slots.copy()
    done, shares = counted(slots.ctypes.data + 64 * np.arange(3))
    assert (done == 1).all()
    assert shares[0] == 200
    np.testing.assert_array_equal(slots, before)


def test_fork_join_from_six_threads_shares_the_workers(own_pool):
    wrong = []

    def work():
        for n in range(200):
            done, shares = counted(pool.awake_workers(100, 1), items=20 + n % 7, length=500)
            if not (done == 1).all() or shares.sum() != len(done):
                wrong.append(n)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
    assert len(pool._pool.workers) == 3


def test_workers_sleep_after_the_spin_limit_and_wake_again(own_pool):
    for _ in range(3):
        counted(pool.awake_workers(100, 1))
        assert until(lambda: awake() == [False] * 3)
        used = time.process_time()
        time.sleep(0.1)
        assert time.process_time() - used < 0.05


def test_awake_workers_wakes_none_for_little_work(own_pool, monkeypatch):
    monkeypatch.setattr(sizes, "_SMALL_WORK", 10**6)
    monkeypatch.setattr(pool, "_Worker", lambda: pytest.fail("a thread for little work"))
    assert len(pool.awake_workers(1000, 10**6 - 1)) == 0
    assert len(pool.awake_workers(1, 10**9)) == 0


def test_awake_workers_returns_no_more_than_items_and_threads(own_pool, monkeypatch):
    assert len(pool.awake_workers(2, 1)) == 1
    assert len(pool.awake_workers(9, 1)) == 3
    monkeypatch.setattr(sizes, "thread_count", lambda: 2)
    assert len(pool.awake_workers(9, 1)) == 1
    assert len(pool._pool.workers) == 3


def test_awake_workers_does_without_threads_that_cannot_start(own_pool, monkeypatch):
    assert len(pool.awake_workers(2, 1)) == 1

    def refuse(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(pool.Thread, "start", refuse)
    slots = pool.awake_workers(9, 1)
    assert len(slots) == 1
    assert (counted(slots)[0] == 1).all()
    monkeypatch.setattr(pool, "_Worker", lambda: pytest.fail("tried again with every product"))
    assert len(pool.awake_workers(9, 1)) == 1


def test_awake_workers_during_growth_returns_the_workers_there_are(own_pool, monkeypatch):
    """A signal handler may call at any time."""
    start = pool.Thread.start
    inside = []

    def interrupted(thread):
        inside.append(len(pool.awake_workers(9, 1)))
        start(thread)

    monkeypatch.setattr(pool.Thread, "start", interrupted)
    assert len(pool.awake_workers(9, 1)) == 3
    assert inside == [0, 0, 0]


def test_lost_wake_signal_is_repeated(own_pool):
    """A signal is lost by an exception before it, or comes while the worker is about to sleep."""
    slots = pool.awake_workers(100, 1)
    assert until(lambda: not any(awake()))
    pool._pool.workers[0].slot[0] = FREE
    for worker in pool._pool.workers:
        worker.wake()
        worker.wake()
    assert any((counted(pool.awake_workers(100, 1))[1] > 0).sum() > 1 for _ in range(500))
    assert until(lambda: not any(awake()))
    assert len(slots) == 3


def test_workers_end_while_another_thread_posts(own_pool):
    """A thread that posts without a pause does not keep them."""
    stop = threading.Event()
    slots = pool.awake_workers(100, 1)

    def post():
        while not stop.is_set():
            counted(slots, items=8, length=200)

    thread = threading.Thread(target=post)
    thread.start()
    time.sleep(0.05)
    begun = time.monotonic()
    for worker in pool._pool.workers:
        worker.end()
    assert time.monotonic() - begun < 5
    assert not any(worker._thread.is_alive() for worker in pool._pool.workers)
    stop.set()
    thread.join()


@numba.njit(nogil=True)
def _fails(counter, items):
    if atomic_fetch_add(counter) < items:
        raise ValueError("on purpose")


@numba.njit(nogil=True)
def fails(workers, items):
    return fork_join(workers, _fails, (counters(), items))


def test_fork_join_returns_false_after_an_exception(own_pool):
    for _ in range(20):
        assert not fails(pool.awake_workers(100, 1), 1)
        assert fails(pool.awake_workers(100, 1), 0)


ENDS = ["", "os._exit(0)", "raise SystemExit", "signal.raise_signal(signal.SIGTERM)"]


@pytest.mark.slow
@pytest.mark.parametrize("end", ENDS)
def test_process_ends_with_workers_awake(end):
    code = (
        "import atexit, os, signal, numpy as np, convop\n"
        "convop.threads.sizes.thread_count = lambda: 5\n"
        "A = convop.Conv(np.random.default_rng(0).standard_normal((5, 5)), (400, 400), engine='direct')\n"
        "x = np.ones(A.shape[1])\n"
        "y = A @ x\n"
        "atexit.register(lambda: print((A @ x == y).all(), flush=True))\n"
        "A @ x\n" + end
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert result.stderr == ""
    if "signal" in end:
        assert result.returncode == -15
    else:
        assert result.returncode == 0
        assert result.stdout.split() == ([] if "_exit" in end else ["True"])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_forked_child_has_its_own_workers(own_pool):
    counted(pool.awake_workers(100, 1))
    child = os.fork()
    if child == 0:  # pragma: no cover - in the child
        right = pool._pool.workers == () and len(pool._pool.slots) == 0
        shares = [counted(pool.awake_workers(100, 1))[1] for _ in range(300)]
        os._exit(0 if right and any((s > 0).sum() > 1 for s in shares) else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
