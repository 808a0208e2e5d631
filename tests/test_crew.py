"""Work that compiled loops hand over to helpers, and the helpers themselves."""

import os
import subprocess
import sys
import threading
import time

import numba
import numpy as np
import pytest

from convop.threads import pool as crew
from convop.threads import sizes
from convop.threads.fork_join import FREE, LISTENS, SLOT_STAMP, STAMP, counters, share
from convop.threads.llvm import atomic_fetch_add


@numba.njit(nogil=True)
def _count(counter, items, length, done, seats):
    seat = atomic_fetch_add(counter[8:])
    item = atomic_fetch_add(counter)
    while item < items:
        total = 0.0
        for i in range(1, length):
            total += 1.0 / (i + item)
        done[item] += 1 if total >= 0 else 2
        seats[seat] += 1
        item = atomic_fetch_add(counter)


@numba.njit(nogil=True)
def count(crew, *arguments):
    return share(crew, _count, (counters(),) + arguments)  # noqa: RUF005


def counted(slots, items=200, length=2000):
    """How often each item was done, and how many items each thread did."""
    done, seats = np.zeros(items, np.int64), np.zeros(len(slots) + 1, np.int64)
    assert count(slots, items, length, done, seats)
    return done, seats


@pytest.fixture
def own_crew(monkeypatch):
    """A crew of this test alone, with three helpers for whatever work."""
    monkeypatch.setattr(crew, "_crew", crew._Crew())
    monkeypatch.setattr(sizes, "_SMALL_WORK", 0)
    monkeypatch.setattr(sizes, "workers", lambda: 4)
    yield
    for helper in crew._crew.helpers:
        helper.end()


def states():
    return [int(helper.slot[0]) for helper in crew._crew.helpers]


def listening():
    return [bool(helper.slot[LISTENS]) for helper in crew._crew.helpers]


def until(condition):
    """Wait for what must come soon."""
    for _ in range(2000):
        if condition():
            return True
        time.sleep(0.005)
    return False


def test_everything_is_done_once_and_helpers_take_part(own_crew):
    counted(np.zeros(0, np.int64))  # compiled
    helped = False
    for _ in range(300):
        done, seats = counted(crew.crew_for(100, 1))
        assert (done == 1).all()
        assert seats.sum() == len(done)
        helped |= (seats > 0).sum() > 1
    assert helped


def test_when_it_returns_nobody_works_any_more(own_crew):
    """A helper that began late still writes: its item is long."""
    for _ in range(100):
        done, _ = counted(crew.crew_for(100, 1), items=5, length=50000)
        before = done.copy()
        assert (before == 1).all()
        assert set(states()) <= {FREE}


def test_help_that_nobody_gives_is_not_waited_for():
    """Slots that are free, without a thread."""
    slots = np.zeros((2, 8), np.int64)
    slots[:, SLOT_STAMP] = STAMP
    done, seats = counted(slots.ctypes.data + 64 * np.arange(2))
    assert (done == 1).all()
    assert list(seats) == [200, 0, 0]
    assert (slots[:, 0] == FREE).all()
    assert slots[:, 1].all()  # they were asked


def test_what_works_for_others_or_is_of_another_version_is_left_alone():
    slots = np.zeros((4, 8), np.int64)
    slots[:, SLOT_STAMP] = STAMP
    slots[:, 0] = [1, 3, 1, FREE]  # claimed by another loop, and at work for it
    slots[3, SLOT_STAMP] += 1
    before = slots.copy()
    done, seats = counted(slots.ctypes.data + 64 * np.arange(4))
    assert (done == 1).all()
    assert seats[0] == 200
    np.testing.assert_array_equal(slots, before)


def test_loops_of_several_threads_share_the_helpers(own_crew):
    wrong = []

    def work():
        for n in range(200):
            done, seats = counted(crew.crew_for(100, 1), items=20 + n % 7, length=500)
            if not (done == 1).all() or seats.sum() != len(done):
                wrong.append(n)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
    assert len(crew._crew.helpers) == 3


def test_helpers_fall_asleep_and_wake_again(own_crew):
    for _ in range(3):
        counted(crew.crew_for(100, 1))
        assert until(lambda: listening() == [False] * 3)
        used = time.process_time()
        time.sleep(0.1)
        assert time.process_time() - used < 0.05


