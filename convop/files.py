"""Kernels and photographs from files, and files written whole or not at all."""

from __future__ import annotations

import json
import math
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from scipy.fft import dctn

from .arrays.backend import Array, as_array

__all__ = [
    "IMAGE_SUFFIXES",
    "Picture",
    "read_kernel",
    "read_photograph",
    "read_picture",
    "read_square",
    "write_image",
    "write_picture",
    "written",
]

# Photographs are reduced to this many pixels along their longer side, and need so many along the shorter.
_LONGEST_SIDE = 1024
_SHORTEST_SIDE = 16
# Errors repeat so much of what was typed.
_LONGEST_ECHO = 60


def read_kernel(source: str) -> Array:
    """A kernel from a file, or from the numbers themselves.

    Parameters
    ----------
    source : str
        Path of a ``.npy`` file, of a ``.csv`` or ``.txt`` file with a row a line; or JSON, ``[[1, 2], [3, 4]]``.

    Returns
    -------
    ndarray

    Raises
    ------
    ValueError
        If it cannot be read as numbers.
    OSError
        If there is no such file.
    """
    if source.lstrip().startswith("["):
        try:
            return as_array(json.loads(source), "kernel")
        except (json.JSONDecodeError, TypeError, RecursionError) as error:
            shown = source if len(source) <= _LONGEST_ECHO else f"{source[:_LONGEST_ECHO]}..."
            raise ValueError(f"kernel must be a file or nested lists of numbers, got {shown!r}: {error}") from None
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(f"kernel file {source} does not exist")
    suffix = path.suffix.lower()
    if suffix not in (".npy", ".csv", ".txt"):
        raise ValueError(f"kernel file must be .npy, .csv or .txt, got {source}")
    try:
        if suffix == ".npy":
            # Mapped: a header that claims more than the file holds is refused before anything is allocated.
            return as_array(np.array(np.load(path, mmap_mode="r", allow_pickle=False)), "kernel")
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # an empty file is a warning to NumPy, and no kernel
            return np.loadtxt(path, delimiter="," if suffix == ".csv" else None, ndmin=1)
    except Exception as error:  # noqa: BLE001 - a damaged header makes NumPy's parser raise nearly anything
        raise ValueError(f"kernel file {source} cannot be read: {error}") from None


def read_photograph(path: Path | None) -> Array:
    """A photograph in grey values between 0 and 1.

    Parameters
    ----------
    path : Path or None
        An image file of any format that Pillow reads; None for the photographer that scikit-image brings.

    Returns
    -------
    ndarray of shape (rows, columns)
        float64. Larger photographs are reduced to 1024 pixels along the longer side.

    Raises
    ------
    ValueError
        If it is no image, or too small.
    OSError
        If there is no such file.
    """
    if path is None:
        from skimage import data

        return np.asarray(data.camera(), dtype=np.float64) / 255
    deep, grey = _decoded(path, _reduced_grey)
    return _scaled(grey) if deep else grey / 255


def read_square(path: Path | None, side: int) -> Array:
    """The middle of a photograph, in grey values between 0 and 1.

    Parameters
    ----------
    path : Path or None
        As in `read_photograph`.
    side : int
        Rows and columns of the result.

    Returns
    -------
    ndarray of shape (side, side)
        float64. The largest square in the middle, reduced or enlarged.
    """
    from skimage.transform import resize

    grey = read_photograph(path)
    length = min(grey.shape)
    top, left = ((n - length) // 2 for n in grey.shape)
    square = grey[top : top + length, left : left + length]
    return np.asarray(resize(square, (side, side), anti_aliasing=length > side))


def _reduced_grey(opened: Any) -> tuple[bool, Array]:
    """Whether the values are those of a file of more than 8 bits, which a conversion to 8 would cut off; and the values."""
    from PIL import Image, ImageOps

    upright = ImageOps.exif_transpose(opened)
    deep = upright.mode[0] in "IF"
    if not deep:
        upright = upright.convert("L")
    if max(upright.size) > _LONGEST_SIDE:
        upright.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE), Image.Resampling.LANCZOS)
    return deep, np.asarray(upright, dtype=np.float64)


def _decoded(path: Path, decode: Callable[[Any], tuple[bool, Array]]) -> tuple[bool, Array]:
    """What a function makes of an image file; whatever is wrong with the file is a ValueError."""
    from PIL import Image, UnidentifiedImageError

    if not path.is_file():
        raise FileNotFoundError(f"image {path} does not exist")
    try:
        with warnings.catch_warnings():
            # Pillow only warns of a file that unpacks to an enormous image. What else it warns of, it reads.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                deep, values = decode(opened)
    except UnidentifiedImageError:
        raise ValueError(f"image {path} is not an image that Pillow can read") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ValueError(f"image {path} is too large: {error}") from None
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError) as error:  # Pillow's ways to say it
        raise ValueError(f"image {path} is damaged: {error}") from None
    if min(values.shape[:2]) < _SHORTEST_SIDE:
        raise ValueError(f"image {path} must have at least 16x16 pixels, got {values.shape[1]}x{values.shape[0]}")
    if not np.isfinite(values).all():
        raise ValueError(f"image {path} has pixels that are not finite")
    return deep, values


