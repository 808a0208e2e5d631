"""Whose arrays: kernels and vectors of users, made into arrays of the dtypes that are kept.

Arrays of NumPy are on the CPU, those of CuPy on the GPU. This is the one file that names CuPy. It is never imported
before somebody asks for the GPU: whether an array is CuPy's is told by where its type comes from.
"""

from __future__ import annotations

import sys
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from . import memory
from .dtypes import as_dtype, kept_dtype

__all__ = [
    "Array",
    "as_array",
    "as_kernel",
    "dense",
    "from_cpu",
    "gpu",
    "gpu_module",
    "namespace",
    "on_gpu",
    "require_gpu_memory",
    "to_cpu",
    "to_gpu",
]

Array: TypeAlias = npt.NDArray[Any]


def on_gpu(value: object) -> bool:
    """Whether something is an array of CuPy."""
    return "cupy" in _makers(value)


def _makers(value: object) -> set[str]:
    """The packages in which the types of a value are defined."""
    return {kind.__module__.partition(".")[0] for kind in type(value).__mro__}


def namespace(array: Array) -> ModuleType:
    """The library of an array: NumPy, or CuPy, which has the same functions."""
    return import_module("cupy") if on_gpu(array) else np


def gpu() -> ModuleType:
    """CuPy, where it can be used.

    Returns
    -------
    module

    Raises
    ------
    RuntimeError
        If CuPy, a GPU with its driver, or one of CUDA's libraries is missing; the message says which.
    """
    try:
        cupy = import_module("cupy")
    except ModuleNotFoundError as error:
        if error.name != "cupy":
            raise RuntimeError(f"the GPU needs CuPy, which cannot be imported: {error}") from error
        raise RuntimeError(
            "the GPU needs CuPy, which is not installed: pip install 'convop[gpu]' for CUDA 12, 'convop[gpu13]' for 13"
        ) from None
    except ImportError as error:
        raise RuntimeError(f"the GPU needs CuPy, which cannot be imported: {error}") from error
    if not cupy.cuda.is_available():
        raise RuntimeError(f"the GPU needs a CUDA device and its driver: {_why_no_device(cupy)}")
    if not hasattr(gpu_module("sparse"), "csr_array"):
        raise RuntimeError(f"the GPU needs CuPy 14.2 or later, got {cupy.__version__}: pip install -U 'convop[gpu]'")
    try:
        import_module("cupyx.scipy.sparse.linalg")
    except ImportError as error:
        raise RuntimeError(
            f"the GPU needs CUDA's libraries, of which one is missing: {error}; "
            "pip install 'cupy-cuda12x[ctk]', or 'cupy-cuda13x[ctk]', brings them"
        ) from error
    return cupy


def _why_no_device(cupy: ModuleType) -> str:
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # noqa: BLE001 - whatever CUDA says
        return str(error)
    return f"CuPy finds {count} devices"


def gpu_module(name: str) -> ModuleType:
    """CuPy's counterpart of a module of SciPy: ``"sparse"``, ``"fft"`` and so on."""
    return import_module(f"cupyx.scipy.{name}")


def to_gpu(array: Array) -> Array:
    """A copy of an array on the GPU, or itself if it is there.

    Raises
    ------
    RuntimeError
        As `gpu`.
    """
    moved: Array = array if on_gpu(array) else gpu().asarray(array)
    return moved


def to_cpu(array: Array) -> Array:
    """A copy of an array as NumPy's, or itself if it is that."""
    moved: Array = array.get() if on_gpu(array) else array  # type: ignore[attr-defined]
    return moved


def from_cpu(operator: Any) -> Any:
    """An operator or matrix of anybody's as it is, or one on the GPU with arrays of NumPy before and after it.

    Parameters
    ----------
    operator : LinearOperator, sparse matrix or array
        What takes arrays of NumPy, or of CuPy and none of NumPy.

    Returns
    -------
    LinearOperator, sparse matrix or array
        A matrix on the GPU is copied.
    """
    cupy = sys.modules.get("cupy")
    if cupy is None:  # then nothing is on the GPU
        return operator
    if {"cupy", "cupyx"} & _makers(operator):
        return operator.get()
    if hasattr(operator, "matvec"):
        try:
            operator.matvec(np.zeros(operator.shape[1], operator.dtype))
        except TypeError:
            try:
                operator.matvec(cupy.zeros(operator.shape[1], operator.dtype))
            except Exception:  # noqa: BLE001 - what is wrong with it shows where it is used
                return operator
            return _FromCpu(operator)
        except Exception:  # noqa: BLE001
            return operator
    return operator


