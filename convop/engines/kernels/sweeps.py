"""The compiled loop of sweeps: a block is read once, swept along one axis after another, and written once."""

from __future__ import annotations

import numba

from ...threads.fork_join import counters, fork_join
from ...threads.llvm import atomic_fetch_add
from .planes import block_of, correlate_block, gather, scatter

__all__ = ["sweep"]


@numba.njit(nogil=True, cache=True)
def _sweep(
    counter, items, source, target, aside, rim, xs, xs_read, ys, ys_read,
    groups, inputs, outputs, parts, read_space, write_space,
    read_lines, r_start, r_step, r_a, r_b, r_edges,
    write_lines, w_start, w_step, w_a, w_b, w_slots, own_lines, aside_lines, length,
    places, reach, last_places, last_reach, lines_a_step,
    block_steps, block_width, plane_step, line_step, in_place, lanes,
    stages, between, runs, origins, o_at, offsets, w_at, weights, po_at, pair_offsets, pair_columns, pw_at,
    pair_weights,
):  # fmt: skip
    """Items of work, which threads take one by one from a counter that they share, each in memory of its own.

    A row of `stages`: jobs from and to, runs of planes from and to, lines of a step from and to, steps and places
    beyond those of the block, elements from plane to plane of results, and the distance of steps computed together.
    """
    phases = len(w_start)
    last = len(stages) - 1
    seat = atomic_fetch_add(counter[8:])
    x, x_read, y, y_read = xs[seat], xs_read[seat], ys[seat], ys_read[seat]
    item = atomic_fetch_add(counter)
    while item < items:
        column, group, q, c, steps, width = block_of(item, groups, places, block_steps, last_places, block_width)
        gather(
            source, (column * groups + group) * inputs * read_space * parts, inputs, parts, read_space, read_lines,
            q * lines_a_step, (steps + reach) * lines_a_step, r_start, r_step, r_a, r_b, r_edges, c,
            width + last_reach, x, plane_step, line_step,
        )  # fmt: skip
        channel = (column * groups + group) * outputs
        for stage in range(last + 1):
            job_first, job_stop, run_first, run_stop, line_first, line_stop, more, wider, step, distance = stages[stage]
            lines_of_step, plane_runs = between[line_first:line_stop], runs[run_first:run_stop]
            for job in range(job_first, job_stop):
                results, results_read = (y, x_read) if stage % 2 == 0 else (x, y_read)
                origin, results_step, to_target = origins[job], step, in_place and stage == last
                if to_target:
                    results, results_step, origin = target, write_space, channel * write_space + w_start[0] + c
                correlate_block(
                    results_read, 0, results, results_step, origin, to_target, write_lines[0], length, q, steps + more,
                    width + wider, lines_a_step, lines_of_step, line_step, 0, lanes, plane_runs, offsets, o_at[job],
                    o_at[job + 1] - o_at[job], weights, w_at[group, job], distance, pair_offsets, po_at[job],
                    pair_columns[job], pair_weights, pw_at[group, job],
                )  # fmt: skip
        job_first, job_stop, _, _, line_first, line_stop, _, _, step, _ = stages[last]
        for job in range(job_first, job_first if in_place else job_stop):
            lead, phase = divmod(job - job_first, phases)
            results = y if last % 2 == 0 else x
            scatter(
                results[origins[job] :], step, line_step, lines_a_step, between[line_first:line_stop], outputs, parts,
                target, channel * write_space * parts, write_space, length, write_lines[lead], q, steps, own_lines,
                aside, channel * aside_lines * length * parts, aside_lines, rim, channel * (own_lines + aside_lines),
                own_lines + aside_lines, w_start[phase], w_step, w_a[phase], w_b[phase], w_slots[phase], c, width,
            )  # fmt: skip
        item = atomic_fetch_add(counter)


@numba.njit(nogil=True, cache=True)
def sweep(crew, *arguments):
    """`_sweep` in this thread and in those of a crew, with a counter that they share."""
    if not fork_join(crew, _sweep, (counters(),) + arguments):  # noqa: RUF005 - Numba adds tuples
        raise RuntimeError("a compiled loop has failed")
