"""Locks that a forked child finds open."""

from __future__ import annotations

import os
from threading import Lock
from typing import ClassVar
from weakref import WeakSet

__all__ = ["ForkSafeLock"]


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

    def taken(self) -> bool:
        """Whether it was open, and is this thread's now, which then has to `release` it."""
        lock = self._lock
        if not lock.acquire(blocking=False):
            return False
        self._held = lock
        return True

    def release(self) -> None:
        """Open it again."""
        self._held.release()

    @classmethod
    def reopen(cls) -> None:
        """Give every lock a new one inside."""
        for lock in cls._all:
            lock._lock = Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=ForkSafeLock.reopen)
