"""Powers of two: numbers so large or so small that their squares leave the range of a dtype are brought near one."""

from __future__ import annotations

import math

from .backend import Array, namespace

__all__ = ["exponent", "times_two_to"]

# Largest moduli between 2**-n and 2**n stay as they are, in single and in double precision: fourth powers, and sums of
# many, are within range.
_ORDINARY = {4: 24, 8: 200}


def exponent(array: Array) -> int:
    """The power of two by which an array is to be divided, so that its largest modulus is near one.

    Parameters
    ----------
    array : ndarray
        In single or double precision, real or complex.

    Returns
    -------
    int
        0 for arrays of ordinary size, of zeros, and of what is not finite.
    """
    xp = namespace(array)
    parts = (array.real, array.imag) if array.dtype.kind == "c" else (array,)
    largest = max(float(xp.abs(part).max()) for part in parts) if array.size else 0.0
    if not 0 < largest < math.inf:
        return 0
    power = math.frexp(largest)[1] - 1
    return power if abs(power) > _ORDINARY[array.real.itemsize] else 0


def times_two_to(array: Array, power: int) -> Array:
    """An array times a power of two: exact, but for what leaves the range of its dtype.

    Parameters
    ----------
    array : ndarray
        In single or double precision, real or complex.
    power : int
        Any.

    Returns
    -------
    ndarray
        Itself for the power 0.
    """
    if not power:
        return array
    xp = namespace(array)
    if array.dtype.kind != "c":
        moved: Array = xp.ldexp(array, power)
        return moved
    scaled: Array = xp.empty_like(array)
    scaled.real, scaled.imag = xp.ldexp(array.real, power), xp.ldexp(array.imag, power)
    return scaled
