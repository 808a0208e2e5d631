"""Two builders of the arrays of a CSR matrix from the gather tables of its axes.

A small matrix is one broadcast of NumPy, done before a compiled loop would be loaded; a large matrix is filled by compiled
loops on blocks of rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..arrays.backend import Array
from ..geometry.axis import Ints
from ..geometry.gather_table import GatherTable
from ..geometry.spec import ConvSpec
from ..threads.blocks import run_blocks
from ..threads.sizes import thread_count

if TYPE_CHECKING:
    from .loops import Channels, LastAxis, LeadingAxes

# Up to this size the NumPy builder is done before the compiled loops would even be imported.
SMALL = 2**16
# The broadcast has two axes per spatial dimension and two more; NumPy allows 64.
_MOST_BROADCAST_AXES = 31
# Blocks of rows per worker: rows near the boundary are shorter, so equal blocks are unequal work.
_BLOCKS_PER_WORKER = 4


@dataclass(frozen=True)
class Tables:
    """The forward gather tables of all axes of a spec: the rows of its matrix are their outer products."""

    spec: ConvSpec
    axes: tuple[GatherTable, ...]

    @classmethod
    def of(cls, spec: ConvSpec) -> Tables:
        tables = {axis: GatherTable.forward(axis) for axis in set(spec.axes)}  # equal axes share one
        return cls(spec, tuple(tables[axis] for axis in spec.axes))

    @property
    def small(self) -> bool:
        """Whether the broadcast of all rows, padded to the longest, is done before a compiled loop is loaded."""
        longest = math.prod(table.longest for table in self.axes)
        size = self.spec.shape[0] * self.group_inputs * longest
        return size <= SMALL and self.spec.ndim <= _MOST_BROADCAST_AXES

    @property
    def group_inputs(self) -> int:
        """Input channels of a group."""
        return self.spec.c_in // self.spec.groups

    @property
    def channel_columns(self) -> int:
        """Columns of one input channel."""
        return math.prod(axis.inputs for axis in self.spec.axes)

    def column_strides(self) -> list[int]:
        """Columns from one element to the next along each spatial axis."""
        return _c_strides([axis.inputs for axis in self.spec.axes])

    def merged_kernel(self, kernel: Array) -> Array:
        """The kernel with its spatial axes over the entries of the gather tables: ``(c_out, c_in/groups, *entries)``.

        Taps of one entry are summed, axis by axis.
        """
        k = kernel if self.spec.channels else kernel[None, None]
        for a, table in enumerate(self.axes, start=2):
            if len(table.taps) > k.shape[a]:
                k = k.take(table.taps, axis=a)
            if len(table.first) <= len(table.taps):
                k = np.add.reduceat(k, table.first[:-1], axis=a)
        return np.ascontiguousarray(k)


def _c_strides(shape: Sequence[int]) -> list[int]:
    return [math.prod(shape[a + 1 :]) for a in range(len(shape))]


class SmallTables:
    """The entries of all rows side by side, as arrays over (channel, *outputs, input channel, *entries).

    Rows are padded to the longest; `present` says which elements are entries, None that all are.
    """

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self.spec = spec = tables.spec
        ndim = spec.ndim
        columns, self.entries, present = [], [], []
        for a, (table, stride) in enumerate(zip(tables.axes, tables.column_strides(), strict=True)):
            column, entry, here = _padded_rows(table)
            columns.append(_broadcast_axes(column * stride, a, ndim))
            self.entries.append(_broadcast_axes(entry, a, ndim))
            if here is not None:
                present.append(_broadcast_axes(here, a, ndim))
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
        ndim, merged = self.spec.ndim, self.tables.merged_kernel(kernel)
        c_out, group_inputs, *entries = merged.shape
        if not any(len(table.base) for table in self.tables.axes):
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


def _padded_rows(table: GatherTable) -> tuple[Ints, Ints, npt.NDArray[np.bool_] | None]:
    """Column and entry of the entries of every row, padded to the longest row, and a mask of those that exist.

    A mask of None says that all rows have one length. Without a boundary all rows have the same entries: they are
    given once.
    """
    if not len(table.base):
        start, stop = table.phases[0].tolist()
        base = np.arange(table.n_written) * table.step - table.lo
        return base[:, None] + table.offset[start:stop], np.arange(start, stop)[None], None
    base, start, stop = table.full()
    entry = start[:, None] + np.arange((stop - start).max())
    present = entry < stop[:, None]
    entry = np.minimum(entry, len(table.offset) - 1)
    return base[:, None] + table.offset[entry], entry, None if present.all() else present


def _broadcast_axes(per_axis: Array, a: int, ndim: int) -> Array:
    """An (outputs, entries) array of spatial axis `a`, with axes of one for all other axes of the broadcast."""
    shape = [1] * (2 * ndim + 2)
    shape[1 + a], shape[2 + ndim + a] = per_axis.shape
    return per_axis.reshape(shape)


def large_structure(tables: Tables) -> tuple[Array, Array]:
    """Column indices and row pointers of any matrix, by compiled loops on all cores.

    Parameters
    ----------
    tables : Tables
        The gather tables of all axes.

    Returns
    -------
    (ndarray, ndarray)
        `indices` of shape ``(nnz,)`` and `indptr` of shape ``(rows + 1,)``, in ``spec.index_dtype``.
    """
    from .loops import fill_structure  # compiled: imported only where the size pays for it

    spec = tables.spec
    indices = np.empty(spec.nnz, dtype=spec.index_dtype)
    indptr = np.empty(spec.shape[0] + 1, dtype=spec.index_dtype)
    indptr[-1] = spec.nnz
    *strides, _ = tables.column_strides()
    offsets = [table.offset * s for table, s in zip(tables.axes, strides, strict=False)]
    records = _records(tables, offsets, tables.channel_columns)
    _fill_in_blocks(lambda start, stop: fill_structure(indices, indptr, start, stop, *records), spec.shape[0])
    return indices, indptr


def large_values(tables: Tables, kernel: Array) -> Array:
    """Values of any matrix in the order of its column indices, by compiled loops on all cores.

    Parameters
    ----------
    tables : Tables
        The gather tables of all axes.
    kernel : ndarray
        Taps in the dtype of the matrix, not flipped.

    Returns
    -------
    ndarray of shape ``(nnz,)``
        In the dtype of the kernel.
    """
    from .loops import fill_values

    spec = tables.spec
    values = np.empty(spec.nnz, dtype=kernel.dtype)
    merged = tables.merged_kernel(kernel)
    *strides, _ = _c_strides(merged.shape[2:])
    offsets = [np.arange(len(table.offset)) * s for table, s in zip(tables.axes, strides, strict=False)]
    records = _records(tables, offsets, math.prod(merged.shape[2:]))
    # The loops only copy, so one compiled version serves all dtypes of a width.
    bits = {4: np.uint32, 8: np.uint64, 16: np.complex128}[values.itemsize]
    target: Array = values.view(bits)
    # A read-only array is another type to Numba, for which it would compile again.
    merged = merged if merged.flags.writeable else merged.copy()
    taps: Array = merged.reshape(spec.c_out, -1).view(bits)
    _fill_in_blocks(lambda start, stop: fill_values(target, taps, start, stop, *records), spec.shape[0])
    return values


def _records(tables: Tables, offsets: list[Ints], channel_stride: int) -> tuple[Channels, LeadingAxes, LastAxis]:
    """The arguments of the compiled loops.

    Parameters
    ----------
    tables : Tables
        The gather tables of all axes.
    offsets : list of ndarray
        For each leading axis the offset of each entry: in columns for the structure, in taps for the values.
    channel_stride : int
        From one input channel to the next, in the same unit.

    Returns
    -------
    (Channels, LeadingAxes, LastAxis)
    """
    from .loops import Channels, LastAxis, LeadingAxes

    spec, (*leading, last) = tables.spec, tables.axes
    group_of = np.arange(spec.c_out) // (spec.c_out // spec.groups)
    channels = Channels(
        nnz=spec.nnz // spec.c_out,
        first_column=group_of * (tables.group_inputs * tables.channel_columns),
        terms=np.arange(tables.group_inputs) * channel_stride,
    )
    full = [table.full() for table in leading]
    lengths = reduce(np.multiply.outer, [stop - start for _, start, stop in full], np.ones(1, dtype=np.int64))
    leading_axes = LeadingAxes(
        outputs=np.array([table.n_written for table in leading], dtype=np.int64),
        row_at=_offsets([table.n_written for table in leading])[:-1],
        entry_at=_offsets([len(table.offset) for table in leading])[:-1],
        start=_concatenate(start for _, start, _ in full),
        stop=_concatenate(stop for _, _, stop in full),
        row_terms=_concatenate(base * s for (base, _, _), s in zip(full, tables.column_strides(), strict=False)),
        entry_terms=_concatenate(offsets),
        combinations=_offsets(lengths.ravel() * tables.group_inputs),
    )
    first, stop = last.phases[0].tolist()
    last_axis = LastAxis(
        outputs=last.n_written,
        interior=last.interior,
        base=last.base,
        start=last.start,
        stop=last.stop,
        offset=last.offset,
        shared=(first, stop),
        stride=last.step,
        lo=last.lo,
        before=_offsets(last.stop - last.start),
    )
    return channels, leading_axes, last_axis


def _offsets(lengths: npt.ArrayLike) -> Ints:
    """Where arrays of the given lengths begin when they are concatenated, and where the last ends."""
    return np.concatenate([[0], np.cumsum(np.asarray(lengths, dtype=np.int64))]).astype(np.int64)


def _concatenate(arrays: Iterable[Ints]) -> Ints:
    """Arrays of int64 end to end; there may be none."""
    return np.concatenate([*arrays, np.zeros(0, dtype=np.int64)])


def _fill_in_blocks(fill: Callable[[int, int], object], rows: int) -> None:
    threads = thread_count()
    run_blocks(fill, rows, threads=threads, blocks=threads * _BLOCKS_PER_WORKER)
