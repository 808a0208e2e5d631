"""Builds the SciPy sparse matrix of a spec and a kernel from gather tables, directly in canonical CSR order.

There is no global sort and no COO matrix in between: the column order is lexicographic and every gather table is sorted
by source, so the outer product of the tables is sorted too, with every entry present once.
"""

from __future__ import annotations

import warnings
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from ..arrays import memory
from ..arrays.backend import Array, as_kernel, on_gpu
from ..geometry.arguments import IntOrSequence, Padding, boolean, one_of
from ..geometry.spec import ConvSpec
from . import builders
from .builders import SmallTables, Tables, large_structure, large_values

Format: TypeAlias = Literal["csr", "csc", "coo", "bsr", "dia", "lil", "dok"]
FORMATS = ("csr", "csc", "coo", "bsr", "dia", "lil", "dok")
# Formats to which CuPy converts a CSR matrix.
GPU_FORMATS = ("csr", "csc", "coo")

# Bytes of a Python object and its reference in a dict or list, for the formats "lil" and "dok".
_OBJECT_NBYTES = 150


def kernel2matrix(
    kernel: npt.ArrayLike,
    input_shape: IntOrSequence,
    *,
    stride: IntOrSequence = 1,
    padding: Padding = 0,
    dilation: IntOrSequence = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    flip: bool = False,
    format: Format = "csr",
    dtype: npt.DTypeLike | None = None,
) -> Any:
    """The sparse matrix of a convolution.

    ``kernel2matrix(kernel, x.shape) @ x.ravel()`` is the convolution of `x`, and its transpose the
    transposed convolution.

    Parameters
    ----------
    kernel : array_like
        Taps, shape ``(*taps)``, or ``(c_out, c_in/groups, *taps)`` for an input with channels. Not
        flipped, as in deep learning (cross-correlation). For an array of CuPy the matrix is built on the GPU.
    input_shape : int or sequence of int
        ``(*space)`` or ``(c_in, *space)``.
    stride, padding, dilation, groups, padding_mode
        As in :class:`convop.ConvSpec`.
    flip : bool
        Flip the kernel in space: the convolution of signal processing.
    format : {"csr", "csc", "coo", "bsr", "dia", "lil", "dok"}
        Sparse format of the result; on the GPU "csr", "csc" or "coo".
    dtype : dtype_like, optional
        float32, float64, complex64 or complex128. By default the dtype of the kernel; integers and bools
        become float64, float16 becomes float32.

    Returns
    -------
    scipy.sparse array of shape ``(rows, columns)``
        Rows count the elements of the output, columns those of the input, both in C order. CSR is
        canonical: indices sorted, each entry once; int32 indices wherever they fit, int64 otherwise.
        ``nnz == ConvSpec(...).nnz``: zeros of the kernel are stored. A cupyx.scipy.sparse array on the GPU.

    Raises
    ------
    ValueError, TypeError
        For arguments that do not fit together; the message names the argument.
    MemoryError
        If the matrix does not fit the free memory; raised before anything is allocated.

    Examples
    --------
    The matrix of textbooks:

    >>> kernel2matrix([[1, 2], [3, 4]], (3, 3)).toarray()
    array([[1., 2., 0., 3., 4., 0., 0., 0., 0.],
           [0., 1., 2., 0., 3., 4., 0., 0., 0.],
           [0., 0., 0., 1., 2., 0., 3., 4., 0.],
           [0., 0., 0., 0., 1., 2., 0., 3., 4.]])

    Circular padding; each output is the sum of an input and its right neighbour:

    >>> kernel2matrix([1, 1], 3, padding=((0, 1),), padding_mode="circular").toarray()
    array([[1., 1., 0.],
           [0., 1., 1.],
           [1., 0., 1.]])
    """
    values = as_kernel(kernel, dtype)
    format_name = checked_format(format, gpu=on_gpu(values))
    spec = ConvSpec(
        input_shape,
        values.shape,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        padding_mode=padding_mode,
    )
    return convert(build(spec, flipped(spec, values) if boolean("flip", flip) else values), format_name)


def checked_format(format: object, *, gpu: bool) -> str:
    """The name of a sparse format that the CPU or the GPU has."""
    return one_of("format of a matrix on the GPU", format, GPU_FORMATS) if gpu else one_of("format", format, FORMATS)


def flipped(spec: ConvSpec, kernel: Array) -> Array:
    """The kernel reversed along its spatial axes."""
    backwards: Any = (..., *(slice(None, None, -1),) * spec.ndim)
    reversed_: Array = kernel[backwards]
    return reversed_


def build(spec: ConvSpec, kernel: Array) -> sp.csr_array:
    """Canonical CSR matrix of a validated spec and a kernel of its shape.

    Parameters
    ----------
    spec : ConvSpec
        Geometry.
    kernel : ndarray
        Taps in the dtype of the matrix, not flipped.

    Returns
    -------
    scipy.sparse.csr_array

    Raises
    ------
    MemoryError
        If it does not fit the free memory.
    """
    if on_gpu(kernel):
        from ..cuda.matrix import build as build_on_gpu  # compiles when it is first used

        return build_on_gpu(spec, kernel)
    spec, kernel = _without_unit_axes(spec, kernel)
    _require_memory(spec, kernel.dtype)
    tables = Tables.of(spec)
    if tables.small:
        small = SmallTables(tables)
        (indices, indptr), data = small.structure(), small.values(kernel)
    else:
        (indices, indptr), data = large_structure(tables), large_values(tables, kernel)
    return _canonical(data, indices, indptr, spec.shape)


