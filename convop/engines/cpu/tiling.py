"""Cuts planes into blocks that fit the caches of a core, and lays a block out in a workspace."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ...arrays.backend import Array
from ..kernels.records import RunKind
from ..kernels.tiles import Tile
from .planes import Geometry
from .polyphase import PhaseTaps, Plan
from .tuning import Tuning, cheapest
from .workspace import padded, row_length


def tiled(length: int, tile: Tile, narrow_time: float) -> float:
    """Returns the results that tiles compute for a run, a narrow tile counted as the wide one of the same time."""
    tiles, left = divmod(length, tile.wide)
    if 2 * left > tile.wide:
        return (tiles + 1) * tile.wide
    return tiles * tile.wide + math.ceil(left / tile.narrow) * tile.wide * narrow_time


def tap_offsets(plan: Plan, taps: PhaseTaps, planes: int, plane_stride: int, row_stride: int) -> Array:
    """Returns where every tap of all channel components reads, ``(planes, taps)``, flat.

    The offset of a tap is its plane, its row and its shift along the last axis:
    ``(plane*read_phases + phase)*plane_stride + row*row_stride + shift``.
    """
    rows = plan.row_numbers(taps.shift)
    at = rows * row_stride + taps.shift[:, -1] + taps.phase * plane_stride
    return (np.arange(planes)[:, None] * plan.read_phases * plane_stride + at).ravel()


class _BlockShape(NamedTuple):
    outer: int
    columns: int
    cost: float


@dataclass(frozen=True)
class DirectTiling:
    """How the direct engine divides planes into blocks, and how a block lies in a workspace.

    Attributes
    ----------
    outer, columns : int
        Indices of the first axis and of the last that a block writes.
    run_kind : RunKind
        What a microkernel runs along.
    row_stride, plane_stride, out_plane_stride : int
        Elements from row to row, and from plane to plane of what is read and of what is written.
    reads_in_place, writes_in_place : bool
        Whether planes are read from the source itself, and results written to the target itself, instead of through a
        workspace.
    """

    outer: int
    columns: int
    run_kind: RunKind
    row_stride: int
    plane_stride: int
    out_plane_stride: int
    reads_in_place: bool
    writes_in_place: bool

    @classmethod
    def of(cls, geometry: Geometry, tile: Tile, tuning: Tuning, *, paired: bool) -> DirectTiling:
        """Returns the tiling that stays in cache with the least repeated reading.

        Parameters
        ----------
        geometry : Geometry
            Of the direction.
        tile : Tile
            Register tiles.
        tuning : Tuning
            Sizes of caches.
        paired : bool
            Whether two indices of the first axis are computed together.
        """
        shapes = list(_block_shapes(geometry, tile, tuning))
        # A signal has no rows to choose from. Its shapes end with the first one that fits the cache.
        signal = geometry.plan.axes[0].output_size == 1
        shape = shapes[-1] if signal else cheapest(shapes, lambda shape: shape.cost)
        return cls._laid_out(geometry, shape, tile, tuning, paired)

    @classmethod
    def _laid_out(
        cls, geometry: Geometry, shape: _BlockShape, tile: Tile, tuning: Tuning, paired: bool
    ) -> DirectTiling:
        plan, itemsize = geometry.plan, geometry.real.itemsize
        first, last = plan.axes[0], plan.axes[-1]
        outer, columns, _ = shape
        narrowest = last.output_size - (math.ceil(last.output_size / columns) - 1) * columns
        in_place = geometry.components == 1 and narrowest >= tile.narrow
        reads = in_place and plan.reads_whole_rows
        row = last.read_size if reads else columns + last.halo
        indices = 1 if paired else outer
        run = ((indices - 1) * plan.rows_per_index + int(plan.row_offsets[-1])) * row + columns
        # Without a halo beyond the first axis, the rows of a block follow one another in the target as well.
        gapless = all(axis.halo == 0 for axis in plan.axes[1:]) and columns == last.output_size == last.written_size
        gapless = gapless and row == columns and in_place and plan.writes_whole_rows
        # Shares of the time that goes into results: runs over several rows compute what lies between them too, and have
        # to be copied from their workspace.
        copied = tuning.direct.copy_share
        writes = in_place and plan.writes_whole_rows
        row_share = columns / tiled(columns, tile, tuning.narrow_tile) * (1 if writes else copied)
        results = indices * len(plan.row_offsets) * columns
        run_share = results / tiled(run, tile, tuning.narrow_tile) * (1 if gapless else copied)
        run_kind = RunKind.ROW
        if row_share < run_share:
            run_kind, writes = RunKind.INDEX if paired else RunKind.BLOCK, gapless and not paired
        elif not reads:
            # A narrow tile may write beyond a shorter row, but not over the next one, which may be done before.
            row = row_length(max(row, tile.narrow), itemsize)
        plane = (outer + first.halo) * plan.rows_per_index * row + tile.wide
        out = outer * plan.rows_per_index * row + tile.wide
        return cls(
            outer,
            columns,
            run_kind,
            row_stride=row,
            plane_stride=plan.read_space if reads else padded(plane, itemsize),
            out_plane_stride=0 if writes else padded(out, itemsize),
            reads_in_place=reads,
            writes_in_place=writes,
        )


def _block_shapes(geometry: Geometry, tile: Tile, tuning: Tuning) -> Iterator[_BlockShape]:
    """Yields ever narrower blocks, each with as many rows as fit the cache."""
    plan, itemsize, groups, constants = geometry.plan, geometry.real.itemsize, geometry.groups, tuning.direct
    first, last = plan.axes[0], plan.axes[-1]
    read, written = geometry.read_planes, geometry.written_planes
    cache = constants.cache_bytes if written > constants.planes_together else constants.streamed_bytes
    # Enough blocks for all workers, but no block whose halo exceeds its own rows.
    wanted = max(math.ceil(first.output_size * groups / constants.least_blocks), 2 * first.halo, 2)
    columns = last.output_size
    while True:
        row = (columns + last.halo) * plan.rows_per_index
        room = cache // itemsize - read * first.halo * row
        outer = max(1, min(first.output_size, wanted, room // ((read + written) * row)))
        outer = math.ceil(first.output_size / math.ceil(first.output_size / outer))
        size = (read * (outer + first.halo) + written * outer) * row
        # Elements touched per result, times a penalty that grows as the square root beyond the cache.
        yield _BlockShape(outer, columns, size / (outer * columns) * max(1.0, (size * itemsize / cache) ** 0.5))
        blocks = math.ceil(last.output_size / columns) * groups
        enough = first.output_size > 1 or blocks >= constants.least_blocks
        if columns <= 4 * tile.wide or (first.output_size == 1 and enough and size * itemsize <= cache):
            return
        columns = math.ceil(columns / 2)


def whole_run_tiling(plan: Plan, itemsize: int, run: int) -> tuple[int, int, int, int]:
    """Returns blocks whose results lie in one run of about `run` elements, for engines that call a library for each.

    Parameters
    ----------
    plan : Plan
        What is read and written.
    itemsize : int
        Bytes of a number.
    run : int
        Elements of a block, ends of rows and rows without results included.

    Returns
    -------
    outer, columns, plane_stride, row_stride : int
        As in `DirectTiling`.
    """
    first, last = plan.axes[0], plan.axes[-1]
    row = last.output_size + last.halo
    outer = max(1, min(first.output_size, run // (plan.rows_per_index * row)))
    columns = last.output_size
    if outer == 1 and run < plan.rows_per_index * row:
        columns = max(1, min(last.output_size, run // plan.rows_per_index - last.halo))
        columns = math.ceil(last.output_size / math.ceil(last.output_size / max(columns, last.halo, 64)))
    row = columns + last.halo
    return outer, columns, padded((outer + first.halo) * plan.rows_per_index * row, itemsize), row
