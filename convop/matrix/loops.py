"""The compiled loops that fill a CSR matrix from the tables of its axes.

Row ``r`` of the matrix is ``line*m + o``: the last axis counts its ``m`` outputs ``o``, everything before it
(output channel and leading axes) the line. Along a line nearly all rows are alike: the values repeat and the
columns move on by the stride. So a tile of a few rows is put together once and then streamed, a copy for the
values and a copy plus a shift for the columns, both over long contiguous runs that the compiler turns into
vector code. Lines that differ only by a shift of all columns stream the same tile. What remains is the
writing of the memory itself.
"""

from __future__ import annotations

import numba
import numpy as np

__all__ = ["fill_structure", "fill_values"]

# Rows are put together until a tile has this many entries: long enough for vector loops and block copies,
# short enough to stay in the first-level cache.
_TILE = 256


@numba.njit(nogil=True, cache=True)
def _locate(line, outputs, row_at, starts, stops, begins, ends):
    """Stretch of entries of every leading axis on a line. Returns whether it is that of the line before."""
    same = True
    rest = line
    for a in range(len(outputs) - 1, -1, -1):
        row = row_at[a] + rest % outputs[a]
        rest //= outputs[a]
        if begins[a] != starts[row] or ends[a] != stops[row]:
            same = False
            begins[a], ends[a] = starts[row], stops[row]
    return same


@numba.njit(nogil=True, cache=True)
def _line_base(line, outputs, row_at, row_terms):
    """Sum of one term per leading axis: the shift of all columns of a line."""
    base = 0
    rest = line
    for a in range(len(outputs) - 1, -1, -1):
        base += row_terms[row_at[a] + rest % outputs[a]]
        rest //= outputs[a]
    return base


@numba.njit(nogil=True, cache=True)
def _combine(terms, first_terms, begins, ends, entry_at, entry_terms):
    """Sums of one term per leading axis over all combinations of entries, last axis fastest.

    Starts from one term per input channel; each axis multiplies their number by the length of its stretch.
    Returns how many there are.
    """
    count = len(first_terms)
    terms[:count] = first_terms
    for a in range(len(begins)):
        entries = entry_terms[entry_at[a] + begins[a] : entry_at[a] + ends[a]]
        length = len(entries)
        for q in range(count - 1, -1, -1):  # backwards, so that nothing is overwritten before it is read
            term = terms[q]
            for e in range(length - 1, -1, -1):
                terms[q * length + e] = term + entries[e]
        count *= length
    return count


@numba.njit(nogil=True, cache=True)
def _tile_structure(tile, rows, terms, count, offset, start, stop, stride):
    n = count * (stop - start)
    at = 0
    for q in range(count):
        for e in range(start, stop):
            tile[at] = terms[q] + offset[e]
            at += 1
    for at in range(n, rows * n):
        tile[at] = tile[at - n] + stride


@numba.njit(nogil=True, cache=True)
def _tile_values(tile, rows, terms, count, taps, start, stop):
    n = count * (stop - start)
    at = 0
    for q in range(count):
        for e in range(start, stop):
            tile[at] = taps[terms[q] + e]
            at += 1
    for at in range(n, rows * n):
        tile[at] = tile[at - n]


