"""Extension and polyphase steps, shared by all engines: a convolution as stride-1 correlations of planes.

Position ``p = q*s + r`` of an extended axis lies at place ``q`` of phase ``r``. Tap ``t`` sits at ``t*d = shift*s +
phase``, so that

    forward   y[o]    = sum_t K[t] * x_phase(t)[o + shift(t)]
    adjoint   x_r[q]  = sum over the taps t of phase r of conj(K[t]) * y[q - shift(t)]

Both are sums of stride-1 correlations: of the phases of the input, or of ``y`` extended by zeros, with taps in the
one order or the other. A stride, a padding mode, a direction is nothing but integer tables of where the places of the
planes are read from and where the results go.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce
from itertools import product

import numpy as np
import numpy.typing as npt

from ...arrays import memory
from ...geometry.axis import Axis, Ints, extend
from ...geometry.spec import ConvSpec

__all__ = ["AxisPlan", "Plan", "Positions", "written_back"]

# Bytes of a line in the tables while they are made.
_TABLE_BYTES = 40
_NONE: Ints = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class Positions:
    """Which elements of an array the places ``0 <= q < count`` of one phase of an axis stand for.

    Place ``q`` is element ``start + q*step`` for ``a <= q < b``, the interior. The others are listed in `edges`, first
    those before `a` and then those from `b` on: the element that the extension has there, or -1 for none.
    """

    count: int
    start: int
    step: int
    a: int
    b: int
    edges: Ints

    @classmethod
    def of(cls, count: int, start: int, step: int, n: int, mode: str, stop: int | None = None) -> Positions:
        """Places of an axis of `n` elements and its extension, up to the position `stop` if there is one."""
        inside = n if stop is None else min(n, stop)
        a = min(max(0, -(start // step)), count)
        b = max(a, min(count, (inside - 1 - start) // step + 1))
        position = start + np.concatenate([np.arange(a), np.arange(b, count)]) * step
        edges = extend(position, n, mode)
        if stop is not None:
            edges[position >= stop] = -1
        return cls(count, start, step, a, b, edges)

    def all(self) -> Ints:
        """The element of every place, or -1."""
        inside = self.start + np.arange(self.a, self.b) * self.step
        return np.concatenate([self.edges[: self.a], inside, self.edges[self.a :]])

    def interior(self) -> npt.NDArray[np.bool_]:
        """Which places are in the interior, as booleans."""
        q = np.arange(self.count)
        return (q >= self.a) & (q < self.b)


@dataclass(frozen=True)
class AxisPlan:
    """One axis in one direction.

    Attributes
    ----------
    n_read, n_written : int
        Elements of the axis that is read, and of the one that is written.
    read : tuple of Positions
        For every phase of what is read, ``places + reach`` places.
    write : tuple of Positions
        For every phase of what is written, `places` places.
    taps : tuple of (int, int, int)
        For every tap the phase it reads, the phase it writes, and its shift.
    places, reach : int
        Results along the axis, and the largest shift.
    """

    n_read: int
    n_written: int
    read: tuple[Positions, ...]
    write: tuple[Positions, ...]
    taps: tuple[tuple[int, int, int], ...]
    places: int
    reach: int

    @property
    def covers(self) -> bool:
        """Whether every element that is to be written has a place."""
        return sum(p.b - p.a for p in self.write) == self.n_written


# Stands before the axis of a signal, so that there is always a leading axis.
_UNIT = Positions(1, 0, 1, 0, 1, _NONE)
_UNIT_AXIS = AxisPlan(1, 1, (_UNIT,), (_UNIT,), ((0, 0, 0),), 1, 0)


def _stop(axis: Axis) -> int:
    """The position from which on no output reads."""
    return (axis.outputs - 1) * axis.stride + axis.extent


def written_back(axis: Axis) -> tuple[int, int]:
    """The first place that the adjoint writes along an axis, and how many: those on the axis, or with its extension.

    Parameters
    ----------
    axis : Axis
        Geometry of one axis.

    Returns
    -------
    int, int
    """
    low, high = 0, _stop(axis)
    if axis.mode == "zeros":
        low, high = max(0, axis.lo), min(high, axis.lo + axis.inputs)
    first = low // axis.stride
    return first, max(1, (high - 1) // axis.stride + 1 - first)


def _axis_plan(axis: Axis, adjoint: bool) -> AxisPlan:
    n, m, s, lo, mode = axis.inputs, axis.outputs, axis.stride, axis.lo, axis.mode
    split = [divmod(t * axis.dilation, s) for t in range(axis.taps)]
    phases = sorted({phase for _, phase in split})
    reach = max(shift for shift, _ in split)
    if not adjoint:
        read = tuple(Positions.of(m + reach, r - lo, s, n, mode) for r in phases)
        results = (Positions(m, 0, 1, 0, m, _NONE),)
        return AxisPlan(n, m, read, results, tuple((phases.index(r), 0, q) for q, r in split), m, reach)
    first, places = written_back(axis)
    stop = _stop(axis)
    ends = (Positions.of(places + reach, first - reach, 1, m, "zeros"),)
    write = tuple(Positions.of(places, first * s + r - lo, s, n, mode, stop - lo) for r in phases)
    return AxisPlan(m, n, ends, write, tuple((0, phases.index(r), reach - q) for q, r in split), places, reach)


def _outer(parts: list[Ints], sizes: list[int]) -> Ints:
    """Flat indices of all combinations of indices along axes of the given sizes; -1 where one of them is."""

    def join(total: Ints, part: tuple[Ints, int]) -> Ints:
        index, size = part
        return np.where((total[:, None] < 0) | (index < 0), -1, total[:, None] * size + index).ravel()

    return reduce(join, zip(parts, sizes, strict=True), np.zeros(1, dtype=np.int64))


class Plan:
    """One direction of a convolution, as integers: what is read, which taps go where, what is written.

    The last axis is that of the lines; the first is the one along which work is divided, and those between are
    flattened with it into the number of a line. Channels are not in it: all planes of all channels are alike.

    Parameters
    ----------
    spec : ConvSpec
        Geometry.
    adjoint : bool
        From output to input.

    Attributes
    ----------
    axes : tuple of AxisPlan
        Two or more; a signal has a leading axis of one element.
    read_lines : ndarray of int64, (phases of the leading axes, lines)
        Element at which a line begins in a plane that is read, or -1 for a line of zeros.
    write_lines : ndarray of int64, (phases of the leading axes, lines)
        The line that is written, or -1 for none; numbers from `lines` on are the aside lines.
    lines : int
        Lines of a plane that is written.
    aside : ndarray of int64
        For every line beyond the ends of a leading axis, which other places read too, the line it is added to.
    rim : ndarray of int64
        The same for the last axis: for every element beyond its ends the one that it is added to.
    rim_slots : list of ndarray of int64
        For every phase of the last axis that is written, the number in `rim` of each of the edges, or -1.
    between : ndarray of int64
        Numbers of the lines of one step along the first axis that hold results.
    lines_a_step : int
        Lines that are read for one step along the first axis.
    """

    def __init__(self, spec: ConvSpec, adjoint: bool) -> None:
        self.spec, self.adjoint = spec, adjoint
        axes = tuple(_axis_plan(axis, adjoint) for axis in spec.axes)
        self.axes = axes if len(axes) > 1 else (_UNIT_AXIS, *axes)
        *leading, last = self.axes
        tables = sum(
            math.prod(len(p) * (axis.places + more * axis.reach) for axis, p, more in ends)
            for ends in (
                [(axis, axis.read, 1) for axis in leading],
                [(axis, axis.write, 0) for axis in leading],
            )
        )
        memory.require(_TABLE_BYTES * tables, f"the tables of the lines of {spec}, extended")
        sizes = [axis.n_read for axis in leading]
        self.read_lines = np.stack(
            [_outer([p.all() for p in phases], sizes) for phases in product(*(axis.read for axis in leading))]
        )
        self.read_lines[self.read_lines >= 0] *= last.n_read
        self._write(leading, last)
        middle = self.axes[1:-1]
        extents = [axis.places + axis.reach for axis in middle]
        self.lines_a_step = math.prod(extents)
        self.between = _outer([np.arange(axis.places) for axis in middle], extents)
        self.covers = all(axis.covers for axis in self.axes)

    def _write(self, leading: list[AxisPlan], last: AxisPlan) -> None:
        sizes = [axis.n_written for axis in leading]
        self.lines = math.prod(sizes)
        tables, asides = [], [_NONE]
        count = 0
        for phases in product(*(axis.write for axis in leading)):
            lines = _outer([p.all() for p in phases], sizes)
            own = _outer([p.interior() - 1 for p in phases], [1] * len(sizes)) == 0
            beyond = np.flatnonzero(~own & (lines >= 0))
            asides.append(lines[beyond])
            lines[beyond] = self.lines + count + np.arange(len(beyond))
            count += len(beyond)
            tables.append(lines)
        self.write_lines = np.stack(tables)
        self.aside = np.concatenate(asides)
        count, rims, self.rim_slots = 0, [_NONE], []
        for p in last.write:
            beyond = np.flatnonzero(p.edges >= 0)
            rims.append(p.edges[beyond])
            slots = np.full(len(p.edges), -1)
            slots[beyond] = count + np.arange(len(beyond))
            count += len(beyond)
            self.rim_slots.append(slots)
        self.rim = np.concatenate(rims)

    @property
    def reads_whole_lines(self) -> bool:
        """Whether planes lie in the source as they are read: no stride, no extension, and nothing is left out."""
        phases = [p for axis in self.axes for p in axis.read]
        whole = all(axis.places + axis.reach == axis.n_read for axis in self.axes)
        return whole and len(phases) == len(self.axes) and all(p.step == 1 and not len(p.edges) for p in phases)

    @property
    def writes_whole_lines(self) -> bool:
        """Whether results lie in the target line by line as they lie in their plane, with nothing beyond the ends."""
        phases = [p for axis in self.axes for p in axis.write]
        return len(phases) == len(self.axes) and all(p.step == 1 and not len(p.edges) for p in phases)

    @property
    def read_phases(self) -> int:
        """Planes that one channel is read as."""
        return math.prod(len(axis.read) for axis in self.axes)

    @property
    def read_space(self) -> int:
        """Elements of a channel that is read."""
        return math.prod(axis.n_read for axis in self.axes)

    @property
    def written_space(self) -> int:
        """Elements of a channel that is written."""
        return math.prod(axis.n_written for axis in self.axes)

    @property
    def places(self) -> int:
        """Places of a plane that is written."""
        return math.prod(axis.places for axis in self.axes)

    def jobs(self) -> list[Taps]:
        """For every phase that is written, in the order of `write_lines` and then of the last axis, its taps."""
        counts = [len(axis.write) for axis in self.axes]
        jobs: list[list[tuple[int, tuple[int, ...], int]]] = [[] for _ in range(math.prod(counts))]
        for number, taps in enumerate(product(*(axis.taps for axis in self.axes))):
            read = write = 0
            for axis, (r, w, _) in zip(self.axes, taps, strict=True):
                read = read * len(axis.read) + r
                write = write * len(axis.write) + w
            jobs[write].append((number, tuple(q for _, _, q in taps), read))
        return [Taps.of(job) for job in jobs]


@dataclass(frozen=True)
class Taps:
    """Taps of one phase that is written.

    Attributes
    ----------
    number : ndarray of int64
        Which tap of the kernel, counted along its flattened spatial axes.
    shift : ndarray of int64, (taps, axes)
        Where it reads, from the place that it writes.
    phase : ndarray of int64
        Which plane of a channel it reads.
    """

    number: Ints
    shift: Ints
    phase: Ints

    @classmethod
    def of(cls, taps: list[tuple[int, tuple[int, ...], int]]) -> Taps:
        numbers, shifts, phases = zip(*taps, strict=True)
        return cls(np.array(numbers), np.array(shifts), np.array(phases))
