"""Compiles kernels with Numba, and keeps them on disk under a key that sees every source they are made of.

Numba's own disk cache looks at the file of the function alone. A kernel that calls another file's microkernel, or that
freezes a constant of another file, would stay in use after that file has changed, with new workspaces around it.

Numba optimises each function for itself and generates its machine code, and does both again in each function that calls
it. Of the 8.2 s of CPU time that the first product of a 2-D convolution took in an empty cache, LLVM took 4.7 s. Here, a
function that kernels call has no machine code of its own: it is optimised once, as a part of the kernel. This overrides
methods of Numba that are not public; with releases before 0.62, whose passes of LLVM are others, and with later ones that lack
one of these methods, kernels are compiled as Numba does by itself.

Compilation is reported to the logger of this module, at the level INFO; kernels that are loaded from disk are not.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Hashable
from contextlib import suppress
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any

import numba
from numba import _dynfunc
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.codegen import JITCodeLibrary, JITCPUCodegen
from numba.core.compiler import Compiler

from .vectors import vector_unit

_log = logging.getLogger(__name__)


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


# What the classes below override or call.
_NEEDED = {
    JITCodeLibrary: (
        "_optimize_functions",
        "_optimize_final_module",
        "_finalize_final_module",
        "_finalize_dynamic_globals",
    ),
    JITCPUCodegen: ("_module_pass_manager",),
    Compiler: ("compile_extra",),
}


class _KernelLibrary(JITCodeLibrary):  # type: ignore[misc]
    """The code of a kernel and of all functions that it calls, which LLVM optimises together.

    Numba optimises every function before it is linked, and runs a pipeline without optimisation to find reference counts
    that cancel. Kernels have next to none. Level 2 instead of 3 gives the same loops in two thirds of the time.
    """

    def _optimize_functions(self, ll_module: Any) -> None:
        ll_module.data_layout = self._codegen._data_layout

    def _optimize_final_module(self) -> None:
        passes, builder = self._codegen._module_pass_manager(opt=2)
        passes.run(self._final_module, builder)


class _InnerLibrary(_KernelLibrary):
    """The code of a function that only kernels call: linked into them as it is, and not compiled."""

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True


class _KernelCompiler(Compiler):  # type: ignore[misc]
    """Compiles a kernel, and reports it."""

    def __init__(self, typingctx: Any, targetctx: Any, library: Any, *arguments: Any) -> None:
        library = _KernelLibrary(targetctx.codegen(), "kernel")
        library.enable_object_caching()
        super().__init__(typingctx, targetctx, library, *arguments)

    def compile_extra(self, func: Callable[..., Any]) -> Any:
        name = f"{func.__module__}.{func.__qualname__}"
        _log.info("compiling %s", name)
        start = perf_counter()
        result = super().compile_extra(func)
        _log.info("compiled %s in %.1f s", name, perf_counter() - start)
        return result


class _InnerCompiler(Compiler):  # type: ignore[misc]
    """Compiles a function up to LLVM's intermediate code, which becomes part of the kernels that call it."""

    def __init__(
        self, typingctx: Any, targetctx: Any, library: Any, args: Any, return_type: Any, flags: Any, *rest: Any
    ):
        flags.no_compile = True
        library = _InnerLibrary(targetctx.codegen(), "inner")
        super().__init__(typingctx, targetctx, library, args, return_type, flags, *rest)

    def compile_extra(self, func: Callable[..., Any]) -> Any:
        result = super().compile_extra(func)
        # Numba finds the code of a call by a built-in function, the one that Python would call: here its address is 0.
        module = result.fndesc.lookup_module()
        key = _dynfunc.make_function(module, func.__name__, "", 0, result.environment, (result.library,))
        self.state.targetctx.insert_user_function(key, result.fndesc, [result.library])
        return result._replace(entry_point=key)


def _can_join_functions() -> bool:
    """Returns whether this release of Numba has everything that makes functions part of their kernels."""
    has_all = all(hasattr(owner, name) for owner, names in _NEEDED.items() for name in names)
    return has_all and numba.version_info.short >= (0, 62)


# Kernels allocate no arrays, so nothing in them counts references: that would cost 35 ns for every row of a plane.
_NO_COUNTS = {"_nrt": False}
_KERNEL: dict[str, Any] = {"nogil": True, "no_cfunc_wrapper": True}
_INNER: dict[str, Any] = {**_KERNEL, "no_cpython_wrapper": True}
if _can_join_functions():
    _KERNEL["pipeline_class"], _INNER["pipeline_class"] = _KernelCompiler, _InnerCompiler
else:
    _KERNEL["no_cfunc_wrapper"] = False


def kernel(function: Callable[..., Any]) -> Any:
    """Compiles a function when it is first called, without the GIL, and keeps the code for later processes.

    A kernel allocates no arrays. Everything it calls or captures as a constant (microkernels, tile shapes) must live in its
    folder or in this one. Another kernel that calls it is compiled with a copy of its code.

    Parameters
    ----------
    function : callable
        Defined in a module.

    Returns
    -------
    numba.core.registry.CPUDispatcher
    """
    return _compiled(function, **_NO_COUNTS)


def allocating_kernel(function: Callable[..., Any]) -> Any:
    """Compiles a function as `kernel` does, with reference counts, so that it may allocate arrays."""
    return _compiled(function)


def inner_kernel(function: Callable[..., Any]) -> Any:
    """Compiles a function that only kernels call, as a part of each of them."""
    return numba.njit(**_INNER, **_NO_COUNTS)(function)


def uncached_kernel(function: Callable[..., Any], name: str) -> Any:
    """Compiles a closure that only kernels call, as a part of each of them.

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
    return inner_kernel(function)


def inlined(function: Callable[..., Any]) -> Any:
    """Makes a small function part of every kernel that calls it, before types are inferred."""
    return numba.njit(nogil=True, inline="always", **_NO_COUNTS)(function)


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


def _compiled(function: Callable[..., Any], **options: Any) -> Any:
    dispatcher = numba.njit(**_KERNEL, **options)(function)
    if "pipeline_class" in _KERNEL:
        inner = numba.njit(**_INNER, **options)(function)
        for name in ("get_call_template", "get_overload", "get_compile_result"):  # what compiled calls of it look up
            setattr(dispatcher, name, getattr(inner, name))
    # Numba raises where there is no source or no folder to write to: kernels are then compiled in every process.
    with suppress(OSError, RuntimeError):
        dispatcher._cache = _KernelCache(function)
    return dispatcher
