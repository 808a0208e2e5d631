"""Reads kernels and images from files, and writes files atomically."""

from __future__ import annotations

import json
import math
import os
import tempfile
import warnings
from collections.abc import Iterator
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
    "atomic_write",
    "read_kernel",
    "read_photograph",
    "read_picture",
    "read_square",
    "write_image",
    "write_picture",
]

# Photographs are reduced to this many pixels along the longer side.
_MAX_PHOTOGRAPH_SIDE = 1024
_MIN_SIDE = 16
# Error messages quote this many characters of the argument.
_MAX_QUOTED = 60
# Pixel levels of white in files of 8 and 16 bits a value.
_WHITE_8, _WHITE_16 = 255, 65535


def read_kernel(source: str) -> Array:
    """Read a kernel from a file, or parse it from JSON.

    Parameters
    ----------
    source : str
        Path of a ``.npy`` file, or of a ``.csv`` or ``.txt`` file with one row per line; or JSON, ``[[1, 2], [3, 4]]``.

    Returns
    -------
    ndarray

    Raises
    ------
    ValueError
        If the source does not hold an array of numbers.
    FileNotFoundError
        If the file does not exist.
    """
    if source.lstrip().startswith("["):
        try:
            return as_array(json.loads(source), "kernel")
        except (json.JSONDecodeError, TypeError, RecursionError) as error:
            quoted = source if len(source) <= _MAX_QUOTED else f"{source[:_MAX_QUOTED]}..."
            raise ValueError(f"kernel must be a file or nested lists of numbers, got {quoted!r}: {error}") from None
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(f"kernel file {source} does not exist")
    suffix = path.suffix.lower()
    if suffix not in (".npy", ".csv", ".txt"):
        raise ValueError(f"kernel file must be .npy, .csv or .txt, got {source}")
    try:
        if suffix == ".npy":
            # A memory map refuses a header that claims more than the file holds before it allocates anything.
            return as_array(np.array(np.load(path, mmap_mode="r", allow_pickle=False)), "kernel")
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # NumPy only warns of an empty file
            return np.loadtxt(path, delimiter="," if suffix == ".csv" else None, ndmin=1)
    except Exception as error:  # noqa: BLE001 - NumPy's parser raises nearly any exception on a damaged header
        raise ValueError(f"kernel file {source} cannot be read: {error}") from None


def read_photograph(path: Path | None) -> Array:
    """Read a photograph as grey values between 0 and 1.

    Parameters
    ----------
    path : Path or None
        An image file in any format that Pillow reads; None selects the photographer that scikit-image includes.

    Returns
    -------
    ndarray of shape (rows, columns)
        float64. Larger photographs are reduced to 1024 pixels along the longer side.

    Raises
    ------
    ValueError
        If the file is not an image, or smaller than 16x16 pixels.
    FileNotFoundError
        If the file does not exist.
    """
    if path is None:
        from skimage import data

        return np.asarray(data.camera(), dtype=np.float64) / _WHITE_8
    from PIL import Image, ImageOps

    with _open_image(path) as opened:
        upright = ImageOps.exif_transpose(opened)
        high_bit_depth = _has_high_bit_depth(upright)
        if not high_bit_depth:  # converting more than 8 bits a value to "L" would clip them
            upright = upright.convert("L")
        if max(upright.size) > _MAX_PHOTOGRAPH_SIDE:
            upright.thumbnail((_MAX_PHOTOGRAPH_SIDE, _MAX_PHOTOGRAPH_SIDE), Image.Resampling.LANCZOS)
        grey = np.asarray(upright, dtype=np.float64)
    _check_pixels(path, grey)
    return _stretch_to_unit_range(grey) if high_bit_depth else grey / _WHITE_8


def read_square(path: Path | None, side: int) -> Array:
    """Read the central square of a photograph as grey values between 0 and 1.

    Parameters
    ----------
    path : Path or None
        As in `read_photograph`.
    side : int
        Rows and columns of the result.

    Returns
    -------
    ndarray of shape (side, side)
        float64. The largest central square, resampled to `side`.
    """
    from skimage.transform import resize

    grey = read_photograph(path)
    length = min(grey.shape)
    top, left = ((n - length) // 2 for n in grey.shape)
    square = grey[top : top + length, left : left + length]
    return np.asarray(resize(square, (side, side), anti_aliasing=length > side))


@dataclass(frozen=True)
class Picture:
    """An image with one or three colour channels.

    Attributes
    ----------
    values : ndarray of shape ``(rows, columns)`` or ``(rows, columns, 3)``
        Between 0 and 1.
    opacity : ndarray of shape ``(rows, columns)``, optional
        The alpha channel, uint8; None if the file has none.
    high_bit_depth : bool
        Whether the file has more than 8 bits a value.
    quantization_noise : float
        Estimated standard deviation of the error that the file format's rounding has added to the values.
    lossy : bool
        Whether the file is a JPEG, which discards fine detail and the noise in it.
    """

    values: Array
    opacity: Array | None
    high_bit_depth: bool
    quantization_noise: float
    lossy: bool


def read_picture(path: Path) -> Picture:
    """Read an image at full size, with its colours.

    Parameters
    ----------
    path : Path
        An image file in any format that Pillow reads.

    Returns
    -------
    Picture
        Values of 8 bits are divided by 255, values of 16 bits by 65535. Other values of high bit depth are kept if they
        lie between 0 and 1; otherwise their range is mapped to 0 to 1.

    Raises
    ------
    ValueError
        If the file is not an image, or smaller than 16x16 pixels.
    FileNotFoundError
        If the file does not exist.
    """
    from PIL import ImageOps

    opacity = None
    with _open_image(path) as opened:
        lossy = bool(getattr(opened, "quantization", None))
        jpeg_noise = _jpeg_quantization_noise(opened) if lossy else None
        upright = ImageOps.exif_transpose(opened)
        high_bit_depth = _has_high_bit_depth(upright)
        if high_bit_depth:
            values = np.asarray(upright, dtype=np.float64)
            if upright.mode.startswith("I;16"):
                values = values / _WHITE_16
            elif values.min() < 0 or values.max() > 1:
                values = _stretch_to_unit_range(values)
        else:
            if upright.has_transparency_data:
                upright = upright.convert("LA" if upright.mode in ("L", "LA", "La") else "RGBA")
                opacity = np.asarray(upright.getchannel("A"))
            grey = upright.mode in ("1", "L", "LA")
            values = np.asarray(upright.convert("L" if grey else "RGB"), dtype=np.float64) / _WHITE_8
    _check_pixels(path, values)
    white = _WHITE_16 if high_bit_depth else _WHITE_8
    # The rounding error is uniform over one level, 1/white, and its variance level^2/12.
    noise = 1 / (white * math.sqrt(12)) if jpeg_noise is None else jpeg_noise
    return Picture(values, opacity, high_bit_depth, noise, lossy)


@contextmanager
def _open_image(path: Path) -> Iterator[Any]:
    """Open an image file with Pillow; errors, of the decoding inside the block too, are ValueErrors that name the file."""
    from PIL import Image, UnidentifiedImageError

    if not path.is_file():
        raise FileNotFoundError(f"image {path} does not exist")
    try:
        with warnings.catch_warnings():
            # Pillow reads what it warns of, except that a decompression bomb has to be refused.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                yield opened
    except UnidentifiedImageError:
        raise ValueError(f"image {path} is not an image that Pillow can read") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ValueError(f"image {path} is too large: {error}") from None
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError) as error:  # Pillow raises all of these
        raise ValueError(f"image {path} is damaged: {error}") from None


