"""Threads that work where a compiled loop asks for it, and stay awake for a while after they have.

A thread that sleeps takes 50 us and more to begin, and whatever begins through the interpreter waits for its lock. So
the helpers look for work in compiled code, and sleep when none came for some time.
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

__all__ = ["crew_for"]

# Looks for work before a helper falls asleep: 0.1 to 0.3 ms, longer than what a solver does between two products of
# small images.
_LOOKS = 4000


class _Helper:
    """A thread and the slot in which it looks for work."""

    def __init__(self) -> None:
        from .fork_join import SLOT_STAMP, STAMP, serve

        memory = np.zeros(16, np.int64)
        first = -memory.ctypes.data % 64 // 8
        self.slot = memory[first : first + 8]  # a cache line of its own; all zeros: free, and nobody listens
        self.slot[SLOT_STAMP] = STAMP
        self.address = self.slot.ctypes.data
        self._serve = serve
        self._bell = Lock()
        self._bell.acquire()
        self._thread = Thread(target=self._run, name="convop", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        from .fork_join import LEAVES

        while not self.slot[LEAVES]:
            self._bell.acquire()
            self._serve(self.address, _LOOKS)

    def rouse(self) -> None:
        """Wake the thread unless it listens. A ring too many costs it some looks, one too few is made good next time."""
        from .fork_join import LISTENS

        if not self.slot[LISTENS]:
            with suppress(RuntimeError):  # it has been rung for already
                self._bell.release()

    def end(self) -> None:
        """Let the thread end, when it has done what it is at."""
        from .fork_join import LEAVES

        self.slot[LEAVES] = 1
        with suppress(RuntimeError):
            self._bell.release()
        self._thread.join()


@dataclass(frozen=True)
class _Crew:
    """Helpers, and the addresses of their slots; `full` where no more can be had."""

    helpers: tuple[_Helper, ...] = ()
    slots: Array = field(default_factory=partial(np.zeros, 0, np.int64))
    full: bool = False

    def grown(self, wanted: int) -> _Crew:
        """The crew with helpers up to so many, or as many as start."""
        helpers = list(self.helpers)
        full = False
        while len(helpers) < wanted and not full:
            try:
                helpers.append(_Helper())
            except RuntimeError:  # no more threads, or the interpreter is shutting down
                full = True
        return _Crew(tuple(helpers), np.array([helper.address for helper in helpers], np.int64), full)


# The crew of the process, as large as was ever asked for. A forked child has none of its threads.
_crew = _Crew()
_growing = ForkSafeLock()


def _forget() -> None:
    global _crew  # noqa: PLW0603
    _crew = _Crew()


def _end() -> None:
    """Compiled code must not run while the interpreter is taken down."""
    global _crew
    helpers, _crew = _crew.helpers, _Crew(_crew.helpers, full=True)
    for helper in helpers:
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
    global _crew  # noqa: PLW0603 - one crew for the process
    wanted = threads_for(items, work) - 1
    crew = _crew
    # Whoever finds it growing, as a signal's handler may, goes on with what there is.
    if wanted > len(crew.helpers) and not crew.full and _growing.taken():
        try:
            _crew = crew = _crew.grown(wanted)
        finally:
            _growing.release()
    slots: Array = crew.slots[:wanted]
    for helper in crew.helpers[: len(slots)]:
        helper.rouse()
    return slots
