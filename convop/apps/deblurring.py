"""Deblurs a picture by Tikhonov regularisation: the computation of ``convop deblur`` between reading and writing files."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from .. import damping, kernels
from ..arrays.backend import Array
from ..files import Picture, read_kernel
from ..inverse.scaled_problem import Solution
from ..inverse.tikhonov import tikhonov
from ..operators.conv import Conv

__all__ = ["ChooseDamping", "Damping", "Deblurred", "deblur", "parse_damping", "read_point_spread_function"]

# The estimated noise is multiplied by this margin: too little damping ruins an image, too much only leaves it smooth.
_NOISE_MARGIN = 1.2


@dataclass(frozen=True)
class Damping:
    """A damping parameter, and a description of the rule that chose it."""

    value: float
    rule: str


# Chooses the damping from the operator, the image minus the blurred mean of each colour, and the image itself.
ChooseDamping: TypeAlias = Callable[[Conv, Array, Picture], Damping]


@dataclass(frozen=True)
class Deblurred:
    """A deblurred picture, its damping, and the solver's result."""

    picture: Picture
    damping: Damping
    solution: Solution


def read_point_spread_function(text: str, image_shape: tuple[int, int]) -> Array:
    """Make the point spread function of a named blur, or read it from a file or from JSON.

    Parameters
    ----------
    text : str
        ``gaussian:SIGMA``, ``motion:LENGTH,ANGLE``, or an argument of `convop.files.read_kernel`.
    image_shape : (int, int)
        Rows and columns of the image, which bound the kernel. The size of a named blur is checked before it is made.

    Returns
    -------
    ndarray of shape (rows, columns)
        float64, with sum 1.

    Raises
    ------
    ValueError
        If the text does not describe a blur, or the kernel is larger than the image.
    FileNotFoundError
        If the file does not exist.
    """
    name, _, numbers = text.partition(":")
    if name == "gaussian":
        (sigma,) = _parse_floats("kernel", numbers, 1, "gaussian:SIGMA", text)
        _require_fit(kernels.gaussian_shape(sigma), image_shape)
        return kernels.gaussian(sigma)
    if name == "motion":
        length, angle = _parse_floats("kernel", numbers, 2, "motion:LENGTH,ANGLE", text)
        _require_fit(kernels.motion_shape(length, angle), image_shape)
        return kernels.motion(length, angle)
    try:
        kernel = np.asarray(read_kernel(text))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"kernel must be a file, gaussian:SIGMA, motion:LENGTH,ANGLE or [[...], [...]]; got {text!r}, which is not a file"
        ) from None
    if kernel.ndim != 2 or kernel.size == 0:
        raise ValueError(f"kernel of a blur must have two dimensions, got shape {kernel.shape}")
    if kernel.dtype.kind == "c":
        raise ValueError("kernel of a blur must be real, got complex numbers")
    kernel = kernel.astype(np.float64)
    with np.errstate(over="ignore"):
        total = float(kernel.sum())
    if not 0 < total < math.inf:
        raise ValueError(f"kernel of a blur must have a sum that is positive and finite, got {total:g}")
    _require_fit(kernel.shape, image_shape)
    return kernel / total


def _require_fit(kernel_shape: tuple[int, ...], image_shape: tuple[int, int]) -> None:
    (rows, columns), (image_rows, image_columns) = kernel_shape, image_shape
    if rows > image_rows or columns > image_columns:
        raise ValueError(f"kernel of {rows}x{columns} pixels is larger than the image of {image_rows}x{image_columns}")


