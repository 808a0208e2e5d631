"""The compiled loop of transforms along the first axis: Fourier transform, correlate at every frequency, transform back."""

from __future__ import annotations

from ...threads.compiled import inlined, inner_kernel, kernel
from ...threads.fork_join import counters, fork_join
from .butterflies import COLUMNS_BYTES, forward_2, forward_4, forward_plain_4, inverse_2, inverse_4, inverse_plain_4
from .correlation import sum_taps
from .driver import block_loop, taps_of
from .planes import gather, scatter, with_halo
from .records import Block, Layout

_BYTES = COLUMNS_BYTES


@inner_kernel
def _forward_transform(z, at, imaginary, row, length, columns, twiddles):
    """Transforms `length` rows of some columns in place; the frequencies come out in digit-reversed order."""
    for c in range(at, at + columns, _BYTES // z.itemsize):
        span, t = length, 0
        while span >= 4:
            quarter = span // 4
            for s in range(0, length, span):
                forward_plain_4(z, c + s * row, quarter * row, imaginary, twiddles, 0)
            for n in range(1, quarter):
                for s in range(0, length, span):
                    forward_4(z, c + (s + n) * row, quarter * row, imaginary, twiddles, t + 6 * n)
            t += 6 * quarter
            span = quarter
        if span == 2:
            for s in range(0, length, 2):
                forward_2(z, c + s * row, row, imaginary, twiddles, 0)


@inner_kernel
def _inverse_transform(z, at, imaginary, row, length, columns, twiddles):
    """Inverts `_forward_transform`, but for a factor of the length."""
    for c in range(at, at + columns, _BYTES // z.itemsize):
        span, t = length, len(twiddles)
        while span >= 4:
            span //= 4
        if span == 2:
            for s in range(0, length, 2):
                inverse_2(z, c + s * row, row, imaginary, twiddles, 0)
        span *= 4
        while span <= length:
            quarter = span // 4
            t -= 6 * quarter
            for s in range(0, length, span):
                inverse_plain_4(z, c + s * row, quarter * row, imaginary, twiddles, 0)
            for n in range(1, quarter):
                for s in range(0, length, span):
                    inverse_4(z, c + (s + n) * row, quarter * row, imaginary, twiddles, t + 6 * n)
            span *= 4


@inlined
def _shifted(block, shift, column_count):
    """Returns some columns of a block, from `shift` on."""
    return Block(block.stack, block.group, block.outer, block.outer_count, block.column + shift, column_count)


@inner_kernel
def _read(source, reading, block, halo, left, x, layout):
    """Reads complex planes: the components of complex numbers, or two halves of a real block as real and imaginary."""
    if reading.components == 2:
        gather(source, reading, block, x, layout)
        return
    right = block.column_count - halo - left
    halves = Layout(2 * layout.plane_stride, layout.row_stride, layout.rows_per_index, layout.row_offsets)
    gather(source, reading, _shifted(block, 0, left + halo), x, halves)
    if right < left:  # also the columns that are not read are transformed
        rows = block.outer_count * layout.rows_per_index
        for plane in range(reading.channels * reading.rows.shape[0] * len(reading.start)):
            at = (2 * plane + 1) * layout.plane_stride
            x[at : at + rows * layout.row_stride] = 0
    if right:
        gather(source, reading, _shifted(block, left, right + halo), x[layout.plane_stride :], halves)


@inner_kernel
def _transform_planes(x, plan, rows, columns):
    """Transforms all planes that were read, after the rows beyond the block are set to zero."""
    reading, layout, length = plan.reading, plan.layout, plan.length
    row = layout.rows_per_index * layout.row_stride
    planes = reading.channels * reading.rows.shape[0] * len(reading.start)  # complex ones
    for plane in range(2 * planes):
        at = plane * layout.plane_stride
        x[at + rows * layout.row_stride : at + length * row] = 0
    # Complex channels are read component by component, halves of real ones plane by plane.
    phases = planes // reading.channels if reading.components == 2 else 1
    for plane in range(planes):
        stack, phase = divmod(plane, phases)
        at = (2 * stack * phases + phase) * layout.plane_stride
        for r in range(layout.rows_per_index):
            _forward_transform(
                x, at + r * layout.row_stride, phases * layout.plane_stride, row, length, columns, plan.twiddles
            )


@inner_kernel
def _multiply(x, y, plan, taps, weight_at, width):
    """Correlates the planes of one output phase along the other axes at every frequency, and transforms back."""
    layout, table = plan.layout, plan.taps
    row = layout.rows_per_index * layout.row_stride
    for frequency in range(plan.length):
        plane = 0
        for count in table.runs:
            for r in layout.row_offsets:
                at = frequency * row + r * layout.row_stride
                to = plane * layout.plane_stride + at
                sum_taps(x, at, y, to, layout.plane_stride, width, taps, weight_at, count)
            weight_at += taps.tap_count * count
            plane += count
    for plane in range(plan.writing.channels):
        for r in layout.row_offsets:
            at = 2 * plane * layout.plane_stride + r * layout.row_stride
            _inverse_transform(y, at, layout.plane_stride, row, plan.length, width, plan.twiddles)


def _process(block, plan, source, target, own):
    reading, writing, layout, table = plan.reading, plan.writing, plan.layout, plan.taps
    is_complex = reading.components == 2
    left = block.column_count if is_complex else (block.column_count + 1) // 2
    right = block.column_count - left
    halo = plan.tiling.row_halo
    read = with_halo(block, plan.tiling)
    _read(source, reading, read, halo, left, own.x, layout)
    _transform_planes(own.x, plan, read.outer_count * layout.rows_per_index, left + halo)
    step = 1 if is_complex else 2
    results = Layout(step * layout.plane_stride, layout.row_stride, layout.rows_per_index, layout.row_offsets)
    for phase in range(len(table.offset_at) - 1):
        _multiply(own.x_read, own.y, plan, taps_of(table, phase), table.weight_at[block.group, phase], left)
        scatter(own.y, results, phase, writing, target, _shifted(block, 0, left))
        if right and not is_complex:
            scatter(own.y[layout.plane_stride :], results, phase, writing, target, _shifted(block, left, right))


_loop = block_loop(_process)


@kernel
def convolve(workers, items, plan, operands):
    """Applies a `ColumnPlan` to all blocks."""
    if not fork_join(workers, _loop, (counters(), items, plan, operands)):
        raise RuntimeError("a compiled loop has failed")
