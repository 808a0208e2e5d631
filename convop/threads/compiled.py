"""Compiles kernels with Numba, and keeps them on disk under a key that sees every source they are made of.

Numba's own disk cache looks at the file of the function alone. A kernel that calls another file's microkernel, or that
freezes a constant of another file, would stay in use after that file has changed, with new workspaces around it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache, IndexDataCacheFile

from .vectors import vector_unit


@cache
def _digest(folder: Path) -> str:
    """Returns a hash of the sources in a folder and in this one, which every kernel may be made of."""
    digest = hashlib.sha256()
    for source in sorted({*folder.glob("*.py"), *Path(__file__).parent.glob("*.py")}):
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return digest.hexdigest()


class _KernelCache(FunctionCache):  # type: ignore[misc]
    """Numba's cache of a function, stamped with the sources of its folder and not of its file alone."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        stamp = (self._impl.locator.get_source_stamp(), _digest(Path(function.__code__.co_filename).parent))
        self._cache_file = IndexDataCacheFile(self._cache_path, self._impl.filename_base, stamp)

    def _index_key(self, *arguments: Any) -> tuple[Any, ...]:
        """Adds the vector unit, which can be forced, so that kernels of all widths are kept side by side."""
        return (*super()._index_key(*arguments), vector_unit())


# Kernels allocate no arrays, so nothing in them counts references: that would cost 35 ns for every row of a plane.
_OPTIONS = {"nogil": True, "_nrt": False}
_INNER = {**_OPTIONS, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}


def kernel(function: Callable[..., Any]) -> Any:
    """Compiles a function when it is first called, without the GIL, and keeps the code for later processes.

    A kernel allocates no arrays. Everything it calls or captures as a constant (microkernels, tile shapes) must live in its
    folder or in this one.

    Parameters
    ----------
    function : callable
        Defined in a module.

    Returns
    -------
    numba.core.registry.CPUDispatcher
    """
    return _cached(numba.njit(**_OPTIONS)(function))


def allocating_kernel(function: Callable[..., Any]) -> Any:
    """Compiles a function as `kernel` does, with reference counts, so that it may allocate arrays."""
    return _cached(numba.njit(nogil=True)(function))


def inner_kernel(function: Callable[..., Any]) -> Any:
    """Compiles a function that only kernels call: as `kernel`, without the code that unpacks Python's objects."""
    return _cached(numba.njit(**_INNER)(function))


def uncached_kernel(function: Callable[..., Any], name: str) -> Any:
    """Compiles a closure that only kernels call; it is kept as part of them.

    Parameters
    ----------
    function : callable
        The closure.
    name : str
        Tells closures of one definition apart. Numba names compiled functions by their qualified name and a number that
        begins anew in every process: two kernels from disk that hold different closures of one name would call each
        other's.
    """
    function.__name__ = function.__qualname__ = name
    return numba.njit(**_INNER)(function)


def inlined(function: Callable[..., Any]) -> Any:
    """Makes a small function part of every kernel that calls it, which saves compiling it by itself."""
    return numba.njit(**_OPTIONS, inline="always")(function)


_typed: dict[tuple[Any, Hashable], Callable[..., Any]] = {}


def call_typed(dispatcher: Any, types: Hashable, *arguments: Any) -> Any:
    """Calls a kernel without looking at the types of its arguments, which takes 8 us for records of some 30 arrays.

    Parameters
    ----------
    dispatcher : dispatcher
        A kernel.
    types : hashable
        Names the types: all calls of a kernel with the same name have arguments of the same types, memory orders
        and alignment.
    *arguments
        The arguments.

    Returns
    -------
    object
        What the kernel returns.
    """
    function = _typed.get((dispatcher, types))
    if function is None:
        function = dispatcher.compile(tuple(numba.typeof(argument) for argument in arguments))
        _typed[dispatcher, types] = function
    return function(*arguments)


def _cached(dispatcher: Any) -> Any:
    # Numba raises where there is no source or no folder to write to: kernels are then compiled in every process.
    with suppress(OSError, RuntimeError):
        dispatcher._cache = _KernelCache(dispatcher.py_func)
    return dispatcher
