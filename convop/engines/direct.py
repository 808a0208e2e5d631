"""The engine for few channels and small kernels: register tiles over planes laid flat, in compiled loops."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from ..backend import Array
from ..parallel import run_items
from ..spec import ConvSpec
from .blocks import Blocks, scratch
from .extend import Taps
from .planes import (
    Geometry,
    PlaneEngine,
    Result,
    grouped_kernel,
    read_only,
    real_weights,
)

__all__ = ["DirectEngine"]

_LINE = 64


def _ragged(arrays: list[Array], dtype: Any) -> tuple[Array, Array]:
    """Arrays one after another, and where each begins."""
    at = np.cumsum([0, *(a.size for a in arrays)])
    return at, np.concatenate([a.ravel() for a in arrays]).astype(dtype, copy=False)


def _runs(planes: int) -> list[int]:
    """Numbers of planes that are computed together: fours, and rather three and two than four and one."""
    runs = []
    while planes:
        runs.append(3 if planes in (3, 5) else min(planes, 4))
        planes -= runs[-1]
    return runs


class _Geometry(Geometry):
    """The blocks and offsets of a direction."""

    def __init__(self, spec: ConvSpec, adjoint: bool, real: np.dtype[Any], parts: int) -> None:
        from .tiles import PAIR_TILE, TILES, lanes

        super().__init__(spec, adjoint, real, parts)
        plan = self.plan
        self.lanes = lanes(real)
        planes = self.written * parts
        axis = spec.axes[0]
        distance = axis.dilation // math.gcd(axis.dilation, axis.stride)
        self.distance = distance if planes == 1 and spec.ndim > 1 and self._pairs(distance) else 0
        self.runs = _runs(planes)
        tiles = [TILES[outputs] for outputs in self.runs] + [PAIR_TILE] * bool(self.distance)
        wide, narrow = (max(tile[n] for tile in tiles) * self.lanes for n in (0, 1))
        self.blocks = Blocks.of(
            plan, (self.read_planes, planes), (wide, narrow), real.itemsize, spec.groups,
            paired=bool(self.distance), real=parts == 1,
        )  # fmt: skip
        self.offsets = [self.blocks.offsets(plan, job, self.read * parts) for job in self.jobs]
        self.work = sum(len(o) for o in self.offsets) * planes * spec.groups * math.prod(a.places for a in plan.axes)
        self.pair_offsets: list[Array] = [np.zeros(0, dtype=np.int64)]
        if self.distance:
            self.columns = [self._columns(job) for job in self.jobs]
            self.pair_offsets = [self._pair_offsets(n) for n in range(len(self.jobs))]

    def _pairs(self, distance: int) -> bool:
        axis = self.plan.axes[0]
        longest = max(len(set(job.shift[:, 0].tolist())) for job in self.jobs)
        return longest > 1 and axis.places > distance

    def _columns(self, job: Taps) -> list[list[int]]:
        """Taps of a plane that differ along the first axis alone, in its order."""
        columns: dict[tuple[int, ...], list[int]] = {}
        for tap in np.argsort(job.shift[:, 0], kind="stable").tolist():
            columns.setdefault((int(job.phase[tap]), *job.shift[tap, 1:].tolist()), []).append(tap)
        return list(columns.values())

    def _stretches(self, job: int) -> tuple[list[int], list[tuple[int, int]], list[int]]:
        """Entries that only the first of two lines reads, those of both with the entry for the second, and the last."""
        taps = len(self.jobs[job].number)
        columns = [
            [plane * taps + tap for tap in column]
            for plane in range(self.read * self.parts)
            for column in self.columns[job]
        ]
        both = [(column[i], column[i - 1]) for column in columns for i in range(1, len(column))]
        return [column[0] for column in columns], both, [column[-1] for column in columns]

    def _pair_offsets(self, job: int) -> Array:
        offsets = self.offsets[job]
        first, both, last = self._stretches(job)
        step = self.distance * self.plan.lines_a_step * self.blocks.line_step
        return np.concatenate([offsets[first], offsets[[entry for entry, _ in both]], offsets[last] + step])

    def weights(self, kernel: Array) -> tuple[Array, ...]:
        """The kernel in the order in which the loops read it."""
        weights = real_weights(grouped_kernel(self.plan.spec, kernel, self.plan.adjoint))
        packed: list[Array] = []
        pairs: list[Array] = []
        for group in weights:
            for number, job in enumerate(self.jobs):
                matrix = group[:, :, job.number]  # (written, read, taps)
                packed.append(self._packed(matrix))
                if self.distance:
                    entries = matrix.reshape(-1)
                    first, both, last = self._stretches(number)
                    pairs.append(
                        np.concatenate([entries[first], entries[np.array(both, dtype=int).ravel()], entries[last]])
                    )
        w_at, w = _ragged(packed, self.real)
        pw_at, pw = _ragged(pairs or [np.zeros(0)], self.real)
        shape = (len(weights), len(self.jobs))
        pw_at = pw_at[:-1].reshape(shape) if self.distance else np.zeros(shape, dtype=np.int64)
        return w_at[:-1].reshape(shape), w, pw_at, pw

    def _packed(self, matrix: Array) -> Array:
        entries = matrix.reshape(len(matrix), -1)
        ends = np.cumsum(self.runs)
        return np.concatenate([rows.T.ravel() for rows in np.split(entries, ends[:-1])])

    def direction(self, kernel: Array) -> _Direction:
        return _Direction(self, kernel)

    @property
    def items(self) -> int:
        """Blocks of one column."""
        return self.groups * self.blocks.count(self.plan)

    def arguments(self, weights: tuple[Array, ...]) -> tuple[Any, ...]:
        """Everything that `loops.correlate` takes after the arrays it works on."""
        plan, blocks = self.plan, self.blocks
        first, last = plan.axes[0], plan.axes[-1]
        o_at, offsets = _ragged(self.offsets, np.int64)
        po_at, pair_offsets = _ragged(self.pair_offsets, np.int64)
        columns = [len(c) * self.read * self.parts for c in self.columns] if self.distance else [0] * len(self.jobs)
        w_at, w, pw_at, pw = weights
        if not self.distance:
            po_at = np.zeros(len(self.jobs) + 1, dtype=np.int64)
        return (
            self.groups, self.read, self.written, self.parts, plan.read_space, plan.written_space,
            *self.reading, *self.writing,
            first.places, first.reach, last.places, last.reach, plan.lines_a_step, plan.between,
            blocks.steps, blocks.width, blocks.plane_step, blocks.line_step, blocks.out_step, blocks.flat,
            blocks.read_in_place, blocks.in_place, self.lanes, np.array(self.runs),
            o_at, offsets, w_at, w, self.distance, po_at, pair_offsets, np.array(columns), pw_at, pw,
        )  # fmt: skip


class _Direction:
    """The map in one direction, ready to be applied."""

    def __init__(self, geometry: _Geometry, kernel: Array) -> None:
        self.geometry = geometry
        self.arguments = geometry.arguments(geometry.weights(kernel))

    def apply(self, columns: Array, dtype: np.dtype[Any]) -> Array:
        geometry = self.geometry
        result = Result(geometry.plan, len(columns), dtype)
        work = partial(self._work, read_only(columns.view(geometry.real).reshape(-1)), result)
        run_items(work, len(columns) * geometry.items, work=len(columns) * geometry.work)
        return result.finish()

    def _work(self, source: Array, result: Result, first: int, stop: int) -> None:
        from .loops import correlate

        geometry, blocks = self.geometry, self.geometry.blocks
        size = 0 if blocks.read_in_place else geometry.read_planes * blocks.plane_step
        x = scratch("x", size + _LINE * 2, geometry.real)
        y = scratch("y", geometry.written * geometry.parts * blocks.out_step + _LINE * 2, geometry.real)
        correlate(first, stop, source, result.target, result.aside, result.rim, x, read_only(x), y, *self.arguments)


class DirectEngine(PlaneEngine):
    """Compiled loops over the planes of the extended input. No matrix, and no more memory than the result.

    NaN and infinities stay where the kernel reads them.
    """

    name = "direct"
    _geometry = staticmethod(_Geometry)
