"""A spec and a kernel become a SciPy sparse matrix, straight from the axis tables in canonical CSR order.

No global sort and no COO detour: column order is lexicographic, every axis table is sorted by source, so the
outer product of the tables over the axes is sorted too, with every entry present once.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from . import memory
from .arguments import IntOrSequence, Padding, boolean, one_of
from .axis import AxisRows, Ints
from .backend import Array, as_kernel
from .parallel import run_blocks, workers
from .spec import ConvSpec

__all__ = ["build", "kernel2matrix", "with_values"]

Format: TypeAlias = Literal["csr", "csc", "coo", "bsr", "dia", "lil", "dok"]
FORMATS = ("csr", "csc", "coo", "bsr", "dia", "lil", "dok")

# Up to here the NumPy builder is done before the compiled one would even be imported.
_SMALL = 2**16
# The broadcast has two axes a spatial dimension and two more, of the 64 that NumPy allows.
_MOST_BROADCAST_AXES = 31
# Blocks of rows per worker: rows near the boundary are shorter, so equal blocks are unequal work.
_BLOCKS_PER_WORKER = 4
# Bytes of a Python object and its place in a dict or list, for the two formats made of them.
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
        flipped, as deep learning has it (cross-correlation).
    input_shape : int or sequence of int
        ``(*space)`` or ``(c_in, *space)``.
    stride, padding, dilation, groups, padding_mode
        As in :class:`convop.ConvSpec`.
    flip : bool
        Flip the kernel in space: the convolution of signal processing.
    format : {"csr", "csc", "coo", "bsr", "dia", "lil", "dok"}
        Sparse format of the result.
    dtype : dtype_like, optional
        float32, float64, complex64 or complex128. By default that of the kernel; integers and bools
        become float64, float16 becomes float32.

    Returns
    -------
    scipy.sparse array of shape ``(rows, columns)``
        Rows count the elements of the output, columns those of the input, both in C order. CSR is
        canonical: indices sorted, each entry once; int32 indices wherever they fit, int64 otherwise.
        ``nnz == ConvSpec(...).nnz``: zeros of the kernel are stored.

    Raises
    ------
    ValueError, TypeError
        For arguments that do not fit together; the message names the argument.
    MemoryError
        If the matrix does not fit the free memory; raised before anything is allocated.

    Examples
    --------
    The matrix of the textbooks:

    >>> kernel2matrix([[1, 2], [3, 4]], (3, 3)).toarray()
    array([[1., 2., 0., 3., 4., 0., 0., 0., 0.],
           [0., 1., 2., 0., 3., 4., 0., 0., 0.],
           [0., 0., 0., 1., 2., 0., 3., 4., 0.],
           [0., 0., 0., 0., 1., 2., 0., 3., 4.]])

    Three inputs in a ring, each output the sum of an input and its right neighbour:

    >>> kernel2matrix([1, 1], 3, padding=((0, 1),), padding_mode="circular").toarray()
    array([[1., 1., 0.],
           [0., 1., 1.],
           [1., 0., 1.]])
    """
    format_name = one_of("format", format, FORMATS)
    values = as_kernel(kernel, dtype)
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


def flipped(spec: ConvSpec, kernel: Array) -> Array:
    """The kernel reversed along its spatial axes."""
    return np.flip(kernel, axis=tuple(range(-spec.ndim, 0)))


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
    spec, kernel = _without_unit_axes(spec, kernel)
    _require_memory(spec, kernel.dtype)
    tables = _Tables.of(spec)
    if tables.small:
        small = _SmallTables(tables)
        (indices, indptr), data = small.structure(), small.values(kernel)
    else:
        (indices, indptr), data = _large_structure(tables), _large_values(tables, kernel)
    return _canonical(data, indices, indptr, spec.shape)


def with_values(spec: ConvSpec, kernel: Array, indices: Array, indptr: Array) -> sp.csr_array:
    """The matrix of a spec and a kernel on the structure of a matrix of that spec, which is shared.

    Parameters
    ----------
    spec : ConvSpec
        Geometry.
    kernel : ndarray
        Taps in the dtype of the matrix, not flipped.
    indices, indptr : ndarray
        Of a matrix that `build` returned for `spec`.

    Returns
    -------
    scipy.sparse.csr_array
    """
    spec, kernel = _without_unit_axes(spec, kernel)
    memory.require(spec.nnz * kernel.dtype.itemsize, f"the values of the matrix of {spec}")
    tables = _Tables.of(spec)
    data = _SmallTables(tables).values(kernel) if tables.small else _large_values(tables, kernel)
    return _canonical(data, indices, indptr, spec.shape)