def _check_pixels(path: Path, values: Array) -> None:
    if min(values.shape[:2]) < _MIN_SIDE:
        raise ValueError(f"image {path} must have at least 16x16 pixels, got {values.shape[1]}x{values.shape[0]}")
    if not np.isfinite(values).all():
        raise ValueError(f"image {path} has pixels that are not finite")


def _has_high_bit_depth(image: Any) -> bool:
    """Whether a Pillow image has integers of 16 or 32 bits (modes "I...") or floating-point numbers ("F")."""
    return image.mode[0] in "IF"


def _jpeg_quantization_noise(opened: Any) -> float:
    """Estimate the standard deviation of JPEG's quantisation noise in the luminance, where white is 1.

    JPEG rounds the coefficients of the cosine transform of 8x8 pixels to multiples of q, which adds q^2/12 to the variance
    of each nonzero coefficient. The error of coefficients rounded to zero is unknown; the estimate doubles the amplitude for it.
    """
    q = np.asarray(opened.quantization[min(opened.quantization)], dtype=np.float64).reshape(8, 8)
    levels = np.asarray(opened.convert("L"), dtype=np.float64) - 128
    rows, columns = (n // 8 for n in levels.shape)
    blocks = levels[: 8 * rows, : 8 * columns].reshape(rows, 8, columns, 8)
    nonzero = np.abs(dctn(blocks, axes=(1, 3), norm="ortho")) >= q[:, None] / 2
    variance = float((nonzero * q[:, None] ** 2 / 12).mean())
    return max(1.0, 2 * math.sqrt(variance)) / _WHITE_8


def _stretch_to_unit_range(grey: Array) -> Array:
    low, high = float(grey.min()), float(grey.max())
    return (grey - low) / ((high - low) or 1.0)


# Image formats by suffix: Pillow's name, and whether the format stores 16 bits a value and opacity.
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
    """Write an image in the format of the file's suffix, in 16 bits a value if the source and the format have them.

    Parameters
    ----------
    path : Path
        The file to write; its suffix is one of `IMAGE_SUFFIXES`.
    picture : Picture
        Values are clipped to 0 to 1. Opacity and bits beyond 8 are dropped if the format cannot store them.

    Returns
    -------
    Path
        `path`.
    """
    from PIL import Image

    name, stores_16_bits, stores_opacity = _FORMATS[path.suffix.lower()]
    clipped = np.clip(picture.values, 0, 1)
    if picture.high_bit_depth and stores_16_bits:
        image = Image.fromarray(np.rint(clipped * _WHITE_16).astype(np.uint16))
    else:
        image = Image.fromarray(np.rint(clipped * _WHITE_8).astype(np.uint8))
        if picture.opacity is not None and stores_opacity:
            image.putalpha(Image.fromarray(picture.opacity))
    with atomic_write(path) as file:
        image.save(file, format=name, **({"quality": 95} if name in ("JPEG", "WEBP") else {}))
    return path


def write_image(path: Path, image: Array) -> Path:
    """Write grey values between 0 and 1 as an 8-bit PNG.

    Parameters
    ----------
    path : Path
        The file to write.
    image : ndarray of shape (rows, columns)
        Values are clipped to 0 to 1.

    Returns
    -------
    Path
        `path`.
    """
    from PIL import Image

    levels = np.rint(np.clip(image, 0, 1) * _WHITE_8).astype(np.uint8)
    with atomic_write(path) as file:
        Image.fromarray(levels).save(file, format="PNG")
    return path


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[Any]]:
    """Open a temporary binary file that replaces `path` when the block ends, and is deleted if the block raises.

    Parameters
    ----------
    path : Path
        The file to write.

    Yields
    ------
    file object
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        mask = os.umask(0)  # mkstemp creates private files; give this one the permissions of an ordinary new file
        os.umask(mask)
        Path(temporary).chmod(0o666 & ~mask)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
