"""The compiled loops that fill a CSR matrix from the gather tables of its axes.

Row ``r`` of the matrix is ``outer*m + o``: `o` is one of the ``m`` outputs along the last axis, and the outer index
counts the output channels and the outputs of the leading axes. For one outer index almost all rows are alike: the
values repeat, and the columns move on by the stride. So a tile of a few rows is made once and then streamed, by a copy
for the values and by a copy plus a shift for the columns, both over long contiguous runs that the compiler turns into
vector code. Outer indices whose columns differ only by a shift stream the same tile. The remaining time is that of
writing to memory.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..geometry.axis import Ints
from ..threads.compiled import allocating_kernel

# Rows are added to a tile until it has this many entries: long enough for vector loops and block copies,
# short enough to stay in the first-level cache.
_TILE = 256


class Channels(NamedTuple):
    """The channels of a matrix.

    Attributes
    ----------
    nnz : int
        Entries of all rows of one output channel.
    first_column : ndarray of shape ``(c_out,)``
        First column of the group of each output channel.
    terms : ndarray of shape ``(c_in/groups,)``
        Distance of each input channel of a group from the first: in columns for the structure, in taps for the values.
    """

    nnz: int
    first_column: Ints
    terms: Ints


class LeadingAxes(NamedTuple):
    """The gather tables of all axes but the last, concatenated with offsets.

    Attributes
    ----------
    outputs : ndarray of shape ``(axes,)``
        Outputs of each axis.
    row_at, entry_at : ndarray of shape ``(axes,)``
        Where the rows and the entries of each axis begin in the arrays below.
    start, stop : ndarray of shape ``(rows,)``
        First entry of each row, and the entry after its last, counted within the axis.
    row_terms : ndarray of shape ``(rows,)``
        Columns by which each row is shifted.
    entry_terms : ndarray of shape ``(entries,)``
        Offset of each entry: in columns for the structure, in taps for the values.
    combinations : ndarray of shape ``(prod(outputs) + 1,)``
        Over the rows of all leading axes, in C order, the sum of the numbers of entries that they combine to, input
        channels included: as CSR's ``indptr`` for a last axis of one entry.
    """

    outputs: Ints
    row_at: Ints
    entry_at: Ints
    start: Ints
    stop: Ints
    row_terms: Ints
    entry_terms: Ints
    combinations: Ints


class LastAxis(NamedTuple):
    """The gather table of the last axis.

    Attributes
    ----------
    outputs, interior, base, start, stop, offset
        As in `GatherTable`.
    shared : (int, int)
        First entry of the rows of the interior, and the entry after their last.
    stride, lo : int
        Row ``o`` of the interior has the base ``o*stride - lo``.
    before : ndarray of shape ``(boundary + 1,)``
        Entries of the boundary before each of its rows.
    """

    outputs: int
    interior: tuple[int, int]
    base: Ints
    start: Ints
    stop: Ints
    offset: Ints
    shared: tuple[int, int]
    stride: int
    lo: int
    before: Ints


@allocating_kernel
def _locate(outer, leading, begins, ends):
    """Write the range of entries of every leading axis at an outer index. Returns whether none changed."""
    same = True
    rest = outer
    for a in range(len(leading.outputs) - 1, -1, -1):
        row = leading.row_at[a] + rest % leading.outputs[a]
        rest //= leading.outputs[a]
        if begins[a] != leading.start[row] or ends[a] != leading.stop[row]:
            same = False
            begins[a], ends[a] = leading.start[row], leading.stop[row]
    return same


@allocating_kernel
def _outer_base(outer, leading):
    """Sum of one row term per leading axis: the shift of all columns at an outer index."""
    base = 0
    rest = outer
    for a in range(len(leading.outputs) - 1, -1, -1):
        base += leading.row_terms[leading.row_at[a] + rest % leading.outputs[a]]
        rest //= leading.outputs[a]
    return base


@allocating_kernel
def _combine(terms, channel_terms, leading, begins, ends):
    """Sums of one term per leading axis over all combinations of entries, last axis fastest.

    Starts from one term per input channel; each axis multiplies their number by the length of its range.
    Returns how many there are.
    """
    count = len(channel_terms)
    terms[:count] = channel_terms
    for a in range(len(begins)):
        entries = leading.entry_terms[leading.entry_at[a] + begins[a] : leading.entry_at[a] + ends[a]]
        length = len(entries)
        for q in range(count - 1, -1, -1):  # backwards, so that nothing is overwritten before it is read
            term = terms[q]
            for e in range(length - 1, -1, -1):
                terms[q * length + e] = term + entries[e]
        count *= length
    return count


@allocating_kernel
def _tile_structure(tile, rows, terms, count, offset, start, stop, stride):
    """Write the columns of consecutive rows with the same entries, each shifted by the stride from the row before."""
    n = count * (stop - start)
    at = 0
    for q in range(count):
        for e in range(start, stop):
            tile[at] = terms[q] + offset[e]
            at += 1
    for at in range(n, rows * n):
        tile[at] = tile[at - n] + stride


@allocating_kernel
def _tile_values(tile, rows, terms, count, taps, start, stop):
    """Write the values of consecutive rows with the same entries."""
    n = count * (stop - start)
    at = 0
    for q in range(count):
        for e in range(start, stop):
            tile[at] = taps[terms[q] + e]
            at += 1
    for at in range(n, rows * n):
        tile[at] = tile[at - n]


@allocating_kernel
def _boundary_row(o, last):
    """Number of a row of the boundary, and the entries of the interior before it."""
    a, b = last.interior
    return (o, 0) if o < a else (o - (b - a), (b - a) * (last.shared[1] - last.shared[0]))


@allocating_kernel
def fill_structure(indices, indptr, row_start, row_stop, channels, leading, last):
    """Write the column indices and row pointers of the rows ``row_start <= r < row_stop``.

    `channels`, `leading` and `last` are records of the types `Channels`, `LeadingAxes` and `LastAxis`.
    """
    m, before = last.outputs, last.before
    a, b = last.interior
    length = last.shared[1] - last.shared[0]
    axis_nnz = before[-1] + (b - a) * length
    sums = leading.combinations
    largest = max(len(channels.terms), (sums[1:] - sums[:-1]).max())
    terms = np.empty(largest, np.int64)
    longest = max(length, (last.stop - last.start).max() if len(last.start) else 0)
    single = np.empty(largest * longest, indices.dtype)
    tile = np.empty(max(_TILE, largest * longest), indices.dtype)
    begins = np.full(len(leading.outputs), -1, np.int64)
    ends = np.full(len(leading.outputs), -1, np.int64)
    n, count, tile_rows = 0, -1, 0
    for outer in range(row_start // m, (row_stop + m - 1) // m):
        o, o_stop = max(0, row_start - outer * m), min(m, row_stop - outer * m)
        channel, lead = outer // (len(sums) - 1), outer % (len(sums) - 1)
        if not _locate(lead, leading, begins, ends) or count < 0:
            count = _combine(terms, channels.terms, leading, begins, ends)
            n = count * length
            tile_rows = max(1, min(b - a, _TILE // max(1, n)))
            if b > a:
                shared = last.shared
                _tile_structure(tile, tile_rows, terms, count, last.offset, shared[0], shared[1], last.stride)
        outer_base = channels.first_column[channel] + _outer_base(lead, leading)
        outer_start = channel * channels.nnz + sums[lead] * axis_nnz
        while o < o_stop:
            if a <= o < b:
                rows = min(b, o_stop) - o
                at = outer_start + count * (before[a] + (o - a) * length)
                pointers = indptr[outer * m + o : outer * m + o + rows]
                for i in range(rows):
                    pointers[i] = at + i * n
                target = indices[at : at + rows * n]
                for i in range(0, rows, tile_rows):
                    run = target[i * n : min(rows, i + tile_rows) * n]
                    shift = indices.dtype.type(outer_base + (o + i) * last.stride - last.lo)
                    for e in range(len(run)):
                        run[e] = tile[e] + shift
                o += rows
            else:
                edge, skipped = _boundary_row(o, last)
                at = outer_start + count * (before[edge] + skipped)
                indptr[outer * m + o] = at
                _tile_structure(single, 1, terms, count, last.offset, last.start[edge], last.stop[edge], 0)
                run = indices[at : at + count * (last.stop[edge] - last.start[edge])]
                shift = indices.dtype.type(outer_base + last.base[edge])
                for e in range(len(run)):
                    run[e] = single[e] + shift
                o += 1


@allocating_kernel
def fill_values(values, merged, row_start, row_stop, channels, leading, last):
    """Write the values of the rows ``row_start <= r < row_stop``.

    `merged` is the kernel over the entries of the axes, one row per output channel; the records are those of
    `fill_structure`, with terms in elements of such a row.
    """
    m, before = last.outputs, last.before
    a, b = last.interior
    length = last.shared[1] - last.shared[0]
    axis_nnz = before[-1] + (b - a) * length
    sums = leading.combinations
    largest = max(len(channels.terms), (sums[1:] - sums[:-1]).max())
    terms = np.empty(largest, np.int64)
    tile = np.empty(max(_TILE, largest * length), values.dtype)
    begins = np.full(len(leading.outputs), -1, np.int64)
    ends = np.full(len(leading.outputs), -1, np.int64)
    n, count, tile_rows, of_channel = 0, -1, 0, -1
    for outer in range(row_start // m, (row_stop + m - 1) // m):
        o, o_stop = max(0, row_start - outer * m), min(m, row_stop - outer * m)
        channel, lead = outer // (len(sums) - 1), outer % (len(sums) - 1)
        same = _locate(lead, leading, begins, ends)
        taps = merged[channel]
        if not same or channel != of_channel:
            count, of_channel = _combine(terms, channels.terms, leading, begins, ends), channel
            n = count * length
            tile_rows = max(1, min(b - a, _TILE // max(1, n)))
            if b > a:
                _tile_values(tile, tile_rows, terms, count, taps, last.shared[0], last.shared[1])
        outer_start = channel * channels.nnz + sums[lead] * axis_nnz
        while o < o_stop:
            if a <= o < b:
                rows = min(b, o_stop) - o
                at = outer_start + count * (before[a] + (o - a) * length)
                target = values[at : at + rows * n]
                for i in range(0, rows, tile_rows):
                    run = target[i * n : min(rows, i + tile_rows) * n]
                    for e in range(len(run)):
                        run[e] = tile[e]
                o += rows
            else:
                edge, skipped = _boundary_row(o, last)
                at = outer_start + count * (before[edge] + skipped)
                run = values[at : at + count * (last.stop[edge] - last.start[edge])]
                _tile_values(run, 1, terms, count, taps, last.start[edge], last.stop[edge])
                o += 1
