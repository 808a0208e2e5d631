"""Chooses the array library of a kernel, NumPy or CuPy, and converts users' values to arrays of a supported dtype.

NumPy's arrays are on the CPU, CuPy's on the GPU. This is the only file that names CuPy. CuPy is not imported before the
GPU is used: an array of CuPy is recognised by the module of its type.
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

Array: TypeAlias = npt.NDArray[Any]


def on_gpu(value: object) -> bool:
    """Whether a value is an array of CuPy."""
    # The comparison saves 1 us for each of the questions that every call of an operator asks.
    return type(value) is not np.ndarray and "cupy" in _packages(value)


def _packages(value: object) -> set[str]:
    """The packages in which the types of a value are defined."""
    return {kind.__module__.partition(".")[0] for kind in type(value).__mro__}


def namespace(array: Array) -> ModuleType:
    """The library of an array: NumPy, or CuPy, which has the same functions."""
    return import_module("cupy") if on_gpu(array) else np


def gpu() -> ModuleType:
    """CuPy, if it can be used.

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
    except Exception as error:  # noqa: BLE001 - any error of CUDA explains the missing device
        return str(error)
    return f"CuPy finds {count} devices"


def gpu_module(name: str) -> ModuleType:
    """CuPy's counterpart of a module of SciPy, such as ``"sparse"`` or ``"fft"``."""
    return import_module(f"cupyx.scipy.{name}")


def to_gpu(array: Array) -> Array:
    """A copy of an array on the GPU, or the array itself if it is there.

    Raises
    ------
    RuntimeError
        As `gpu`.
    """
    copied: Array = array if on_gpu(array) else gpu().asarray(array)
    return copied


def to_cpu(array: Array) -> Array:
    """A copy of an array as NumPy's, or the array itself if it is on the CPU."""
    copied: Array = array.get() if on_gpu(array) else array  # type: ignore[attr-defined]
    return copied


def as_cpu_operator(operator: Any) -> Any:
    """An operator or matrix of any maker that takes and returns arrays of NumPy, wherever it is.

    Parameters
    ----------
    operator : LinearOperator, sparse matrix or array
        Takes arrays of NumPy, or only arrays of CuPy.

    Returns
    -------
    LinearOperator, sparse matrix or array
        `operator` itself if it is on the CPU. A matrix on the GPU is copied; an operator on the GPU is wrapped.
    """
    cupy = sys.modules.get("cupy")
    if cupy is None:  # nothing can be on the GPU
        return operator
    if {"cupy", "cupyx"} & _packages(operator):
        return operator.get()
    if hasattr(operator, "matvec"):
        try:
            operator.matvec(np.zeros(operator.shape[1], operator.dtype))
        except TypeError:
            try:
                operator.matvec(cupy.zeros(operator.shape[1], operator.dtype))
            except Exception:  # noqa: BLE001 - the error is raised again where the operator is used
                return operator
            return _CpuOperator(operator)
        except Exception:  # noqa: BLE001
            return operator
    return operator


class _CpuOperator:
    """An operator on the GPU whose arguments are copied to the GPU, and whose results are copied back."""

    def __init__(self, operator: Any) -> None:
        self._operator = operator

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        value = getattr(self._operator, name)
        # PyLops' own operators take the array library of the result as an argument.
        return self._result(partial(value, backend="cupy") if name == "todense" else value)

    def __matmul__(self, other: Any) -> Any:
        return self._result(self._operator @ self._argument(other))

    def __add__(self, other: Any) -> Any:
        return self._result(self._operator + self._argument(other))

    def __rmul__(self, factor: Any) -> Any:
        return self._result(factor * self._operator)

    @staticmethod
    def _argument(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return to_gpu(value)
        return value._operator if isinstance(value, _CpuOperator) else value

    @classmethod
    def _result(cls, value: Any) -> Any:
        if {"cupy", "cupyx"} & _packages(value):
            return value.get()
        if hasattr(value, "matvec"):
            return cls(value)
        if callable(value) and not isinstance(value, type):
            return lambda *given, **named: cls._result(value(*map(cls._argument, given), **named))
        return value


def dense(value: Any) -> Any:
    """A sparse matrix of SciPy or CuPy as an array; any other value unchanged."""
    return value.toarray() if sp.issparse(value) or "cupyx" in _packages(value) else value


def require_gpu_memory(nbytes: int, what: str) -> None:
    """Raise MemoryError, with the figures, if an allocation on the GPU cannot fit.

    Parameters
    ----------
    nbytes : int
        Bytes that are about to be allocated.
    what : str
        Their purpose; the message begins with it.
    """
    cupy = import_module("cupy")
    free, _ = cupy.cuda.runtime.memGetInfo()
    memory.check_fits(nbytes, free + cupy.get_default_memory_pool().free_bytes(), what, "the GPU's memory")


def as_array(value: object, what: str) -> Array:
    """An array of numbers from an array, a list of lists or anything that NumPy converts. CuPy's arrays are kept.

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
        If it does not hold numbers, or is sparse or masked.
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
    """A kernel as a contiguous array of a supported dtype. It may share the caller's memory.

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
        An array of NumPy, or of CuPy for a kernel of CuPy.

    Raises
    ------
    TypeError
        If the kernel does not hold numbers, or `dtype` is not one of the four or would drop imaginary parts.
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
