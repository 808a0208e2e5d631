"""Runs blocks of Python work on a thread pool of the standard library.

Functions that release the GIL run beside one another on it. The compiled loops of the engines have worker threads of
their own, which never wait for the GIL (`threads.pool`). Numba's threading layers are not used: workqueue aborts the
process when two Python threads enter it together, and GNU OpenMP aborts in a forked child.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise

from .locks import ForkSafeLock
from .sizes import threads_for

# Blocks for each thread, so that one that is interrupted does not keep the others waiting for long.
_BLOCKS_PER_THREAD = 8

# One pool for the process, as large as the largest request so far. A forked child has none of its threads, and makes its
# own.
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
        The first exception of `function`; no further blocks are started then.
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

    # The caller works too: what the pool has not started when the blocks are gone need not be waited for.
    try:
        futures = _submit(take_blocks, min(threads, blocks) - 1)
    except RuntimeError:  # an interpreter that is shutting down starts no threads
        futures = []
    take_blocks()
    for future in futures:
        if not future.cancel():
            future.result()
    if errors:
        raise errors[0]


def run_items(
    function: Callable[[int, int], object], items: int, *, work: int, blocks_per_thread: int = _BLOCKS_PER_THREAD
) -> None:
    """Call ``function(first, stop)`` on blocks of a range of items whose total work is `work`.

    Parameters
    ----------
    function : callable
        As in `run_blocks`.
    items : int
        Number of items.
    work : int
        Multiplications of all of them: little is done by the calling thread alone.
    blocks_per_thread : int
        A larger number evens out items of unequal work and threads that are interrupted.
    """
    threads = threads_for(items, work)
    run_blocks(function, items, threads=threads, blocks=1 if threads == 1 else blocks_per_thread * threads)
