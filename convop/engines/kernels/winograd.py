"""The compiled loop of short transforms along the first axis: values at points, correlate at every point, results."""

from __future__ import annotations

from ...threads.compiled import inlined, inner_kernel, kernel
from ...threads.fork_join import counters, fork_join
from .correlation import sum_taps
from .driver import block_loop, taps_of
from .planes import gather, scatter
from .records import Block


@inlined
def _channel(block, number, channels, outer_count, halo):
    """Returns a block of one channel, which is read or written as if it were a stack of its own."""
    stack = block.stack * channels + number
    return Block(stack, block.group, block.outer, outer_count, block.column, block.column_count + halo)


@inner_kernel
def _transform_rows(x, x_at, y, y_at, y_stride, length, transform):
    """Multiplies the rows at ``x_at`` with a matrix: row r of the results begins at ``y_at + r*y_stride``."""
    row = weight_at = 0
    for count in transform.runs:
        sum_taps(x, x_at, y, y_at + row * y_stride, y_stride, length, transform.taps, weight_at, count)
        weight_at += transform.taps.tap_count * count
        row += count


@inner_kernel
def _read(source, block, plan, tiles, own):
    """Reads all channels of a block, and leaves their values at the points in the first workspace."""
    reading, layout, planes = plan.reading, plan.layout, plan.read_layout
    index = layout.rows_per_index * layout.row_stride
    halo = plan.tiling.row_halo
    read_rows = block.outer_count + plan.tiling.outer_halo
    rows = (tiles - 1) * plan.results + plan.points
    count = reading.components * reading.rows.shape[0] * len(reading.start)
    length = index - layout.row_stride + block.column_count + halo
    for channel in range(plan.read_channels):
        gather(source, reading, _channel(block, channel, plan.read_channels, read_rows, halo), own.x, planes)
        for plane in range(count):
            at = plane * planes.plane_stride
            own.x[at + read_rows * index : at + rows * index] = 0
            to = plan.values_at + (channel * count + plane) * layout.plane_stride
            for tile in range(tiles):
                tile_at = at + tile * plan.results * index
                _transform_rows(
                    own.x_read, tile_at, own.x, to + tile * index, plan.point_stride, length, plan.to_points
                )


@inner_kernel
def _correlate_point(x, x_at, y, y_at, block, tiles, plan, taps, weight_at):
    """Correlates all planes along the axes after the first, at one point."""
    layout, offsets = plan.layout, plan.layout.row_offsets
    index = layout.rows_per_index * layout.row_stride
    for count in plan.taps.runs:
        if plan.joins_rows:
            length = (tiles - 1) * index + offsets[-1] * layout.row_stride + block.column_count
            sum_taps(x, x_at, y, y_at, layout.plane_stride, length, taps, weight_at, count)
        else:
            for tile in range(tiles):
                for offset in offsets:
                    at = tile * index + offset * layout.row_stride
                    sum_taps(
                        x,
                        x_at + at,
                        y,
                        y_at + at,
                        layout.plane_stride,
                        block.column_count,
                        taps,
                        weight_at,
                        count,
                    )
        weight_at += taps.tap_count * count
        y_at += count * layout.plane_stride


@inner_kernel
def _write(own, phase, target, block, plan, tiles):
    """Computes the results of one output phase from the sums of products in the second workspace, and writes them."""
    writing, layout, planes = plan.writing, plan.layout, plan.written_layout
    index = layout.rows_per_index * layout.row_stride
    length = layout.row_offsets[-1] * layout.row_stride + block.column_count
    for channel in range(plan.written_channels):
        for component in range(writing.components):
            at = (channel * writing.components + component) * layout.plane_stride
            to = component * planes.plane_stride
            for tile in range(tiles):
                tile_to = to + tile * plan.results * index
                _transform_rows(own.y_read, at + tile * index, own.x, tile_to, index, length, plan.to_results)
        one = _channel(block, channel, plan.written_channels, block.outer_count, 0)
        scatter(own.x, planes, phase, writing, target, one)


def _process(block, plan, source, target, own):
    table = plan.taps
    tiles = (block.outer_count + plan.results - 1) // plan.results
    _read(source, block, plan, tiles + plan.more_tiles, own)
    for phase in range(len(table.offset_at) - 1):
        taps, weight_at = taps_of(table, phase), table.weight_at[block.group, phase]
        for point in range(plan.points):
            x_at = plan.values_at + point * plan.point_stride
            y_at = point * plan.sum_stride
            _correlate_point(own.x_read, x_at, own.y, y_at, block, tiles, plan, taps, weight_at)
            weight_at += taps.tap_count * plan.written_channels * plan.writing.components
        _write(own, phase, target, block, plan, tiles)


_loop = block_loop(_process)


@kernel
def correlate(workers, items, plan, operands):
    """Applies a `WinogradPlan` to all blocks."""
    if not fork_join(workers, _loop, (counters(), items, plan, operands)):
        raise RuntimeError("a compiled loop has failed")
