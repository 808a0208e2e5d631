"""The compiled loop of the direct engine: one correlation of each block."""

from __future__ import annotations

from typing import Any

from ...threads.compiled import kernel
from ...threads.fork_join import counters, fork_join
from .correlation import correlate_block
from .driver import block_loop, pair_taps_of, taps_of
from .planes import gather, scatter, with_halo
from .records import Correlation, Layout, Results


def _process(*, writes_in_place: bool) -> Any:
    """Returns what the loop does to a block. In place, the code that writes a workspace to the target is not compiled."""

    def process(block, plan, source, target, own):
        reading, writing, layout, tiling = plan.reading, plan.writing, plan.layout, plan.tiling
        if plan.reads_in_place:
            planes = source
            planes_at = block.stack * reading.channels * reading.space * reading.components
            planes_at += block.outer * layout.rows_per_index * layout.row_stride + block.column
        else:
            planes, planes_at = own.x_read, 0
            gather(source, reading, with_halo(block, tiling), own.x, layout)
        out_layout = Layout(plan.out_plane_stride, layout.row_stride, layout.rows_per_index, layout.row_offsets)
        table = plan.taps
        for phase in range(len(table.offset_at) - 1):
            lead, last = divmod(phase, len(writing.start))
            rows = writing.rows[lead]
            if writes_in_place:
                origin = block.stack * writing.channels * writing.space + writing.start[last] + block.column
                results = Results(target.values, origin, writing.space, True, rows, writing.row_size)
            else:
                results = Results(own.y, 0, plan.out_plane_stride, False, rows, writing.row_size)
            taps = taps_of(table, phase)
            pair = pair_taps_of(plan.pairs, block.group, phase, taps.tap_count)
            weight_at = table.weight_at[block.group, phase]
            job = Correlation(table.runs, plan.run_kind, taps, weight_at, pair, plan.distance)
            correlate_block(planes, planes_at, results, block, layout, job)
            if not writes_in_place:
                scatter(own.y, out_layout, phase, writing, target, block)

    process.__name__ = process.__qualname__ = "process_in_place" if writes_in_place else "process"
    return process


_loop, _loop_in_place = (block_loop(_process(writes_in_place=in_place)) for in_place in (False, True))


@kernel
def correlate(workers, items, plan, operands):
    """Applies a `DirectPlan` to all blocks, through workspaces for the results."""
    if not fork_join(workers, _loop, (counters(), items, plan, operands)):
        raise RuntimeError("a compiled loop has failed")


@kernel
def correlate_in_place(workers, items, plan, operands):
    """Applies a `DirectPlan` to all blocks, whose results go to the target without a workspace."""
    if not fork_join(workers, _loop_in_place, (counters(), items, plan, operands)):
        raise RuntimeError("a compiled loop has failed")
