"""Fork-safe locks, and values that are built once."""

import os
import threading
import time

import pytest

from convop.threads.locks import BuiltOnce, ForkSafeLock


def test_try_acquire_fails_while_the_lock_is_held():
    lock = ForkSafeLock()
    assert lock.try_acquire()
    assert not lock.try_acquire()
    lock.release()
    with lock:
        assert not lock.try_acquire()
    assert lock.try_acquire()
    lock.release()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_forked_child_finds_locks_open():
    lock = ForkSafeLock()
    with lock:
        child = os.fork()
        if child == 0:  # pragma: no cover - in the child
            os._exit(0 if lock.try_acquire() else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_built_once_builds_each_value_once_for_eight_threads():
    built, values, found = [], BuiltOnce(), []
    barrier = threading.Barrier(8)

    def build():
        built.append(threading.get_ident())
        time.sleep(0.01)
        return object()

    def ask(key):
        barrier.wait()
        found.append((key, values.get(key, build)))

    threads = [threading.Thread(target=ask, args=(n % 2,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 2
    assert len(set(found)) == 2


def test_built_once_keeps_none_and_forgets_failures():
    values = BuiltOnce()
    with pytest.raises(ZeroDivisionError):
        values.get("key", lambda: 1 // 0)
    assert values.get("key", lambda: None) is None
    assert values.get("key", lambda: pytest.fail("built twice")) is None


def test_built_once_allows_a_build_inside_a_build_of_the_same_thread():
    """A signal handler may interrupt a build and ask for the value."""
    values = BuiltOnce()
    assert values.get("key", lambda: values.get("key", lambda: 1) + 1) == 2
