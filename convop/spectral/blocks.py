r"""The diagonal blocks of a convolution's matrix in transform bases, one basis per axis.

The blocks are an outer product of the bases' tables over the axes, summed over the taps. There is one block for each
frequency and each group of channels. Its rows are output channels and samples, its columns are input channels, polyphase
components and samples. Any number of axes is handled in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arrays import memory
from ..arrays.backend import Array
from ..arrays.scaling import to_unit_scale
from ..geometry.spec import ConvSpec
from .axis_bases import AxisBasis, Eigenvectors, Fourier, Identity


def diagonal_blocks(spec: ConvSpec, kernel: Array, bases: Sequence[AxisBasis], purpose: str) -> Array:
    """Returns the diagonal blocks of the matrix in the bases of its axes, in double precision.

    Parameters
    ----------
    spec : ConvSpec
        Geometry.
    kernel : ndarray
        Taps, not flipped, on the CPU.
    bases : sequence of AxisBasis
        One per axis.
    purpose : str
        What the blocks are for; an error message about memory begins with it.

    Returns
    -------
    ndarray of shape ``(*frequencies, groups, rows, columns)``
        Rows are channels and samples; columns are channels, polyphase components and samples. For a real kernel, the
        last `Fourier` axis has the first half of its frequencies.

    Raises
    ------
    MemoryError
        If the blocks do not fit the free memory.
    """
    halved = halved_axis(bases, kernel.dtype)
    tables = [basis.table(axis, a == halved) for a, (basis, axis) in enumerate(zip(bases, spec.axes, strict=True))]
    groups, ndim = spec.groups, spec.ndim
    size = kernel.size * math.prod(t[0].size for t in tables) // math.prod(len(t) for t in tables)
    memory.require(2 * 16 * size, purpose)
    product: Array = kernel.astype(np.result_type(kernel.dtype, np.float64), copy=False).reshape(
        groups, spec.c_out // groups, spec.c_in // groups, *kernel.shape[-ndim:]
    )
    for table in tables:
        # Contracts the first remaining axis of taps; its rows and columns are appended.
        product = np.tensordot(product, table, axes=(3, 0))
    row = [3 + 2 * a for a in range(ndim)]
    column = [4 + 2 * a for a in range(ndim)]
    transformed = [a for a, basis in enumerate(bases) if not isinstance(basis, Identity)]
    sampled = [a for a in range(ndim) if a not in transformed]
    order = [*(row[a] for a in transformed), 0, 1, *(row[a] for a in sampled), 2, *column]
    product = product.transpose(order)
    shape = product.shape
    first_row, first_column = len(transformed) + 1, len(transformed) + 2 + len(sampled)
    return product.reshape(
        *shape[:first_row], math.prod(shape[first_row:first_column]), math.prod(shape[first_column:])
    )


def scaled_diagonal_blocks(
    spec: ConvSpec, kernel: Array, bases: Sequence[AxisBasis], purpose: str
) -> tuple[Array, int]:
    """Returns the diagonal blocks over a power of two, with which products of them stay within range, and the power.

    Parameters
    ----------
    spec, kernel, bases, purpose
        As in `diagonal_blocks`.

    Returns
    -------
    (ndarray, int)
        The blocks are the first times 2 to the second, exactly.
    """
    scaled, power = to_unit_scale(kernel)
    return diagonal_blocks(spec, scaled, bases, purpose), power


def block_multiplicities(bases: Sequence[AxisBasis | Eigenvectors], dtype: np.dtype[Any]) -> Array:
    """Returns how many blocks of the matrix each of `diagonal_blocks` represents: 2 if its conjugate is left out, else 1.

    Parameters
    ----------
    bases : sequence of AxisBasis or Eigenvectors
        As in `diagonal_blocks`.
    dtype : dtype
        The kernel's.

    Returns
    -------
    ndarray of int, of the shape of the frequencies
    """
    counts: Array = np.ones((), dtype=np.int64)
    halved = halved_axis(bases, dtype)
    for a, basis in enumerate(bases):
        if isinstance(basis, Identity):
            continue
        of_axis = np.ones(basis.count // 2 + 1 if a == halved else basis.count, dtype=np.int64)
        if a == halved:
            of_axis[1 : (basis.count + 1) // 2] = 2
        counts = np.multiply.outer(counts, of_axis)
    return counts


def block_shape(spec: ConvSpec, bases: Sequence[AxisBasis]) -> tuple[int, int]:
    """Returns an upper bound of the rows and columns of the diagonal blocks, without computing them."""
    rows, columns = spec.c_out // spec.groups, spec.c_in // spec.groups
    for axis, basis in zip(spec.axes, bases, strict=True):
        if isinstance(basis, Identity):
            rows, columns = rows * axis.outputs, columns * min(axis.inputs, axis.outputs * axis.taps)
        elif isinstance(basis, Fourier):
            columns *= basis.stride
    return rows, columns


def halved_axis(bases: Sequence[object], dtype: np.dtype[Any]) -> int | None:
    """Returns the axis of which half of the frequencies are kept: for a real kernel the last `Fourier` axis."""
    if dtype.kind == "c":
        return None
    return max((a for a, basis in enumerate(bases) if isinstance(basis, Fourier)), default=None)
