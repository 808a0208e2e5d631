"""Which numbers and whose arrays: the dtypes the package keeps, and kernels and vectors made into them."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["DTYPES", "Array", "as_array", "as_kernel", "kept_dtype"]

Array: TypeAlias = npt.NDArray[Any]

DTYPES = tuple(np.dtype(name) for name in ("float32", "float64", "complex64", "complex128"))


def kept_dtype(got: np.dtype[Any], what: str) -> np.dtype[Any]:
    """The dtype in which values of a dtype are kept.

    float32, float64, complex64 and complex128 stay; integers and bools become float64, so that sums never
    wrap; float16 becomes float32.

    Parameters
    ----------
    got : dtype
        A dtype.
    what : str
        Whose it is, for the message.

    Returns
    -------
    dtype

    Raises
    ------
    TypeError
        For any other dtype.
    """
    native = got.newbyteorder("=")
    if native in DTYPES:
        return native
    if native.kind in "biu":
        return np.dtype(np.float64)
    if native == np.float16:
        return np.dtype(np.float32)
    raise TypeError(f"{what} must hold real or complex numbers up to double precision, got dtype {got}")


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
    except ValueError as error:
        raise TypeError(f"{what} must be a regular array of numbers: {error}") from None
    if array.dtype.kind not in "biufc":
        raise TypeError(f"{what} must be an array of numbers, got {type(value).__name__} with dtype {array.dtype}")
    return array


def as_kernel(kernel: object, dtype: npt.DTypeLike | None = None) -> Array:
    """A kernel as a contiguous array of one of the dtypes that are kept. It may be the caller's own.

    Parameters
    ----------
    kernel : array_like
        Taps, of one dimension or more and at least one element along each.
    dtype : dtype_like, optional
        One of float32, float64, complex64, complex128; by default what `kept_dtype` gives.

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
    array = as_array(kernel, "kernel")
    if array.ndim == 0 or array.size == 0:
        raise ValueError(f"kernel must have at least one axis and one tap, got shape {array.shape}")
    kept = kept_dtype(array.dtype, "kernel")
    if dtype is not None:
        wanted = np.dtype(dtype).newbyteorder("=")
        if wanted not in DTYPES:
            raise TypeError(f"dtype must be one of {', '.join(d.name for d in DTYPES)}; got {dtype!r}")
        if kept.kind == "c" and wanted.kind != "c":
            raise TypeError(f"dtype={wanted.name} would drop the imaginary part of a {array.dtype} kernel")
        kept = wanted
    return np.ascontiguousarray(array, dtype=kept)