def with_values(spec: ConvSpec, kernel: Array, indices: Array, indptr: Array) -> sp.csr_array:
    """The matrix of a spec and a kernel that shares the structure of another matrix of the spec.

    Parameters
    ----------
    spec : ConvSpec
        Geometry.
    kernel : ndarray
        Taps in the dtype of the matrix, not flipped.
    indices, indptr : ndarray
        Structure of a matrix that `build` returned for `spec`.

    Returns
    -------
    scipy.sparse.csr_array
    """
    spec, kernel = _without_unit_axes(spec, kernel)
    memory.require(spec.nnz * kernel.dtype.itemsize, f"the values of the matrix of {spec}")
    tables = Tables.of(spec)
    data = SmallTables(tables).values(kernel) if tables.small else large_values(tables, kernel)
    return _canonical(data, indices, indptr, spec.shape)


def convert(matrix: sp.csr_array, format: str) -> Any:
    """A canonical CSR matrix in another SciPy format; the memory is checked first.

    Parameters
    ----------
    matrix : scipy.sparse.csr_array
        From `build`.
    format : str
        One of SciPy's sparse formats.

    Returns
    -------
    scipy.sparse array

    Raises
    ------
    MemoryError
        If the format needs more than the free memory; ``"dia"`` can be far larger than CSR.
    """
    if format == "csr":
        return matrix
    if not isinstance(matrix, sp.csr_array):
        return matrix.asformat(format)
    nnz, itemsize = matrix.nnz, matrix.dtype.itemsize
    index = max(matrix.indices.dtype.itemsize, 4)
    if format == "dia":
        memory.require(3 * 8 * nnz, "counting the diagonals of the matrix")
        rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
        diagonals = np.unique(matrix.indices - rows).size
        nbytes = diagonals * (matrix.shape[1] * itemsize + index)
    elif format in ("lil", "dok"):
        nbytes = nnz * _OBJECT_NBYTES
    else:
        nbytes = nnz * (itemsize + 2 * index)
    memory.require(nbytes, f"the matrix in format {format!r}")
    with warnings.catch_warnings():
        # SciPy warns of many diagonals, which the caller wants.
        warnings.simplefilter("ignore", sp.SparseEfficiencyWarning)
        return matrix.asformat(format)


def _without_unit_axes(spec: ConvSpec, kernel: Array) -> tuple[ConvSpec, Array]:
    """The spec and kernel of the same matrix without axes of one input, one tap and one output.

    As the last axis, such an axis would make every run of the compiled loops short.
    """
    # Without such an axis the matrix is the same, because its one entry has the factor 1. With padding mode "zeros", an axis
    # of one that is padded on one side and cropped on the other reads nothing: it has no entry, and is kept.
    kept = [a for a, axis in enumerate(spec.axes) if not axis.inputs == axis.taps == axis.outputs == axis.nnz == 1]
    if len(kept) == spec.ndim or not kept:
        return spec, kernel
    front = len(spec.kernel_shape) - spec.ndim
    taps = (*spec.kernel_shape[:front], *(spec.axes[a].taps for a in kept))
    parameters = {k: [spec.parameters()[k][a] for a in kept] for k in ("stride", "padding", "dilation")}
    inputs = (*spec.input_shape[: int(spec.channels)], *(spec.axes[a].inputs for a in kept))
    reduced = ConvSpec(inputs, taps, groups=spec.groups, padding_mode=spec.padding_mode, **parameters)
    return reduced, kernel.reshape(taps)


def _require_memory(spec: ConvSpec, dtype: np.dtype[Any]) -> None:
    if max(spec.shape) >= 2**63:
        raise ValueError(f"a matrix of shape {spec.shape} is beyond 64-bit indices; use a smaller input_shape")
    # Reading the free memory takes longer than building a small matrix. Rows and tables are checked first: with a huge
    # padding even counting the entries takes long.
    tables = sum(axis.table_nbytes for axis in spec.axes)
    if max(spec.shape[0], tables // 8) > builders.SMALL:
        memory.require(spec.shape[0] * 4 + tables, f"the row pointers and axis tables of the matrix of {spec}")
    if spec.nnz > builders.SMALL:
        nbytes = spec.matrix_nbytes(dtype) + tables
        memory.require(nbytes, f"the matrix of {spec} with {spec.nnz} entries")


def _canonical(data: Array, indices: Array, indptr: Array, shape: tuple[int, int]) -> sp.csr_array:
    matrix = sp.csr_array((data, indices, indptr), shape=shape)
    matrix.has_sorted_indices = True
    matrix.has_canonical_format = True
    return matrix
