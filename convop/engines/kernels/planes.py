"""The compiled loops of the engines: read planes, correlate them, write results. See `extend` for the tables."""

from __future__ import annotations

import numba
import numpy as np

from ...threads.fork_join import counters, fork_join
from ...threads.llvm import atomic_fetch_add
from .microkernels import (
    DOT_TILES,
    PAIR_TILE,
    TILES,
    dot_tile_1,
    dot_tile_2,
    dot_tile_4,
    narrow_1,
    narrow_2,
    narrow_3,
    narrow_4,
    narrow_pair,
    pair_tile,
    tile_1,
    tile_2,
    tile_3,
    tile_4,
)

__all__ = [
    "add_aside",
    "block_of",
    "collect",
    "correlate",
    "correlate_block",
    "gather",
    "gradient",
    "scatter",
    "sum_taps",
]

_VP, _NP = PAIR_TILE
_T1, _T2, _T4 = DOT_TILES[1], DOT_TILES[2], DOT_TILES[4]
# Places whose products are summed at a time: those of four planes stay in the first-level cache.
_STRETCH = 512


@numba.njit(nogil=True, cache=True)
def gather(source, begin, channels, parts, space, lines, first, count, start, step, a, b, edges, c0, width, planes,
           plane_step, line_step):  # fmt: skip
    """Read planes of some channels: `count` lines from line `first` on, `width` places of each from `c0` on.

    A channel becomes one plane for each of its real parts (two if it is complex) and each phase.
    """
    plane = 0
    for channel in range(channels):
        for part in range(parts):
            base = begin + channel * space * parts + part
            for lead in range(lines.shape[0]):
                for phase in range(len(start)):
                    _gather_plane(
                        source, base, parts, lines[lead, first : first + count], start[phase], step, a[phase],
                        b[phase], edges[phase], c0, width, planes[plane * plane_step :], line_step,
                    )  # fmt: skip
                    plane += 1


@numba.njit(nogil=True, cache=True)
def _gather_plane(source, base, parts, lines, start, step, a, b, edges, c0, width, plane, line_step):
    left = min(max(a - c0, 0), width)
    right = max(left, min(b - c0, width))
    stride = step * parts
    for line in range(len(lines)):
        row = plane[line * line_step : line * line_step + width]
        at = lines[line]
        if at < 0:
            row[:] = 0
            continue
        at = base + at * parts
        for c in range(left):
            element = edges[c0 + c]
            row[c] = source[at + element * parts] if element >= 0 else 0
        inside = row[left:right]
        n = len(inside)
        if n:
            begin = at + (start + (c0 + left) * step) * parts
            if stride == 1:
                run = source[begin : begin + n]
                for c in range(n):
                    inside[c] = run[c]
            else:
                for c in range(n):
                    inside[c] = source[begin + c * stride]
        for c in range(right, width):
            element = edges[c0 + c - b + a]
            row[c] = source[at + element * parts] if element >= 0 else 0


@numba.njit(nogil=True, cache=True)
def scatter(planes, plane_step, line_step, lines_a_step, between, channels, parts, target, begin, space, length,
            lines, first, steps, own_lines, aside, aside_begin, aside_lines, rim, rim_begin, rim_lines, start, step,
            a, b, slots, c0, width):  # fmt: skip
    """Write the planes of one phase: `steps` steps of the first axis from `first` on, `width` places from `c0` on."""
    plane = 0
    slot_count = rim.shape[1]
    for channel in range(channels):
        for part in range(parts):
            base = begin + channel * space * parts + part
            beyond = aside_begin + channel * aside_lines * length * parts + part
            for r in range(steps):
                for k in range(len(between)):
                    line = lines[(first + r) * len(between) + k]
                    if line < 0:
                        continue
                    at = plane * plane_step + (r * lines_a_step + between[k]) * line_step
                    row = planes[at : at + width]
                    ring = rim[((rim_begin + channel * rim_lines + line) * parts + part) * (slot_count > 0)]
                    if line < own_lines:
                        _write_line(
                            row, target, base + line * length * parts, parts, start, step, a, b, slots, c0, ring
                        )
                    else:
                        to = beyond + (line - own_lines) * length * parts
                        _write_line(row, aside, to, parts, start, step, a, b, slots, c0, ring)
            plane += 1


