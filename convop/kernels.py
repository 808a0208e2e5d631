"""Kernels of blurs that photographs have."""

from __future__ import annotations

import math

import numpy as np

from .backend import Array

__all__ = ["gaussian", "motion"]

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
    if not 0 < sigma < math.inf:
        raise ValueError(f"sigma must be a positive number of pixels, got {sigma!r}")
    t = np.arange(-math.ceil(_DEVIATIONS * sigma), math.ceil(_DEVIATIONS * sigma) + 1)
    along = np.exp(-((t / sigma) ** 2) / 2)
    along /= along.sum()
    return np.outer(along, along)


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
    if not 1 <= length < math.inf:
        raise ValueError(f"length must be at least 1 pixel, got {length!r}")
    if not math.isfinite(angle):
        raise ValueError(f"angle must be a number of degrees, got {angle!r}")
    count = max(2, round(_POINTS_PER_PIXEL * length))
    along = ((np.arange(count) + 0.5) / count - 0.5) * length
    radians = math.radians(angle)
    # Rows count downwards. What rounding leaves of a multiple of a quarter turn is nothing.
    direction = np.array([-math.sin(radians), math.cos(radians)]).round(12)
    row, column = (along * part for part in direction)
    r, s = (max(0, math.ceil(float(np.abs(x).max()) - 0.5)) for x in (row, column))
    kernel = np.zeros((2 * r + 1, 2 * s + 1))
    np.add.at(kernel, (np.rint(row).astype(int) + r, np.rint(column).astype(int) + s), 1.0)
    return np.asarray(kernel / kernel.sum())
