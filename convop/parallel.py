"""Blocks of work on the cores of this machine, by plain threads.

Compiled loops release the GIL and run on a pool of the standard library. Numba's own threading layers are
not used: one aborts the process when two Python threads enter it together, another in a forked child.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from threading import Lock
from typing import ClassVar
from weakref import WeakSet

__all__ = ["ForkSafeLock", "run_blocks", "workers"]


class ForkSafeLock:
    """A lock that is open in a forked child, where the thread that held it does not exist."""

    _all: ClassVar[WeakSet[ForkSafeLock]] = WeakSet()

    def __init__(self) -> None:
        self._lock = self._held = Lock()
        self._all.add(self)

    def __enter__(self) -> None:
        lock = self._lock
        lock.acquire()
        self._held = lock  # a child forked by the holder releases this one, and not its successor

    def __exit__(self, *_: object) -> None:
        self._held.release()

    @classmethod
    def reopen(cls) -> None:
        """Give every lock a new one inside."""
        for lock in cls._all:
            lock._lock = Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=ForkSafeLock.reopen)


def workers() -> int:
    """Number of cores this process may run on.

    Returns
    -------
    int
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_blocks(function: Callable[[int, int], object], length: int, *, threads: int, blocks: int) -> None:
    """Call ``function(start, stop)`` on consecutive blocks of ``range(length)``, some at a time.

    Parameters
    ----------
    function : callable
        Called with the bounds of a block; releases the GIL to run beside its siblings.
    length : int
        Length of the range.
    threads : int
        Blocks under way at once. With 1 the calling thread does the work and no pool exists.
    blocks : int
        Number of blocks; more than `threads` evens out blocks of unequal work.

    Raises
    ------
    Exception
        Whatever `function` raised first.
    """
    blocks = max(1, min(blocks, length))
    bounds = [length * b // blocks for b in range(blocks + 1)]
    pairs = list(pairwise(bounds))
    if threads == 1 or blocks == 1:
        for start, stop in pairs:
            function(start, stop)
        return
    # A pool per call costs some 0.1 ms, starts fresh in a forked child and leaves nothing behind.
    with ThreadPoolExecutor(min(threads, blocks)) as pool:
        for future in [pool.submit(function, start, stop) for start, stop in pairs]:
            future.result()
