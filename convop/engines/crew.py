"""Threads that work where a compiled loop asks for it, and stay awake for a while after they have.

A thread that sleeps takes 50 us and more to begin, and whatever begins through the interpreter waits for its lock. So
the helpers look for work in compiled code, and sleep when none came for some time.
"""

from __future__ import annotations

import atexit
import os
from contextlib import suppress
from threading import Lock, Thread

import numpy as np

from ..backend import Array
from ..parallel import ForkSafeLock, threads_for

__all__ = ["crew_for"]

# Looks for work before a helper falls asleep: 0.1 to 0.3 ms, longer than what a solver does between two products of
# small images.
_LOOKS = 4000


class _Helper:
    """A thread and the slot in which it looks for work."""

    def __init__(self) -> None:
        from .handover import serve

        memory = np.zeros(16, np.int64)
        first = -memory.ctypes.data % 64 // 8
        self.slot = memory[first : first + 8]  # a cache line of its own; all zeros: asleep
        self.address = self.slot.ctypes.data
        self._serve = serve
        self._bell = Lock()
        self._bell.acquire()
        self._ends = False
        self._thread = Thread(target=self._run, name="convop", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            self._bell.acquire()
            if self._ends:
                return
            self._serve(self.address, _LOOKS)

    def rouse(self) -> None:
        """Wake the thread if it sleeps."""
        from .handover import ASLEEP, AWAKE

        if self.slot[0] == ASLEEP:
            self.slot[0] = AWAKE
            with suppress(RuntimeError):  # another thread has done so
                self._bell.release()

    def end(self) -> None:
        """Let the thread end."""
        self._ends = True
        with suppress(RuntimeError):
            self._bell.release()
        self._thread.join()


# Helpers of the process, as many as were ever asked for, and the addresses of their slots. A forked child has none.
_helpers: list[_Helper] = []
_slots: Array = np.zeros(0, np.int64)
_lock = ForkSafeLock()


def _forget() -> None:
    global _helpers, _slots
    _helpers, _slots = [], np.zeros(0, np.int64)


def _end() -> None:
    """Compiled code must not run while the interpreter is taken down."""
    for helper in _helpers:
        helper.end()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
atexit.register(_end)


def crew_for(items: int, work: int) -> Array:
    """Addresses of the slots of helpers that are awake or about to be, for some items of work; none for little work.

    Parameters
    ----------
    items : int
        Number of items.
    work : int
        Multiplications of all of them.

    Returns
    -------
    ndarray of int64
        What `handover.share` takes.
    """
    global _slots  # noqa: PLW0603 - one crew for the process
    wanted = threads_for(items, work) - 1
    if wanted > len(_helpers):
        with _lock, suppress(RuntimeError):  # an interpreter that is shutting down starts no threads
            while wanted > len(_helpers):
                _helpers.append(_Helper())
                _slots = np.array([helper.address for helper in _helpers])
    for helper in _helpers[:wanted]:
        helper.rouse()
    return _slots[:wanted]