@dataclass(frozen=True)
class Picture:
    """An image of one or three colours.

    Attributes
    ----------
    values : ndarray of shape ``(rows, columns)`` or ``(rows, columns, 3)``
        Between 0 and 1.
    opacity : ndarray of shape ``(rows, columns)``, optional
        uint8, where the file has it.
    deep : bool
        Whether the file had more than 8 bits a value.
    rounding : float
        About the standard deviation of what storing the values has added to them.
    lossy : bool
        Whether its format leaves out fine details, and noise with them: JPEG.
    """

    values: Array
    opacity: Array | None
    deep: bool
    rounding: float
    lossy: bool


def read_picture(path: Path) -> Picture:
    """An image at its full size, in colour if it has any.

    Parameters
    ----------
    path : Path
        An image file of any format that Pillow reads.

    Returns
    -------
    Picture
        8 bits a value are divided by 255, 16 by 65535. Numbers of other deep files stay as they are if they lie between
        0 and 1, or else their range becomes 0 to 1.

    Raises
    ------
    ValueError
        If it is no image, or too small.
    OSError
        If there is no such file.
    """
    from PIL import ImageOps

    opacity: list[Array] = []
    roundings: list[float] = []

    def decode(opened: Any) -> tuple[bool, Array]:
        if getattr(opened, "quantization", None):
            roundings.append(_jpeg_rounding(opened))
        upright = ImageOps.exif_transpose(opened)  # as it was held when it was taken
        if upright.mode[0] in "IF":
            values = np.asarray(upright, dtype=np.float64)
            if upright.mode.startswith("I;16"):
                return True, values / 65535
            between = bool(values.min() >= 0 and values.max() <= 1)
            return True, values if between else _scaled(values)
        if upright.has_transparency_data:
            upright = upright.convert("LA" if upright.mode in ("L", "LA", "La") else "RGBA")
            opacity.append(np.asarray(upright.getchannel("A")))
        grey = upright.mode in ("1", "L", "LA")
        return False, np.asarray(upright.convert("L" if grey else "RGB"), dtype=np.float64) / 255

    deep, values = _decoded(path, decode)
    rounding = roundings[0] if roundings else 1 / ((65535 if deep else 255) * math.sqrt(12))
    return Picture(values, opacity[0] if opacity else None, deep, rounding, bool(roundings))


def _jpeg_rounding(opened: Any) -> float:
    """About the standard deviation of what JPEG's rounding has added to the luminance, where white is 1.

    Coefficients of the cosine transform of 8x8 pixels are rounded to multiples of q, which adds q^2/12 to the variance of
    each that is not zero. What the others have lost is not known; it is taken to be as much again in amplitude.
    """
    steps = np.asarray(opened.quantization[min(opened.quantization)], dtype=np.float64).reshape(8, 8)
    levels = np.asarray(opened.convert("L"), dtype=np.float64) - 128
    rows, columns = (n // 8 for n in levels.shape)
    squares = levels[: 8 * rows, : 8 * columns].reshape(rows, 8, columns, 8)
    kept = np.abs(dctn(squares, axes=(1, 3), norm="ortho")) >= steps[:, None] / 2
    variance = float((kept * steps[:, None] ** 2 / 12).mean())
    return max(1.0, 2 * math.sqrt(variance)) / 255


# What can be written, and whether it holds 16 bits a value, and opacity.
_FORMATS = {
    ".png": ("PNG", True, True),
    ".tif": ("TIFF", True, True),
    ".tiff": ("TIFF", True, True),
    ".jpg": ("JPEG", False, False),
    ".jpeg": ("JPEG", False, False),
    ".bmp": ("BMP", False, False),
    ".webp": ("WEBP", False, True),
}
IMAGE_SUFFIXES = tuple(_FORMATS)


def write_picture(path: Path, picture: Picture) -> Path:
    """Write an image in the format that the file's name asks for, with as many bits as it had where the format has them.

    Parameters
    ----------
    path : Path
        Where to; one of `IMAGE_SUFFIXES`.
    picture : Picture
        Values outside of 0 to 1 are clipped. What is missing from a format is left out: opacity, and more than 8 bits.

    Returns
    -------
    Path
        `path`.
    """
    from PIL import Image

    name, holds_deep, holds_opacity = _FORMATS[path.suffix.lower()]
    clipped = np.clip(picture.values, 0, 1)
    if picture.deep and holds_deep:
        image = Image.fromarray(np.rint(clipped * 65535).astype(np.uint16))
    else:
        image = Image.fromarray(np.rint(clipped * 255).astype(np.uint8))
        if picture.opacity is not None and holds_opacity:
            image.putalpha(Image.fromarray(picture.opacity))
    with written(path) as file:
        image.save(file, format=name, **({"quality": 95} if name in ("JPEG", "WEBP") else {}))
    return path


def _scaled(grey: Array) -> Array:
    low, high = float(grey.min()), float(grey.max())
    return (grey - low) / ((high - low) or 1.0)


def write_image(path: Path, image: Array) -> Path:
    """Write grey values between 0 and 1 as an 8-bit PNG.

    Parameters
    ----------
    path : Path
        Where to.
    image : ndarray of shape (rows, columns)
        Values outside are clipped.

    Returns
    -------
    Path
        `path`.
    """
    from PIL import Image

    levels = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    with written(path) as file:
        Image.fromarray(levels).save(file, format="PNG")
    return path


@contextmanager
def written(path: Path) -> Iterator[IO[Any]]:
    """A binary file that takes its place when it is complete, and leaves nothing behind when it is not.

    Parameters
    ----------
    path : Path
        Where the file is to be.

    Yields
    ------
    file object
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        mask = os.umask(0)  # the permissions that an ordinary new file would have
        os.umask(mask)
        Path(temporary).chmod(0o666 & ~mask)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
