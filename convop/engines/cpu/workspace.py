"""Workspaces: arrays that each thread keeps from product to product, aligned to cache lines."""

from __future__ import annotations

from threading import current_thread, local, main_thread
from typing import Any

import numpy as np

from ...arrays import memory
from ...arrays.backend import Array

# Bytes of a cache line.
_LINE = 64
# Lines of a row from which on one more costs little.
_LONG = 16
# Larger workspaces are freed with the product that took them.
_KEPT = 2**24

_kept = local()


def aligned(size: int, dtype: np.dtype[Any]) -> Array:
    """Returns an array that begins with a cache line: vectors across two lines take up to twice the time."""
    array = np.empty(size + _LINE // dtype.itemsize, dtype)
    begin = -array.ctypes.data % _LINE // dtype.itemsize
    return array[begin : begin + size]


def scratch(name: str, size: int, dtype: np.dtype[Any], *, threads: int = 1) -> Array:
    """Returns this thread's workspace of a name, of exactly `size` elements, with the contents of its last use.

    Parameters
    ----------
    name : str
        Workspaces of different names do not overlap.
    size : int
        Elements.
    dtype : dtype
        Of the elements.
    threads : int
        Threads that share the workspace.

    Returns
    -------
    ndarray of shape ``(size,)``

    Raises
    ------
    MemoryError
        If a large workspace does not fit in free memory.
    """
    key = name + dtype.char
    array: Array | None = getattr(_kept, key, None)
    if array is None or len(array) < size:
        if size * dtype.itemsize > _KEPT:
            memory.require(size * dtype.itemsize, "the planes of a block of the extended input")
        array = aligned(size, dtype)
        # When many threads call at once, each call gets few workers.
        if array.nbytes <= (threads * _KEPT if current_thread() is main_thread() else _KEPT):
            setattr(_kept, key, array)
    return array[:size]


def per_thread(name: str, threads: int, size: int, dtype: np.dtype[Any]) -> Array:
    """Returns a workspace of at least `size` elements for each of some threads, as rows of an array."""
    stride = padded(size, dtype.itemsize)
    return scratch(name, threads * stride, dtype, threads=threads).reshape(threads, stride)


def row_length(elements: int, itemsize: int) -> int:
    """Returns the elements of the fewest cache lines that hold a row; an odd number of lines where it costs little.

    Up to 16 short rows fall into different cache sets in any case, and planes have an odd number of lines.
    """
    lines = -(-elements * itemsize // _LINE)
    return (lines | 1 if lines >= _LONG else lines) * _LINE // itemsize


def padded(elements: int, itemsize: int) -> int:
    """Returns the elements of an odd number of cache lines: neighbours at this stride fall into different cache sets."""
    lines = -(-elements * itemsize // _LINE) | 1
    return lines * _LINE // itemsize