@numba.njit(nogil=True, cache=True)
def fill_structure(
    indices, indptr, row_start, row_stop, channels, lines, leading, last,
):  # fmt: skip
    """Column indices and row pointers of the rows ``row_start <= r < row_stop``.

    ``channels = (entries of an output channel, its first column, terms of its input channels)``,
    ``lines = entries before each line / entries of the last axis``; the rest from the axis tables.
    """
    channel_nnz, first_column, first_terms = channels
    outputs, row_at, entry_at, starts, stops, row_terms, entry_terms = leading
    m, base, start, stop, offset, before, interior, shared, stride, lo, last_nnz = last
    a, b = interior
    largest = max(len(first_terms), (lines[1:] - lines[:-1]).max())
    terms = np.empty(largest, np.int64)
    longest = max(shared[1] - shared[0], (stop - start).max() if len(start) else 0)
    single = np.empty(largest * longest, indices.dtype)
    tile = np.empty(max(_TILE, largest * longest), indices.dtype)
    begins = np.full(len(outputs), -1, np.int64)
    ends = np.full(len(outputs), -1, np.int64)
    n_lines = len(lines) - 1
    length = shared[1] - shared[0]
    count = -1
    n = 0
    tile_rows = 0
    for line in range(row_start // m, (row_stop + m - 1) // m):
        o, o_stop = max(0, row_start - line * m), min(m, row_stop - line * m)
        channel, lead = line // n_lines, line % n_lines
        if not _locate(lead, outputs, row_at, starts, stops, begins, ends) or count < 0:
            count = _combine(terms, first_terms, begins, ends, entry_at, entry_terms)
            n = count * length
            tile_rows = max(1, min(b - a, _TILE // max(1, n)))
            if b > a:
                _tile_structure(tile, tile_rows, terms, count, offset, shared[0], shared[1], stride)
        line_base = first_column[channel] + _line_base(lead, outputs, row_at, row_terms)
        line_start = channel * channel_nnz + lines[lead] * last_nnz
        while o < o_stop:
            if a <= o < b:
                rows = min(b, o_stop) - o
                at = line_start + count * (before[a] + (o - a) * length)
                pointers = indptr[line * m + o : line * m + o + rows]
                for i in range(rows):
                    pointers[i] = at + i * n
                target = indices[at : at + rows * n]
                for i in range(0, rows, tile_rows):
                    run = target[i * n : min(rows, i + tile_rows) * n]
                    move = indices.dtype.type(line_base + (o + i) * stride - lo)
                    for e in range(len(run)):
                        run[e] = tile[e] + move
                o += rows
            else:
                edge, skipped = (o, 0) if o < a else (o - (b - a), (b - a) * length)
                at = line_start + count * (before[edge] + skipped)
                indptr[line * m + o] = at
                _tile_structure(single, 1, terms, count, offset, start[edge], stop[edge], 0)
                run = indices[at : at + count * (stop[edge] - start[edge])]
                move = indices.dtype.type(line_base + base[edge])
                for e in range(len(run)):
                    run[e] = single[e] + move
                o += 1


@numba.njit(nogil=True, cache=True)
def fill_values(
    values, merged, row_start, row_stop, channels, lines, leading, last,
):  # fmt: skip
    """Values of the rows ``row_start <= r < row_stop``.

    `merged` is the kernel over the entries of the axes, one row per output channel;
    ``channels = (entries of an output channel, terms of its input channels)``.
    """
    channel_nnz, first_terms = channels
    outputs, row_at, entry_at, starts, stops, entry_terms = leading
    m, start, stop, before, interior, shared, last_nnz = last
    a, b = interior
    largest = max(len(first_terms), (lines[1:] - lines[:-1]).max())
    terms = np.empty(largest, np.int64)
    tile = np.empty(max(_TILE, largest * (shared[1] - shared[0])), values.dtype)
    begins = np.full(len(outputs), -1, np.int64)
    ends = np.full(len(outputs), -1, np.int64)
    n_lines = len(lines) - 1
    length = shared[1] - shared[0]
    count, of_channel = -1, -1
    n = 0
    tile_rows = 0
    for line in range(row_start // m, (row_stop + m - 1) // m):
        o, o_stop = max(0, row_start - line * m), min(m, row_stop - line * m)
        channel, lead = line // n_lines, line % n_lines
        same = _locate(lead, outputs, row_at, starts, stops, begins, ends)
        taps = merged[channel]
        if not same or channel != of_channel:
            count, of_channel = _combine(terms, first_terms, begins, ends, entry_at, entry_terms), channel
            n = count * length
            tile_rows = max(1, min(b - a, _TILE // max(1, n)))
            if b > a:
                _tile_values(tile, tile_rows, terms, count, taps, shared[0], shared[1])
        line_start = channel * channel_nnz + lines[lead] * last_nnz
        while o < o_stop:
            if a <= o < b:
                rows = min(b, o_stop) - o
                at = line_start + count * (before[a] + (o - a) * length)
                target = values[at : at + rows * n]
                for i in range(0, rows, tile_rows):
                    run = target[i * n : min(rows, i + tile_rows) * n]
                    for e in range(len(run)):
                        run[e] = tile[e]
                o += rows
            else:
                edge, skipped = (o, 0) if o < a else (o - (b - a), (b - a) * length)
                at = line_start + count * (before[edge] + skipped)
                run = values[at : at + count * (stop[edge] - start[edge])]
                _tile_values(run, 1, terms, count, taps, start[edge], stop[edge])
                o += 1
