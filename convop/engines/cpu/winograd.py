"""The engine for many channels and short kernels: Winograd's short algorithms along the first axis.

Rows of tiles of m results are computed from their values at n points (see `toom_cook`). For 3 taps and m = 2, the values of
rows x0 to x3 at the points 0, 1, -1 and infinity are x2 - x0, x1 + x2, x2 - x1 and x3 - x1: four rows, with one tap each
along the first axis, give two rows of results that take six taps otherwise. At every point the convolution is a correlation
along the other axes alone, which the microkernels do at the full rate of the machine:

    V[k] = sum_j B[k, j] x[m i + j]        values at point k of row i of tiles, for every channel that is read
    S[k, o, c] = sum_t U[k, o, t] V[k, c + t]        U[k] = sum_s G[k, s] K[s]
    y[m i + j] = sum_k A[j, k] S[k]

F(4, 3) takes 6 multiplications for the 12 of 4 results of 3 taps, F(6, 3) 8 for 18. The transforms work on whole rows, so
nothing is moved across vectors, and cost ``n^2`` multiply-adds for a plane that is read and ``m n`` for one that is written,
shared by all planes of the other side. Transforms along two axes would save more multiplications, but multiply the
amplification of errors, leave runs of a few channels for each weight, and gather every tile by itself. Kernels with more taps
along the first axis than m are cut into parts of m taps, which read the values of later rows of tiles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np

from ...arrays import memory
from ...arrays.backend import Array
from ...geometry.spec import ConvSpec
from ..kernels.records import PointTransform, Taps, TapTable, WinogradPlan
from ..kernels.tiles import Tile, plane_runs, slack, tile_elements, tile_vectors
from .components import component_count, grouped_kernel, real_dtype, real_weights
from .packing import ColumnEntries, concatenated, packed
from .planes import CompiledGeometry, PlaneEngine
from .polyphase import extents
from .tiling import tap_offsets, tiled
from .toom_cook import MOST_MULTIPLICATIONS, ToomCook
from .tuning import Tuning, cheapest
from .workspace import padded, row_length


@dataclass(frozen=True)
class WinogradProblem:
    """What the cost of short transforms along the first axis depends on.

    Attributes
    ----------
    outer_size, outer_halo, row_size, row_halo : int
        Results along the first and the last axis, and the largest shifts.
    read_rows, result_rows : int
        Rows that are read for an index of the first axis, and rows of results.
    read, written : int
        Real planes, those of all phases.
    tile : Tile
        Results of the register tiles of an output phase.
    shifts : frozenset of (int, int)
        Phase and shift of each tap along the first axis.
    entries : int
        Real weights for each tap along the first axis.
    itemsize : int
        Bytes of a real number.
    """

    outer_size: int
    outer_halo: int
    row_size: int
    row_halo: int
    read_rows: int
    result_rows: int
    read: int
    written: int
    tile: Tile
    shifts: frozenset[tuple[int, int]]
    entries: int
    itemsize: int

    @classmethod
    def of(cls, spec: ConvSpec, adjoint: bool, dtype: np.dtype[Any]) -> WinogradProblem:
        """Returns the problem of a direction."""
        axes, components = spec.axes, component_count(dtype)
        sizes, halo, phases = extents(spec, adjoint)
        forward, backward = (c // spec.groups * components for c in (spec.c_in, spec.c_out))
        read, written = (backward, forward) if adjoint else (forward, backward)
        if len(axes) == 1:  # a signal has a leading axis of one element
            sizes, halo, shifts = [1, *sizes], [0, *halo], {(0, 0)}
            entries = axes[0].taps
        else:
            first = axes[0]
            split = (divmod(t * first.dilation, first.stride) for t in range(first.taps))
            shifts = {(r, halo[0] - q if adjoint else q) for q, r in split}
            entries = math.prod(axis.taps for axis in axes[1:])
        return cls(
            outer_size=sizes[0],
            outer_halo=halo[0],
            row_size=sizes[-1],
            row_halo=halo[-1],
            read_rows=math.prod(size + h for size, h in zip(sizes[1:-1], halo[1:-1], strict=True)),
            result_rows=math.prod(sizes[1:-1]),
            read=read * (1 if adjoint else math.prod(phases)),
            written=written * (math.prod(phases) if adjoint else 1),
            tile=tile_elements([tile_vectors(planes) for planes in plane_runs(written)], real_dtype(dtype)),
            shifts=frozenset(shifts),
            entries=entries * read * written,
            itemsize=real_dtype(dtype).itemsize,
        )

    def transforms(self, tuning: Tuning) -> list[tuple[int, int]]:
        """Returns the results and the taps of the transforms to choose from: all taps at once, or as many as results."""
        taps = self.outer_halo + 1
        pairs = {(m, r) for m in tuning.winograd.results for r in (taps, min(m, taps))}
        return sorted((m, r) for m, r in pairs if m + r - 1 <= MOST_MULTIPLICATIONS) or [(1, 1)]

    def tile_rows(self, results: int, tuning: Tuning) -> list[int]:
        """Returns the rows of tiles of a block to choose from, of blocks of nearly the same size."""
        total = math.ceil(self.outer_size / results)
        return sorted({math.ceil(total / math.ceil(total / rows)) for rows in tuning.winograd.tile_rows})

    def cut(self, transform: tuple[int, int], tiles: int, columns: int, tuning: Tuning) -> WinogradCut:
        """Returns a cut with its predicted time."""
        costs, tile = tuning.winograd, self.tile
        m, taps = transform
        n = m + taps - 1
        blocks = math.ceil(self.outer_size / (m * tiles))
        more = self.outer_halo // taps
        row = columns + self.row_halo
        index = self.read_rows * row
        joined = tiled((tiles * self.read_rows - 1) * row + columns, tile, tuning.narrow_tile)
        apart = tiles * self.result_rows * tiled(columns, tile, tuning.narrow_tile)
        entries = self.entries * len({(phase, shift // taps) for phase, shift in self.shifts})
        outer = tiles * m
        multiplied = n * (
            entries * min(joined, apart) + n * self.read * (tiles + more) * index + m * self.written * tiles * index
        )
        moved = 2 * (self.read * (outer + self.outer_halo) * index + self.written * outer * self.result_rows * columns)
        rows = self.read * self.read_rows * (outer + self.outer_halo) + self.written * self.result_rows * outer
        held = n * (self.read * (tiles + more) + self.written * tiles) * index * self.itemsize
        work = costs.multiply * multiplied + costs.move * moved + costs.weight * n * entries
        each = self.itemsize * work * max(1.0, (held / costs.held_bytes) ** 0.25) + costs.row * rows
        count = blocks * math.ceil(self.row_size / columns)
        nanoseconds = -(-count // costs.workers) * costs.workers * each
        return WinogradCut(m, taps, outer, columns, joined < apart, float(nanoseconds))


@dataclass(frozen=True)
class WinogradCut:
    """How planes are cut for short transforms along the first axis.

    Attributes
    ----------
    results, taps : int
        Of a transform.
    outer, columns : int
        Indices of the first axis and of the last that a block writes.
    joins_rows : bool
        Whether a microkernel runs along all rows of a block.
    nanoseconds : float
        Predicted with one thread.
    """

    results: int
    taps: int
    outer: int
    columns: int
    joins_rows: bool
    nanoseconds: float


@lru_cache(maxsize=256)
def winograd_cut(spec: ConvSpec, adjoint: bool, dtype: np.dtype[Any], tuning: Tuning) -> WinogradCut:
    """Returns the cheapest cut of a direction."""
    problem = WinogradProblem.of(spec, adjoint, dtype)
    costs = tuning.winograd
    counts = [c for c in costs.cuts if problem.row_size // c >= costs.least_width] or [1]
    widths = sorted({math.ceil(problem.row_size / c) for c in counts})
    cuts = (
        problem.cut(transform, tiles, columns, tuning)
        for transform in problem.transforms(tuning)
        for tiles in problem.tile_rows(transform[0], tuning)
        for columns in widths
    )
    return cheapest(cuts, lambda cut: cut.nanoseconds)


class WinogradGeometry(CompiledGeometry):
    """The blocks of a direction, its tap offsets, and its transforms.

    Parameters
    ----------
    spec, adjoint, dtype
        As in `Geometry`.
    tuning : Tuning
        Costs.
    """

    def __init__(self, spec: ConvSpec, adjoint: bool, dtype: np.dtype[Any], tuning: Tuning) -> None:
        super().__init__(spec, adjoint, dtype)
        plan, itemsize = self.plan, self.real.itemsize
        first, last = plan.axes[0], plan.axes[-1]
        self.cut = cut = winograd_cut(spec, adjoint, dtype, tuning)
        self.transform = ToomCook.of(cut.results, cut.taps)
        self.points = cut.results + cut.taps - 1
        self.runs = plane_runs(self.written_planes)
        self.more_tiles = first.halo // cut.taps
        row = cut.columns + last.halo
        self.row_stride = row if cut.joins_rows else row_length(row, itemsize)
        index = plan.rows_per_index * self.row_stride
        tiles = math.ceil(cut.outer / cut.results)
        beyond = tile_elements([tile_vectors(planes) for planes in plane_runs(self.points) + self.runs], self.real).wide
        rows_read = (tiles + self.more_tiles - 1) * cut.results + self.points
        self.read_stride = padded(rows_read * index + beyond, itemsize)
        self.written_stride = padded(tiles * cut.results * index + beyond, itemsize)
        self.plane_stride = padded((tiles + self.more_tiles) * index + beyond, itemsize)
        planes = self.components * plan.read_phases
        self.values_at = max(planes * self.read_stride, self.components * self.written_stride)
        self.workspace = (
            self.values_at + self.points * self.read_planes * self.plane_stride + slack(self.real),
            self.points * self.written_planes * self.plane_stride + slack(self.real),
        )
        self.blocks = math.ceil(first.output_size / cut.outer) * math.ceil(last.output_size / cut.columns)
        self.entries = [ColumnEntries.of(taps, cut.taps) for taps in self.phases]
        read = self.read * self.components
        self.offsets = [tap_offsets(plan, e.taps, read, self.plane_stride, self.row_stride) for e in self.entries]
        weights = sum(len(offsets) for offsets in self.offsets) * self.written_planes * self.points
        self.work = weights * self.groups * plan.plane_size // cut.results

    def loop(self) -> Any:
        from ..kernels.winograd import correlate

        return correlate

    def record(self, kernel: Array) -> WinogradPlan:
        index = self.plan.rows_per_index * self.row_stride
        return WinogradPlan(
            tiling=self.tiling(self.cut.outer, self.cut.columns),
            reading=self.reading._replace(channels=1),
            writing=self.writing._replace(channels=1),
            read_channels=self.read,
            written_channels=self.written,
            read_layout=self.layout(self.read_stride, self.row_stride),
            written_layout=self.layout(self.written_stride, self.row_stride),
            layout=self.layout(self.plane_stride, self.row_stride),
            results=self.cut.results,
            points=self.points,
            point_stride=self.read_planes * self.plane_stride,
            sum_stride=self.written_planes * self.plane_stride,
            values_at=self.values_at,
            more_tiles=self.more_tiles,
            joins_rows=self.cut.joins_rows,
            to_points=self._point_transform(self.transform.from_input, index),
            to_results=self._point_transform(self.transform.to_results, self.written_planes * self.plane_stride),
            taps=self._tap_table(kernel),
        )

    def _point_transform(self, matrix: Array, stride: int) -> PointTransform:
        """Returns the transform by a matrix of rows that lie `stride` apart."""
        runs = plane_runs(len(matrix))
        offsets, weights = stride * np.arange(matrix.shape[1]), packed(matrix, runs).astype(self.real)
        return PointTransform(np.array(runs), Taps(offsets, 0, weights, len(offsets)))

    def _tap_table(self, kernel: Array) -> TapTable:
        """Returns the weights at all points in the order in which the loop reads them."""
        taps = real_weights(grouped_kernel(self.plan.spec, kernel, self.plan.adjoint))
        sizes = [self.points * self.written_planes * len(offsets) for offsets in self.offsets]
        # All weights, and those of one phase in double precision: as they are computed, and twice while they are packed.
        nbytes = len(taps) * sum(sizes) * self.real.itemsize + 3 * max(sizes) * 8
        memory.require(nbytes, f"the transformed kernel of {self.plan.spec} (engine 'winograd')")
        begins = np.cumsum([0, *sizes * len(taps)])
        weights = np.empty(begins[-1], self.real)
        numbers = product(range(len(taps)), range(len(self.phases)))
        for (group, phase), begin, stop in zip(numbers, begins[:-1], begins[1:], strict=True):
            values = self._values(taps[group], phase)
            runs = np.split(values, np.cumsum(self.runs)[:-1], axis=1)
            with np.errstate(over="ignore"):  # of taps near the largest number
                by_run = [run.swapaxes(1, 2).reshape(self.points, -1) for run in runs]
                weights[begin:stop] = np.concatenate(by_run, axis=1).ravel()
        offset_at, offsets = concatenated(self.offsets, np.int64)
        return TapTable(np.array(self.runs), offsets, offset_at, weights, begins[:-1].reshape(len(taps), -1))

    def _values(self, group: Array, phase: int) -> Array:
        """Returns the weights of a phase at every point, (points, planes written, planes read * entries)."""
        taps, entries = self.phases[phase], self.entries[phase]
        written, read, _ = group.shape
        parts = np.zeros((self.cut.taps, written, read, len(entries.taps.number)))  # by tap of a transform
        parts[entries.within, :, :, entries.of_tap] = np.moveaxis(group[:, :, taps.number], -1, 0)
        values = np.zeros((self.points, written, read * parts.shape[-1]))
        with np.errstate(invalid="ignore", over="ignore"):  # of kernels that are not finite
            for s, part in enumerate(parts.reshape(self.cut.taps, 1, written, -1)):
                values += self.transform.from_taps[:, s, None, None] * part
        return values


class WinogradEngine(PlaneEngine):
    """Short transforms along the first axis, with the transform of the kernel kept.

    A NaN or an infinity becomes NaN in the row of tiles that reads it, and sums that leave the range of the dtype, which values
    at points do sooner than results, do so too. For random kernels and inputs the root mean square of the errors is that of the
    direct sum times `ToomCook.amplification`, which is less than 8. In general errors are in proportion to the sums of
    moduli over neighbouring rows, and not to single results: integers, which the direct sum adds exactly, are rounded.
    """

    name = "winograd"

    def _build_geometry(self, adjoint: bool, dtype: np.dtype[Any]) -> WinogradGeometry:
        return WinogradGeometry(self._spec, adjoint, dtype, self._tuning)
