"""The thread pool of the compiled loops: workers that wait in compiled code, and sleep when no work has come for a while.

A thread that sleeps takes 50 us and more to wake, and a thread that returns to the interpreter waits for the GIL. A
worker therefore spins in compiled code for a while after its work before it sleeps on a semaphore.

Measured on two cores of Zen 4, 13 products: with `concurrent.futures` instead, which goes through the interpreter for each
block, they take 0.8 to 2.2 times as long, and 1.7 to 2.2 times where a product takes 0.2 to 0.3 ms. Numba's TBB layer takes
about the same time in a process of its own (0.5 to 1.2 times after others' threads, as its workers move to a free core
sooner). It is not used, because its library has no wheel for ARM, is not found in a virtual environment without a search
path, and warns in every process that forks.
"""

from __future__ import annotations

import atexit
import os
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from threading import Lock, Thread

import numpy as np

from ..arrays.backend import Array
from .locks import ForkSafeLock
from .sizes import threads_for

# Looks for work before a worker sleeps: 0.1 to 0.3 ms, longer than what a solver does between two products of small
# images.
_SPIN_LIMIT = 4000


class _Worker:
    """A thread, and the slot in which it looks for work."""

    def __init__(self) -> None:
        from .fork_join import worker_loop

        memory = np.zeros(16, np.int64)
        first = -memory.ctypes.data % 64 // 8
        self.slot = memory[first : first + 8]  # a cache line of its own; all zeros: free, and asleep
        self.address = self.slot.ctypes.data
        self._loop = worker_loop
        self._semaphore = Lock()
        self._semaphore.acquire()
        self._thread = Thread(target=self._run, name="convop", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        from .fork_join import LEAVE

        while not self.slot[LEAVE]:
            self._semaphore.acquire()
            self._loop(self.address, _SPIN_LIMIT)

    def wake(self) -> None:
        """Wakes the thread if it sleeps. A spurious signal costs some spinning; a lost one is repeated by the next call."""
        from .fork_join import AWAKE

        if not self.slot[AWAKE]:
            with suppress(RuntimeError):  # the semaphore is open already
                self._semaphore.release()

    def end(self) -> None:
        """Ends the thread after its present work."""
        from .fork_join import LEAVE

        self.slot[LEAVE] = 1
        with suppress(RuntimeError):
            self._semaphore.release()
        self._thread.join()


@dataclass(frozen=True)
class _Pool:
    """Workers and the addresses of their slots; `full` where no more threads can be started."""

    workers: tuple[_Worker, ...] = ()
    slots: Array = field(default_factory=partial(np.zeros, 0, np.int64))
    full: bool = False

    def with_workers(self, wanted: int) -> _Pool:
        """Returns a pool of `wanted` workers, or of as many as can be started."""
        workers = list(self.workers)
        full = False
        while len(workers) < wanted and not full:
            try:
                workers.append(_Worker())
            except RuntimeError:  # no more threads, or the interpreter is shutting down
                full = True
        return _Pool(tuple(workers), np.array([worker.address for worker in workers], np.int64), full)


# The pool of the process, as large as the largest request so far. A forked child has none of its threads.
_pool = _Pool()
_growing = ForkSafeLock()


def _forget() -> None:
    global _pool  # noqa: PLW0603
    _pool = _Pool()


def _end() -> None:
    """Ends all workers: compiled code must not run while the interpreter is taken down."""
    global _pool
    workers, _pool = _pool.workers, _Pool(_pool.workers, full=True)
    for worker in workers:
        worker.end()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
atexit.register(_end)


def awake_workers(items: int, work: int) -> Array:
    """Wakes workers for a loop, and returns the addresses of their slots.

    Parameters
    ----------
    items : int
        Items of work, each done by one thread.
    work : int
        Multiplications of all items; little work wakes no worker.

    Returns
    -------
    ndarray of int64
        The first argument of `fork_join`.
    """
    global _pool  # noqa: PLW0603 - one pool for the process
    wanted = threads_for(items, work) - 1
    pool = _pool
    # A caller that finds the pool growing, such as a signal handler, goes on with the workers there are.
    if wanted > len(pool.workers) and not pool.full and _growing.try_acquire():
        try:
            _pool = pool = pool.with_workers(wanted)
        finally:
            _growing.release()
    slots: Array = pool.slots[:wanted]
    for worker in pool.workers[: len(slots)]:
        worker.wake()
    return slots
