"""The source table of one spatial axis: which input every output reads through every tap. Integers only.

An axis with ``n`` inputs, ``k`` taps, stride ``s``, dilation ``d`` and padding ``(lo, hi)`` has

    m = (n + lo + hi - d*(k - 1) - 1)//s + 1

outputs, and output ``o`` reads, through tap ``t``, the input

    source[o, t] = extend(o*s + t*d - lo)

where ``extend`` is the padding mode. The matrix of an N-dimensional convolution is an outer product of
such tables; everything in this package is derived from them.

An extension copies elements: it never multiplies them. A new padding mode that copies is a branch of `extend`, with its
count in `Axis.counts` and `Axis.nnz`, an entry in `PADDING_MODES`, one in the oracle of the tests and the texts that list
the modes. A mode with factors (an antisymmetric one has -1) changes every consumer that assumes the factor 1, too: the
gather table and the two places that merge its taps (`matrix.builders`, `cuda.tables`), `matrix.data_matrix`, the axes of one
that `matrix.build` leaves out, `Phase`, `Reading`, `Writing` and `add_halo` of the engines, `geometry.folding`,
`spectral.axis_bases`, the Schur bound of `spectral.norm_bounds`, and ``gather.cu``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

PADDING_MODES = ("zeros", "circular", "reflect", "symmetric", "replicate")

Ints: TypeAlias = npt.NDArray[np.int64]

# Rows per chunk where a count needs one number per row: 8 MiB an array.
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
        The values outside. :func:`numpy.pad` calls the last four wrap, reflect, symmetric and edge; they are
        repeated as often as a wide padding needs.

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
        # Stored, as they are read far more often than an axis is made.
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

    @property
    def positions(self) -> int:
        """Positions of the extended axis from the first that an output reads to the last, both included."""
        return (self.outputs - 1) * self.stride + self.extent

    def extension(self) -> Ints:
        """The input at each of the `positions`, or -1: output ``o`` reads, through tap ``t``, position ``o*s + t*d``."""
        return extend(np.arange(self.positions) - self.lo, self.inputs, self.mode)

    @property
    def boundary(self) -> Ints:
        """Outputs before and after the interior."""
        a, b = self.interior
        if b - a == self.outputs:
            return _NONE
        return np.concatenate([np.arange(a), np.arange(b, self.outputs)])

    @property
    def merges_taps(self) -> bool:
        """Whether two taps of one output may read the same input, so that rows of the boundary list their own entries."""
        return self.mode != "zeros" and not (self.mode == "circular" and self.extent <= self.inputs)

    @property
    def table_nbytes(self) -> int:
        """Upper bound of the bytes that a `GatherTable` takes while it is made: some integers per boundary row or tap."""
        a, b = self.interior
        return 8 * (self.outputs - (b - a)) * (6 * self.taps + 10 if self.merges_taps else 10)

    @property
    def _mirror_period(self) -> int:
        """Period of the extension by mirrors, in inputs."""
        return 2 * (self.inputs - (self.mode == "reflect"))

    def counts(self, rows: Ints) -> Ints:
        """Distinct inputs that each of the given outputs reads: the lengths of the matrix rows."""
        n, k, d = self.inputs, self.taps, self.dilation
        if self.mode == "circular":
            # An arithmetic progression mod n visits n/gcd(d, n) residues before it repeats.
            return np.full(len(rows), min(k, n // math.gcd(d, n)))
        if n == 1 and self.mode != "zeros":
            return np.ones(len(rows), dtype=np.int64)
        begin = rows * self.stride - self.lo
        if self.mode in ("zeros", "replicate"):
            return self._counts_clipped(begin)
        return self._counts_mirrored(begin) if d == 1 else self._counts_dilated_mirror(begin)

    def _counts_clipped(self, begin: Ints) -> Ints:
        """`counts` with padding by zeros or by the end elements, for rows whose first tap is at a position."""
        n, k, d = self.inputs, self.taps, self.dilation
        end = begin + d * (k - 1)
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

    def _counts_mirrored(self, begin: Ints) -> Ints:
        """`counts` with padding by mirrors and no dilation: the image of an interval in mirrors is an interval."""
        n, period, repeat = self.inputs, self._mirror_period, int(self.mode == "symmetric")
        end = begin + self.taps - 1
        first, last = (extend(p, n, self.mode) for p in (begin, end))

        def contains(position: int) -> npt.NDArray[np.bool_]:
            return (end - position) // period > (begin - 1 - position) // period

        # The image ends at the images of the interval's ends, or at an end of the axis that it contains.
        low = np.where(contains(0) | contains(-repeat), 0, np.minimum(first, last))
        high = np.where(contains(n - 1) | contains(n - 1 + repeat), n - 1, np.maximum(first, last))
        counts: Ints = high - low + 1
        return counts

    def _counts_dilated_mirror(self, begin: Ints) -> Ints:
        """`counts` with padding by mirrors, from the table itself in chunks of rows; rows a period apart are equal."""
        residue, inverse = np.unique(begin % self._mirror_period, return_inverse=True)
        distinct = np.empty(len(residue), dtype=np.int64)
        rows = max(1, _CHUNK // self.taps)
        for r in range(0, len(residue), rows):
            table = extend(residue[r : r + rows, None] + np.arange(self.taps) * self.dilation, self.inputs, self.mode)
            table.sort(axis=1)
            distinct[r : r + rows] = 1 + np.count_nonzero(np.diff(table, axis=1), axis=1)
        return distinct[inverse]

    @property
    def nnz(self) -> int:
        """Sum of `counts` over all outputs, in time of the order of the axis, however wide the padding."""
        m, s, n = self.outputs, self.stride, self.inputs
        a, b = self.interior
        if b - a == m:
            return m * self.taps
        if self.mode == "circular":  # all rows are equal but for a shift
            return m * int(self.counts(np.zeros(1, dtype=np.int64))[0])

        def counted(start: int, stop: int) -> int:
            return sum(int(self.counts(np.arange(c, min(c + _CHUNK, stop))).sum()) for c in range(start, stop, _CHUNK))

        def total(start: int, stop: int) -> int:
            inside = max(0, min(b, stop) - max(a, start))
            if not inside:
                return counted(start, stop)
            return inside * self.taps + counted(start, max(a, start)) + counted(min(b, stop), stop)

        if self.mode in ("zeros", "replicate"):
            # Outputs that lie wholly beyond an end read nothing, or the end element.
            near = min(m, max(0, (self.lo - self.extent) // s))
            far = max(near, min(m, (self.lo + n) // s + 1))
            return total(near, far) + (m - (far - near)) * (self.mode == "replicate")
        # Mirrors repeat with the period of the extension.
        period = max(1, self._mirror_period)
        cycle = period // math.gcd(s, period)
        if m <= cycle:
            return total(0, m)
        whole, rest = divmod(m, cycle)
        return whole * counted(0, cycle) + counted(0, rest)
