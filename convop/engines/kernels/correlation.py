"""Sums taps over runs of results: the loops between a block of planes and the microkernels.

A run is cut into register tiles. The last tile may overlap its predecessor or be narrow, so no scalar code is needed;
results that two tiles both compute are identical.
"""

from __future__ import annotations

from ...threads.compiled import inlined, inner_kernel
from ...threads.vectors import vector_unit
from .microkernels import narrow_pair_tile, pair_tile, tile
from .records import RunKind
from .tiles import PAIR_VECTORS, Tile, plane_counts, tile_vectors

_BYTES = vector_unit().bytes
# Vectors of the tiles by number of planes.
_VECTORS = [
    tile_vectors(planes) if planes in plane_counts() else Tile(0, 0) for planes in range(max(plane_counts()) + 1)
]
_WIDE, _NARROW = tuple(vectors.wide for vectors in _VECTORS), tuple(vectors.narrow for vectors in _VECTORS)
_WIDE_PAIR, _NARROW_PAIR = PAIR_VECTORS
_INDEX, _BLOCK = int(RunKind.INDEX), int(RunKind.BLOCK)


@inlined
def _next_tile(j, length, wide, narrow):
    """Returns where the next tile of a run begins, and whether it is a wide one."""
    left = length - j
    if left >= wide:
        return j, True
    if 2 * left > wide and length >= wide:
        return length - wide, True
    return (j if left >= narrow else max(0, length - narrow)), False


@inner_kernel
def sum_taps(x, x_at, y, y_at, y_stride, length, taps, weight_at, planes):
    """Computes a run of results of some planes, `y_stride` apart; `planes` is one of `plane_counts`."""
    lanes = _BYTES // y.itemsize
    wide, narrow = _WIDE[planes] * lanes, _NARROW[planes] * lanes
    j = 0
    while j < length:
        at, is_wide = _next_tile(j, length, wide, narrow)
        tile(planes, is_wide, y, y_at + at, y_stride, x, x_at + at, taps, weight_at)
        j = at + (wide if is_wide else narrow)


@inner_kernel
def _sum_pair(x, x_at, y, y_at, y_stride, length, pair):
    """Computes a run of results of one plane for two indices of the first axis, whose results are `y_stride` apart."""
    lanes = _BYTES // y.itemsize
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
