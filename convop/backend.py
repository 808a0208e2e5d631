"""Whose arrays: kernels and vectors of users, made into arrays of the dtypes that are kept."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .dtypes import as_dtype, kept_dtype

__all__ = ["Array", "as_array", "as_kernel"]

Array: TypeAlias = npt.NDArray[Any]


def as_array(value: object, what: str) -> Array:
    """An array of numbers from an array, a list of lists or anything that NumPy reads as one.

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
        array = np.asarray(value)
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
    return np.ascontiguousarray(array, dtype=kept)