class _FromCpu:
    """An operator on the GPU: what its functions are given is moved there, and what they return is moved back."""

    def __init__(self, operator: Any) -> None:
        self._operator = operator

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        value = getattr(self._operator, name)
        # PyLops' own operators ask whose array is wanted.
        return self._moved_back(partial(value, backend="cupy") if name == "todense" else value)

    def __matmul__(self, other: Any) -> Any:
        return self._moved_back(self._operator @ self._moved(other))

    def __add__(self, other: Any) -> Any:
        return self._moved_back(self._operator + self._moved(other))

    def __rmul__(self, factor: Any) -> Any:
        return self._moved_back(factor * self._operator)

    @staticmethod
    def _moved(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return to_gpu(value)
        return value._operator if isinstance(value, _FromCpu) else value

    @classmethod
    def _moved_back(cls, value: Any) -> Any:
        if {"cupy", "cupyx"} & _makers(value):
            return value.get()
        if hasattr(value, "matvec"):
            return cls(value)
        if callable(value) and not isinstance(value, type):
            return lambda *given, **named: cls._moved_back(value(*map(cls._moved, given), **named))
        return value


def dense(value: Any) -> Any:
    """A sparse matrix of SciPy or CuPy as an array, and everything else as it is."""
    return value.toarray() if sp.issparse(value) or "cupyx" in _makers(value) else value


def require_gpu_memory(nbytes: int, what: str) -> None:
    """Raise MemoryError, with the figures, if an allocation on the GPU cannot fit.

    Parameters
    ----------
    nbytes : int
        Bytes that are about to be allocated.
    what : str
        What they are for; the message begins with it.
    """
    cupy = import_module("cupy")
    free, _ = cupy.cuda.runtime.memGetInfo()
    memory.compare(nbytes, free + cupy.get_default_memory_pool().free_bytes(), what, "the GPU's memory")


def as_array(value: object, what: str) -> Array:
    """An array of numbers from an array, a list of lists or anything that NumPy reads as one. CuPy's stay as they are.

    Parameters
    ----------
    value : array_like
        Numbers.
    what : str
        The argument's name, for the message.

    Returns
    -------
    ndarray

    Raises
    ------
    TypeError
        If it holds no numbers, or is sparse or masked.
    """
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{what} must be a plain array, got a masked one; fill it first")
    try:
        array: Array = value if on_gpu(value) else np.asarray(value)  # type: ignore[assignment]
    except (ValueError, TypeError, RuntimeError) as error:  # the last two from other libraries' arrays
        raise TypeError(f"{what} must be a regular array of numbers: {error}") from None
    if array.dtype.kind not in "biufc":
        raise TypeError(f"{what} must be an array of numbers, got {type(value).__name__} with dtype {array.dtype}")
    return array


def as_kernel(kernel: object, dtype: npt.DTypeLike | None = None, what: str = "kernel") -> Array:
    """A kernel as a contiguous array of one of the dtypes that are kept. It may be the caller's own.

    Parameters
    ----------
    kernel : array_like
        Taps, of one dimension or more and at least one element along each.
    dtype : dtype_like, optional
        One of float32, float64, complex64, complex128; by default what `kept_dtype` gives.
    what : str
        The argument's name, for the message.

    Returns
    -------
    ndarray
        NumPy's, or CuPy's for a kernel of CuPy.

    Raises
    ------
    TypeError
        If the kernel holds no numbers, or `dtype` is not one of the four or would drop imaginary parts.
    ValueError
        If the kernel is a scalar or empty.
    """
    array = as_array(kernel, what)
    if array.ndim == 0 or array.size == 0:
        raise ValueError(f"{what} must have at least one axis and one element, got shape {array.shape}")
    kept = kept_dtype(array.dtype, what)
    if dtype is not None:
        wanted = as_dtype("dtype", dtype)
        if kept.kind == "c" and wanted.kind != "c":
            raise TypeError(f"dtype={wanted.name} would drop the imaginary part of a {array.dtype} {what}")
        kept = wanted
    contiguous: Array = namespace(array).ascontiguousarray(array, dtype=kept)
    return contiguous