def parse_damping(text: str) -> ChooseDamping:
    """Parse the rule that chooses the damping.

    Parameters
    ----------
    text : str
        A number, ``gcv``, ``discrepancy`` or ``discrepancy:NOISE``.

    Returns
    -------
    callable
        The rule, a function of the operator, the image minus the blurred mean of each colour, and the image.

    Raises
    ------
    ValueError
        If the text is none of these.
    """
    name, _, number = text.partition(":")
    if name == "gcv" and not number:
        return lambda A, y, _picture: Damping(damping.gcv(A, y), "generalised cross-validation")
    if name == "discrepancy":
        if not number:
            return _estimate_damping
        (noise,) = _parse_floats("damp", number, 1, "discrepancy:NOISE", text)
        return lambda A, y, _picture: Damping(
            damping.discrepancy(A, y, noise), f"discrepancy principle, noise {noise:.3g}"
        )
    (value,) = _parse_floats("damp", text, 1, "a number, gcv, discrepancy or discrepancy:NOISE", text)
    if not 0 <= value < math.inf:
        raise ValueError(f"damp must be at least 0 and finite, got {text!r}")
    return lambda _A, _y, _picture: Damping(value, "as given")


def _estimate_damping(A: Conv, y: Array, picture: Picture) -> Damping:
    """Apply the discrepancy principle to an estimate of the noise, with Wiener's damping as the lower bound.

    Wiener's damping for an image of independent pixels with standard deviation s is ``noise/s``; an image with structure
    needs more. The bound is also the result if no damping explains the noise, as with a wrong blur.
    """
    colours = picture.values.reshape(*picture.values.shape[:2], -1)
    noise = max(_noise_level(colours), picture.quantization_noise)
    if picture.lossy:
        # JPEG discards the finest detail and its noise: the next coarser scale gives the better estimate.
        noise = max(noise, _noise_level(_average_blocks(colours)))
    noise *= _NOISE_MARGIN
    deviation = float(np.sqrt((y**2).mean()))
    if deviation == 0:
        return Damping(noise, "of an image of one colour")
    wiener = noise / deviation
    try:
        found = damping.discrepancy(A, y, noise)
    except ValueError:
        found = 0.0
    if found > wiener:
        return Damping(found, f"discrepancy principle, noise {noise:.3g}, estimated with a margin")
    return Damping(wiener, f"noise {noise:.3g}, estimated, over the image's deviation {deviation:.3g}")


def _noise_level(colours: Array) -> float:
    """Return the root mean square of the noise levels of all colours."""
    levels = [damping.noise_level(colours[..., c]) for c in range(colours.shape[-1])]
    return math.sqrt(float(np.mean(np.square(levels))))


def _average_blocks(colours: Array) -> Array:
    """Average blocks of 2x2 pixels; an odd last row or column is dropped."""
    rows, columns = (n // 2 for n in colours.shape[:2])
    even = colours[: 2 * rows, : 2 * columns]
    return np.asarray(even.reshape(rows, 2, columns, 2, -1).mean(axis=(1, 3)))


def deblur(
    picture: Picture, kernel: Array, padding_mode: str, choose_damping: ChooseDamping, *, progress: bool
) -> Deblurred:
    """Deblur a picture by `convop.tikhonov`, which damps the deviations from the mean of each colour.

    Parameters
    ----------
    picture : Picture
        The blurred picture.
    kernel : ndarray
        The point spread function, from `read_point_spread_function`.
    padding_mode : str
        The boundary, as in `Conv`.
    choose_damping : callable
        From `parse_damping`.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Deblurred
    """
    values = picture.values
    A = Conv(kernel, values.shape[:2], padding="same", padding_mode=padding_mode, flip=True)
    # Damping pulls the solution towards zero. With the mean removed, that is the mean of each colour and not black.
    mean = np.broadcast_to(values.mean(axis=(0, 1)), values.shape)
    y = values - A @ mean
    chosen = choose_damping(A, y, picture)
    solution = tikhonov(A, y, chosen.value, progress=progress)
    return Deblurred(replace(picture, values=mean + solution.x), chosen, solution)


def _parse_floats(name: str, numbers: str, count: int, expected: str, text: str) -> tuple[float, ...]:
    try:
        values = tuple(float(number) for number in numbers.split(","))
    except ValueError:
        values = ()
    if len(values) != count:
        raise ValueError(f"{name} must be {expected}, got {text!r}")
    return values