def convert(matrix: sp.csr_array, format: str) -> Any:
    """A canonical CSR matrix in another SciPy format, its memory checked first.

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
        # Many diagonals are what was asked for.
        warnings.simplefilter("ignore", sp.SparseEfficiencyWarning)
        return matrix.asformat(format)


def _without_unit_axes(spec: ConvSpec, kernel: Array) -> tuple[ConvSpec, Array]:
    """The same matrix without axes of one input, one tap and one output, which would only make lines short."""
    # An axis of one that is padded on one side and cropped on the other reads nothing, and stays.
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
    # Asking the system costs more than a small matrix. Rows and tables are checked first: for an absurd
    # padding even counting the entries takes long.
    tables = sum(axis.table_nbytes for axis in spec.axes)
    if max(spec.shape[0], tables // 8) > _SMALL:
        memory.require(spec.shape[0] * 4 + tables, f"the row pointers and axis tables of the matrix of {spec}")
    if spec.nnz > _SMALL:
        nbytes = spec.matrix_nbytes(dtype) + tables
        memory.require(nbytes, f"the matrix of {spec} with {spec.nnz} entries")


def _canonical(data: Array, indices: Array, indptr: Array, shape: tuple[int, int]) -> sp.csr_array:
    matrix = sp.csr_array((data, indices, indptr), shape=shape)
    matrix.has_sorted_indices = True
    matrix.has_canonical_format = True
    return matrix


@dataclass(frozen=True)
class _Tables:
    """The tables of all axes of a spec."""

    spec: ConvSpec
    rows: tuple[AxisRows, ...]

    @classmethod
    def of(cls, spec: ConvSpec) -> _Tables:
        return cls(spec, tuple(axis.rows() for axis in spec.axes))

    @property
    def small(self) -> bool:
        """Whether the broadcast of all rows, filled up to the longest, is done before a compiled loop is loaded."""
        longest = math.prod(table.longest for table in self.rows)
        size = self.spec.shape[0] * self.group_inputs * longest
        return size <= _SMALL and self.spec.ndim <= _MOST_BROADCAST_AXES

    @property
    def group_inputs(self) -> int:
        return self.spec.c_in // self.spec.groups

    @property
    def channel_columns(self) -> int:
        """Columns of one input channel."""
        return math.prod(axis.inputs for axis in self.spec.axes)

    def column_strides(self) -> list[int]:
        """Columns from one element to the next along each spatial axis."""
        return _c_strides([axis.inputs for axis in self.spec.axes])

    def merged(self, kernel: Array) -> Array:
        """The kernel with its spatial axes over the entries of the axis tables: ``(c_out, c_in/groups, *E)``.

        Taps that meet in one entry are summed, axis by axis.
        """
        k = kernel if self.spec.channels else kernel[None, None]
        for a, table in enumerate(self.rows, start=2):
            if len(table.taps) > k.shape[a]:
                k = k.take(table.taps, axis=a)
            if len(table.first) <= len(table.taps):
                k = np.add.reduceat(k, table.first[:-1], axis=a)
        return np.ascontiguousarray(k)


def _c_strides(shape: Sequence[int]) -> list[int]:
    return [math.prod(shape[a + 1 :]) for a in range(len(shape))]


class _SmallTables:
    """The entries of all rows side by side, as arrays over (channel, *outputs, input channel, *entries).

    Rows are filled up to the longest; `present` says which places hold an entry, None that all do.
    """

    def __init__(self, tables: _Tables) -> None:
        self.tables = tables
        self.spec = spec = tables.spec
        ndim = spec.ndim
        columns, self.entries, present = [], [], []
        for a, (table, stride) in enumerate(zip(tables.rows, tables.column_strides(), strict=True)):
            column, entry, here = table.grid()
            columns.append(_place(column * stride, a, ndim))
            self.entries.append(_place(entry, a, ndim))
            if here is not None:
                present.append(_place(here, a, ndim))
        self.columns: Array = reduce(np.add, columns)
        if spec.channels:
            first = np.arange(spec.c_in) * tables.channel_columns
            first = first.reshape((spec.groups,) + (1,) * ndim + (-1,) + (1,) * ndim)
            self.columns = np.repeat(self.columns + first, spec.c_out // spec.groups, axis=0)
        self.present: Array | None = None
        if present:
            self.present = np.broadcast_to(reduce(np.logical_and, present), self.columns.shape)

    def structure(self) -> tuple[Array, Array]:
        """Column indices and row pointers."""
        rows, index = self.spec.shape[0], self.spec.index_dtype
        if self.present is None:
            indptr = np.arange(rows + 1, dtype=index) * index.type(self.columns.size // rows)
        else:
            indptr = np.zeros(rows + 1, dtype=index)
            np.cumsum(self.present.reshape(rows, -1).sum(axis=1), out=indptr[1:])
        return self._flat(self.columns).astype(index), indptr

    def values(self, kernel: Array) -> Array:
        """Values, in the order of the column indices."""
        ndim, merged = self.spec.ndim, self.tables.merged(kernel)
        c_out, group_inputs, *entries = merged.shape
        if not any(len(table.base) for table in self.tables.rows):
            # No boundary: every row is the kernel itself.
            values = merged.reshape(c_out, *(1,) * ndim, group_inputs, *entries)
        else:
            outer = np.arange(c_out).reshape((-1,) + (1,) * (2 * ndim + 1))
            inner = np.arange(group_inputs).reshape((-1,) + (1,) * ndim)
            values = merged[(outer, inner, *self.entries)]
        filled = np.empty(self.columns.shape, dtype=values.dtype)
        filled[...] = values
        return self._flat(filled)

    def _flat(self, filled: Array) -> Array:
        return filled.ravel() if self.present is None else filled[self.present]


def _place(per_axis: Array, a: int, ndim: int) -> Array:
    """An (outputs, entries) array of spatial axis `a` in its place among all axes of the broadcast."""
    shape = [1] * (2 * ndim + 2)
    shape[1 + a], shape[2 + ndim + a] = per_axis.shape
    return per_axis.reshape(shape)


def _large_structure(tables: _Tables) -> tuple[Array, Array]:
    from .matrix_loops import fill_structure  # compiled: only where the size pays for it

    spec = tables.spec
    indices = np.empty(spec.nnz, dtype=spec.index_dtype)
    indptr = np.empty(spec.shape[0] + 1, dtype=spec.index_dtype)
    indptr[-1] = spec.nnz
    *leading, last = tables.rows
    *strides, _ = tables.column_strides()
    full = [table.full() for table in leading]
    group_of = np.arange(spec.c_out) // (spec.c_out // spec.groups)
    arguments = (
        (
            spec.nnz // spec.c_out,
            group_of * (tables.group_inputs * tables.channel_columns),
            np.arange(tables.group_inputs) * tables.channel_columns,
        ),
        _before_lines(tables, full),
        (
            *_leading(leading, full),
            _joined(base * s for (base, _, _), s in zip(full, strides, strict=True)),
            _joined(t.offset * s for t, s in zip(leading, strides, strict=True)),
        ),
        (
            last.outputs, last.base, last.start, last.stop, last.offset, _before(last.stop - last.start),
            last.interior, last.shared, last.stride, last.lo, last.nnz,
        ),
    )  # fmt: skip
    _in_blocks(lambda start, stop: fill_structure(indices, indptr, start, stop, *arguments), spec.shape[0])
    return indices, indptr


def _large_values(tables: _Tables, kernel: Array) -> Array:
    from .matrix_loops import fill_values

    spec = tables.spec
    values = np.empty(spec.nnz, dtype=kernel.dtype)
    merged = tables.merged(kernel)
    *leading, last = tables.rows
    *strides, _ = _c_strides(merged.shape[2:])
    full = [table.full() for table in leading]
    arguments = (
        (spec.nnz // spec.c_out, np.arange(tables.group_inputs) * math.prod(merged.shape[2:])),
        _before_lines(tables, full),
        (
            *_leading(leading, full),
            _joined(np.arange(len(t.offset)) * s for t, s in zip(leading, strides, strict=True)),
        ),
        (
            last.outputs, last.start, last.stop, _before(last.stop - last.start),
            last.interior, last.shared, last.nnz,
        ),
    )  # fmt: skip
    # The loops only copy, so one compiled version serves all dtypes of a width.
    bits = {4: np.uint32, 8: np.uint64, 16: np.complex128}[values.itemsize]
    target: Array = values.view(bits)
    # A read-only array is another type to Numba, and would be compiled for again.
    merged = merged if merged.flags.writeable else merged.copy()
    taps: Array = merged.reshape(spec.c_out, -1).view(bits)
    _in_blocks(lambda start, stop: fill_values(target, taps, start, stop, *arguments), spec.shape[0])
    return values


_Full: TypeAlias = list[tuple[Ints, Ints, Ints]]


def _leading(leading: Sequence[AxisRows], full: _Full) -> tuple[Ints, ...]:
    """The leading axes' tables end to end, as the compiled loops take them."""
    outputs = np.array([t.outputs for t in leading], dtype=np.int64)
    entries = np.array([len(t.offset) for t in leading], dtype=np.int64)
    return (
        outputs,
        np.cumsum(outputs) - outputs,
        np.cumsum(entries) - entries,
        _joined(start for _, start, _ in full),
        _joined(stop for _, _, stop in full),
    )


def _before_lines(tables: _Tables, full: _Full) -> Ints:
    """Entries before each line of one output channel, divided by the entries of the last axis."""
    one = np.ones(1, dtype=np.int64)
    per_line = reduce(np.multiply.outer, [stop - start for _, start, stop in full], one).ravel()
    return _before(per_line * tables.group_inputs)


def _before(lengths: Ints) -> Ints:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])


def _joined(parts: Iterable[Ints]) -> Ints:
    return np.concatenate([*parts, np.zeros(0, dtype=np.int64)])


def _in_blocks(fill: Callable[[int, int], object], rows: int) -> None:
    threads = workers()
    run_blocks(fill, rows, threads=threads, blocks=threads * _BLOCKS_PER_WORKER)