@numba.njit(nogil=True, cache=True)
def _write_line(row, target, at, parts, start, step, a, b, slots, c0, ring):
    width = len(row)
    left = min(max(a - c0, 0), width)
    right = max(left, min(b - c0, width))
    stride = step * parts
    for c in range(left):
        slot = slots[c0 + c]
        if slot >= 0:
            ring[slot] = row[c]
    inside = row[left:right]
    n = len(inside)
    if n:
        begin = at + (start + (c0 + left) * step) * parts
        if stride == 1:
            run = target[begin : begin + n]
            for c in range(n):
                run[c] = inside[c]
        else:
            for c in range(n):
                target[begin + c * stride] = inside[c]
    for c in range(right, width):
        slot = slots[c0 + c - b + a]
        if slot >= 0:
            ring[slot] = row[c]


@numba.njit(nogil=True, cache=True)
def add_aside(target, parts, length, own_lines, aside, aside_line, rim, rim_element, p0, p1):
    """Add what was written beyond the ends of the axes to the elements that the extension copies there.

    For the planes ``p0 <= p < p1``, a plane being one channel of one column.
    """
    slots = len(rim_element)
    extra = len(aside_line)
    for p in range(p0, p1):
        plane = p * own_lines * length * parts
        for line in range(own_lines + extra):
            to = plane + (line if line < own_lines else aside_line[line - own_lines]) * length * parts
            if line >= own_lines:
                at = (p * extra + line - own_lines) * length * parts
                for c in range(length * parts):
                    target[to + c] += aside[at + c]
            for slot in range(slots):
                for part in range(parts):
                    ring = rim[(p * (own_lines + extra) + line) * parts + part]
                    target[to + rim_element[slot] * parts + part] += ring[slot]


@numba.njit(nogil=True, cache=True)
def _next(j, length, wide, narrow):
    """Where the next tile of a run begins, and whether it is a wide one.

    The last may begin before the end of the one before it: what both compute is the same.
    """
    left = length - j
    if left >= wide:
        return j, True
    if 2 * left > wide and length >= wide:
        return length - wide, True
    return (j if left >= narrow else max(0, length - narrow)), False


def _over_a_run(tile, narrow_tile, vectors):
    """The loop over a run of places with a wide tile and the narrow one of as many outputs."""
    wide_vectors, narrow_vectors = vectors

    @numba.njit(nogil=True)
    def run(x, x_at, y, y_at, y_step, length, offsets, o_at, weights, w_at, count, lanes):
        wide, narrow = wide_vectors * lanes, narrow_vectors * lanes
        j = 0
        while j < length:
            at, is_wide = _next(j, length, wide, narrow)
            if is_wide:
                tile(y, y_at + at, y_step, x, x_at + at, offsets, o_at, weights, w_at, count)
                j = at + wide
            else:
                narrow_tile(y, y_at + at, y_step, x, x_at + at, offsets, o_at, weights, w_at, count)
                j = at + narrow

    return run


_run_1 = _over_a_run(tile_1, narrow_1, TILES[1])
_run_2 = _over_a_run(tile_2, narrow_2, TILES[2])
_run_3 = _over_a_run(tile_3, narrow_3, TILES[3])
_run_4 = _over_a_run(tile_4, narrow_4, TILES[4])


@numba.njit(nogil=True, cache=True)
def sum_taps(x, x_at, y, y_at, y_step, length, offsets, o_at, weights, w_at, count, outputs, lanes):
    """A run of places of `outputs` (1 to 4) planes of results."""
    if outputs == 4:
        _run_4(x, x_at, y, y_at, y_step, length, offsets, o_at, weights, w_at, count, lanes)
    elif outputs == 3:
        _run_3(x, x_at, y, y_at, y_step, length, offsets, o_at, weights, w_at, count, lanes)
    elif outputs == 2:
        _run_2(x, x_at, y, y_at, y_step, length, offsets, o_at, weights, w_at, count, lanes)
    else:
        _run_1(x, x_at, y, y_at, y_step, length, offsets, o_at, weights, w_at, count, lanes)


@numba.njit(nogil=True, cache=True)
def _sum_pair(x, x_at, y, y_at, y_step, length, offsets, o_at, weights, w_at, columns, both, lanes):
    """A run of places of two steps of the first axis, in one plane of results."""
    wide, narrow = _VP * lanes, _NP * lanes
    j = 0
    while j < length:
        at, is_wide = _next(j, length, wide, narrow)
        if is_wide:
            pair_tile(y, y_at + at, y_step, x, x_at + at, offsets, o_at, weights, w_at, columns, both)
            j = at + wide
        else:
            narrow_pair(y, y_at + at, y_step, x, x_at + at, offsets, o_at, weights, w_at, columns, both)
            j = at + narrow


