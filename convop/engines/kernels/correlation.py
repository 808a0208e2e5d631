"""Sums taps over runs of results: the loops between a block of planes and the microkernels.

A run is cut into register tiles. The last tile may overlap its predecessor or be narrow, so no scalar code is needed;
results that two tiles both compute are identical.
"""

from __future__ import annotations

from ...threads.compiled import inlined, inner_kernel, uncached_kernel
from .microkernels import PAIR_TILE, TILES, VECTOR_BYTES, narrow_pair_tile, narrow_tiles, pair_tile, tiles
from .records import RunKind

_WIDE_PAIR, _NARROW_PAIR = PAIR_TILE
_INDEX, _BLOCK = int(RunKind.INDEX), int(RunKind.BLOCK)


@inner_kernel
def _next_tile(j, length, wide, narrow):
    """Returns where the next tile of a run begins, and whether it is a wide one."""
    left = length - j
    if left >= wide:
        return j, True
    if 2 * left > wide and length >= wide:
        return length - wide, True
    return (j if left >= narrow else max(0, length - narrow)), False


def _run_loop(outputs):
    """Returns the loop over a run with the wide and the narrow tile of so many planes of results."""
    tile, narrow_tile = tiles[outputs], narrow_tiles[outputs]
    wide_vectors, narrow_vectors = TILES[outputs]

    def loop(x, x_at, y, y_at, y_stride, length, taps, weight_at):
        lanes = VECTOR_BYTES // y.itemsize
        wide, narrow = wide_vectors * lanes, narrow_vectors * lanes
        j = 0
        while j < length:
            at, is_wide = _next_tile(j, length, wide, narrow)
            if is_wide:
                tile(y, y_at + at, y_stride, x, x_at + at, taps, weight_at)
                j = at + wide
            else:
                narrow_tile(y, y_at + at, y_stride, x, x_at + at, taps, weight_at)
                j = at + narrow

    return uncached_kernel(loop, f"run_loop_{outputs}")


_loop_1, _loop_2, _loop_3, _loop_4 = (_run_loop(outputs) for outputs in (1, 2, 3, 4))


@inner_kernel
def sum_taps(x, x_at, y, y_at, y_stride, length, taps, weight_at, planes):
    """Computes a run of results of `planes` (1 to 4) planes, `y_stride` apart."""
    if planes == 4:
        _loop_4(x, x_at, y, y_at, y_stride, length, taps, weight_at)
    elif planes == 3:
        _loop_3(x, x_at, y, y_at, y_stride, length, taps, weight_at)
    elif planes == 2:
        _loop_2(x, x_at, y, y_at, y_stride, length, taps, weight_at)
    else:
        _loop_1(x, x_at, y, y_at, y_stride, length, taps, weight_at)


@inner_kernel
def _sum_pair(x, x_at, y, y_at, y_stride, length, pair):
    """Computes a run of results of one plane for two indices of the first axis, whose results are `y_stride` apart."""
    lanes = VECTOR_BYTES // y.itemsize
    wide, narrow = _WIDE_PAIR * lanes, _NARROW_PAIR * lanes
    j = 0
    while j < length:
        at, is_wide = _next_tile(j, length, wide, narrow)
        if is_wide:
            pair_tile(y, y_at + at, y_stride, x, x_at + at, pair)
            j = at + wide
        else:
            narrow_pair_tile(y, y_at + at, y_stride, x, x_at + at, pair)
            j = at + narrow


@inlined
def _run(index, row, block, offsets, layout, run_kind):
    """Returns where a run of results begins in a plane, and its length."""
    stride = layout.row_stride
    if run_kind == _BLOCK:
        return 0, ((block.outer_count - 1) * layout.rows_per_index + offsets[-1]) * stride + block.column_count
    if run_kind == _INDEX:
        return index * layout.rows_per_index * stride, offsets[-1] * stride + block.column_count
    return (index * layout.rows_per_index + offsets[row]) * stride, block.column_count


@inner_kernel
def correlate_block(planes, planes_at, results, block, layout, job):
    """Computes all planes of results of one output phase, run by run."""
    # Fields are read once, outside the loops.
    distance, run_kind, taps, pair, weight_at = job.distance, job.run_kind, job.taps, job.pair, job.weight_at
    offsets, values, rows = layout.row_offsets, results.values, results.rows
    plane = 0
    for count in job.runs:
        for index in range(1 if run_kind == _BLOCK else block.outer_count):
            if distance and index // distance % 2 == 1:
                continue  # computed as the second of a pair
            paired = distance > 0 and index + distance < block.outer_count
            for row in range(1 if run_kind else len(offsets)):
                at, length = _run(index, row, block, offsets, layout, run_kind)
                to, pair_stride = at, distance * layout.rows_per_index * layout.row_stride
                if results.is_target:
                    number = (block.outer + index) * len(offsets) + row
                    to = rows[number] * results.row_size
                    if paired:
                        pair_stride = rows[number + distance * len(offsets)] * results.row_size - to
                to += results.origin + plane * results.plane_stride
                if paired:
                    _sum_pair(planes, planes_at + at, values, to, pair_stride, length, pair)
                else:
                    sum_taps(
                        planes,
                        planes_at + at,
                        values,
                        to,
                        results.plane_stride,
                        length,
                        taps,
                        weight_at,
                        count,
                    )
        weight_at += taps.tap_count * count
        plane += count
