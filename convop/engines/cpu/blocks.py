"""How planes are cut into blocks that fit the caches of a core, and where a block lies in memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from threading import current_thread, local, main_thread
from typing import Any

import numpy as np

from ...arrays import memory
from ...arrays.backend import Array
from .polyphase import Plan, Taps

__all__ = ["Blocks", "padded", "rooms", "scratch", "tiled"]

# Bytes of a block whose planes are read again for other planes of results: they stay in the second-level cache of a core.
_CACHE = 2**19
# Of a block that is read once, line after line, which the third-level cache does as fast; shorter lines take longer.
_STREAMED = 2**22
# Planes of results that are computed together at most.
_TOGETHER = 4
_LINE = 64
# A narrow tile waits for its sums: this share of the time of a wide one.
_NARROW = 2 / 3
# What is left of the rate where results are copied from a block to where they belong.
_COPIED = 0.92
# Blocks that there should be at least, so that all workers have some.
_BLOCKS = 16

# Larger scratch memory goes back with the product that took it.
_KEPT = 2**24

_scratch = local()


def _aligned(size: int, dtype: np.dtype[Any]) -> Array:
    """An array that begins with a cache line: vectors that lie across two of them take up to twice the time."""
    array = np.empty(size + _LINE // dtype.itemsize, dtype)
    begin = -array.ctypes.data % _LINE // dtype.itemsize
    return array[begin : begin + size]


def scratch(name: str, size: int, dtype: np.dtype[Any], *, threads: int = 1) -> Array:
    """The array of a name that a thread keeps, at least of a size; what it holds is left from its last use.

    With more threads it is memory for as many of them.
    """
    key = name + dtype.char
    array: Array | None = getattr(_scratch, key, None)
    if array is None or len(array) < size:
        if size * dtype.itemsize > _KEPT:
            memory.require(size * dtype.itemsize, "the planes of a block of the extended input")
        array = _aligned(size, dtype)
        # Where many threads call, they have few helpers each.
        if array.nbytes <= (threads * _KEPT if current_thread() is main_thread() else _KEPT):
            setattr(_scratch, key, array)
    return array


def rooms(name: str, threads: int, size: int, dtype: np.dtype[Any]) -> Array:
    """Scratch memory for so many threads that work at once, a row each."""
    step = padded(size, dtype.itemsize)
    return scratch(name, threads * step, dtype, threads=threads)[: threads * step].reshape(threads, step)


def tiled(length: int, wide: int, narrow: int) -> float:
    """Places that tiles compute for a run of places, a narrow tile counted as the wide one of the same time."""
    tiles, left = divmod(length, wide)
    if 2 * left > wide:
        return (tiles + 1) * wide
    return tiles * wide + math.ceil(left / narrow) * wide * _NARROW


def padded(elements: int, itemsize: int) -> int:
    """An odd number of cache lines: neighbours at this distance fall on different places of a cache."""
    lines = -(-elements * itemsize // _LINE) | 1
    return lines * _LINE // itemsize


@dataclass(frozen=True)
class Blocks:
    """How a plane is cut into blocks, and how a block lies in scratch memory.

    Attributes
    ----------
    steps, width : int
        Steps of the first axis and places of the last that a block writes.
    flat : int
        What a run of places is: 0 a line, 1 a step of the first axis, 2 the whole block.
    line_step, plane_step, out_step : int
        Elements from line to line, and from plane to plane of what is read and of what is written.
    read_in_place, in_place : bool
        Whether planes are read where they lie, and results go to where they belong, instead of through a block.
    """

    steps: int
    width: int
    flat: int
    line_step: int
    plane_step: int
    out_step: int
    read_in_place: bool = False
    in_place: bool = False

    @classmethod
    def of(
        cls, plan: Plan, planes: tuple[int, int], tile: tuple[int, int], itemsize: int, groups: int, *, paired: bool,
        real: bool,
    ) -> Blocks:  # fmt: skip
        """The cut that reads least twice and stays in cache.

        Parameters
        ----------
        plan : Plan
            What is read and written.
        planes : (int, int)
            Planes that are read and written together.
        tile : (int, int)
            Places of a wide and of a narrow register tile.
        itemsize : int
            Bytes of a number.
        groups : int
            Groups of channels, which are work of their own.
        paired : bool
            Whether two steps of the first axis are computed together.
        real : bool
            Whether numbers are real, so that planes may lie in the arrays as they do in a block.
        """
        first, last = plan.axes[0], plan.axes[-1]
        read, written = planes
        best: tuple[float, int, int] | None = None
        cache = _CACHE if written > _TOGETHER else _STREAMED
        # Enough blocks for all workers, but none that reads more of its neighbours than of its own.
        steps_wanted = max(math.ceil(first.places * groups / _BLOCKS), 2 * first.reach, 2)
        width = last.places
        while True:
            line = (width + last.reach) * plan.lines_a_step
            room = cache // itemsize - read * first.reach * line
            steps = max(1, min(first.places, steps_wanted, room // ((read + written) * line)))
            steps = math.ceil(first.places / math.ceil(first.places / steps))
            memory = (read * (steps + first.reach) + written * steps) * line
            cost = memory / (steps * width) * max(1.0, (memory * itemsize / cache) ** 0.5)
            if best is None or cost < best[0]:
                best = (cost, steps, width)
            enough = first.places > 1 or math.ceil(last.places / width) * groups >= _BLOCKS
            if width <= 4 * tile[0] or (first.places == 1 and enough and memory * itemsize <= cache):
                if first.places == 1:
                    best = (cost, steps, width)
                break
            width = math.ceil(width / 2)
        _, steps, width = best
        return cls._laid_out(plan, steps, width, tile, itemsize, paired, real)

    @classmethod
    def _laid_out(
        cls, plan: Plan, steps: int, width: int, tile: tuple[int, int], itemsize: int, paired: bool, real: bool
    ) -> Blocks:
        first, last = plan.axes[0], plan.axes[-1]
        wide, narrow = tile
        narrowest = last.places - (math.ceil(last.places / width) - 1) * width
        direct = real and narrowest >= narrow
        reads = direct and plan.reads_whole_lines
        line = last.n_read if reads else width + last.reach
        rows = 1 if paired else steps
        run = ((rows - 1) * plan.lines_a_step + int(plan.between[-1])) * line + width
        # Without a reach beyond the first axis, the lines of a block follow one another in the target as well.
        gapless = all(axis.reach == 0 for axis in plan.axes[1:]) and width == last.places == last.n_written
        gapless = gapless and line == width and direct and plan.writes_whole_lines
        # Shares of the time that goes into results: runs over several lines compute what lies between them too, and
        # have to be copied from their block.
        whole = direct and plan.writes_whole_lines
        line_share = width / tiled(width, wide, narrow) * (1 if whole else _COPIED)
        flat_share = rows * len(plan.between) * width / tiled(run, wide, narrow) * (1 if gapless else _COPIED)
        if line_share >= flat_share:
            flat = 0
            if not reads:
                line = padded(line + wide, itemsize)
        else:
            flat, whole = 1 if paired else 2, gapless and not paired
        plane = plan.read_space if reads else padded((steps + first.reach) * plan.lines_a_step * line + wide, itemsize)
        out = 0 if whole else padded(steps * plan.lines_a_step * line + wide, itemsize)
        return cls(steps, width, flat, line, plane, out, reads, whole)

    @classmethod
    def whole_runs(cls, plan: Plan, itemsize: int, run: int) -> Blocks:
        """Blocks of about so many places, each one run.

        Parameters
        ----------
        plan : Plan
            What is read and written.
        itemsize : int
            Bytes of a number.
        run : int
            Places of a block, lines that hold no results and ends of lines included.
        """
        first, last = plan.axes[0], plan.axes[-1]
        line = last.places + last.reach
        steps = max(1, min(first.places, run // (plan.lines_a_step * line)))
        width = last.places
        if steps == 1 and run < plan.lines_a_step * line:
            width = max(1, min(last.places, run // plan.lines_a_step - last.reach))
            width = math.ceil(last.places / math.ceil(last.places / max(width, last.reach, 64)))
        line = width + last.reach
        plane = padded((steps + first.reach) * plan.lines_a_step * line, itemsize)
        return cls(steps, width, 2, line, plane, 0)

    def count(self, plan: Plan) -> int:
        """Blocks of a plane."""
        return math.ceil(plan.axes[0].places / self.steps) * math.ceil(plan.axes[-1].places / self.width)

    def offsets(self, plan: Plan, taps: Taps, planes: int) -> Array:
        """Where every tap of every plane of a group reads, ``(planes, taps)``, flat."""
        lines = np.zeros(len(taps.number), dtype=np.int64)
        for axis, shift in zip(plan.axes[:-1], taps.shift.T[:-1], strict=True):
            extent = axis.places + axis.reach if axis is not plan.axes[0] else 1
            lines = lines * extent + shift
        at = lines * self.line_step + taps.shift[:, -1] + taps.phase * self.plane_step
        return (np.arange(planes)[:, None] * plan.read_phases * self.plane_step + at).ravel()
