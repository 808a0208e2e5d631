"""Gather tables: which elements every written element of an axis reads, forward or transposed. Integers only.

The forward map reads inputs for each output, the transposed map outputs for each input. Both write every element once, as
a sum over the elements that it reads: the rows of the matrix of the axis, or those of its transpose. A gather table
lists these rows in compressed form. The rows of an N-dimensional map are outer products of the rows of its axes.

Almost all elements read alike. With ``u = i + shift``, element ``i`` of the interior has the phase ``p = u % period`` and
the index ``q = u // period`` within its phase, and reads ``q*step - lo + offset[e]`` for the entries ``e`` of its phase:

    forward      reads o*s - lo + t*d                                period 1, step s
    transposed   reads (i + lo - t*d)/s where that is an integer     period s, step 1

The elements of the boundary, outside the interior, have entries and a base of their own. So a table stays about as
small as the kernel, where the full table of a signal would be as large as its matrix.

Engines that write whole output phases instead of single elements describe an axis by `convop.engines.cpu.polyphase`:
there a row is a phase, and an element beyond the ends of the axis is a halo that is added afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .axis import Axis, Ints

_NONE: Ints = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class GatherTable:
    """The elements that each element of one axis reads, in one direction.

    Entry ``e`` reads at ``offset[e]`` from the base of an element, and multiplies by the sum of the taps
    ``taps[first[e]:first[e + 1]]``. The entries of an element are consecutive, and their offsets ascend.

    Attributes
    ----------
    n_read, n_written : int
        Elements of the axis that is read, and of the axis that is written.
    interior : (int, int)
        Elements ``[a, b)`` that read alike; ``(0, 0)`` if there are none.
    period, shift, step, lo : int
        Phase and base of an element of the interior, as in the module's description.
    phases : ndarray of shape ``(period, 2)``
        First entry of each phase of the interior, and the entry after its last.
    base, start, stop : ndarray of shape ``(boundary,)``
        Base, first entry and entry after the last of the elements of the boundary: those before the interior,
        then those after it.
    offset : ndarray of shape ``(entries,)``
        Offset of each entry.
    taps : ndarray
        The taps of all entries, concatenated.
    first : ndarray of shape ``(entries + 1,)``
        Where the taps of each entry begin in `taps`, as in CSR's ``indptr``.
    """

    n_read: int
    n_written: int
    interior: tuple[int, int]
    period: int
    shift: int
    step: int
    lo: int
    phases: Ints
    base: Ints
    start: Ints
    stop: Ints
    offset: Ints
    taps: Ints
    first: Ints

    @classmethod
    def of(cls, axis: Axis, *, adjoint: bool) -> GatherTable:
        """The table of an axis, forward or transposed."""
        return cls.transposed(axis) if adjoint else cls.forward(axis)

    @classmethod
    def forward(cls, axis: Axis) -> GatherTable:
        """The rows of the matrix of an axis: taps that read the same input are one entry."""
        tap = np.arange(axis.taps)
        boundary = axis.boundary
        base = boundary * axis.stride - axis.lo if len(boundary) else _NONE
        start = stop = _NONE
        offset, taps, shared = tap * axis.dilation, tap, 0
        if not len(boundary):
            pass
        elif axis.mode == "zeros":
            # The taps of every row that lie on the axis are consecutive.
            start = np.clip(-(base // axis.dilation), 0, axis.taps)
            stop = np.maximum(start, np.clip((axis.inputs - 1 - base) // axis.dilation + 1, 0, axis.taps))
        elif not axis.merges_taps:
            # Circular, and at most one wrap: the taps from some tap on come first, shifted back by n. Concatenated, the
            # shifted and the plain taps contain every row as k consecutive entries.
            base %= axis.inputs
            start = np.minimum((axis.inputs - 1 - base) // axis.dilation + 1, axis.taps)
            stop = start + axis.taps
            offset, taps, shared = np.concatenate([offset - axis.inputs, offset]), np.tile(tap, 2), axis.taps
        else:
            return cls._merged_forward(axis)
        return cls._forward(
            axis,
            base=base,
            start=start,
            stop=stop,
            offset=offset,
            taps=taps,
            first=np.arange(len(taps) + 1),
            shared=shared,
        )

    @classmethod
    def _merged_forward(cls, axis: Axis) -> GatherTable:
        """The forward table of any mode: each row of the boundary lists its own entries, after the shared ones."""
        source = axis.source(axis.boundary)
        order = np.argsort(source, axis=1, kind="stable")
        source = np.take_along_axis(source, order, axis=1)
        new = np.ones(source.shape, dtype=bool)
        np.not_equal(source[:, 1:], source[:, :-1], out=new[:, 1:])
        counts = np.count_nonzero(new, axis=1)
        tap = np.arange(axis.taps)
        stop = axis.taps + np.cumsum(counts)
        return cls._forward(
            axis,
            base=np.zeros(len(source), dtype=np.int64),
            start=stop - counts,
            stop=stop,
            offset=np.concatenate([tap * axis.dilation, source[new]]),
            taps=np.concatenate([tap, order.ravel()]),
            first=np.concatenate([tap, np.flatnonzero(new) + axis.taps, [axis.taps + source.size]]),
            shared=0,
        )

    @classmethod
    def _forward(cls, axis: Axis, *, shared: int, **lists: Ints) -> GatherTable:
        """The forward table with the given lists, whose interior has the entries from `shared` on, one per tap."""
        return cls(
            n_read=axis.inputs,
            n_written=axis.outputs,
            interior=axis.interior,
            period=1,
            shift=0,
            step=axis.stride,
            lo=axis.lo,
            phases=np.array([[shared, shared + axis.taps]]),
            **lists,
        )

    @classmethod
    def transposed(cls, axis: Axis) -> GatherTable:
        """The rows of the transposed matrix of an axis: taps of one input that lead to the same output are one entry."""
        n, k, s, d, lo = axis.inputs, axis.taps, axis.stride, axis.dilation, axis.lo
        a, b = axis.interior
        outputs = axis.boundary
        source = axis.source(outputs)
        interior = _longest_run_without(source, *_inputs_of_interior(axis)) if b > a else (0, 0)
        # The entries of a phase: taps from the last to the first, as these read outputs in ascending order.
        by_phase = [np.flatnonzero((p - np.arange(k) * d) % s == 0)[::-1] for p in range(s)]
        ends = np.cumsum([0, *(len(taps) for taps in by_phase)])
        # An input of the boundary is read by outputs of the boundary, and by outputs of the interior.
        boundary = np.concatenate([np.arange(interior[0]), np.arange(interior[1], n)])
        row, tap = np.nonzero(source >= 0)
        u = boundary[:, None] + lo - np.arange(k) * d
        number, inner_tap = np.nonzero((u % s == 0) & (u >= a * s) & (u < b * s))
        element = np.concatenate([source[row, tap], boundary[number]])
        output = np.concatenate([outputs[row], u[number, inner_tap] // s])
        tap = np.concatenate([tap, inner_tap])
        order = np.lexsort((tap, output, element))
        element, output, tap = element[order], output[order], tap[order]
        new = np.ones(len(order), dtype=bool)
        new[1:] = (np.diff(element) != 0) | (np.diff(output) != 0)
        entries = element[new]
        return cls(
            n_read=axis.outputs,
            n_written=n,
            interior=interior,
            period=s,
            shift=lo,
            step=1,
            lo=0,
            phases=np.column_stack([ends[:-1], ends[1:]]),
            base=np.zeros(len(boundary), dtype=np.int64),
            start=k + np.searchsorted(entries, boundary, side="left"),
            stop=k + np.searchsorted(entries, boundary, side="right"),
            offset=np.concatenate([*((p - taps * d) // s for p, taps in enumerate(by_phase)), output[new]]),
            taps=np.concatenate([*by_phase, tap]),
            first=np.concatenate([np.arange(k), k + np.flatnonzero(new), [k + len(tap)]]),
        )

    @property
    def longest(self) -> int:
        """Entries of the longest row."""
        a, b = self.interior
        shared = max(stop - start for start, stop in self.phases.tolist()) if b > a else 0
        return max(shared, int((self.stop - self.start).max())) if len(self.base) else shared

    def full(self) -> tuple[Ints, Ints, Ints]:
        """`base`, `start` and `stop` of all elements, those of the interior included."""
        a, b = self.interior
        index, phase = np.divmod(np.arange(a, b) + self.shift, self.period)
        inside = (index * self.step - self.lo, self.phases[phase, 0], self.phases[phase, 1])
        base, start, stop = (
            np.concatenate([edge[:a], middle, edge[a:]])
            for edge, middle in zip((self.base, self.start, self.stop), inside, strict=True)
        )
        return base, start, stop


def _inputs_of_interior(axis: Axis) -> tuple[int, int]:
    """Inputs all taps of whose phase lead to outputs of the interior. ``i + lo`` is not negative for any of them."""
    a, b = axis.interior
    start = max(0, -axis.lo, (a - 1) * axis.stride + axis.extent - axis.lo)
    return start, min(axis.inputs, b * axis.stride - axis.lo)


def _longest_run_without(source: Ints, start: int, stop: int) -> tuple[int, int]:
    """The longest run of consecutive inputs in ``[start, stop)`` that a table of sources does not contain."""
    read = np.unique(source)
    read = read[(read >= start) & (read < stop)]
    edges = np.concatenate([[start - 1], read, [stop]])
    widest = int(np.argmax(np.diff(edges)))
    first, last = int(edges[widest]) + 1, int(edges[widest + 1])
    return (first, last) if first < last else (0, 0)
