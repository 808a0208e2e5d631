"""Packs offsets and weights in the order in which the microkernels read them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...arrays.backend import Array
from ...geometry.axis import Axis, Ints
from ..kernels.records import PairTable, TapTable
from ..kernels.tiles import plane_runs
from .polyphase import PhaseTaps


def concatenated(arrays: list[Array], dtype: Any) -> tuple[Array, Array]:
    """Returns where each array begins in their concatenation (one more than arrays, as CSR's indptr), and the concatenation."""
    at = np.cumsum([0, *(a.size for a in arrays)])
    return at, np.concatenate([a.ravel() for a in arrays]).astype(dtype, copy=False)


def packed(matrix: Array, runs: list[int]) -> Array:
    """Returns weights ``(planes, entries)`` by run of planes, entry, and plane of the run."""
    ends = np.cumsum(runs)
    return np.concatenate([rows.T.ravel() for rows in np.split(matrix, ends[:-1])])


@dataclass(frozen=True)
class _Pairs:
    """The entries of two results that are computed together, in the order of `records.PairTaps`.

    An entry is a tap of a plane that is read. Entries that differ along the first axis alone form a column: the second
    result reads each of them through the tap before.

    Attributes
    ----------
    first : list of int
        Entries that only the first result reads: the first of each column.
    shared : ndarray of int, (entries, 2)
        Entries that both results read, and which entry each is for the second.
    last : list of int
        Entries that only the second result reads.
    """

    first: list[int]
    shared: Ints
    last: list[int]

    @classmethod
    def of(cls, taps: PhaseTaps, planes: int) -> _Pairs:
        """Returns the entries of an output phase that reads some planes."""
        found: dict[tuple[int, ...], list[int]] = {}
        for tap in np.argsort(taps.shift[:, 0], kind="stable").tolist():
            found.setdefault((int(taps.phase[tap]), *taps.shift[tap, 1:].tolist()), []).append(tap)
        count = len(taps.number)
        columns = [[plane * count + tap for tap in column] for plane in range(planes) for column in found.values()]
        shared = [pair for column in columns for pair in zip(column[1:], column[:-1], strict=True)]
        return cls([c[0] for c in columns], np.array(shared, int).reshape(-1, 2), [c[-1] for c in columns])

    def offsets(self, offsets: Ints, stride: int) -> Ints:
        """Returns where entries are read, from the offsets of all entries and the stride of the two results."""
        return np.concatenate([offsets[self.first], offsets[self.shared[:, 0]], offsets[self.last] + stride])

    def weights(self, entries: Array) -> Array:
        """Returns weights in the order of the entries."""
        return np.concatenate([entries[self.first], entries[self.shared.ravel()], entries[self.last]])


@dataclass(frozen=True)
class ColumnEntries:
    """Taps of an output phase that a transform along the first axis joins to one entry, with a weight for each value.

    Attributes
    ----------
    of_tap : ndarray of int
        The entry of each tap.
    within : ndarray of int
        The shift of each tap along the first axis, within its entry.
    taps : PhaseTaps
        Where each entry reads: shifts along the first axis count transforms.
    """

    of_tap: Ints
    within: Ints
    taps: PhaseTaps

    @classmethod
    def of(cls, taps: PhaseTaps, span: int) -> ColumnEntries:
        """Returns the entries for transforms that take `span` shifts along the first axis."""
        transform, within = np.divmod(taps.shift[:, 0], span)
        keys = np.column_stack([taps.phase, transform, taps.shift[:, 1:]])
        unique, first, of_tap = np.unique(keys, axis=0, return_index=True, return_inverse=True)
        return cls(of_tap.reshape(-1), within, PhaseTaps(taps.number[first], unique[:, 1:], unique[:, 0]))


def pair_distance(axis: Axis, output_size: int, phases: list[PhaseTaps]) -> int:
    """Returns the indices of the first axis between two results that share all taps but the ends, 0 if there are none."""
    distance = axis.dilation // math.gcd(axis.dilation, axis.stride)
    longest = max(len(set(taps.shift[:, 0].tolist())) for taps in phases)
    return distance if longest > 1 and output_size > distance else 0


class CorrelationPhases:
    """The output phases of one correlation: they read the same planes, and each writes as many.

    Parameters
    ----------
    phases : list of PhaseTaps
        The taps of each phase.
    offsets : list of ndarray of int64
        Where every tap of every plane of a phase reads, ``(planes, taps)``, flat.
    planes : (int, int)
        Planes that are read, and planes that a phase writes.
    distance, stride : int
        Indices of the first axis between results that are computed together, 0 for none, and elements of an index.

    Attributes
    ----------
    runs : list of int
        Numbers of planes that are computed together.
    """

    def __init__(
        self,
        phases: list[PhaseTaps],
        offsets: list[Ints],
        planes: tuple[int, int],
        *,
        distance: int = 0,
        stride: int = 0,
    ) -> None:
        read, written = planes
        self.phases, self.offsets, self.distance = phases, offsets, distance
        self.runs = plane_runs(written)
        self._pairs = [_Pairs.of(taps, read) for taps in phases] if distance else []
        pairs = zip(self._pairs, offsets, strict=True) if distance else ()
        nothing = [np.zeros(0, dtype=np.int64)] * len(phases)
        self.pair_offsets = [entries.offsets(o, distance * stride) for entries, o in pairs] or nothing
        self.pair_ends = [len(entries.first) for entries in self._pairs] or [0] * len(phases)

    def weights(self, group: Array) -> list[Array]:
        """Returns the weights of every phase from the taps of a group, ``(written, read, taps)``."""
        return [packed(matrix, self.runs) for matrix in self._matrices(group)]

    def pair_weights(self, group: Array) -> list[Array]:
        """Returns the weights of every phase for pairs of results."""
        if not self.distance:
            return [np.zeros(0, dtype=group.dtype)] * len(self.phases)
        return [entries.weights(m[0]) for entries, m in zip(self._pairs, self._matrices(group), strict=True)]

    def _matrices(self, group: Array) -> list[Array]:
        return [group[:, :, taps.number].reshape(len(group), -1) for taps in self.phases]


def tap_table(correlations: list[CorrelationPhases], weights: list[Array], real: np.dtype[Any]) -> TapTable:
    """Returns the table of the output phases of some correlations, one after another.

    Parameters
    ----------
    correlations : list of CorrelationPhases
        In the order of their output phases.
    weights : list of ndarray
        For each correlation real weights, ``(groups, planes written, planes read, taps)``.
    real : dtype
        Of the weights.
    """
    offset_at, offsets = concatenated([o for c in correlations for o in c.offsets], np.int64)
    groups = list(zip(*weights, strict=True))
    packed = [w for group in groups for c, taps in zip(correlations, group, strict=True) for w in c.weights(taps)]
    weight_at, values = concatenated(packed, real)
    runs = np.array([run for c in correlations for run in c.runs])
    return TapTable(runs, offsets, offset_at, values, weight_at[:-1].reshape(len(groups), -1))


def pair_table(correlations: list[CorrelationPhases], weights: list[Array], real: np.dtype[Any]) -> PairTable:
    """Returns the table of pairs of results; the parameters are those of `tap_table`."""
    offset_at, offsets = concatenated([o for c in correlations for o in c.pair_offsets], np.int64)
    groups = list(zip(*weights, strict=True))
    packed = [w for group in groups for c, taps in zip(correlations, group, strict=True) for w in c.pair_weights(taps)]
    weight_at, values = concatenated(packed, real)
    ends = np.array([end for c in correlations for end in c.pair_ends])
    return PairTable(offsets, offset_at, values, weight_at[:-1].reshape(len(groups), -1), ends)
