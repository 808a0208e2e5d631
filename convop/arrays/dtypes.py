"""The four supported dtypes, float32, float64, complex64 and complex128, and the conversion of others to them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

DTYPES = tuple(np.dtype(name) for name in ("float32", "float64", "complex64", "complex128"))


def as_dtype(name: str, value: npt.DTypeLike) -> np.dtype[Any]:
    """One of the four supported dtypes, from anything that NumPy converts to a dtype.

    Parameters
    ----------
    name : str
        The argument's name, for the message.
    value : dtype_like
        The argument as the user gave it.

    Returns
    -------
    dtype

    Raises
    ------
    TypeError
        If it is not one of the four.
    """
    try:
        dtype = np.dtype(value).newbyteorder("=")
    except Exception:  # noqa: BLE001 - NumPy parses strings, and its parser raises errors of many types
        dtype = np.dtype("bool")
    if dtype not in DTYPES:
        raise TypeError(f"{name} must be one of {', '.join(d.name for d in DTYPES)}; got {value!r}")
    return dtype


def kept_dtype(got: np.dtype[Any], what: str) -> np.dtype[Any]:
    """The supported dtype to which values of a dtype are converted.

    float32, float64, complex64 and complex128 stay; integers and bools become float64, so that sums never
    wrap; float16 becomes float32.

    Parameters
    ----------
    got : dtype
        A dtype.
    what : str
        The argument's name, for the message.

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
