"""The symbol, or generating function, of a convolution: the Fourier series of its taps."""

from __future__ import annotations

import numpy as np

from ..arrays.backend import Array
from ..geometry.spec import ConvSpec


def evaluate_symbol(spec: ConvSpec, taps: Array, angles: Array) -> Array:
    """Returns ``sum_t K[t] exp(i theta . (t*dilation))`` at given angles.

    Parameters
    ----------
    spec : ConvSpec
        Geometry.
    taps : ndarray
        Taps, not flipped, on the CPU.
    angles : ndarray of shape ``(Z, ndim)``
        Z vectors of angles, in radians.

    Returns
    -------
    ndarray of complex128, of shape ``(Z, c_out, c_in)``
    """
    ndim, count = spec.ndim, len(angles)
    values = taps.astype(np.complex128).reshape(1, -1, *taps.shape[-ndim:])
    for a in range(ndim):
        waves = np.exp(1j * np.outer(angles[:, a], np.arange(spec.axes[a].taps) * spec.dilation[a]))
        # Contracts the first remaining axis of taps.
        values = np.einsum("zct...,zt->zc...", np.broadcast_to(values, (count, *values.shape[1:])), waves)
    groups, rows, columns = spec.groups, spec.c_out // spec.groups, spec.c_in // spec.groups
    matrices = np.zeros((count, groups, rows, groups, columns), dtype=np.complex128)
    group = np.arange(groups)
    matrices[:, group, :, group] = values.reshape(count, groups, rows, columns).transpose(1, 0, 2, 3)
    return matrices.reshape(count, spec.c_out, spec.c_in)
