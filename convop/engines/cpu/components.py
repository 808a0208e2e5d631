"""Real arithmetic for complex numbers: a complex convolution is a real one with twice as many channels.

``(a + ib)(u + iv)`` is the 2 x 2 real matrix ``[[a, -b], [b, a]]`` on ``(u, v)``, so only real loops exist.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ...arrays.backend import Array, namespace
from ...geometry.spec import ConvSpec


def real_dtype(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """Returns the dtype of a number's components."""
    return np.dtype(dtype).type(0).real.dtype


def component_count(dtype: npt.DTypeLike) -> int:
    """Returns the number of real components of a number: 2 for complex dtypes, 1 for others."""
    return 2 if np.dtype(dtype).kind == "c" else 1


def as_columns(x: Array, dtype: np.dtype[Any]) -> Array:
    """Returns a batch as ``(P, elements)``, contiguous, aligned and of a dtype; it may share the caller's memory."""
    columns: Array = namespace(x).ascontiguousarray(x.reshape(len(x), -1).T, dtype=dtype)
    # Only NumPy has arrays that are not aligned; loops are compiled for aligned ones.
    return columns if getattr(columns.flags, "aligned", True) else columns.copy()


def read_only(array: Array) -> Array:
    """Returns a read-only view: loops are compiled for read-only inputs alone, and not once more for writable ones."""
    view = array.view()
    view.setflags(write=False)
    return view


def grouped_kernel(spec: ConvSpec, kernel: Array, adjoint: bool) -> Array:
    """Returns the taps of a direction, ``(groups, channels written, channels read, taps)``."""
    taps = kernel.reshape(spec.groups, spec.c_out // spec.groups, spec.c_in // spec.groups, -1)
    return taps.conj().swapaxes(1, 2) if adjoint else taps


def real_weights(taps: Array) -> Array:
    """Returns taps as real numbers: every complex tap becomes the matrix ``[[re, -im], [im, re]]``."""
    if taps.dtype.kind != "c":
        return taps
    groups, written, read, count = taps.shape
    weights = np.empty((groups, written, 2, read, 2, count), dtype=real_dtype(taps.dtype))
    weights[:, :, 0, :, 0] = weights[:, :, 1, :, 1] = taps.real
    weights[:, :, 1, :, 0] = taps.imag
    weights[:, :, 0, :, 1] = -taps.imag
    return weights.reshape(groups, 2 * written, 2 * read, count)


def complex_products(products: Array, components: int) -> Array:
    """Returns sums of ``conj(x) * y`` from those of their components, (..., written, 1 or 2, read, 1 or 2, taps)."""
    if components == 1:
        return products[..., 0, :, 0, :]
    re, im = products[..., 0, :, :, :], products[..., 1, :, :, :]
    return (re[..., 0, :] + im[..., 1, :]) + 1j * (im[..., 0, :] - re[..., 1, :])
