"""Sweeps along one axis after another, block by block: what a kernel that is a product of factors asks for.

A block of the input is read with all that its results need, swept along one axis from one piece of memory into another,
and written when all axes are done. What lies between two sweeps never leaves the caches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from ...arrays.backend import Array
from ...geometry.axis import Ints
from ...geometry.spec import ConvSpec
from ...threads.pool import awake_workers
from .blocks import padded, rooms, tiled
from .packing import Correlations, paired_distance, ragged
from .planes import Geometry, Result, read_only, real_weights
from .polyphase import Plan, Taps

__all__ = ["SweepDirection", "SweepGeometry"]

# Nanoseconds a byte, measured with one thread: to multiply and add for one plane of results and for several, and to read
# or write an element; and nanoseconds of a line of results.
_ALONE, _TOGETHER, _MOVE, _LINE_TIME = 0.0095, 0.0065, 0.06, 80
# Bytes of a block that the caches of one core and its neighbours still hold; larger ones are slower, and take memory.
_HELD = 2**22
# Blocks come in a number that some workers can share evenly.
_WORKERS = 4
_CUTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
_LEAST_WIDTH = 64
_LINE = 64


@dataclass(frozen=True)
class _Stage:
    """One sweep: which planes it reads and writes.

    Planes are numbered by channel and phase. Those of an axis not yet swept are the ones that are read, and of one that
    has been swept the ones that are written.

    Attributes
    ----------
    axis : int
        Which is swept.
    read, written : int
        Real planes of one phase that are read and written.
    before, after : tuple of int
        Phases of every axis.
    open : tuple of bool
        Axes that are still to be swept when this is done, so that their reach is needed.
    """

    axis: int
    read: int
    written: int
    before: tuple[int, ...]
    after: tuple[int, ...]
    open: tuple[bool, ...]

    def jobs(self, plan: Plan) -> list[Taps]:
        """For every phase that is written, its taps and the phases that they read."""
        axis = plan.axes[self.axis]
        found = []
        for phases in product(*(range(count) for count in self.after)):
            taps = []
            for number, (read, write, shift) in enumerate(axis.taps):
                if write == phases[self.axis]:
                    source = (*phases[: self.axis], read, *phases[self.axis + 1 :])
                    shifts = tuple(shift * (a == self.axis) for a in range(len(plan.axes)))
                    taps.append((number, shifts, int(np.ravel_multi_index(source, self.before))))
            found.append(Taps.of(taps))
        return found

    def extents(self, plan: Plan) -> list[int]:
        """Places of results along every axis, with the reach of the sweeps to come; of a whole plane."""
        return [axis.places + axis.reach * still for axis, still in zip(plan.axes, self.open, strict=True)]


def _stages(plan: Plan, channels: list[int], parts: int) -> list[_Stage]:
    """The sweeps in the order in which the factors follow one another: forward the last axis first."""
    count = len(plan.axes)
    order = range(count - plan.spec.ndim, count)
    if not plan.adjoint:
        order, channels = order[::-1], channels[::-1]
    phases = [len(axis.read) for axis in plan.axes]
    still = [n in order for n in range(count)]
    stages = []
    for number, axis in enumerate(order):
        before = tuple(phases)
        phases[axis], still[axis] = len(plan.axes[axis].write), False
        read, written = channels[number] * parts, channels[number + 1] * parts
        stages.append(_Stage(axis, read, written, before, tuple(phases), tuple(still)))
    return stages


class SweepGeometry(Geometry):
    """The stages and blocks of a direction.

    Parameters
    ----------
    spec, adjoint, real, parts
        As in `Geometry`.
    ranks : tuple of int
        Channels of a group between each axis and the next.
    """

    def __init__(self, spec: ConvSpec, adjoint: bool, real: np.dtype[Any], parts: int, ranks: tuple[int, ...]) -> None:
        from ..kernels.microkernels import PAIR_TILE, TILES, lanes

        super().__init__(spec, adjoint, real, parts)
        plan = self.plan
        self.lanes = lanes(real)
        channels = [spec.c_out // spec.groups, *ranks, spec.c_in // spec.groups]
        self.stages = _stages(plan, channels, parts)
        wide, narrow = (max(sizes[n] for sizes in (*TILES.values(), PAIR_TILE)) * self.lanes for n in (0, 1))
        self.steps, self.width = self._cut(wide, narrow)
        first, last = plan.axes[0], plan.axes[-1]
        self.line_step = padded(self.width + last.reach + wide, real.itemsize)
        self.plane_step = padded((self.steps + first.reach) * plan.lines_a_step * self.line_step, real.itemsize)
        self.blocks = math.ceil(first.places / self.steps) * math.ceil(last.places / self.width)
        narrowest = last.places - (math.ceil(last.places / self.width) - 1) * self.width
        self.in_place = parts == 1 and plan.writes_whole_lines and narrowest >= narrow
        self.correlations = [self._correlations(stage) for stage in self.stages]
        self.betweens = [self._between(stage) for stage in self.stages]
        self.work = sum(
            math.prod(stage.extents(plan)) * stage.written * sum(len(o) for o in tables.offsets)
            for stage, tables in zip(self.stages, self.correlations, strict=True)
        )

    def _cut(self, wide: int, narrow: int) -> tuple[int, int]:
        """Steps of the first axis and places of the last of a block, so that least is read and swept twice."""
        plan, itemsize = self.plan, self.real.itemsize
        first, last = plan.axes[0], plan.axes[-1]
        planes = [self.read_planes, *(stage.written * math.prod(stage.after) for stage in self.stages)]
        best: tuple[float, int, int] | None = None
        for row_blocks, width_blocks in product(_CUTS, _CUTS):
            steps, width = math.ceil(first.places / row_blocks), math.ceil(last.places / width_blocks)
            if best is not None and width_blocks > 1 and width < _LEAST_WIDTH:
                continue
            lines = (steps + first.reach) * plan.lines_a_step
            moved = planes[0] * lines * (width + last.reach) + planes[-1] * steps * len(plan.between) * width
            nanoseconds = _MOVE * itemsize * moved + _LINE_TIME * planes[0] * lines
            for stage in self.stages:
                _, *middle, _ = stage.extents(plan)
                lines = (steps + first.reach * stage.open[0]) * math.prod(middle)
                taps = plan.axes[stage.axis].taps
                multiplied = lines * tiled(width + last.reach * stage.open[-1], wide, narrow) * stage.read
                multiplied *= stage.written * len(taps) * math.prod(stage.after) / stage.after[stage.axis]
                rate = _ALONE if stage.written == 1 else _TOGETHER
                nanoseconds += rate * itemsize * multiplied
                nanoseconds += _LINE_TIME * lines * stage.written * math.prod(stage.after)
            held = 2 * max(planes) * (steps + first.reach) * plan.lines_a_step * (width + last.reach) * itemsize
            blocks = math.ceil(first.places / steps) * math.ceil(last.places / width) * self.groups
            nanoseconds *= math.ceil(blocks / _WORKERS) * max(1.0, (held / _HELD) ** 0.25)
            if best is None or nanoseconds < best[0]:
                best = (nanoseconds, steps, width)
        assert best is not None  # one block each way is always tried
        return best[1:]

    def _correlations(self, stage: _Stage) -> Correlations:
        plan = self.plan
        jobs = stage.jobs(plan)
        phases = math.prod(stage.before)
        offsets = []
        for job in jobs:
            lines = np.zeros(len(job.number), dtype=np.int64)
            for axis, shift in zip(plan.axes[:-1], job.shift.T[:-1], strict=True):
                lines = lines * (axis.places + axis.reach if axis is not plan.axes[0] else 1) + shift
            places = lines * self.line_step + job.shift[:, -1] + job.phase * self.plane_step
            offsets.append((np.arange(stage.read)[:, None] * phases * self.plane_step + places).ravel())
        distance = 0
        if stage.written == 1 and stage.axis == 0:
            distance = paired_distance(plan.spec.axes[0], plan.axes[0].places, jobs)
        step = plan.lines_a_step * self.line_step
        return Correlations(jobs, offsets, stage.read, stage.written, distance, step)

    def _between(self, stage: _Stage) -> Ints:
        """Numbers of the lines of a step that a stage writes."""
        lines = np.zeros(1, dtype=np.int64)
        for axis, places in zip(self.plan.axes[1:-1], stage.extents(self.plan)[1:-1], strict=True):
            lines = (lines[:, None] * (axis.places + axis.reach) + np.arange(places)).ravel()
        return lines

    def arguments(self, factors: list[Array]) -> tuple[Any, ...]:
        """Everything that `sweep_loops.sweep` takes after the arrays it works on.

        Parameters
        ----------
        factors : list of ndarray
            For every stage real weights, (groups, planes written, planes read, taps).
        """
        plan, tables = self.plan, self.correlations
        first, last = plan.axes[0], plan.axes[-1]
        packed = [[table.weights(group) for table, group in zip(tables, groups, strict=True)]
                  for groups in zip(*factors, strict=True)]  # fmt: skip
        w_at, w = ragged([weights for group in packed for singles, _ in group for weights in singles], self.real)
        pw_at, pw = ragged([weights for group in packed for _, pairs in group for weights in pairs], self.real)
        o_at, offsets = ragged([o for table in tables for o in table.offsets], np.int64)
        po_at, pair_offsets = ragged([o for table in tables for o in table.pair_offsets], np.int64)
        jobs = np.cumsum([0, *(len(table.jobs) for table in tables)])
        run_at, runs = ragged([np.array(table.runs) for table in tables], np.int64)
        line_at, between = ragged(self.betweens, np.int64)
        columns = [count for table in tables for count in table.pair_columns]
        origins = np.concatenate([np.arange(math.prod(stage.after)) for stage in self.stages]) * self.plane_step
        more = [first.reach * stage.open[0] for stage in self.stages]
        wider = [last.reach * stage.open[-1] for stage in self.stages]
        result_steps = [math.prod(stage.after) * self.plane_step for stage in self.stages]
        distances = [table.distance for table in tables]
        stages = np.column_stack(
            [
                jobs[:-1],
                jobs[1:],
                run_at[:-1],
                run_at[1:],
                line_at[:-1],
                line_at[1:],
                more,
                wider,
                result_steps,
                distances,
            ]
        )
        return (
            self.groups, self.read, self.written, self.parts, plan.read_space, plan.written_space,
            *self.reading, *self.writing,
            first.places, first.reach, last.places, last.reach, plan.lines_a_step,
            self.steps, self.width, self.plane_step, self.line_step, self.in_place, self.lanes,
            stages.astype(np.int64), between, runs, origins, o_at, offsets, w_at[:-1].reshape(self.groups, -1), w,
            po_at, pair_offsets, np.array(columns), pw_at[:-1].reshape(self.groups, -1), pw,
        )  # fmt: skip


class SweepDirection:
    """Sweeps in one direction, with their factors.

    Parameters
    ----------
    geometry : SweepGeometry
        Of the direction.
    factors : list of ndarray
        For every axis, (groups, channels written, channels read, taps) of the forward map, in the dtype of the map.
    """

    def __init__(self, geometry: SweepGeometry, factors: list[Array]) -> None:
        self.geometry = geometry
        ordered = [f.conj().swapaxes(1, 2) for f in factors] if geometry.plan.adjoint else factors[::-1]
        self.arguments = geometry.arguments([real_weights(factor) for factor in ordered])

    def apply(self, columns: Array, dtype: np.dtype[Any]) -> Array:
        from ..kernels.sweeps import sweep

        geometry = self.geometry
        result = Result(geometry.plan, len(columns), dtype)
        groups = len(columns) * geometry.groups
        crew = awake_workers(groups * geometry.blocks, groups * geometry.work)
        planes = [geometry.read_planes, *(stage.written * math.prod(stage.after) for stage in geometry.stages)]
        x, y = (
            rooms(name, len(crew) + 1, max(counts, default=0) * geometry.plane_step + 2 * _LINE, geometry.real)
            for name, counts in (("x", planes[::2]), ("y", planes[1::2]))
        )
        sweep(
            crew, groups * geometry.blocks, read_only(columns.view(geometry.real).reshape(-1)), result.target,
            result.aside, result.rim, x, read_only(x), y, read_only(y), *self.arguments,
        )  # fmt: skip
        return result.finish()