@numba.njit(nogil=True, cache=True)
def _run(step, line, flat, steps, width, lines_a_step, between, line_step):
    """Where a run of places begins in a block, and its length: a line, a step of the first axis, or the whole block."""
    if flat == 2:
        return 0, ((steps - 1) * lines_a_step + between[-1]) * line_step + width
    if flat == 1:
        return step * lines_a_step * line_step, between[-1] * line_step + width
    return (step * lines_a_step + between[line]) * line_step, width


@numba.njit(nogil=True, cache=True)
def correlate_block(
    planes, planes_at, results, results_step, origin, in_place, lines, length, q, steps, width,
    lines_a_step, between, line_step, flat, lanes, plane_runs, offsets, o_at, taps, weights,
    w_at, distance, pair_offsets, po_at, columns, pair_weights, pw_at,
):  # fmt: skip
    """All planes of results of a block, those of each number of `plane_runs` together, run by run of places."""
    plane = 0
    for count in plane_runs:
        for step in range(1 if flat == 2 else steps):
            if distance and step // distance % 2 == 1:
                continue  # computed with the one before it
            paired = distance > 0 and step + distance < steps
            for line in range(1 if flat else len(between)):
                at, run = _run(step, line, flat, steps, width, lines_a_step, between, line_step)
                to, to_step = at, distance * lines_a_step * line_step
                if in_place:
                    row = (q + step) * len(between) + line
                    to = lines[row] * length
                    if paired:
                        to_step = lines[row + distance * len(between)] * length - to
                to += origin + plane * results_step
                if paired:
                    _sum_pair(
                        planes, planes_at + at, results, to, to_step, run, pair_offsets, po_at, pair_weights, pw_at,
                        columns, taps - columns, lanes,
                    )  # fmt: skip
                else:
                    sum_taps(
                        planes, planes_at + at, results, to, results_step, run, offsets, o_at, weights, w_at, taps,
                        count, lanes,
                    )  # fmt: skip
        w_at += taps * count
        plane += count


