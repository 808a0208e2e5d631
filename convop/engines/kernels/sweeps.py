"""The compiled loop of separable kernels: a block is read once, correlated along one axis after another, written once."""

from __future__ import annotations

from ...threads.compiled import inlined, kernel
from ...threads.fork_join import counters, fork_join
from .correlation import correlate_block
from .driver import block_loop, pair_taps_of, taps_of
from .planes import gather, scatter, with_halo
from .records import Block, Correlation, Layout, Results, RunKind

_ROW = int(RunKind.ROW)


@inlined
def _stage_layout(plan, stage):
    """Returns how the planes of results of a stage lie in a workspace."""
    stages, layout = plan.stages, plan.layout
    offsets = stages.row_offsets[stages.row_at[stage] : stages.row_at[stage + 1]]
    return Layout(stages.plane_stride[stage], layout.row_stride, layout.rows_per_index, offsets)


def _process(block, plan, source, target, own):
    writing, stages, table = plan.writing, plan.stages, plan.taps
    gather(source, plan.reading, with_halo(block, plan.tiling), own.x, plan.layout)
    last = len(stages.distance) - 1
    for stage in range(last + 1):
        layout = _stage_layout(plan, stage)
        runs = table.runs[stages.run_at[stage] : stages.run_at[stage + 1]]
        swept = Block(
            block.stack,
            block.group,
            block.outer,
            block.outer_count + stages.outer_halo[stage],
            block.column,
            block.column_count + stages.row_halo[stage],
        )
        values, planes = (own.y, own.x_read) if stage % 2 == 0 else (own.x, own.y_read)
        for phase in range(stages.phase_at[stage], stages.phase_at[stage + 1]):
            if plan.writes_in_place and stage == last:
                origin = block.stack * writing.channels * writing.space + writing.start[0] + block.column
                results = Results(target.values, origin, writing.space, True, writing.rows[0], writing.row_size)
            else:
                origin = stages.origins[phase]
                results = Results(values, origin, layout.plane_stride, False, writing.rows[0], writing.row_size)
            taps = taps_of(table, phase)
            pair = pair_taps_of(plan.pairs, block.group, phase, taps.tap_count)
            weight_at = table.weight_at[block.group, phase]
            job = Correlation(runs, _ROW, taps, weight_at, pair, stages.distance[stage])
            correlate_block(planes, 0, results, swept, layout, job)
    if plan.writes_in_place:
        return
    layout = _stage_layout(plan, last)
    results = own.y if last % 2 == 0 else own.x
    first = stages.phase_at[last]
    for phase in range(first, stages.phase_at[last + 1]):
        scatter(results[stages.origins[phase] :], layout, phase - first, writing, target, block)


_loop = block_loop(_process)


@kernel
def sweep(workers, items, plan, operands):
    """Applies a `SweepPlan` to all blocks."""
    if not fork_join(workers, _loop, (counters(), items, plan, operands)):
        raise RuntimeError("a compiled loop has failed")
