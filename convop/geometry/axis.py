"""The table of one axis: which input every output reads through every tap. Integers only.

An axis with ``n`` inputs, ``k`` taps, stride ``s``, dilation ``d`` and padding ``(lo, hi)`` has

    m = (n + lo + hi - d*(k - 1) - 1)//s + 1

outputs, and output ``o`` reads, through tap ``t``, the input

    source[o, t] = extend(o*s + t*d - lo)

where ``extend`` is the padding mode. The matrix of an N-dimensional convolution is an outer product of
such tables; everything in this package is derived from them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["PADDING_MODES", "Axis", "AxisRows", "Ints", "extend"]

PADDING_MODES = ("zeros", "circular", "reflect", "symmetric", "replicate")

Ints: TypeAlias = npt.NDArray[np.int64]

# Rows handled at a time where a count needs one number per row: 8 MiB an array.
_CHUNK = 2**20

_NONE: Ints = np.zeros(0, dtype=np.int64)


def extend(position: npt.ArrayLike, n: int, mode: str) -> Ints:
    """Index of the input that an extended axis reads at a position.

    Parameters
    ----------
    position : array_like of int
        Positions on the extended axis; ``0 <= position < n`` is the axis itself.
    n : int
        Length of the axis.
    mode : {"zeros", "circular", "reflect", "symmetric", "replicate"}
        What lies outside. The last four are what :func:`numpy.pad` calls wrap, reflect, symmetric and
        edge, repeated as often as a wide padding needs.

    Returns
    -------
    ndarray of int64
        Same shape as `position`, values in ``[0, n)``, or -1 where nothing is read (``"zeros"``).

    Examples
    --------
    >>> extend([-2, -1, 0, 1, 2, 3, 4], 3, "reflect").tolist()
    [2, 1, 0, 1, 2, 1, 0]
    """
    i = np.asarray(position, dtype=np.int64)
    if mode == "zeros":
        return np.where((i >= 0) & (i < n), i, -1)
    if mode == "circular":
        wrapped: Ints = i % n
        return wrapped
    if mode == "replicate" or n == 1:
        nearest: Ints = np.clip(i, 0, n - 1)
        return nearest
    # A mirror is a triangle wave: period 2(n - 1) when the end elements are not repeated, 2n when they are.
    repeat = 1 if mode == "symmetric" else 0
    period = 2 * (n - 1 + repeat)
    i = i % period
    return np.minimum(i, period - repeat - i)


@dataclass(frozen=True)
class AxisRows:
    """The table of one axis, each row sorted by source with equal sources merged, without its repetition.

    Row ``o`` of the axis has the entries ``start <= e < stop`` of a common list; entry ``e`` lies in column
    ``base + offset[e]``, ascending in ``e``, and holds the sum of the taps ``taps[first[e]:first[e + 1]]``.
    The interior rows ``[a, b)`` share one stretch of the list, with ``base = o*stride - lo``. The others are
    listed one by one in `base`, `start` and `stop`: first the `a` rows before the interior, then those
    after. So the table stays about as small as the kernel, where a full one would be as large as the matrix
    of a one-dimensional convolution.
    """

    base: Ints
    start: Ints
    stop: Ints
    offset: Ints
    taps: Ints
    first: Ints
    interior: tuple[int, int]
    shared: tuple[int, int]
    stride: int
    lo: int

    @property
    def outputs(self) -> int:
        a, b = self.interior
        return len(self.base) + b - a

    @property
    def nnz(self) -> int:
        a, b = self.interior
        return int((self.stop - self.start).sum()) + (b - a) * (self.shared[1] - self.shared[0])

    @property
    def longest(self) -> int:
        """Entries of the longest row."""
        a, b = self.interior
        shared = (self.shared[1] - self.shared[0]) * (b > a)
        return max(shared, int((self.stop - self.start).max())) if len(self.base) else shared

    def full(self) -> tuple[Ints, Ints, Ints]:
        """`base`, `start` and `stop` of all rows."""
        a, b = self.interior
        inside = np.arange(a, b) * self.stride - self.lo
        one = np.ones(b - a, dtype=np.int64)
        parts = (
            (self.base, inside),
            (self.start, one * self.shared[0]),
            (self.stop, one * self.shared[1]),
        )
        base, start, stop = (np.concatenate([edge[:a], mid, edge[a:]]) for edge, mid in parts)
        return base, start, stop

    def grid(self) -> tuple[Ints, Ints, npt.NDArray[np.bool_] | None]:
        """Column and entry of every row's entries side by side, and which of the places are taken.

        Rows are filled up to the longest; None says that all are of one length. Rows that all have the
        same entries have them once.
        """
        a, b = self.interior
        if not len(self.base):
            first, last = self.shared
            base = np.arange(a, b) * self.stride - self.lo
            return base[:, None] + self.offset[first:last], np.arange(first, last)[None], None
        base, start, stop = self.full()
        entry = start[:, None] + np.arange((stop - start).max())
        present = entry < stop[:, None]
        entry = np.minimum(entry, len(self.offset) - 1)
        return base[:, None] + self.offset[entry], entry, None if present.all() else present


@dataclass(frozen=True)
class Axis:
    """One spatial axis of a convolution. Built by :class:`ConvSpec`, which validates it.

    Attributes
    ----------
    extent : int
        Positions from the first tap to the last, both included.
    outputs : int
        Number of outputs, m.
    interior : (int, int)
        Outputs ``[a, b)`` whose taps all lie on the axis itself; ``(0, 0)`` if there are none.
    """

    inputs: int
    taps: int
    stride: int
    dilation: int
    lo: int
    hi: int
    mode: str

    extent: int = field(init=False, repr=False, compare=False)
    outputs: int = field(init=False, repr=False, compare=False)
    interior: tuple[int, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Asked for at every turn, and cheap next to asking for a property.
        extent = self.dilation * (self.taps - 1) + 1
        outputs = (self.inputs + self.lo + self.hi - extent) // self.stride + 1
        a = max(0, -(-self.lo // self.stride))
        b = min(outputs, (self.inputs - extent + self.lo) // self.stride + 1)
        object.__setattr__(self, "extent", extent)
        object.__setattr__(self, "outputs", outputs)
        object.__setattr__(self, "interior", (a, b) if a < b else (0, 0))

    def source(self, rows: npt.ArrayLike | None = None) -> Ints:
        """The table ``source[o, t] = extend(o*s + t*d - lo)``, int64, for all outputs or the given ones."""
        o = np.arange(self.outputs) if rows is None else np.asarray(rows, dtype=np.int64)
        position = o[:, None] * self.stride + np.arange(self.taps) * self.dilation - self.lo
        return extend(position, self.inputs, self.mode)

    def counts(self, rows: Ints) -> Ints:
        """Distinct inputs that each of the given outputs reads: the lengths of the matrix rows."""
        n, k, d = self.inputs, self.taps, self.dilation
        if self.mode == "circular":
            # An arithmetic progression mod n visits n/gcd(d, n) residues before it repeats.
            return np.full(len(rows), min(k, n // math.gcd(d, n)))
        if n == 1 and self.mode != "zeros":
            return np.ones(len(rows), dtype=np.int64)
        begin = rows * self.stride - self.lo
        end = begin + d * (k - 1)
        if self.mode in ("zeros", "replicate"):
            lowest = np.clip(-(begin // d), 0, k)
            highest = np.clip((n - 1 - begin) // d, -1, k - 1)
            inside: Ints = np.maximum(highest - lowest + 1, 0)
            if self.mode == "zeros":
                return inside
            # Taps beyond an end all read the end element: one more source unless a tap sits on it.
            at_first = (begin <= 0) & (begin % d == 0) & (end >= 0)
            at_last = (begin <= n - 1) & ((n - 1 - begin) % d == 0) & (end >= n - 1)
            inside += (begin < 0) & ~at_first
            inside += (end > n - 1) & ~at_last
            return inside
        repeat = 1 if self.mode == "symmetric" else 0
        period = 2 * (n - 1 + repeat)
        if d == 1:
            # The mirror image of an interval is an interval: its ends, or the ends of the axis it meets.
            f0, f1 = (extend(p, n, self.mode) for p in (begin, end))

            def meets(position: int) -> npt.NDArray[np.bool_]:
                return (end - position) // period > (begin - 1 - position) // period

            low = np.where(meets(0) | meets(-repeat), 0, np.minimum(f0, f1))
            high = np.where(meets(n - 1) | meets(n - 1 + repeat), n - 1, np.maximum(f0, f1))
            return high - low + 1
        # Dilated mirror: by the table itself, a few rows at a time; rows a period apart are equal.
        residue, inverse = np.unique(begin % period, return_inverse=True)
        distinct = np.empty(len(residue), dtype=np.int64)
        step = max(1, _CHUNK // k)
        for r in range(0, len(residue), step):
            table = extend(residue[r : r + step, None] + np.arange(k) * d, n, self.mode)
            table.sort(axis=1)
            distinct[r : r + step] = 1 + np.count_nonzero(np.diff(table, axis=1), axis=1)
        return distinct[inverse]

    @property
    def _merges(self) -> bool:
        """Whether taps of one row may meet in one source, so that rows of the boundary list their own."""
        return self.mode != "zeros" and not (self.mode == "circular" and self.extent <= self.inputs)

    @property
    def table_nbytes(self) -> int:
        """Bytes that making `rows` takes at most: some integers a row of the boundary, or a tap of such a row."""
        a, b = self.interior
        return 8 * (self.outputs - (b - a)) * (6 * self.taps + 10 if self._merges else 10)

    @property
    def boundary(self) -> Ints:
        """Outputs before and after the interior."""
        a, b = self.interior
        if b - a == self.outputs:
            return _NONE
        return np.concatenate([np.arange(a), np.arange(b, self.outputs)])

    @property
    def nnz(self) -> int:
        """Sum of `counts` over all outputs, in time of the order of the axis, however wide the padding."""
        m, s, n = self.outputs, self.stride, self.inputs
        a, b = self.interior
        if b - a == m:
            return m * self.taps
        if self.mode == "circular":  # every row alike
            return m * int(self.counts(np.zeros(1, dtype=np.int64))[0])

        def listed(start: int, stop: int) -> int:
            return sum(int(self.counts(np.arange(c, min(c + _CHUNK, stop))).sum()) for c in range(start, stop, _CHUNK))

        def total(start: int, stop: int) -> int:
            inside = max(0, min(b, stop) - max(a, start))
            if not inside:
                return listed(start, stop)
            return inside * self.taps + listed(start, max(a, start)) + listed(min(b, stop), stop)

        if self.mode in ("zeros", "replicate"):
            # Outputs that lie wholly beyond an end all read the same: nothing, or the end element.
            near = min(m, max(0, (self.lo - self.extent) // s))
            far = max(near, min(m, (self.lo + n) // s + 1))
            return total(near, far) + (m - (far - near)) * (self.mode == "replicate")
        # Mirrors repeat with the period of the extension.
        period = max(1, 2 * (n - (self.mode == "reflect")))
        cycle = period // math.gcd(s, period)
        if m <= cycle:
            return total(0, m)
        whole, rest = divmod(m, cycle)
        return whole * listed(0, cycle) + listed(0, rest)

    def rows(self) -> AxisRows:
        """The compressed table from which the matrix is built."""
        boundary = self.boundary
        tap = np.arange(self.taps)
        if not len(boundary):
            return self._rows(_NONE, _NONE, _NONE, tap * self.dilation, tap, shared=0)
        begin = boundary * self.stride - self.lo
        if self.mode == "zeros":
            # Every row is a stretch of the taps: those that lie on the axis.
            start = np.clip(-(begin // self.dilation), 0, self.taps)
            stop = np.clip((self.inputs - 1 - begin) // self.dilation + 1, 0, self.taps)
            return self._rows(begin, start, np.maximum(start, stop), tap * self.dilation, tap, shared=0)
        if not self._merges:
            # Circular, and at most one wrap: the taps from some tap on come first, shifted back by n. Written after one
            # another, the shifted and the plain taps contain every row as a stretch of k entries.
            base = begin % self.inputs
            start = np.minimum((self.inputs - 1 - base) // self.dilation + 1, self.taps)
            offset = np.concatenate([tap * self.dilation - self.inputs, tap * self.dilation])
            return self._rows(base, start, start + self.taps, offset, np.tile(tap, 2), shared=self.taps)
        return self._merged_rows(boundary)

    def _merged_rows(self, boundary: Ints) -> AxisRows:
        """Rows of any mode: each row of the boundary lists entries of its own, behind the shared ones."""
        table = self.source(boundary)
        order = np.argsort(table, axis=1, kind="stable")
        table = np.take_along_axis(table, order, axis=1)
        new = np.ones(table.shape, dtype=bool)
        np.not_equal(table[:, 1:], table[:, :-1], out=new[:, 1:])
        counts = np.count_nonzero(new, axis=1)
        shared = np.arange(self.taps)
        stop = self.taps + np.cumsum(counts)
        return self._rows(
            np.zeros(len(boundary), dtype=np.int64),
            stop - counts,
            stop,
            np.concatenate([shared * self.dilation, table[new]]),
            np.concatenate([shared, order.ravel()]),
            shared=0,
            first=np.concatenate([shared, np.flatnonzero(new) + self.taps, [self.taps + table.size]]),
        )

    def _rows(
        self, base: Ints, start: Ints, stop: Ints, offset: Ints, taps: Ints, *, shared: int, first: Ints | None = None
    ) -> AxisRows:
        return AxisRows(
            base=base,
            start=start,
            stop=stop,
            offset=offset,
            taps=taps,
            first=np.arange(len(taps) + 1) if first is None else first,
            interior=self.interior,
            shared=(shared, shared + self.taps),
            stride=self.stride,
            lo=self.lo,
        )