@numba.njit(nogil=True, cache=True)
def block_of(item, groups, places, block_steps, last_places, block_width):
    """Column, group, first step, first place, steps and places of an item of work.

    Items are numbered by column, group, and block of the first and the last axis.
    """
    rest, width_block = divmod(item, (last_places + block_width - 1) // block_width)
    rest, step_block = divmod(rest, (places + block_steps - 1) // block_steps)
    column, group = divmod(rest, groups)
    q, c = step_block * block_steps, width_block * block_width
    return column, group, q, c, min(block_steps, places - q), min(block_width, last_places - c)


@numba.njit(nogil=True, cache=True)
def _correlate(
    counter, items, source, target, aside, rim, xs, xs_read, ys,
    groups, inputs, outputs, parts, read_space, write_space,
    read_lines, r_start, r_step, r_a, r_b, r_edges,
    write_lines, w_start, w_step, w_a, w_b, w_slots, own_lines, aside_lines, length,
    places, reach, last_places, last_reach, lines_a_step, between,
    block_steps, block_width, plane_step, line_step, out_step, flat, read_in_place, in_place, lanes,
    plane_runs, o_at, offsets, w_at, weights, distance, po_at, pair_offsets, pair_columns, pw_at, pair_weights,
):  # fmt: skip
    """Items of work, which threads take one by one from a counter that they share, each in memory of its own: read, correlate, write."""
    phases = len(w_start)
    seat = atomic_fetch_add(counter[8:])
    x, x_read, y = xs[seat], xs_read[seat], ys[seat]
    item = atomic_fetch_add(counter)
    while item < items:
        column, group, q, c, steps, width = block_of(item, groups, places, block_steps, last_places, block_width)
        begin = (column * groups + group) * inputs * read_space * parts
        if read_in_place:  # the planes lie in the source as they would in a block
            planes, planes_at = source, begin + q * lines_a_step * line_step + c
        else:
            planes, planes_at = x_read, 0
            gather(
                source, begin, inputs, parts, read_space, read_lines, q * lines_a_step, (steps + reach) * lines_a_step,
                r_start, r_step, r_a, r_b, r_edges, c, width + last_reach, x, plane_step, line_step,
            )  # fmt: skip
        channel = (column * groups + group) * outputs
        for job in range(len(o_at) - 1):
            lead, phase = divmod(job, phases)
            taps = o_at[job + 1] - o_at[job]
            if in_place:  # results go where they belong: the lines of one plane lie in the target as in the block
                results, results_step = target, write_space
                origin = channel * write_space + w_start[phase] + c
            else:
                results, results_step, origin = y, out_step, 0
            correlate_block(
                planes, planes_at, results, results_step, origin, in_place, write_lines[lead], length, q, steps, width,
                lines_a_step, between, line_step, flat, lanes, plane_runs, offsets, o_at[job], taps, weights,
                w_at[group, job], distance, pair_offsets, po_at[job], pair_columns[job], pair_weights,
                pw_at[group, job],
            )  # fmt: skip
            if not in_place:
                scatter(
                    y, out_step, line_step, lines_a_step, between, outputs, parts, target,
                    channel * write_space * parts, write_space, length, write_lines[lead], q, steps, own_lines, aside,
                    channel * aside_lines * length * parts, aside_lines, rim, channel * (own_lines + aside_lines),
                    own_lines + aside_lines, w_start[phase], w_step, w_a[phase], w_b[phase], w_slots[phase], c, width,
                )  # fmt: skip
        item = atomic_fetch_add(counter)


@numba.njit(nogil=True, cache=True)
def correlate(crew, *arguments):
    """`_correlate` in this thread and in those of a crew, with a counter that they share."""
    if not fork_join(crew, _correlate, (counters(),) + arguments):  # noqa: RUF005 - Numba adds tuples
        raise RuntimeError("a compiled loop has failed")


@numba.njit(nogil=True, cache=True)
def collect(planes, offsets, panel):
    """Copy for each offset the run of places that begins there: the rows of a matrix product's second factor."""
    for i in range(len(offsets)):
        run = planes[offsets[i] : offsets[i] + panel.shape[1]]
        row = panel[i]
        for j in range(len(row)):
            row[j] = run[j]


@numba.njit(nogil=True, cache=True)
def _products(sums, room, planes, x, y, y_step, run, offsets, taps):
    """Sums over a run of places of every plane of `y` times every tap's run of `x`; `sums` has some room a plane."""
    for begin in range(0, run, _STRETCH):
        count = min(_STRETCH, run - begin)
        plane = 0
        while plane < planes:
            at, y_at = plane * room, plane * y_step + begin
            if planes - plane >= 4:
                for t in range(0, taps, _T4):
                    dot_tile_4(sums, at + t, room, y, y_at, y_step, x, begin, offsets, t, count)
                plane += 4
            elif planes - plane >= 2:
                for t in range(0, taps, _T2):
                    dot_tile_2(sums, at + t, room, y, y_at, y_step, x, begin, offsets, t, count)
                plane += 2
            else:
                for t in range(0, taps, _T1):
                    dot_tile_1(sums, at + t, room, y, y_at, y_step, x, begin, offsets, t, count)
                plane += 1


@numba.njit(nogil=True, cache=True)
def gradient(
    item_first, item_stop, source, residual, columns, x, y, sums,
    groups, inputs, outputs, parts, read_space, residual_space,
    read_lines, r_start, r_step, r_a, r_b, r_edges,
    y_lines, length,
    places, reach, last_places, last_reach, lines_a_step, between,
    block_steps, block_width, plane_step, line_step, out_step, offsets, taps,
):  # fmt: skip
    """Products of an input and residuals for some blocks, added to ``sums[column, group, plane, tap]``."""
    zero = np.zeros(1, np.int64)
    one_length = np.full(1, length)
    no_edges = np.zeros((1, 1), np.int64)
    for item in range(item_first, item_stop):
        _, group, q, c, steps, width = block_of(item, groups, places, block_steps, last_places, block_width)
        x[:] = 0  # also between the lines, where products with zeros must not meet what is not finite
        gather(
            source, group * inputs * read_space * parts, inputs, parts, read_space, read_lines, q * lines_a_step,
            (steps + reach) * lines_a_step, r_start, r_step, r_a, r_b, r_edges, c, width + last_reach, x, plane_step,
            line_step,
        )  # fmt: skip
        run = ((steps - 1) * lines_a_step + between[-1]) * line_step + width
        for column in range(columns):
            y[:] = 0
            gather(
                residual, (column * groups + group) * outputs * residual_space * parts, outputs, parts, residual_space,
                y_lines, q * lines_a_step, steps * lines_a_step, zero, 1, zero, one_length, no_edges, c, width, y,
                out_step, line_step,
            )  # fmt: skip
            _products(
                sums[column, group].reshape(-1),
                sums.shape[3],
                outputs * parts,
                x,
                y,
                out_step,
                run,
                offsets,
                taps,
            )
