"""How many threads work is divided over, and blocks of work on a pool of the standard library.

Functions that release the GIL run beside one another on it; the loops of the engines have helpers of their own, which
need no interpreter (`engines.crew`). Numba's own threading layers are not used: one aborts the process when two Python
threads enter it together, another in a forked child.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from threading import Lock
from typing import Any, ClassVar
from weakref import WeakSet

from .arguments import integer

__all__ = [
    "ForkSafeLock",
    "chosen_threads",
    "run_blocks",
    "run_items",
    "set_num_threads",
    "threads_for",
    "transform_workers",
    "workers",
]


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


_chosen: int | None = None


def set_num_threads(count: int | None) -> None:
    """Set how many threads the package's own loops use, or give the choice back to it.

    Parameters
    ----------
    count : int or None
        At least 1; None for one for each core that this process may run on. Limits set with threadpoolctl hold
        besides.

    Raises
    ------
    ValueError, TypeError
        If `count` is not a number of threads.

    Examples
    --------
    >>> import convop
    >>> convop.set_num_threads(1)
    >>> convop.set_num_threads(None)
    """
    global _chosen  # noqa: PLW0603 - one setting for the process
    if count is not None:
        count = integer("count", count)
        if count < 1:
            raise ValueError(f"count must be at least 1, or None for all cores; got {count}")
    _chosen = count


def chosen_threads() -> int | None:
    """What `set_num_threads` was given last, or None."""
    return _chosen


def workers() -> int:
    """Threads that work may be divided over.

    Returns
    -------
    int
        What was set, or the number of cores this process may run on; no more than the limit that threadpoolctl has
        set for linear algebra, where it is in use.
    """
    if _chosen is not None:
        count = _chosen
    elif hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    return max(1, min(count, _limit()))


_controllers: list[Any] | None = None


def _limit() -> int:
    """The least number of threads of the loaded BLAS libraries: threadpoolctl sets it, and knows no pools of Python."""
    global _controllers  # noqa: PLW0603 - looked up once
    threadpoolctl = sys.modules.get("threadpoolctl")
    if threadpoolctl is None:  # nobody can have set a limit with it
        return sys.maxsize
    if _controllers is None:
        _controllers = list(threadpoolctl.ThreadpoolController().select(user_api="blas").lib_controllers)
    counts = [c.num_threads for c in _controllers]
    return min((count for count in counts if count), default=sys.maxsize)


# One pool for the process, as large as was ever asked for. A forked child has none of its threads, so it makes its own.
_pool: ThreadPoolExecutor | None = None
_pool_size = 0
_pool_lock = ForkSafeLock()


def _forget_pool() -> None:
    global _pool, _pool_size
    _pool, _pool_size = None, 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def _submit(function: Callable[[], None], times: int) -> list[Future[None]]:
    global _pool, _pool_size
    with _pool_lock:
        if _pool is None or _pool_size < times:
            if _pool is not None:
                _pool.shutdown(wait=False)  # its threads end when their work is done
            _pool, _pool_size = ThreadPoolExecutor(times, thread_name_prefix="convop"), times
        return [_pool.submit(function) for _ in range(times)]


def run_blocks(function: Callable[[int, int], object], length: int, *, threads: int, blocks: int) -> None:
    """Call ``function(start, stop)`` on consecutive blocks of ``range(length)``, some at a time.

    Parameters
    ----------
    function : callable
        Called with the bounds of a block; releases the GIL to run beside its siblings. It must not call
        `run_blocks` itself.
    length : int
        Length of the range.
    threads : int
        Blocks under way at once. With 1 the calling thread does the work and no pool exists.
    blocks : int
        Number of blocks; more than `threads` evens out blocks of unequal work.

    Raises
    ------
    Exception
        Whatever `function` raised first; no further blocks are begun then.
    """
    blocks = max(1, min(blocks, length))
    bounds = [length * b // blocks for b in range(blocks + 1)]
    if threads == 1 or blocks == 1:
        for start, stop in pairwise(bounds):
            function(start, stop)
        return
    pairs = iter(list(pairwise(bounds)))
    errors: list[BaseException] = []

    def take_blocks() -> None:
        # Taking the next element of a list's iterator is one step under the GIL, and safe from several threads without.
        for start, stop in pairs:
            if errors:
                return
            try:
                function(start, stop)
            except BaseException as error:  # noqa: BLE001 - raised where the caller sees it
                errors.append(error)

    # The caller works too: what the pool has not begun when the blocks are gone need not be waited for.
    try:
        helpers = _submit(take_blocks, min(threads, blocks) - 1)
    except RuntimeError:  # an interpreter that is shutting down starts no threads
        helpers = []
    take_blocks()
    for helper in helpers:
        if not helper.cancel():
            helper.result()
    if errors:
        raise errors[0]


# Multiplications that are not worth waking a thread for: some 0.1 ms.
_SMALL_WORK = 10**6
# Elements for which scipy.fft's threads are not worth starting.
_SMALL_TRANSFORM = 2**16
# Blocks for each thread, so that one that is interrupted does not keep the others waiting for long.
_BLOCKS_PER_THREAD = 8


def run_items(
    function: Callable[[int, int], object], items: int, *, work: int, blocks_per_thread: int = _BLOCKS_PER_THREAD
) -> None:
    """Call ``function(first, stop)`` on blocks of a range of items that make up so much work.

    Parameters
    ----------
    function : callable
        As in `run_blocks`.
    items : int
        Number of items.
    work : int
        Multiplications of all of them: little is done by the calling thread alone.
    blocks_per_thread : int
        More even out items of unequal work, or a thread that is interrupted.
    """
    threads = threads_for(items, work)
    run_blocks(function, items, threads=threads, blocks=1 if threads == 1 else blocks_per_thread * threads)


def threads_for(items: int, work: int) -> int:
    """Threads for some items of so many multiplications in all: little work is done by the calling thread alone."""
    return 1 if work < _SMALL_WORK or items < 2 else min(workers(), items)


def transform_workers(elements: int) -> int:
    """Threads for a Fourier or cosine transform of so many elements in all, by scipy.fft, which starts them anew."""
    return 1 if elements < _SMALL_TRANSFORM else workers()
