"""The sparse matrix of a spec and a kernel on the GPU, built there from the gather tables of its axes."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
import scipy.sparse as sp

from ..arrays.backend import Array, gpu, gpu_module, require_gpu_memory, to_gpu
from ..geometry.spec import ConvSpec
from .tables import Direction


def build(spec: ConvSpec, kernel: Array, *, adjoint: bool = False) -> Any:
    """The matrix of a spec and a kernel, or its conjugate transpose, in canonical CSR on the GPU.

    Parameters
    ----------
    spec : ConvSpec
        Geometry.
    kernel : ndarray
        Taps in the dtype of the matrix, not flipped, on the GPU.
    adjoint : bool
        Build the conjugate transpose, which takes no sorting either.

    Returns
    -------
    cupyx.scipy.sparse.csr_array

    Raises
    ------
    MemoryError
        If it does not fit the GPU's free memory.
    """
    return fill_matrix(Direction(spec, adjoint), kernel)


def fill_matrix(direction: Direction, kernel: Array, structure: tuple[Array, Array] | None = None) -> Any:
    """The matrix of a direction and a kernel in canonical CSR, on the structure of an earlier matrix if one is given.

    Parameters
    ----------
    direction : Direction
        Direction of the map.
    kernel : ndarray
        Taps in the dtype of the matrix, not flipped, on the GPU.
    structure : (ndarray, ndarray), optional
        Column indices and row pointers of a matrix of the same direction; they are shared.

    Returns
    -------
    cupyx.scipy.sparse.csr_array
    """
    spec, cupy = direction.spec, gpu()
    rows, columns = spec.shape[::-1] if direction.adjoint else spec.shape
    if structure is None:
        # Row pointers are summed as 64-bit integers first.
        nbytes = spec.matrix_nbytes(kernel.dtype) + rows * 16
        require_gpu_memory(nbytes, f"the matrix of {spec} with {spec.nnz} entries")
        pointers = _row_pointers(direction, cupy).astype(spec.index_dtype)
        indices = cupy.empty(spec.nnz, spec.index_dtype)
    else:
        indices, pointers = structure
    data = cupy.empty(spec.nnz, kernel.dtype)
    if spec.nnz:
        direction.fill(direction.weights(kernel), pointers, indices, data)
    return _canonical(data, indices, pointers, (rows, columns))


def to_gpu_matrix(matrix: sp.csr_array) -> Any:
    """A canonical CSR matrix of SciPy as a matrix on the GPU.

    Parameters
    ----------
    matrix : scipy.sparse.csr_array
        Canonical.

    Returns
    -------
    cupyx.scipy.sparse.csr_array

    Raises
    ------
    MemoryError
        If it does not fit the GPU's free memory.
    """
    arrays = (matrix.data, matrix.indices, matrix.indptr)
    require_gpu_memory(sum(array.nbytes for array in arrays), f"a matrix of shape {matrix.shape}")
    data, indices, pointers = map(to_gpu, arrays)
    return _canonical(data, indices, pointers, matrix.shape)


def _canonical(data: Array, indices: Array, pointers: Array, shape: tuple[int, int]) -> Any:
    matrix = gpu_module("sparse").csr_array((data, indices, pointers), shape=shape)
    matrix.has_sorted_indices = True
    matrix.has_canonical_format = True
    return matrix


def _row_pointers(direction: Direction, cupy: Any) -> Array:
    """Row pointers of CSR: row lengths of a channel are an outer product over the axes, and channels are alike."""
    lengths = []
    for axis in direction.axes:
        _, start, stop = axis.full()
        lengths.append(cupy.asarray(stop - start))
    counts = reduce(lambda outer, axis: (outer[:, None] * axis).ravel(), lengths) * direction.channels_read
    ends = cupy.cumsum(counts)
    channels = direction.spec.groups * direction.channels_written
    entries = direction.spec.nnz // channels
    pointers: Array = cupy.zeros(channels * len(ends) + 1, np.int64)
    pointers[1:] = (cupy.arange(channels)[:, None] * entries + ends).ravel()
    return pointers
