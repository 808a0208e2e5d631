"""What is done to images before they are taken apart, as functions."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ..arrays.backend import Array, as_array, on_gpu
from ..arrays.dtypes import kept_dtype
from ..arrays.scaling import power_of_two_scale, scale_by_power_of_two
from ..geometry.arguments import integer, positive
from ..operators.conv import Conv

__all__ = ["as_images", "local_contrast", "real_array", "remove_mean", "rescale", "snr"]


def as_images(images: npt.ArrayLike, name: str = "images") -> Array:
    """Images with channels, in single or double precision.

    Parameters
    ----------
    images : array_like of shape ``(I, C, H, W)`` or ``(I, H, W)``
        Real and finite; integers become float64.
    name : str
        The argument's name, for messages.

    Returns
    -------
    ndarray of shape ``(I, C, H, W)``

    Raises
    ------
    ValueError, TypeError
        If they are no such images.
    """
    data = real_array(images, name)
    if data.ndim == 3:
        data = data[:, None]
    if data.ndim != 4 or 0 in data.shape:
        raise ValueError(f"{name} must have the shape (I, C, H, W) or (I, H, W), got {np.shape(images)}")
    return np.ascontiguousarray(data)


def real_array(value: npt.ArrayLike, name: str) -> Array:
    """An array of NumPy of real and finite numbers, in single or double precision.

    Parameters
    ----------
    value : array_like
        Of any shape.
    name : str
        The argument's name, for messages.

    Returns
    -------
    ndarray

    Raises
    ------
    ValueError, TypeError
        If it is none.
    """
    data = as_array(value, name)
    if on_gpu(data):
        raise TypeError(f"{name} must be an array of NumPy, got one of CuPy: move it with .get()")
    kept = kept_dtype(data.dtype, name)
    if kept.kind == "c":
        raise TypeError(f"{name} must be real, got dtype {data.dtype}")
    if not np.isfinite(data).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity among their values")
    return np.asarray(data, dtype=kept)


def remove_mean(images: npt.ArrayLike) -> Array:
    """Images less the mean of each of their channels.

    Parameters
    ----------
    images : array_like of shape ``(I, C, H, W)`` or ``(I, H, W)``
        The images.

    Returns
    -------
    ndarray of the shape of `images`

    Examples
    --------
    >>> from convop.deconvnet import remove_mean
    >>> remove_mean([[[1.0, 2.0], [3.0, 6.0]]]).tolist()
    [[[-2.0, -1.0], [0.0, 3.0]]]
    """
    data = as_images(images)
    power = power_of_two_scale(data)
    data = scale_by_power_of_two(data, -power)
    return scale_by_power_of_two(data - data.mean(axis=(2, 3), keepdims=True), power).reshape(np.shape(images))


def rescale(images: npt.ArrayLike) -> Array:
    """Images times a factor, each by itself, so that the largest modulus is 1: zero stays zero.

    Parameters
    ----------
    images : array_like of shape ``(I, C, H, W)`` or ``(I, H, W)``
        The images.

    Returns
    -------
    ndarray of the shape of `images`

    Examples
    --------
    >>> from convop.deconvnet import rescale
    >>> rescale([[[-4.0, 2.0]]]).tolist()
    [[[-1.0, 0.5]]]
    """
    data = as_images(images)
    largest = np.abs(data).max(axis=(1, 2, 3), keepdims=True)
    return np.asarray((data / np.where(largest > 0, largest, 1)).reshape(np.shape(images)))


def local_contrast(images: npt.ArrayLike, *, size: int = 5, sigma: float = 1.591, floor: float | None = None) -> Array:
    """Local contrast normalisation: images less their local mean, over their local standard deviation.

    Parameters
    ----------
    images : array_like of shape ``(I, C, H, W)`` or ``(I, H, W)``
        The images; each channel is treated by itself.
    size : int
        Side of the Gaussian window, odd.
    sigma : float
        Standard deviation of the window in pixels, more than 0.
    floor : float, optional
        The least standard deviation that is divided by; by default the mean of each channel's.

    Returns
    -------
    ndarray of the shape of `images`

    Raises
    ------
    ValueError, TypeError
        For a window or a floor that makes no sense.

    Notes
    -----
    Jarrett, Kavukcuoglu, Ranzato and LeCun (ICCV 2009). Beyond its ends an image is mirrored. A floor of 1 with values
    between 0 and 1, as the toolbox of Zeiler et al. has it, only takes the local mean away.

    Examples
    --------
    >>> import numpy as np
    >>> from convop.deconvnet import local_contrast
    >>> bright, dark = 10 + np.random.default_rng(0).random((2, 1, 16, 16)) * [[[[5.0]]], [[[0.1]]]]
    >>> bool(0.5 < local_contrast(dark).std() / local_contrast(bright).std() < 2)
    True
    """
    data = as_images(images)
    side = integer("size", size)
    if side < 1 or side % 2 == 0:
        raise ValueError(f"size must be odd and at least 1, got {size!r}")
    sigma = positive("sigma", sigma)
    floor = None if floor is None else positive("floor", floor)
    t = np.arange(side) - side // 2
    along = np.exp(-((t / sigma) ** 2) / 2)
    window = np.outer(along, along) / along.sum() ** 2
    mean = Conv(window.astype(data.dtype), data.shape[2:], padding="same", padding_mode="symmetric")

    # What is found does not depend on the unit, and squares have to be within the range of the dtype.
    power = power_of_two_scale(data)
    data = scale_by_power_of_two(data, -power)

    def smoothed(planes: Array) -> Array:
        columns = planes.reshape(-1, math.prod(planes.shape[2:])).T
        return np.asarray(mean.matmat(columns).T.reshape(planes.shape))

    centred = data - smoothed(data)
    deviation = np.sqrt(np.maximum(smoothed(centred**2), 0))
    least = deviation.mean(axis=(2, 3), keepdims=True) if floor is None else math.ldexp(floor, -power)
    divisor = np.maximum(deviation, least)
    # What rounding leaves of an image of one grey value is no contrast.
    nothing = 16 * float(np.finfo(data.dtype).eps) * np.abs(data).max(axis=(2, 3), keepdims=True)
    return np.asarray(np.where(divisor > nothing, centred / np.maximum(divisor, nothing + (nothing == 0)), 0)).reshape(
        np.shape(images)
    )


def snr(images: npt.ArrayLike, reconstructions: npt.ArrayLike) -> float:
    """The signal-to-noise ratio of reconstructions, in dB.

    Parameters
    ----------
    images, reconstructions : array_like
        Of one shape.

    Returns
    -------
    float
        ``10 log10(sum (images - mean)^2/sum (images - reconstructions)^2)``; infinite if they are equal.

    Raises
    ------
    ValueError, TypeError
        If they are not real and finite, or of different shapes.

    Examples
    --------
    >>> from convop.deconvnet import snr
    >>> round(snr([0.0, 2.0], [0.1, 1.9]), 6)
    20.0
    """
    original, made = (
        real_array(value, name).astype(np.float64)
        for value, name in ((images, "images"), (reconstructions, "reconstructions"))
    )
    if original.shape != made.shape or not original.size:
        raise ValueError(
            f"images and reconstructions must have one shape that is not empty, got {original.shape} and {made.shape}"
        )
    power = max(power_of_two_scale(original), power_of_two_scale(made), key=abs)
    original, made = scale_by_power_of_two(original, -power), scale_by_power_of_two(made, -power)
    signal, noise = float(((original - original.mean()) ** 2).sum()), float(((original - made) ** 2).sum())
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf
