"""Preprocessing of images for sparse coding: mean removal, rescaling, local contrast normalisation; and the SNR."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ..arrays.backend import Array, as_array, on_gpu
from ..arrays.dtypes import kept_dtype
from ..arrays.scaling import power_of_two_scale, scale_by_power_of_two, to_unit_scale
from ..geometry.arguments import integer, positive
from ..operators.conv import Conv


def as_images(images: npt.ArrayLike, name: str = "images") -> Array:
    """Returns images as an array with a channel axis, in single or double precision.

    Parameters
    ----------
    images : array_like of shape ``(I, C, H, W)`` or ``(I, H, W)``
        Real, finite numbers; integers become float64.
    name : str
        The argument's name for error messages.

    Returns
    -------
    ndarray of shape ``(I, C, H, W)``

    Raises
    ------
    ValueError, TypeError
        If the shape or the dtype is another, or a number is not finite.
    """
    data = real_array(images, name)
    if data.ndim == 3:
        data = data[:, None]
    if data.ndim != 4 or 0 in data.shape:
        raise ValueError(f"{name} must have the shape (I, C, H, W) or (I, H, W), got {np.shape(images)}")
    return np.ascontiguousarray(data)


def real_array(value: npt.ArrayLike, name: str) -> Array:
    """Returns real, finite numbers as a NumPy array in single or double precision.

    Parameters
    ----------
    value : array_like
        Numbers of any shape.
    name : str
        The argument's name for error messages.

    Returns
    -------
    ndarray

    Raises
    ------
    ValueError, TypeError
        If it is a CuPy array, complex or not numeric, or a number is not finite.
    """
    data = as_array(value, name)
    if on_gpu(data):
        raise TypeError(f"{name} must be a NumPy array, got a CuPy array: move it with .get()")
    kept = kept_dtype(data.dtype, name)
    if kept.kind == "c":
        raise TypeError(f"{name} must be real, got dtype {data.dtype}")
    if not np.isfinite(data).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity among their values")
    return np.asarray(data, dtype=kept)


def remove_mean(images: npt.ArrayLike) -> Array:
    """Subtract the mean of each channel from images.

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
    data, power = to_unit_scale(as_images(images))
    return scale_by_power_of_two(data - data.mean(axis=(2, 3), keepdims=True), power).reshape(np.shape(images))


def rescale(images: npt.ArrayLike) -> Array:
    """Scale each image so that its largest modulus is 1; images of zeros are kept.

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
    """Normalise local contrast: subtract the local mean from images, and divide by the local standard deviation.

    Parameters
    ----------
    images : array_like of shape ``(I, C, H, W)`` or ``(I, H, W)``
        The images; channels are independent.
    size : int
        Side of the Gaussian window in pixels, odd.
    sigma : float
        Standard deviation of the window in pixels, more than 0.
    floor : float, optional
        Lower bound of the divisor; by default the mean standard deviation of each channel.

    Returns
    -------
    ndarray of the shape of `images`

    Raises
    ------
    ValueError, TypeError
        If `size`, `sigma` or `floor` is out of its range.

    Notes
    -----
    Jarrett, Kavukcuoglu, Ranzato and LeCun (ICCV 2009). Images are mirrored at their borders. A floor of 1 for values
    between 0 and 1, as in the toolbox of Zeiler et al., only subtracts the local mean.

    Examples
    --------
    >>> import numpy as np
    >>> from convop.deconvnet import local_contrast
    >>> bright, dark = 10 + np.random.default_rng(0).random((2, 1, 16, 16)) * [[[[5.0]]], [[[0.1]]]]
    >>> bool(0.5 < local_contrast(dark).std() / local_contrast(bright).std() < 2)
    True
    """
    # The result does not depend on the unit of the images, and squares must stay in the range of the dtype.
    data, power = to_unit_scale(as_images(images))
    side = integer("size", size)
    if side < 1 or side % 2 == 0:
        raise ValueError(f"size must be odd and at least 1, got {size!r}")
    sigma = positive("sigma", sigma)
    floor = None if floor is None else positive("floor", floor)
    t = np.arange(side) - side // 2
    along = np.exp(-((t / sigma) ** 2) / 2)
    window = np.outer(along, along) / along.sum() ** 2
    mean = Conv(window.astype(data.dtype), data.shape[2:], padding="same", padding_mode="symmetric")

    def local_mean(planes: Array) -> Array:
        columns = planes.reshape(-1, math.prod(planes.shape[2:])).T
        return np.asarray(mean.matmat(columns).T.reshape(planes.shape))

    centred = data - local_mean(data)
    deviation = np.sqrt(np.maximum(local_mean(centred**2), 0))
    least = deviation.mean(axis=(2, 3), keepdims=True) if floor is None else math.ldexp(floor, -power)
    divisor = np.maximum(deviation, least)
    # In an image of constant grey level, the deviation is rounding and not contrast.
    rounding = 16 * float(np.finfo(data.dtype).eps) * np.abs(data).max(axis=(2, 3), keepdims=True)
    normalised = np.where(divisor > rounding, centred / np.maximum(divisor, rounding + (rounding == 0)), 0)
    return np.asarray(normalised.reshape(np.shape(images)))


def snr(images: npt.ArrayLike, reconstructions: npt.ArrayLike) -> float:
    """Signal-to-noise ratio of reconstructions, in dB.

    Parameters
    ----------
    images, reconstructions : array_like
        Images and their reconstructions, of the same shape.

    Returns
    -------
    float
        ``10 log10(sum (images - mean)^2/sum (images - reconstructions)^2)``; infinite if both are equal.

    Raises
    ------
    ValueError, TypeError
        If a number is not real and finite, or the shapes differ.

    Examples
    --------
    >>> from convop.deconvnet import snr
    >>> round(snr([0.0, 2.0], [0.1, 1.9]), 6)
    20.0
    """
    original, reconstructed = (
        real_array(value, name).astype(np.float64)
        for value, name in ((images, "images"), (reconstructions, "reconstructions"))
    )
    if original.shape != reconstructed.shape or not original.size:
        raise ValueError(
            f"images and reconstructions must have the same non-empty shape, got {original.shape} and {reconstructed.shape}"
        )
    power = max(power_of_two_scale(original), power_of_two_scale(reconstructed), key=abs)
    original, reconstructed = scale_by_power_of_two(original, -power), scale_by_power_of_two(reconstructed, -power)
    signal, noise = float(((original - original.mean()) ** 2).sum()), float(((original - reconstructed) ** 2).sum())
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf
