"""Reads blocks of planes into a workspace, and writes planes of results, by the tables of `records`."""

from __future__ import annotations

from ...threads.compiled import inner_kernel, kernel
from ...threads.llvm import copy_elements
from .records import Block


@kernel
def block_of(item, tiling):
    """Returns the block of an item: items are numbered by batch, group, block of the first and block of the last axis."""
    rest, across = divmod(item, (tiling.row_size + tiling.block_columns - 1) // tiling.block_columns)
    stack, down = divmod(rest, (tiling.outer_size + tiling.block_outer - 1) // tiling.block_outer)
    outer, column = down * tiling.block_outer, across * tiling.block_columns
    return Block(
        stack,
        stack % tiling.groups,
        outer,
        min(tiling.block_outer, tiling.outer_size - outer),
        column,
        min(tiling.block_columns, tiling.row_size - column),
    )


@kernel
def with_halo(block, tiling):
    """Returns what the results of a block read: the block with its halo."""
    return Block(
        block.stack,
        block.group,
        block.outer,
        block.outer_count + tiling.outer_halo,
        block.column,
        block.column_count + tiling.row_halo,
    )


@kernel
def gather(source, reading, block, planes, layout):
    """Reads a block into planes: a channel becomes one plane for each component and phase."""
    plane = 0
    for channel in range(reading.channels):
        for component in range(reading.components):
            base = (block.stack * reading.channels + channel) * reading.space * reading.components + component
            for lead in range(reading.rows.shape[0]):
                for phase in range(len(reading.start)):
                    _gather_plane(
                        source, base, reading, (lead, phase), block, planes[plane * layout.plane_stride :], layout
                    )
                    plane += 1


@inner_kernel
def _gather_plane(source, base, reading, phases, block, plane, layout):
    lead, phase = phases
    column, width = block.column, block.column_count
    first, stop = reading.first[phase], reading.stop[phase]
    left = min(max(first - column, 0), width)
    right = max(left, min(stop - column, width))
    count = right - left
    components = reading.components
    stride = reading.step * components
    edges, rows = reading.edges[phase], reading.rows[lead]
    start = (reading.start[phase] + (column + left) * reading.step) * components
    first_row = block.outer * layout.rows_per_index
    for r in range(block.outer_count * layout.rows_per_index):
        to = r * layout.row_stride
        at = rows[first_row + r]
        if at < 0:
            plane[to : to + width] = 0
            continue
        at = base + at * components
        for c in range(left):
            element = edges[column + c]
            plane[to + c] = source[at + element * components] if element >= 0 else 0
        copy_elements(source, at + start, stride, plane, to + left, 1, count)
        for c in range(right, width):
            element = edges[column + c - stop + first]
            plane[to + c] = source[at + element * components] if element >= 0 else 0


@kernel
def scatter(planes, layout, phase_number, writing, target, block):
    """Writes the planes of one output phase: rows beyond the ends of the leading axes go to the halo rows."""
    lead, phase = divmod(phase_number, len(writing.start))
    components, row_size = writing.components, writing.row_size
    rows, offsets = writing.rows[lead], layout.row_offsets
    values, halo_rows, halo_columns = target.values, target.halo_rows, target.halo_columns
    halo_lines = (halo_columns.shape[1] > 0) * components
    column, width = block.column, block.column_count
    first, stop = writing.first[phase], writing.stop[phase]
    left = min(max(first - column, 0), width)
    right = max(left, min(stop - column, width))
    stride = writing.step * components
    start = (writing.start[phase] + (column + left) * writing.step) * components
    plane = 0
    for c in range(writing.channels):
        channel = block.stack * writing.channels + c
        for component in range(components):
            base = channel * writing.space * components + component
            halo_base = channel * writing.halo_row_count * row_size * components + component
            halo_row = channel * (writing.row_count + writing.halo_row_count)
            for i in range(block.outer_count):
                for k in range(len(offsets)):
                    row = rows[(block.outer + i) * len(offsets) + k]
                    if row < 0:
                        continue
                    at = plane * layout.plane_stride
                    at += (i * layout.rows_per_index + offsets[k]) * layout.row_stride
                    if row < writing.row_count:
                        to = base + row * row_size * components
                        copy_elements(planes, at + left, 1, values, to + start, stride, right - left)
                    else:
                        to = halo_base + (row - writing.row_count) * row_size * components
                        copy_elements(planes, at + left, 1, halo_rows, to + start, stride, right - left)
                    if right - left < width:
                        halo = halo_columns[(halo_row + row) * halo_lines + component * (halo_lines > 0)]
                        _scatter_edges(planes, at, halo, writing.slots[phase], column, width, left, right, stop - first)
            plane += 1


@inner_kernel
def _scatter_edges(planes, at, halo, slots, column, width, left, right, interior):
    for c in range(left):
        slot = slots[column + c]
        if slot >= 0:
            halo[slot] = planes[at + c]
    for c in range(right, width):
        slot = slots[column + c - interior]
        if slot >= 0:
            halo[slot] = planes[at + c]


@kernel
def add_halo(target, writing, channels, halo_row_to, halo_column_to):
    """Adds each halo row and column of an adjoint to the elements that the extension copied it from.

    ``halo_row_to`` has the row for each halo row, ``halo_column_to`` the element of a row for each halo column.
    """
    components, row_size = writing.components, writing.row_size
    own, extra = writing.row_count, len(halo_row_to)
    values = target.values
    for p in range(channels):
        plane = p * own * row_size * components
        for row in range(own + extra):
            to = plane + (row if row < own else halo_row_to[row - own]) * row_size * components
            if row >= own:
                at = (p * extra + row - own) * row_size * components
                for c in range(row_size * components):
                    values[to + c] += target.halo_rows[at + c]
            for slot in range(len(halo_column_to)):
                for component in range(components):
                    halo = target.halo_columns[(p * (own + extra) + row) * components + component]
                    values[to + halo_column_to[slot] * components + component] += halo[slot]
