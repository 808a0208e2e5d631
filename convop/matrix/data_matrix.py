"""The data matrix: the matrix of a fixed input, which multiplies the kernel (im2col, as a sparse matrix)."""

from __future__ import annotations

import math
from functools import reduce
from typing import Any

import numpy as np
import scipy.sparse as sp

from ..arrays import memory
from ..arrays.backend import Array
from ..geometry.axis import Ints
from ..geometry.spec import ConvSpec


def group_matrices(spec: ConvSpec, x: Array, *, flip: bool) -> list[sp.csr_array]:
    """For each group, the matrix that takes the kernel of an output channel to that channel of the output.

    Parameters
    ----------
    spec : ConvSpec
        Geometry.
    x : ndarray of shape ``spec.input_shape``
        The input.
    flip : bool
        Flip the kernel in space.

    Returns
    -------
    list of scipy.sparse.csr_array
        Canonical, ``(outputs of a channel, c_in/groups * taps)``. Taps that read padding by zeros have no entry.

    Raises
    ------
    MemoryError
        If the matrices do not fit the free memory.
    """
    outputs = math.prod(axis.outputs for axis in spec.axes)
    taps = math.prod(axis.taps for axis in spec.axes)
    group_inputs = spec.c_in // spec.groups
    entries = outputs * taps * spec.c_in
    # The matrices with their indices, and temporarily the sources and the uncompressed values of one group.
    temporary = outputs * taps * (9 + 2 * group_inputs * (x.dtype.itemsize + 4))
    memory.require(entries * (x.dtype.itemsize + 8) + temporary, f"the data matrix of {spec}")
    source, read = _sources(spec, flip)
    source = source.reshape(outputs, 1, taps)
    present = np.broadcast_to(read.reshape(outputs, 1, taps), (outputs, group_inputs, taps))
    counts = present.sum(axis=(1, 2))
    index = np.int32 if max(entries, taps * spec.c_in) < 2**31 else np.int64
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(index)
    columns = np.arange(group_inputs * taps, dtype=index).reshape(1, group_inputs, taps)
    indices = np.broadcast_to(columns, present.shape)[present]
    channels = x.reshape(spec.groups, group_inputs, -1)
    matrices = []
    for group in channels:
        values = group[np.arange(group_inputs)[None, :, None], source][present]
        matrix = sp.csr_array((values, indices, indptr), shape=(outputs, group_inputs * taps))
        matrix.has_canonical_format = True
        matrices.append(matrix)
    return matrices


def _sources(spec: ConvSpec, flip: bool) -> tuple[Ints, Array]:
    """Flat input index that each output reads through each tap, ``(*outputs, *taps)``, and a mask, false where that is a zero."""
    ndim = spec.ndim
    tables = [axis.source() for axis in spec.axes]
    if flip:
        tables = [table[:, ::-1] for table in tables]
    sizes = [axis.inputs for axis in spec.axes]

    def broadcast(a: int, table: Array) -> Array:
        shape = [1] * (2 * ndim)
        shape[a], shape[ndim + a] = table.shape
        return table.reshape(shape)

    flat = reduce(np.add, (broadcast(a, np.maximum(t, 0) * math.prod(sizes[a + 1 :])) for a, t in enumerate(tables)))
    read = reduce(np.logical_and, (broadcast(a, t >= 0) for a, t in enumerate(tables)))
    return flat, read


def block_diagonal(spec: ConvSpec, groups: list[sp.csr_array]) -> Any:
    """The whole data matrix in canonical CSR: its diagonal block for an output channel is the matrix of the group.

    Parameters
    ----------
    spec : ConvSpec
        Geometry.
    groups : list of scipy.sparse.csr_array
        From `group_matrices`.

    Returns
    -------
    scipy.sparse.csr_array
        ``(elements of the output, elements of the kernel)``.
    """
    blocks = [matrix for matrix in groups for _ in range(spec.c_out // spec.groups)]
    rows, columns = spec.shape[0], math.prod(spec.kernel_shape)
    nnz = sum(block.nnz for block in blocks)
    index = np.int32 if max(nnz, rows, columns) < 2**31 else np.int64
    value = blocks[0].dtype
    memory.require(nnz * (value.itemsize + np.dtype(index).itemsize), f"the data matrix of {spec}")
    data, indices = np.empty(nnz, value), np.empty(nnz, index)
    indptr = np.zeros(rows + 1, index)
    at = row = 0
    for number, block in enumerate(blocks):
        height, width = block.shape
        data[at : at + block.nnz] = block.data
        np.add(block.indices, number * width, out=indices[at : at + block.nnz], casting="unsafe")
        np.add(block.indptr, at, out=indptr[row : row + height + 1], casting="unsafe")
        at += block.nnz
        row += height
    matrix = sp.csr_array((data, indices, indptr), shape=(rows, columns))
    matrix.has_canonical_format = True
    return matrix
