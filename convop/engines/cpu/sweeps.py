"""Sweeps of a separable kernel: a block is correlated along one axis after another without leaving the caches.

A block of the input is read with the halo that its results need, correlated along one axis from one workspace into
another, and written when all axes are done.
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
from ..kernels.records import Stages, SweepPlan
from ..kernels.tiles import Tile, all_tiles, slack, tile_elements
from .components import real_weights
from .packing import CorrelationPhases, concatenated, pair_distance, pair_table, tap_table
from .planes import CompiledDirection, CompiledGeometry
from .polyphase import PhaseTaps, Plan
from .tiling import tiled
from .tuning import Tuning, cheapest
from .workspace import padded


@dataclass(frozen=True)
class _Stage:
    """One sweep: which planes it reads and writes.

    Planes are numbered by channel and phase: the phases that are read for axes that are not yet swept, and the phases
    that are written for axes that are.

    Attributes
    ----------
    axis : int
        The axis that is swept.
    read, written : int
        Real planes of one phase that are read and written.
    before, after : tuple of int
        Phases of every axis before and after the sweep.
    needs_halo : tuple of bool
        Axes that are still to be swept afterwards, so their halo is needed.
    """

    axis: int
    read: int
    written: int
    before: tuple[int, ...]
    after: tuple[int, ...]
    needs_halo: tuple[bool, ...]

    def output_phases(self, plan: Plan) -> list[PhaseTaps]:
        """Returns, for every phase that is written, its taps and the phases that they read."""
        axis = plan.axes[self.axis]
        found = []
        for phases in product(*(range(count) for count in self.after)):
            taps = []
            for number, (read, write, shift) in enumerate(axis.taps):
                if write == phases[self.axis]:
                    source = (*phases[: self.axis], read, *phases[self.axis + 1 :])
                    shifts = tuple(shift * (a == self.axis) for a in range(len(plan.axes)))
                    taps.append((number, shifts, int(np.ravel_multi_index(source, self.before))))
            found.append(PhaseTaps.of(taps))
        return found

    def extents(self, plan: Plan) -> list[int]:
        """Returns the results of a whole plane along every axis, with the halo of the sweeps to come."""
        return [axis.output_size + axis.halo * halo for axis, halo in zip(plan.axes, self.needs_halo, strict=True)]

    @property
    def planes(self) -> int:
        """Real planes that are written, of all phases."""
        return self.written * math.prod(self.after)


def _stages(plan: Plan, channels: list[int], components: int) -> list[_Stage]:
    """Returns the sweeps in the order in which the factors follow one another: forward the last axis first."""
    count = len(plan.axes)
    order = range(count - plan.spec.ndim, count)
    if not plan.adjoint:
        order, channels = order[::-1], channels[::-1]
    phases = [len(axis.read) for axis in plan.axes]
    needs_halo = [n in order for n in range(count)]
    stages = []
    for number, axis in enumerate(order):
        before = tuple(phases)
        phases[axis], needs_halo[axis] = len(plan.axes[axis].write), False
        read, written = channels[number] * components, channels[number + 1] * components
        stages.append(_Stage(axis, read, written, before, tuple(phases), tuple(needs_halo)))
    return stages


class SweepGeometry(CompiledGeometry):
    """The stages and blocks of a direction.

    Parameters
    ----------
    spec, adjoint, dtype
        As in `Geometry`.
    ranks : tuple of int
        Channels of a group between each axis and the next.
    tuning : Tuning
        Costs.
    """

    def __init__(
        self, spec: ConvSpec, adjoint: bool, dtype: np.dtype[Any], ranks: tuple[int, ...], tuning: Tuning
    ) -> None:
        super().__init__(spec, adjoint, dtype)
        plan, itemsize = self.plan, self.real.itemsize
        channels = [spec.c_out // spec.groups, *ranks, spec.c_in // spec.groups]
        self.stages = _stages(plan, channels, self.components)
        tile = tile_elements(all_tiles(), self.real)
        self.outer, self.columns = outer, columns = self._cut(tile, tuning)
        first, last = plan.axes[0], plan.axes[-1]
        self.row_stride = padded(columns + last.halo + tile.wide, itemsize)
        self.plane_stride = padded((outer + first.halo) * plan.rows_per_index * self.row_stride, itemsize)
        self.blocks = math.ceil(first.output_size / outer) * math.ceil(last.output_size / columns)
        narrowest = last.output_size - (math.ceil(last.output_size / columns) - 1) * columns
        self.writes_in_place = self.components == 1 and plan.writes_whole_rows and narrowest >= tile.narrow
        self.correlations = [self._correlations(stage) for stage in self.stages]
        self.work = self.groups * sum(
            math.prod(stage.extents(plan)) * stage.written * sum(len(o) for o in correlation.offsets)
            for stage, correlation in zip(self.stages, self.correlations, strict=True)
        )
        planes = [self.read_planes, *(stage.planes for stage in self.stages)]
        x, y = (max(counts, default=0) * self.plane_stride + slack(self.real) for counts in (planes[::2], planes[1::2]))
        self.workspace = (x, y)

    def _cut(self, tile: Tile, tuning: Tuning) -> tuple[int, int]:
        """Returns a block's indices of the first axis and of the last that minimise repeated reading and sweeping."""
        first, last, costs = self.plan.axes[0], self.plan.axes[-1], tuning.sweeps
        cuts: list[tuple[int, int]] = []
        for row_blocks, column_blocks in product(costs.cuts, costs.cuts):
            outer, columns = math.ceil(first.output_size / row_blocks), math.ceil(last.output_size / column_blocks)
            if not cuts or column_blocks == 1 or columns >= costs.least_width:
                cuts.append((outer, columns))
        return cheapest(cuts, lambda cut: self._nanoseconds(*cut, tile, tuning))

    def _nanoseconds(self, outer: int, columns: int, tile: Tile, tuning: Tuning) -> float:
        """Returns the predicted time of all blocks."""
        plan, itemsize, costs = self.plan, self.real.itemsize, tuning.sweeps
        first, last = plan.axes[0], plan.axes[-1]
        planes = [self.read_planes, *(stage.planes for stage in self.stages)]
        rows = (outer + first.halo) * plan.rows_per_index
        moved = planes[0] * rows * (columns + last.halo) + planes[-1] * outer * len(plan.row_offsets) * columns
        nanoseconds = costs.move * itemsize * moved + costs.row * planes[0] * rows
        for stage in self.stages:
            _, *middle, _ = stage.extents(plan)
            rows = (outer + first.halo * stage.needs_halo[0]) * math.prod(middle)
            taps = plan.axes[stage.axis].taps
            width = tiled(columns + last.halo * stage.needs_halo[-1], tile, tuning.narrow_tile)
            multiplied = rows * width * stage.read
            multiplied *= stage.written * len(taps) * math.prod(stage.after) / stage.after[stage.axis]
            rate = costs.alone if stage.written == 1 else costs.together
            nanoseconds += rate * itemsize * multiplied
            nanoseconds += costs.row * rows * stage.planes
        held = 2 * max(planes) * (outer + first.halo) * plan.rows_per_index * (columns + last.halo) * itemsize
        blocks = math.ceil(first.output_size / outer) * math.ceil(last.output_size / columns) * self.groups
        return float(nanoseconds * (math.ceil(blocks / costs.workers) * max(1.0, (held / costs.held_bytes) ** 0.25)))

    def _correlations(self, stage: _Stage) -> CorrelationPhases:
        plan = self.plan
        taps = stage.output_phases(plan)
        phases = math.prod(stage.before)
        planes = np.arange(stage.read)[:, None] * phases
        offsets = [
            (
                (planes + phase.phase) * self.plane_stride
                + plan.row_numbers(phase.shift) * self.row_stride
                + phase.shift[:, -1]
            ).ravel()
            for phase in taps
        ]
        distance = 0
        if stage.written == 1 and stage.axis == 0:
            distance = pair_distance(plan.spec.axes[0], plan.axes[0].output_size, taps)
        stride = plan.rows_per_index * self.row_stride
        return CorrelationPhases(taps, offsets, (stage.read, stage.written), distance=distance, stride=stride)

    def _row_offsets(self, stage: _Stage) -> Ints:
        """Returns the numbers of the rows of an index of the first axis that a stage writes."""
        rows = np.zeros(1, dtype=np.int64)
        for axis, size in zip(self.plan.axes[1:-1], stage.extents(self.plan)[1:-1], strict=True):
            rows = (rows[:, None] * (axis.output_size + axis.halo) + np.arange(size)).ravel()
        return rows

    def loop(self) -> Any:
        from ..kernels.sweeps import sweep

        return sweep

    def record(self, kernel: Any) -> SweepPlan:
        """Returns the plan that the loop takes.

        Parameters
        ----------
        kernel : list of ndarray
            For every stage real weights, (groups, planes written, planes read, taps).
        """
        return SweepPlan(
            tiling=self.tiling(self.outer, self.columns),
            reading=self.reading,
            writing=self.writing,
            layout=self.layout(self.plane_stride, self.row_stride),
            writes_in_place=self.writes_in_place,
            stages=self._stage_table(),
            taps=tap_table(self.correlations, kernel, self.real),
            pairs=pair_table(self.correlations, kernel, self.real),
        )

    def _stage_table(self) -> Stages:
        first, last = self.plan.axes[0], self.plan.axes[-1]
        stages, correlations = self.stages, self.correlations
        row_at, row_offsets = concatenated([self._row_offsets(stage) for stage in stages], np.int64)
        phases = [math.prod(stage.after) for stage in stages]
        return Stages(
            phase_at=np.cumsum([0, *(len(c.phases) for c in correlations)]),
            run_at=np.cumsum([0, *(len(c.runs) for c in correlations)]),
            row_at=row_at,
            row_offsets=row_offsets,
            outer_halo=np.array([first.halo * stage.needs_halo[0] for stage in stages]),
            row_halo=np.array([last.halo * stage.needs_halo[-1] for stage in stages]),
            plane_stride=np.array(phases) * self.plane_stride,
            distance=np.array([c.distance for c in correlations]),
            origins=np.concatenate([np.arange(count) for count in phases]) * self.plane_stride,
        )


def sweep_direction(geometry: SweepGeometry, factors: list[Array]) -> CompiledDirection:
    """Returns the sweeps of a direction.

    Parameters
    ----------
    geometry : SweepGeometry
        Of the direction.
    factors : list of ndarray
        For every axis, (groups, channels written, channels read, taps) of the forward map, in the dtype of the map.
    """
    ordered = [f.conj().swapaxes(1, 2) for f in factors] if geometry.plan.adjoint else factors[::-1]
    return CompiledDirection(geometry, geometry.record([real_weights(factor) for factor in ordered]))
