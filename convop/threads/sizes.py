"""Decides how many threads share a piece of work.

The count is what `set_num_threads` was given, or the number of cores this process may run on, and never more than the
limit that threadpoolctl has set for linear algebra.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from ..geometry.arguments import integer
from .locks import ForkSafeLock

# Multiplications that are too few to be worth waking a thread: about 0.1 ms.
_SMALL_WORK = 10**6
# Elements for which scipy.fft's threads are not worth starting.
_SMALL_TRANSFORM = 2**16

_chosen: int | None = None


def set_num_threads(count: int | None) -> None:
    """Set how many threads the package's own loops use, or give the choice back to it.

    Parameters
    ----------
    count : int or None
        At least 1; None for one for each core that this process may run on. Limits set with threadpoolctl also
        apply.

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


def thread_count() -> int:
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


@cache
def _blas() -> Any:
    """Returns threadpoolctl's controller of the loaded BLAS libraries, which takes some milliseconds to find."""
    import threadpoolctl

    return threadpoolctl.ThreadpoolController().select(user_api="blas")


def _limit() -> int:
    """The least number of threads of the loaded BLAS libraries: threadpoolctl sets it, and knows no pools of Python."""
    if "threadpoolctl" not in sys.modules:  # without it, no limit can have been set
        return sys.maxsize
    counts = [library.num_threads for library in _blas().lib_controllers]
    return min((count for count in counts if count), default=sys.maxsize)


def threads_for(items: int, work: int) -> int:
    """Threads for some items of so many multiplications in all: little work is done by the calling thread alone."""
    return 1 if work < _SMALL_WORK or items < 2 else min(thread_count(), items)


def transform_workers(elements: int) -> int:
    """Threads for a Fourier or cosine transform of so many elements in all, by scipy.fft, which starts them anew."""
    return 1 if elements < _SMALL_TRANSFORM else thread_count()


_limiting = ForkSafeLock()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limits linear algebra to one thread, for many small factorisations: waking others takes longer than the work.

    On two cores, inverting four matrices of size 144 takes 2 ms instead of 60. The limit holds for the process, so the
    package's own loops in other threads use one thread meanwhile. A context inside another one, or beside one of another
    thread, changes nothing: OpenBLAS lets only the thread that has set a limit restore it.
    """
    if not _limiting.try_acquire():
        yield
        return
    try:
        with _blas().limit(limits=1):
            yield
    finally:
        _limiting.release()
