"""The compiled loops of the kernel's gradient, and im2col: products of an input's planes with a residual's planes."""

from __future__ import annotations

from ...threads.compiled import inner_kernel, kernel
from .microkernels import DOT_TILES, dot_tile_1, dot_tile_2, dot_tile_4
from .planes import block_of, gather, with_halo
from .records import Block, Rows

_TAPS_1, _TAPS_2, _TAPS_4 = DOT_TILES[1], DOT_TILES[2], DOT_TILES[4]
# Results whose products are summed at a time: those of four planes stay in the first-level cache.
_RUN = 512


@kernel
def im2col(planes, offsets, matrix):
    """Copies for each offset the run that begins there: the rows of the second factor of a matrix product."""
    for i in range(len(offsets)):
        run = planes[offsets[i] : offsets[i] + matrix.shape[1]]
        row = matrix[i]
        for j in range(len(row)):
            row[j] = run[j]


@inner_kernel
def _add_products(sums, planes, x, y, run, offsets, taps):
    """Adds the products of every plane of `y` with every tap's run of `x`; `sums` has a row for each plane."""
    for begin in range(0, run, _RUN):
        count = min(_RUN, run - begin)
        plane = 0
        while plane < planes:
            to = plane * sums.stride
            residual = Rows(y.values, plane * y.stride + begin, y.stride)
            if planes - plane >= 4:
                for t in range(0, taps, _TAPS_4):
                    dot_tile_4(Rows(sums.values, to + t, sums.stride), residual, x, begin, offsets, t, count)
                plane += 4
            elif planes - plane >= 2:
                for t in range(0, taps, _TAPS_2):
                    dot_tile_2(Rows(sums.values, to + t, sums.stride), residual, x, begin, offsets, t, count)
                plane += 2
            else:
                for t in range(0, taps, _TAPS_1):
                    dot_tile_1(Rows(sums.values, to + t, sums.stride), residual, x, begin, offsets, t, count)
                plane += 1


@kernel
def gradient(items, plan, source, residual, x, y, sums):
    """Adds the products of an input and residuals of some blocks to ``sums[batch, group, plane, tap]``.

    ``items`` is the first item and the one after the last.
    """
    tiling, layout, reading = plan.tiling, plan.layout, plan.reading
    groups, batch = tiling.groups, sums.shape[0]
    for item in range(items[0], items[1]):
        block = block_of(item, tiling)
        x[:] = 0  # also between the rows, where products with zeros must not meet what is not finite
        gather(source, reading, with_halo(block, tiling), x, layout)
        run = (block.outer_count - 1) * layout.rows_per_index + layout.row_offsets[-1]
        run = run * layout.row_stride + block.column_count
        for b in range(batch):
            y[:] = 0
            stack = Block(
                b * groups + block.group,
                block.group,
                block.outer,
                block.outer_count,
                block.column,
                block.column_count,
            )
            gather(residual, plan.residual, stack, y, layout)
            rows = Rows(sums[b, block.group].reshape(-1), 0, sums.shape[3])
            _add_products(rows, sums.shape[2], x, Rows(y, 0, layout.plane_stride), run, plan.offsets, plan.tap_count)
