"""What every element that is written along an axis reads, in either direction, as one kind of integer table.

The forward map reads inputs for each output, the transposed map outputs for each input, and both write every element
once, as a sum over what it reads. Threads that share nothing can do that in any order, with the same result each time.

Most elements read alike. With ``u = i + shift``, element ``i`` of the interior has phase ``p = u % period`` and place
``q = u // period``, and reads ``q*step - back + offset[e]`` for the entries ``e`` of its phase:

    forward      reads o*s - lo + t*d                                period 1, step s
    transposed   reads (i + lo - t*d)/s where that is an integer     period s, step 1

The others list what they read, one by one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..geometry.axis import Axis, Ints

__all__ = ["Gathered"]

_NONE: Ints = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class Gathered:
    """One axis in one direction.

    Entry ``e`` of the list reads at ``offset[e]`` from an element's base, ascending, and multiplies by the sum of the
    taps ``taps[first[e]:first[e + 1]]``. An element outside the interior has the entries ``start <= e < stop`` and
    its base in the lists of these names: first those before the interior, then those after.

    Attributes
    ----------
    read, written : int
        Elements of the axis that is read, and of the one that is written.
    interior : (int, int)
        Elements that read alike.
    phases : ndarray of shape ``(period, 2)``
        Entries from and to of each phase of the interior.
    """

    read: int
    written: int
    interior: tuple[int, int]
    period: int
    shift: int
    step: int
    back: int
    phases: Ints
    base: Ints
    start: Ints
    stop: Ints
    offset: Ints
    taps: Ints
    first: Ints

    @classmethod
    def of(cls, axis: Axis, *, adjoint: bool) -> Gathered:
        """The table of an axis, forward or transposed."""
        return cls._transposed(axis) if adjoint else cls._forward(axis)

    @classmethod
    def _forward(cls, axis: Axis) -> Gathered:
        rows = axis.rows()
        return cls(
            axis.inputs, axis.outputs, rows.interior, 1, 0, axis.stride, axis.lo, np.array([rows.shared]),
            rows.base, rows.start, rows.stop, rows.offset, rows.taps, rows.first,
        )  # fmt: skip

    @classmethod
    def _transposed(cls, axis: Axis) -> Gathered:
        n, k, s, d, lo = axis.inputs, axis.taps, axis.stride, axis.dilation, axis.lo
        a, b = axis.interior
        beyond = axis.boundary
        source = axis.source(beyond)
        interior = _untouched(source, *_reading_within(axis)) if b > a else (0, 0)
        # The entries of a phase: taps from the last to the first, as they read outputs in ascending order.
        by_phase = [np.flatnonzero((p - np.arange(k) * d) % s == 0)[::-1] for p in range(s)]
        shared = np.concatenate(by_phase)
        offset = np.concatenate([(p - taps * d) // s for p, taps in enumerate(by_phase)])
        ends = np.cumsum([0, *(len(taps) for taps in by_phase)])
        # Elements outside the interior: what outputs beyond it read of them, and what outputs inside do.
        others = np.concatenate([np.arange(interior[0]), np.arange(interior[1], n)])
        row, tap = np.nonzero(source >= 0)
        u = others[:, None] + lo - np.arange(k) * d
        other, through = np.nonzero((u % s == 0) & (u >= a * s) & (u < b * s))
        element = np.concatenate([source[row, tap], others[other]])
        output = np.concatenate([beyond[row], u[other, through] // s])
        tap = np.concatenate([tap, through])
        order = np.lexsort((tap, output, element))
        element, output, tap = element[order], output[order], tap[order]
        new = np.ones(len(order), dtype=bool)
        new[1:] = (np.diff(element) != 0) | (np.diff(output) != 0)
        entries = element[new]
        return cls(
            axis.outputs, n, interior, s, lo, 1, 0, np.column_stack([ends[:-1], ends[1:]]),
            np.zeros(len(others), dtype=np.int64),
            k + np.searchsorted(entries, others, side="left"),
            k + np.searchsorted(entries, others, side="right"),
            np.concatenate([offset, output[new]]),
            np.concatenate([shared, tap]),
            np.concatenate([np.arange(k), k + np.flatnonzero(new), [k + len(tap)]]),
        )  # fmt: skip

    def full(self) -> tuple[Ints, Ints, Ints]:
        """`base`, `start` and `stop` of all elements."""
        a, b = self.interior
        place, phase = np.divmod(np.arange(a, b) + self.shift, self.period)
        inside = (place * self.step - self.back, self.phases[phase, 0], self.phases[phase, 1])
        base, start, stop = (
            np.concatenate([edge[:a], middle, edge[a:]])
            for edge, middle in zip((self.base, self.start, self.stop), inside, strict=True)
        )
        return base, start, stop


def _reading_within(axis: Axis) -> tuple[int, int]:
    """Inputs all taps of whose phase lead to outputs inside the interior. For none of them is ``i + lo`` negative."""
    a, b = axis.interior
    start = max(0, -axis.lo, (a - 1) * axis.stride + axis.extent - axis.lo)
    return start, min(axis.inputs, b * axis.stride - axis.lo)


def _untouched(source: Ints, start: int, stop: int) -> tuple[int, int]:
    """The longest stretch of a range of inputs that a table of sources does not name."""
    named = np.unique(source)
    named = named[(named >= start) & (named < stop)]
    edges = np.concatenate([[start - 1], named, [stop]])
    widest = int(np.argmax(np.diff(edges)))
    first, last = int(edges[widest]) + 1, int(edges[widest + 1])
    return (first, last) if first < last else (0, 0)
