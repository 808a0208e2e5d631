"""Power-of-two scaling: brings numbers whose squares would overflow or underflow to moduli near one, without rounding."""

from __future__ import annotations

import math

from .backend import Array, namespace

# Arrays whose largest modulus lies between 2**-n and 2**n need no scaling, with n for single and for double precision:
# fourth powers, and sums of many of them, are within range.
_ORDINARY = {4: 24, 8: 200}


def power_of_two_scale(array: Array, *, always: bool = False) -> int:
    """Returns the power p of two for which the largest modulus over ``2**p`` is near one; 0 where no scaling is needed.

    Parameters
    ----------
    array : ndarray
        In single or double precision, real or complex.
    always : bool
        Whether to return the power of arrays of ordinary size, too.

    Returns
    -------
    int
        0 for arrays of ordinary size unless `always` is set, of zeros, and with values that are not finite.
    """
    xp = namespace(array)
    components = (array.real, array.imag) if array.dtype.kind == "c" else (array,)
    largest = max(float(xp.abs(component).max()) for component in components) if array.size else 0.0
    if not 0 < largest < math.inf:
        return 0
    power = math.frexp(largest)[1] - 1
    return power if always or abs(power) > _ORDINARY[array.real.itemsize] else 0


def scale_by_power_of_two(array: Array, power: int) -> Array:
    """Multiplies an array by ``2**power``: exact unless a result leaves the range of the dtype.

    Parameters
    ----------
    array : ndarray
        In single or double precision, real or complex.
    power : int
        Positive, negative or 0.

    Returns
    -------
    ndarray
        A new array; `array` itself for the power 0.
    """
    if not power:
        return array
    xp = namespace(array)
    if array.dtype.kind != "c":
        product: Array = xp.ldexp(array, power)
        return product
    scaled: Array = xp.empty_like(array)
    scaled.real[...], scaled.imag[...] = xp.ldexp(array.real, power), xp.ldexp(array.imag, power)
    return scaled


def to_unit_scale(array: Array, *, always: bool = False) -> tuple[Array, int]:
    """Divides an array by the power of two that `power_of_two_scale` returns.

    Parameters
    ----------
    array, always
        As in `power_of_two_scale`.

    Returns
    -------
    (ndarray, int)
        The scaled array and the power: ``array == scaled * 2**power``.
    """
    power = power_of_two_scale(array, always=always)
    return scale_by_power_of_two(array, -power), power
