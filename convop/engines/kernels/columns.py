"""The compiled loops of convolutions that are transformed along the first axis and correlated along the others."""

from __future__ import annotations

import numba

from ...threads.fork_join import counters, fork_join
from ...threads.llvm import atomic_fetch_add
from .butterflies import COLUMNS_BYTES, back_2, back_4, back_plain_4, there_2, there_4, there_plain_4
from .planes import block_of, gather, scatter, sum_taps

__all__ = ["convolve"]

_BYTES = COLUMNS_BYTES


@numba.njit(nogil=True, cache=True)
def _there(z, at, imaginary, row, length, columns, twiddles):
    """Transform `length` rows of some columns in place; frequencies come out in the order of the steps."""
    for c in range(at, at + columns, _BYTES // z.itemsize):
        span, t = length, 0
        while span >= 4:
            quarter = span // 4
            for s in range(0, length, span):
                there_plain_4(z, c + s * row, quarter * row, imaginary, twiddles, 0)
            for n in range(1, quarter):
                for s in range(0, length, span):
                    there_4(z, c + (s + n) * row, quarter * row, imaginary, twiddles, t + 6 * n)
            t += 6 * quarter
            span = quarter
        if span == 2:
            for s in range(0, length, 2):
                there_2(z, c + s * row, row, imaginary, twiddles, 0)


@numba.njit(nogil=True, cache=True)
def _back(z, at, imaginary, row, length, columns, twiddles):
    """Undo `_there`, but for a factor of the length."""
    for c in range(at, at + columns, _BYTES // z.itemsize):
        span, t = length, len(twiddles)
        while span >= 4:
            span //= 4
        if span == 2:
            for s in range(0, length, 2):
                back_2(z, c + s * row, row, imaginary, twiddles, 0)
        span *= 4
        while span <= length:
            quarter = span // 4
            t -= 6 * quarter
            for s in range(0, length, span):
                back_plain_4(z, c + s * row, quarter * row, imaginary, twiddles, 0)
            for n in range(1, quarter):
                for s in range(0, length, span):
                    back_4(z, c + (s + n) * row, quarter * row, imaginary, twiddles, t + 6 * n)
            span *= 4


@numba.njit(nogil=True, cache=True)
def _read(source, begin, inputs, parts, read_space, lines, first, count, start, step, a, b, edges, c, left, right,
          last_reach, x, plane_step, line_step):  # fmt: skip
    """Read complex planes, real and imaginary parts one after the other: those of complex numbers, or two halves."""
    if parts == 2:
        gather(
            source, begin, inputs, 2, read_space, lines, first, count, start, step, a, b, edges, c, left + last_reach, x,
            plane_step, line_step,
        )  # fmt: skip
        return
    gather(
        source, begin, inputs, 1, read_space, lines, first, count, start, step, a, b, edges, c, left + last_reach, x,
        2 * plane_step, line_step,
    )  # fmt: skip
    if right < left:  # what is not read is transformed along with the other half
        for plane in range(inputs * lines.shape[0] * len(start)):
            at = (2 * plane + 1) * plane_step
            x[at : at + count * line_step] = 0
    if right:
        gather(
            source, begin, inputs, 1, read_space, lines, first, count, start, step, a, b, edges, c + left,
            right + last_reach, x[plane_step:], 2 * plane_step, line_step,
        )  # fmt: skip


@numba.njit(nogil=True, cache=True)
def _multiply(x, y, outputs, plane_step, line_step, row, transform, between, width, plane_runs, offsets, o_at, taps, weights,
              w_at, lanes, twiddles):  # fmt: skip
    """The planes of one job: at every frequency correlate along the other axes, then transform back."""
    for frequency in range(transform):
        plane = 0
        for run in plane_runs:
            for line in between:
                at = frequency * row + line * line_step
                sum_taps(
                    x, at, y, plane * plane_step + at, plane_step, width, offsets, o_at, weights, w_at, taps, run, lanes
                )
            w_at += taps * run
            plane += run
    for plane in range(outputs):
        for line in between:
            _back(y, 2 * plane * plane_step + line * line_step, plane_step, row, transform, width, twiddles)


@numba.njit(nogil=True, cache=True)
def _convolve(
    counter, items, source, target, aside, rim, xs, xs_read, ys,
    groups, inputs, outputs, parts, read_space, write_space,
    read_lines, r_start, r_step, r_a, r_b, r_edges,
    write_lines, w_start, w_step, w_a, w_b, w_slots, own_lines, aside_lines, length,
    places, reach, last_places, last_reach, lines_a_step, between,
    block_steps, block_width, transform, plane_step, line_step, lanes, twiddles,
    plane_runs, o_at, offsets, w_at, weights,
):  # fmt: skip
    """Items of work, which threads take one by one from a counter that they share, each in memory of its own.

    Read planes, transform their columns, correlate at every frequency along the other axes, transform back, write.
    """
    phases = len(w_start)
    row = lines_a_step * line_step
    read_planes = inputs * read_lines.shape[0] * len(r_start)  # complex ones
    # real and imaginary parts of a complex plane: complex numbers are read channel by channel, halves plane by plane
    own_phases = read_planes // inputs if parts == 2 else 1
    imaginary = own_phases * plane_step
    seat = atomic_fetch_add(counter[8:])
    x, x_read, y = xs[seat], xs_read[seat], ys[seat]
    item = atomic_fetch_add(counter)
    while item < items:
        column, group, q, c, steps, width = block_of(item, groups, places, block_steps, last_places, block_width)
        left = width if parts == 2 else (width + 1) // 2
        right = width - left
        count = (steps + reach) * lines_a_step
        begin = (column * groups + group) * inputs * read_space * parts
        _read(
            source, begin, inputs, parts, read_space, read_lines, q * lines_a_step, count, r_start, r_step, r_a, r_b,
            r_edges, c, left, right, last_reach, x, plane_step, line_step,
        )  # fmt: skip
        for plane in range(2 * read_planes):
            x[plane * plane_step + count * line_step : plane * plane_step + transform * row] = 0
        for plane in range(read_planes):
            block, own = divmod(plane, own_phases)
            at = (2 * block * own_phases + own) * plane_step
            for line in range(lines_a_step):
                _there(x, at + line * line_step, imaginary, row, transform, left + last_reach, twiddles)
        channel = (column * groups + group) * outputs
        for job in range(len(o_at) - 1):
            lead, phase = divmod(job, phases)
            _multiply(
                x_read, y, outputs, plane_step, line_step, row, transform, between, left, plane_runs, offsets, o_at[job],
                o_at[job + 1] - o_at[job], weights, w_at[group, job], lanes, twiddles,
            )  # fmt: skip
            for half in range(1 if parts == 2 or not right else 2):
                scatter(
                    y[half * plane_step :], plane_step * (3 - parts), line_step, lines_a_step, between, outputs, parts,
                    target, channel * write_space * parts, write_space, length, write_lines[lead], q, steps, own_lines,
                    aside, channel * aside_lines * length * parts, aside_lines, rim,
                    channel * (own_lines + aside_lines), own_lines + aside_lines, w_start[phase], w_step, w_a[phase],
                    w_b[phase], w_slots[phase], c + half * left, right if half else left,
                )  # fmt: skip
        item = atomic_fetch_add(counter)


@numba.njit(nogil=True, cache=True)
def convolve(crew, *arguments):
    """`_convolve` in this thread and in those of a crew, with a counter that they share."""
    if not fork_join(crew, _convolve, (counters(),) + arguments):  # noqa: RUF005 - Numba adds tuples
        raise RuntimeError("a compiled loop has failed")
