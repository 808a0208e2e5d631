"""The engine for few channels and small kernels: register tiles over planes laid flat, in compiled loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...arrays.backend import Array
from ...geometry.spec import ConvSpec
from ...threads.pool import awake_workers
from .blocks import Blocks, rooms
from .packing import Correlations, paired_distance, plane_runs, ragged
from .planes import Geometry, PlaneEngine, Result, grouped_kernel, read_only, real_weights

__all__ = ["DirectEngine"]

_LINE = 64


class _Geometry(Geometry):
    """The blocks and offsets of a direction."""

    def __init__(self, spec: ConvSpec, adjoint: bool, real: np.dtype[Any], parts: int) -> None:
        from ..kernels.microkernels import PAIR_TILE, TILES, lanes

        super().__init__(spec, adjoint, real, parts)
        plan = self.plan
        self.lanes = lanes(real)
        planes = self.written * parts
        single = planes == 1 and spec.ndim > 1
        distance = paired_distance(spec.axes[0], plan.axes[0].places, self.jobs) if single else 0
        tiles = [TILES[outputs] for outputs in plane_runs(planes)] + [PAIR_TILE] * bool(distance)
        wide, narrow = (max(tile[n] for tile in tiles) * self.lanes for n in (0, 1))
        self.blocks = Blocks.of(
            plan, (self.read_planes, planes), (wide, narrow), real.itemsize, spec.groups, paired=bool(distance),
            real=parts == 1,
        )  # fmt: skip
        offsets = [self.blocks.offsets(plan, job, self.read * parts) for job in self.jobs]
        self.work = sum(len(o) for o in offsets) * planes * spec.groups * math.prod(a.places for a in plan.axes)
        step = plan.lines_a_step * self.blocks.line_step
        self.correlations = Correlations(self.jobs, offsets, self.read * parts, planes, distance, step)

    def direction(self, kernel: Array) -> _Direction:
        return _Direction(self, kernel)

    @property
    def items(self) -> int:
        """Blocks of one column."""
        return self.groups * self.blocks.count(self.plan)

    def arguments(self, kernel: Array) -> tuple[Any, ...]:
        """Everything that `loops.correlate` takes after the arrays it works on."""
        plan, blocks, tables = self.plan, self.blocks, self.correlations
        first, last = plan.axes[0], plan.axes[-1]
        groups = [tables.weights(group) for group in real_weights(grouped_kernel(plan.spec, kernel, plan.adjoint))]
        shape = (self.groups, len(self.jobs))
        w_at, w = ragged([weights for singles, _ in groups for weights in singles], self.real)
        pw_at, pw = ragged([weights for _, pairs in groups for weights in pairs], self.real)
        o_at, offsets = ragged(tables.offsets, np.int64)
        po_at, pair_offsets = ragged(tables.pair_offsets, np.int64)
        return (
            self.groups, self.read, self.written, self.parts, plan.read_space, plan.written_space,
            *self.reading, *self.writing,
            first.places, first.reach, last.places, last.reach, plan.lines_a_step, plan.between,
            blocks.steps, blocks.width, blocks.plane_step, blocks.line_step, blocks.out_step, blocks.flat,
            blocks.read_in_place, blocks.in_place, self.lanes, np.array(tables.runs),
            o_at, offsets, w_at[:-1].reshape(shape), w, tables.distance, po_at, pair_offsets,
            np.array(tables.pair_columns), pw_at[:-1].reshape(shape), pw,
        )  # fmt: skip


class _Direction:
    """The map in one direction, ready to be applied."""

    def __init__(self, geometry: _Geometry, kernel: Array) -> None:
        self.geometry = geometry
        self.arguments = geometry.arguments(kernel)

    def apply(self, columns: Array, dtype: np.dtype[Any]) -> Array:
        from ..kernels.planes import correlate

        geometry = self.geometry
        result = Result(geometry.plan, len(columns), dtype)
        items = len(columns) * geometry.items
        crew = awake_workers(items, len(columns) * geometry.work)
        blocks, threads = geometry.blocks, len(crew) + 1
        size = 0 if blocks.read_in_place else geometry.read_planes * blocks.plane_step
        x = rooms("x", threads, size + _LINE * 2, geometry.real)
        y = rooms("y", threads, geometry.written * geometry.parts * blocks.out_step + _LINE * 2, geometry.real)
        correlate(
            crew, items, read_only(columns.view(geometry.real).reshape(-1)), result.target, result.aside, result.rim,
            x, read_only(x), y, *self.arguments,
        )  # fmt: skip
        return result.finish()


class DirectEngine(PlaneEngine):
    """Compiled loops over the planes of the extended input. No matrix, and no more memory than the result.

    NaN and infinities stay where the kernel reads them.
    """

    name = "direct"
    _geometry = staticmethod(_Geometry)
