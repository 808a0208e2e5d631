"""Locks that are open in a forked child, and values that several threads build only once."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable
from threading import Lock, RLock
from typing import Any, ClassVar, Generic, TypeVar
from weakref import WeakSet

Value = TypeVar("Value")


class ForkSafeLock:
    """A lock that is open in a forked child, where the thread that held it does not exist.

    Parameters
    ----------
    kind : callable
        ``threading.Lock``, or ``threading.RLock`` if the holder may acquire it again.
    """

    _all: ClassVar[WeakSet[ForkSafeLock]] = WeakSet()

    def __init__(self, kind: Callable[[], Any] = Lock) -> None:
        self._kind = kind
        self._lock = self._held = kind()
        self._all.add(self)

    def __enter__(self) -> None:
        lock = self._lock
        lock.acquire()
        self._held = lock  # a child forked by the holder releases this lock, and not its successor

    def __exit__(self, *_: object) -> None:
        self._held.release()

    def try_acquire(self) -> bool:
        """Acquires the lock if it is open, and returns whether it was; the caller then has to `release` it."""
        lock = self._lock
        if not lock.acquire(blocking=False):
            return False
        self._held = lock
        return True

    def release(self) -> None:
        """Opens the lock."""
        self._held.release()

    @classmethod
    def reopen_all(cls) -> None:
        """Replaces the inner lock of every instance by an open one."""
        for lock in cls._all:
            lock._lock = lock._kind()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=ForkSafeLock.reopen_all)


class BuiltOnce(Generic[Value]):
    """Values that are built when they are first asked for, each by one thread while the others wait.

    A signal handler that interrupts a build and asks for the same value builds its own; the last one is kept.
    """

    def __init__(self) -> None:
        self._values: dict[Hashable, Value] = {}
        self._lock = ForkSafeLock(RLock)

    def get(self, key: Hashable, build: Callable[[], Value]) -> Value:
        """Returns the value of a key, and builds it first if there is none.

        Parameters
        ----------
        key : hashable
            Which value.
        build : callable
            Called without arguments; what it raises leaves the key without a value.

        Returns
        -------
        object
            What `build` returned once.
        """
        if key not in self._values:
            with self._lock:
                if key not in self._values:
                    self._values[key] = build()
        return self._values[key]
