"""Two builders of the arrays of a CSR matrix from the tables of its axes.

Small problems are one broadcast of NumPy, done before a compiled loop would be loaded; large ones are compiled
loops on blocks of rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TypeAlias

import numpy as np

from ..arrays.backend import Array
from ..geometry.axis import AxisRows, Ints
from ..geometry.spec import ConvSpec
from ..threads.blocks import run_blocks
from ..threads.sizes import thread_count

__all__ = ["SmallTables", "Tables", "large_structure", "large_values"]

# Up to here the NumPy builder is done before the compiled one would even be imported.
SMALL = 2**16
# The broadcast has two axes a spatial dimension and two more, of the 64 that NumPy allows.
_MOST_BROADCAST_AXES = 31
# Blocks of rows per worker: rows near the boundary are shorter, so equal blocks are unequal work.
_BLOCKS_PER_WORKER = 4


@dataclass(frozen=True)
class Tables:
    """The tables of all axes of a spec."""

    spec: ConvSpec
    rows: tuple[AxisRows, ...]

    @classmethod
    def of(cls, spec: ConvSpec) -> Tables:
        return cls(spec, tuple(axis.rows() for axis in spec.axes))

    @property
    def small(self) -> bool:
        """Whether the broadcast of all rows, filled up to the longest, is done before a compiled loop is loaded."""
        longest = math.prod(table.longest for table in self.rows)
        size = self.spec.shape[0] * self.group_inputs * longest
        return size <= SMALL and self.spec.ndim <= _MOST_BROADCAST_AXES

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


class SmallTables:
    """The entries of all rows side by side, as arrays over (channel, *outputs, input channel, *entries).

    Rows are filled up to the longest; `present` says which places hold an entry, None that all do.
    """

    def __init__(self, tables: Tables) -> None:
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


def large_structure(tables: Tables) -> tuple[Array, Array]:
    """Column indices and row pointers of any matrix, by compiled loops on all cores.

    Parameters
    ----------
    tables : Tables
        The tables of all axes.

    Returns
    -------
    (ndarray, ndarray)
        `indices` of shape ``(nnz,)`` and `indptr` of shape ``(rows + 1,)``, in ``spec.index_dtype``.
    """
    from .loops import fill_structure  # compiled: only where the size pays for it

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


def large_values(tables: Tables, kernel: Array) -> Array:
    """Values of any matrix in the order of its column indices, by compiled loops on all cores.

    Parameters
    ----------
    tables : Tables
        The tables of all axes.
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


def _before_lines(tables: Tables, full: _Full) -> Ints:
    """Entries before each line of one output channel, divided by the entries of the last axis."""
    one = np.ones(1, dtype=np.int64)
    per_line = reduce(np.multiply.outer, [stop - start for _, start, stop in full], one).ravel()
    return _before(per_line * tables.group_inputs)


def _before(lengths: Ints) -> Ints:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])


def _joined(parts: Iterable[Ints]) -> Ints:
    return np.concatenate([*parts, np.zeros(0, dtype=np.int64)])


def _in_blocks(fill: Callable[[int, int], object], rows: int) -> None:
    threads = thread_count()
    run_blocks(fill, rows, threads=threads, blocks=threads * _BLOCKS_PER_WORKER)
