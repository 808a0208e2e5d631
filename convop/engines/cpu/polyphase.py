"""Polyphase decomposition: a convolution of any stride and padding mode as stride-1 correlations of planes.

Position ``p = q*s + r`` of an extended axis is index ``q`` of phase ``r``. Tap ``t`` sits at ``t*d = shift*s + phase``, so

    forward   y[o]    = sum_t K[t] * x_phase(t)[o + shift(t)]
    adjoint   x_r[q]  = sum over the taps t of phase r of conj(K[t]) * y[q - shift(t)]

Both are sums of stride-1 correlations: of the phases of the input, or of ``y`` extended by zeros, with the taps in
opposite order. Stride, padding mode and direction are integer tables alone: from which element each index of a phase is
read, and to which element each result goes. (Vaidyanathan, Multirate Systems and Filter Banks, 1993, section 4.3.)
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

# Bytes of a row in the tables while they are made.
_TABLE_BYTES = 40
_NONE: Ints = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class Phase:
    """Which elements of an axis the indices ``0 <= q < count`` of one phase stand for.

    Index ``q`` is element ``start + q*step`` for ``first <= q < stop``, the interior. `edges` lists the elements of the
    other indices, those before the interior and then those after it: the element that the extension copies, or -1.
    """

    count: int
    start: int
    step: int
    first: int
    stop: int
    edges: Ints

    @classmethod
    def of(cls, axis: tuple[int, str], count: int, start: int, step: int, end: int | None = None) -> Phase:
        """Returns a phase of an axis of ``(elements, padding mode)``, with zeros from the element `end` on."""
        n, mode = axis
        inside = n if end is None else min(n, end)
        first = min(max(0, -(start // step)), count)
        stop = max(first, min(count, (inside - 1 - start) // step + 1))
        position = start + np.concatenate([np.arange(first), np.arange(stop, count)]) * step
        edges = extend(position, n, mode)
        if end is not None:
            edges[position >= end] = -1
        return cls(count, start, step, first, stop, edges)

    @classmethod
    def whole(cls, count: int) -> Phase:
        """Returns the phase that is an axis as it is."""
        return cls(count, 0, 1, 0, count, _NONE)

    def elements(self) -> Ints:
        """Returns the element of every index, or -1."""
        interior = self.start + np.arange(self.first, self.stop) * self.step
        return np.concatenate([self.edges[: self.first], interior, self.edges[self.first :]])

    def is_interior(self) -> npt.NDArray[np.bool_]:
        """Returns whether each index is in the interior."""
        q = np.arange(self.count)
        return (q >= self.first) & (q < self.stop)


@dataclass(frozen=True)
class AxisPlan:
    """One axis in one direction, for planes: `geometry.gather_table` has what each element reads, for matrices and the GPU.

    Attributes
    ----------
    read_size, written_size : int
        Elements of the axis that is read, and of the axis that is written.
    read : tuple of Phase
        The phases that are read, of ``output_size + halo`` indices.
    write : tuple of Phase
        The phases that are written, of `output_size` indices.
    taps : tuple of (int, int, int)
        For every tap the phase it reads, the phase it writes, and its shift.
    output_size, halo : int
        Results along the axis, and the largest shift.
    """

    read_size: int
    written_size: int
    read: tuple[Phase, ...]
    write: tuple[Phase, ...]
    taps: tuple[tuple[int, int, int], ...]
    output_size: int
    halo: int

    @classmethod
    def of(cls, axis: Axis, adjoint: bool) -> AxisPlan:
        """Returns the plan of an axis, forward or adjoint."""
        n, m, s, lo, mode = axis.inputs, axis.outputs, axis.stride, axis.lo, axis.mode
        split = [divmod(t * axis.dilation, s) for t in range(axis.taps)]
        phases = sorted({phase for _, phase in split})
        halo = max(shift for shift, _ in split)
        if not adjoint:
            read = tuple(Phase.of((n, mode), m + halo, r - lo, s) for r in phases)
            return cls(n, m, read, (Phase.whole(m),), tuple((phases.index(r), 0, q) for q, r in split), m, halo)
        first, size = adjoint_range(axis)
        residual = (Phase.of((m, "zeros"), size + halo, first - halo, 1),)
        write = tuple(Phase.of((n, mode), size, first * s + r - lo, s, _end(axis) - lo) for r in phases)
        return cls(m, n, residual, write, tuple((0, phases.index(r), halo - q) for q, r in split), size, halo)

    @property
    def covers(self) -> bool:
        """Whether every element that is to be written is in the interior of a phase."""
        return sum(p.stop - p.first for p in self.write) == self.written_size


# Stands before the axis of a signal, so there is always a leading axis.
_UNIT_AXIS = AxisPlan(1, 1, (Phase.whole(1),), (Phase.whole(1),), ((0, 0, 0),), 1, 0)


def _end(axis: Axis) -> int:
    """Returns the position from which on no output reads."""
    return (axis.outputs - 1) * axis.stride + axis.extent


def adjoint_range(axis: Axis) -> tuple[int, int]:
    """Returns the first index that the adjoint writes in every phase of an axis, and how many.

    Parameters
    ----------
    axis : Axis
        Geometry of one axis.

    Returns
    -------
    first, count : int
        For "zeros" the indices of the axis itself, for other modes those of its extension too.
    """
    low, high = 0, _end(axis)
    if axis.mode == "zeros":
        low, high = max(0, axis.lo), min(high, axis.lo + axis.inputs)
    first = low // axis.stride
    return first, max(1, (high - 1) // axis.stride + 1 - first)


def extents(spec: ConvSpec, adjoint: bool) -> tuple[list[int], list[int], list[int]]:
    """Returns the sizes of a direction from the spec alone, without the tables of a `Plan`.

    Parameters
    ----------
    spec : ConvSpec
        Geometry.
    adjoint : bool
        From output to input.

    Returns
    -------
    sizes, halo, phases : list of int
        For every axis the results, the largest shift, and the phases that taps fall into.
    """
    sizes = [adjoint_range(axis)[1] if adjoint else axis.outputs for axis in spec.axes]
    halo = [(axis.extent - 1) // axis.stride for axis in spec.axes]
    phases = [min(axis.taps, axis.stride // math.gcd(axis.stride, axis.dilation)) for axis in spec.axes]
    return sizes, halo, phases


def _outer(indices: list[Ints], sizes: list[int]) -> Ints:
    """Returns the flat indices of all combinations of indices along axes of these sizes; -1 where one of them is."""

    def join(total: Ints, axis: tuple[Ints, int]) -> Ints:
        index, size = axis
        return np.where((total[:, None] < 0) | (index < 0), -1, total[:, None] * size + index).ravel()

    return reduce(join, zip(indices, sizes, strict=True), np.zeros(1, dtype=np.int64))


class Plan:
    """One direction of a convolution as integers: which elements are read, which taps go where, what is written.

    Rows run along the last axis. Work is divided along the first axis; the axes between are flattened with it into the
    number of a row. Channels are absent, because all channels are treated alike.

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
    read_rows : ndarray of int64, (phases of the leading axes, rows)
        Element at which a row begins in a channel that is read, or -1 for a row of zeros.
    write_rows : ndarray of int64, (phases of the leading axes, rows)
        The row that is written, or -1 for none; numbers from `row_count` on are halo rows.
    row_count : int
        Rows of a channel that is written.
    halo_rows : ndarray of int64
        For every row beyond the ends of the leading axes that the extension copies, the row that it is added to.
    halo_columns : ndarray of int64
        The same for the last axis: for every element beyond its ends the element that it is added to.
    halo_slots : list of ndarray of int64
        For every phase of the last axis that is written, the number in `halo_columns` of each edge, or -1.
    row_offsets : ndarray of int64
        Numbers of the rows of one index of the first axis that hold results.
    rows_per_index : int
        Rows that are read for one index of the first axis.
    """

    def __init__(self, spec: ConvSpec, adjoint: bool) -> None:
        self.spec, self.adjoint = spec, adjoint
        axes = tuple(AxisPlan.of(axis, adjoint) for axis in spec.axes)
        self.axes = axes if len(axes) > 1 else (_UNIT_AXIS, *axes)
        *leading, last = self.axes
        read = math.prod(len(axis.read) * (axis.output_size + axis.halo) for axis in leading)
        written = math.prod(len(axis.write) * axis.output_size for axis in leading)
        memory.require(_TABLE_BYTES * (read + written), f"the tables of the rows of {spec}, extended")
        sizes = [axis.read_size for axis in leading]
        self.read_rows = np.stack(
            [_outer([p.elements() for p in phases], sizes) for phases in product(*(axis.read for axis in leading))]
        )
        self.read_rows[self.read_rows >= 0] *= last.read_size
        self._tabulate_writes(leading, last)
        middle = self.axes[1:-1]
        extents = [axis.output_size + axis.halo for axis in middle]
        self.rows_per_index = math.prod(extents)
        self.row_offsets = _outer([np.arange(axis.output_size) for axis in middle], extents)
        self.covers = all(axis.covers for axis in self.axes)

    def _tabulate_writes(self, leading: list[AxisPlan], last: AxisPlan) -> None:
        sizes = [axis.written_size for axis in leading]
        self.row_count = math.prod(sizes)
        tables, halo_rows = [], [_NONE]
        count = 0
        for phases in product(*(axis.write for axis in leading)):
            rows = _outer([p.elements() for p in phases], sizes)
            interior = _outer([p.is_interior() - 1 for p in phases], [1] * len(sizes)) == 0
            beyond = np.flatnonzero(~interior & (rows >= 0))
            halo_rows.append(rows[beyond])
            rows[beyond] = self.row_count + count + np.arange(len(beyond))
            count += len(beyond)
            tables.append(rows)
        self.write_rows = np.stack(tables)
        self.halo_rows = np.concatenate(halo_rows)
        count, columns, self.halo_slots = 0, [_NONE], []
        for p in last.write:
            beyond = np.flatnonzero(p.edges >= 0)
            columns.append(p.edges[beyond])
            slots = np.full(len(p.edges), -1)
            slots[beyond] = count + np.arange(len(beyond))
            count += len(beyond)
            self.halo_slots.append(slots)
        self.halo_columns = np.concatenate(columns)

    @property
    def reads_whole_rows(self) -> bool:
        """Whether planes lie in the source as they are read: no stride, no extension, and nothing is left out."""
        phases = [p for axis in self.axes for p in axis.read]
        whole = all(axis.output_size + axis.halo == axis.read_size for axis in self.axes)
        return whole and len(phases) == len(self.axes) and all(p.step == 1 and not len(p.edges) for p in phases)

    @property
    def writes_whole_rows(self) -> bool:
        """Whether results lie in the target row by row as in their plane, with nothing beyond the ends."""
        phases = [p for axis in self.axes for p in axis.write]
        return len(phases) == len(self.axes) and all(p.step == 1 and not len(p.edges) for p in phases)

    @property
    def read_phases(self) -> int:
        """Planes that one component of a channel is read as."""
        return math.prod(len(axis.read) for axis in self.axes)

    @property
    def read_space(self) -> int:
        """Elements of a channel that is read."""
        return math.prod(axis.read_size for axis in self.axes)

    @property
    def written_space(self) -> int:
        """Elements of a channel that is written."""
        return math.prod(axis.written_size for axis in self.axes)

    @property
    def plane_size(self) -> int:
        """Results of a plane that is written."""
        return math.prod(axis.output_size for axis in self.axes)

    def row_numbers(self, shift: npt.NDArray[np.int64], first_axis: bool = True) -> npt.NDArray[np.int64]:
        """Returns which row of a block each tap reads, relative to the row that it writes.

        Parameters
        ----------
        shift : ndarray of int64, (taps, axes)
            Shifts along all axes.
        first_axis : bool
            Whether the shift along the first axis counts; transforms along it do not shift.
        """
        rows = shift[:, 0] * first_axis
        for axis, along in zip(self.axes[1:-1], shift.T[1:-1], strict=True):
            rows = rows * (axis.output_size + axis.halo) + along
        return rows

    def output_phases(self) -> list[PhaseTaps]:
        """Returns the taps of every phase that is written: phases of the leading axes first, then of the last axis."""
        counts = [len(axis.write) for axis in self.axes]
        found: list[list[tuple[int, tuple[int, ...], int]]] = [[] for _ in range(math.prod(counts))]
        for number, taps in enumerate(product(*(axis.taps for axis in self.axes))):
            read = write = 0
            for axis, (r, w, _) in zip(self.axes, taps, strict=True):
                read = read * len(axis.read) + r
                write = write * len(axis.write) + w
            found[write].append((number, tuple(q for _, _, q in taps), read))
        return [PhaseTaps.of(phase) for phase in found]


@dataclass(frozen=True)
class PhaseTaps:
    """The taps of one output phase.

    Attributes
    ----------
    number : ndarray of int64
        Which tap of the kernel, counted along its flattened spatial axes.
    shift : ndarray of int64, (taps, axes)
        Where it reads, relative to the index that it writes.
    phase : ndarray of int64
        Which phase of a channel it reads.
    """

    number: Ints
    shift: Ints
    phase: Ints

    @classmethod
    def of(cls, taps: list[tuple[int, tuple[int, ...], int]]) -> PhaseTaps:
        """Returns taps from a list of (number, shifts, phase)."""
        numbers, shifts, phases = zip(*taps, strict=True)
        return cls(np.array(numbers), np.array(shifts), np.array(phases))