def test_little_work_wakes_no_helper(own_crew, monkeypatch):
    monkeypatch.setattr(sizes, "_SMALL_WORK", 10**6)
    monkeypatch.setattr(crew, "_Helper", lambda: pytest.fail("a thread for little work"))
    assert len(crew.crew_for(1000, 10**6 - 1)) == 0
    assert len(crew.crew_for(1, 10**9)) == 0


def test_no_more_helpers_than_items_and_threads_asked_for(own_crew, monkeypatch):
    assert len(crew.crew_for(2, 1)) == 1
    assert len(crew.crew_for(9, 1)) == 3
    monkeypatch.setattr(sizes, "workers", lambda: 2)
    assert len(crew.crew_for(9, 1)) == 1
    assert len(crew._crew.helpers) == 3


def test_without_new_threads_the_caller_works_alone(own_crew, monkeypatch):
    assert len(crew.crew_for(2, 1)) == 1

    def refuse(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(crew.Thread, "start", refuse)
    slots = crew.crew_for(9, 1)
    assert len(slots) == 1
    assert (counted(slots)[0] == 1).all()
    monkeypatch.setattr(crew, "_Helper", lambda: pytest.fail("tried again with every product"))
    assert len(crew.crew_for(9, 1)) == 1


def test_a_product_while_the_crew_grows_does_without(own_crew, monkeypatch):
    """As in the handler of a signal, which comes at any time."""
    start = crew.Thread.start
    inside = []

    def interrupted(thread):
        inside.append(len(crew.crew_for(9, 1)))
        start(thread)

    monkeypatch.setattr(crew.Thread, "start", interrupted)
    assert len(crew.crew_for(9, 1)) == 3
    assert inside == [0, 0, 0]


def test_a_ring_that_got_lost_is_made_good(own_crew):
    """An exception between looking and ringing, or a ring for a helper that is just falling asleep."""
    slots = crew.crew_for(100, 1)
    assert until(lambda: not any(listening()))
    crew._crew.helpers[0].slot[0] = FREE
    for helper in crew._crew.helpers:
        helper.rouse()
        helper.rouse()
    assert any((counted(crew.crew_for(100, 1))[1] > 0).sum() > 1 for _ in range(500))
    assert until(lambda: not any(listening()))
    assert len(slots) == 3


def test_helpers_end_while_others_go_on(own_crew):
    """A thread that hands over without a pause does not keep them."""
    stop = threading.Event()
    slots = crew.crew_for(100, 1)

    def go_on():
        while not stop.is_set():
            counted(slots, items=8, length=200)

    thread = threading.Thread(target=go_on)
    thread.start()
    time.sleep(0.05)
    begun = time.monotonic()
    for helper in crew._crew.helpers:
        helper.end()
    assert time.monotonic() - begun < 5
    assert not any(helper._thread.is_alive() for helper in crew._crew.helpers)
    stop.set()
    thread.join()


@numba.njit(nogil=True)
def _fails(counter, items):
    if atomic_fetch_add(counter) < items:
        raise ValueError("on purpose")


@numba.njit(nogil=True)
def fails(crew, items):
    return share(crew, _fails, (counters(), items))


def test_what_raises_is_told(own_crew):
    for _ in range(20):
        assert not fails(crew.crew_for(100, 1), 1)
        assert fails(crew.crew_for(100, 1), 0)


@pytest.mark.parametrize("end", ["", "os._exit(0)", "raise SystemExit", "signal.raise_signal(signal.SIGTERM)"])
def test_processes_end_with_helpers_awake(end):
    code = (
        "import atexit, os, signal, numpy as np, convop\n"
        "convop.threads.sizes.workers = lambda: 5\n"
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
def test_a_forked_child_has_helpers_of_its_own(own_crew):
    counted(crew.crew_for(100, 1))
    child = os.fork()
    if child == 0:  # pragma: no cover - in the child
        right = crew._crew.helpers == () and len(crew._crew.slots) == 0
        seats = [counted(crew.crew_for(100, 1))[1] for _ in range(300)]
        os._exit(0 if right and any((s > 0).sum() > 1 for s in seats) else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
