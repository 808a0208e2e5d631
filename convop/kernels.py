"""Blur kernels of photographs: Gaussian blur, and motion blur along a line."""

from __future__ import annotations

import math

import numpy as np

from .arrays.backend import Array

__all__ = ["gaussian", "gaussian_shape", "motion", "motion_shape"]

# A Gaussian is truncated at this many standard deviations from its centre, where it is below 4e-4 of its peak.
_DEVIATIONS = 4
# Sample points of a motion path for each pixel of its length.
_POINTS_PER_PIXEL = 32


def gaussian(sigma: float) -> Array:
    """Returns the kernel of a Gaussian blur.

    Parameters
    ----------
    sigma : float
        Standard deviation in pixels, more than 0.

    Returns
    -------
    ndarray of shape ``(2 r + 1, 2 r + 1)``
        With ``r = ceil(4 sigma)``; non-negative, sum 1.

    Raises
    ------
    ValueError
        If `sigma` is not a positive number.

    Examples
    --------
    >>> gaussian(1.0).shape
    (9, 9)
    """
    radius = gaussian_shape(sigma)[0] // 2
    with np.errstate(over="ignore"):  # squares overflow for a tiny sigma
        profile = np.exp(-((np.arange(-radius, radius + 1) / sigma) ** 2) / 2)
    profile /= profile.sum()
    return np.outer(profile, profile)


def gaussian_shape(sigma: float) -> tuple[int, int]:
    """Returns the shape of the kernel that `gaussian` returns.

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
    """Returns the kernel of a camera that moves at constant speed along a line.

    Parameters
    ----------
    length : float
        Length of the line in pixels, at least 1.
    angle : float
        Direction in degrees, counterclockwise from the horizontal as the image is displayed.

    Returns
    -------
    ndarray of shape ``(2 r + 1, 2 s + 1)``
        Just large enough for the line; non-negative, sum 1: each pixel holds the share of the line within it.

    Raises
    ------
    ValueError
        If `length` is less than 1, or a number is not finite.

    Examples
    --------
    >>> motion(3, 0).round(3).tolist()
    [[0.333, 0.333, 0.333]]
    """
    rows, columns = motion_shape(length, angle)
    count = _points(length)
    position = ((np.arange(count) + 0.5) / count - 0.5) * length
    row, column = (position * component for component in _direction(angle))
    kernel = np.zeros((rows, columns))
    np.add.at(kernel, (np.rint(row).astype(int) + rows // 2, np.rint(column).astype(int) + columns // 2), 1.0)
    return np.asarray(kernel / kernel.sum())


def motion_shape(length: float, angle: float) -> tuple[int, int]:
    """Returns the shape of the kernel that `motion` returns.

    Parameters
    ----------
    length : float
        Length of the line in pixels, at least 1.
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
    rows, columns = (2 * max(0, math.ceil(abs(furthest * component) - 0.5)) + 1 for component in _direction(angle))
    return rows, columns


def _points(length: float) -> int:
    return max(2, round(_POINTS_PER_PIXEL * length))


def _direction(angle: float) -> tuple[float, float]:
    """Returns the unit vector (row, column) of an angle. Rows count downwards."""
    radians = math.radians(angle)
    # Rounds away what is left of the sine or cosine of a multiple of a quarter turn.
    return round(-math.sin(radians), 12), round(math.cos(radians), 12)
