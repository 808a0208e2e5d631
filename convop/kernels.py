"""Kernels of blurs that photographs have."""

from __future__ import annotations

import math

import numpy as np

from .arrays.backend import Array

__all__ = ["gaussian", "gaussian_shape", "motion", "motion_shape"]

# A Gaussian is cut off so many standard deviations from its centre, where it is below 4e-4 of its peak.
_DEVIATIONS = 4
# Points of a streak for each pixel of its length.
_POINTS_PER_PIXEL = 32


def gaussian(sigma: float) -> Array:
    """A Gaussian blur.

    Parameters
    ----------
    sigma : float
        Standard deviation in pixels, more than 0.

    Returns
    -------
    ndarray of shape ``(2 r + 1, 2 r + 1)``
        With ``r = ceil(4 sigma)``, non-negative, sum 1.

    Raises
    ------
    ValueError
        If `sigma` is not a positive number.

    Examples
    --------
    >>> gaussian(1.0).shape
    (9, 9)
    """
    reach = gaussian_shape(sigma)[0] // 2
    with np.errstate(over="ignore"):  # of a sigma that is next to nothing
        along = np.exp(-((np.arange(-reach, reach + 1) / sigma) ** 2) / 2)
    along /= along.sum()
    return np.outer(along, along)


def gaussian_shape(sigma: float) -> tuple[int, int]:
    """The shape that `gaussian` gives.

    Parameters
    ----------
    sigma : float
        Standard deviation in pixels, more than 0.

    Returns
    -------
    (int, int)
    """
    if not 0 < sigma < math.inf:
        raise ValueError(f"sigma must be a positive number of pixels, got {sigma!r}")
    side = 2 * math.ceil(_DEVIATIONS * sigma) + 1
    return side, side


def motion(length: float, angle: float) -> Array:
    """The streak of a camera that moves evenly along a line.

    Parameters
    ----------
    length : float
        Length of the streak in pixels, at least 1.
    angle : float
        Direction in degrees, counterclockwise from the horizontal, as the image is seen.

    Returns
    -------
    ndarray of shape ``(2 r + 1, 2 s + 1)``
        As large as the streak needs, non-negative, sum 1: each pixel has the share of the streak that lies in it.

    Raises
    ------
    ValueError
        If `length` or `angle` is not such a number.

    Examples
    --------
    >>> motion(3, 0).round(3).tolist()
    [[0.333, 0.333, 0.333]]
    """
    rows, columns = motion_shape(length, angle)
    count = _points(length)
    along = ((np.arange(count) + 0.5) / count - 0.5) * length
    row, column = (along * part for part in _direction(angle))
    kernel = np.zeros((rows, columns))
    np.add.at(kernel, (np.rint(row).astype(int) + rows // 2, np.rint(column).astype(int) + columns // 2), 1.0)
    return np.asarray(kernel / kernel.sum())


def motion_shape(length: float, angle: float) -> tuple[int, int]:
    """The shape that `motion` gives.

    Parameters
    ----------
    length : float
        Length of the streak in pixels, at least 1.
    angle : float
        Direction in degrees.

    Returns
    -------
    (int, int)
    """
    if not 1 <= length < math.inf:
        raise ValueError(f"length must be at least 1 pixel, got {length!r}")
    if not math.isfinite(angle):
        raise ValueError(f"angle must be a number of degrees, got {angle!r}")
    furthest = (0.5 - 0.5 / _points(length)) * length
    rows, columns = (2 * max(0, math.ceil(abs(furthest * part) - 0.5)) + 1 for part in _direction(angle))
    return rows, columns


def _points(length: float) -> int:
    return max(2, round(_POINTS_PER_PIXEL * length))


def _direction(angle: float) -> tuple[float, float]:
    """Down and to the right. Rows count downwards; what rounding leaves of a multiple of a quarter turn is nothing."""
    radians = math.radians(angle)
    return round(-math.sin(radians), 12), round(math.cos(radians), 12)
