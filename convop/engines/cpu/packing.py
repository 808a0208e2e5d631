"""Offsets and weights in the order in which register tiles read them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...arrays.backend import Array
from ...geometry.axis import Axis, Ints
from .polyphase import Taps

__all__ = ["Correlations", "paired_distance", "plane_runs", "ragged"]


def ragged(arrays: list[Array], dtype: Any) -> tuple[Array, Array]:
    """Where each of some arrays begins when they stand one after another, and so they do."""
    at = np.cumsum([0, *(a.size for a in arrays)])
    return at, np.concatenate([a.ravel() for a in arrays]).astype(dtype, copy=False)


def plane_runs(planes: int) -> list[int]:
    """Numbers of planes that are computed together: fours, and rather three and two than four and one."""
    runs = []
    while planes:
        runs.append(3 if planes in (3, 5) else min(planes, 4))
        planes -= runs[-1]
    return runs


def _packed_runs(matrix: Array, runs: list[int]) -> Array:
    """Weights, (planes, entries), in the order in which tiles read them."""
    ends = np.cumsum(runs)
    return np.concatenate([rows.T.ravel() for rows in np.split(matrix, ends[:-1])])


@dataclass(frozen=True)
class Pairs:
    """Entries of two steps of the first axis that are computed together, as `tiles.pair_tile` takes them.

    An entry is a tap of a plane that is read. Those that differ along the first axis alone are a column.

    Attributes
    ----------
    first : list of int
        Entries that only the first of two steps reads: the first of each column.
    both : ndarray of int, (entries, 2)
        Entries that both read, and which they are for the second.
    last : list of int
        Entries that only the second reads.
    """

    first: list[int]
    both: Ints
    last: list[int]

    @classmethod
    def of(cls, job: Taps, planes: int) -> Pairs:
        """The entries of a job that reads some planes."""
        found: dict[tuple[int, ...], list[int]] = {}
        for tap in np.argsort(job.shift[:, 0], kind="stable").tolist():
            found.setdefault((int(job.phase[tap]), *job.shift[tap, 1:].tolist()), []).append(tap)
        taps = len(job.number)
        columns = [[plane * taps + tap for tap in column] for plane in range(planes) for column in found.values()]
        both = [pair for column in columns for pair in zip(column[1:], column[:-1], strict=True)]
        return cls([c[0] for c in columns], np.array(both, int).reshape(-1, 2), [c[-1] for c in columns])

    def offsets(self, offsets: Ints, step: int) -> Ints:
        """Where entries are read, from those of all entries and the distance of the two steps."""
        return np.concatenate([offsets[self.first], offsets[self.both[:, 0]], offsets[self.last] + step])

    def weights(self, entries: Array) -> Array:
        """Weights in the order of the entries."""
        return np.concatenate([entries[self.first], entries[self.both.ravel()], entries[self.last]])


def paired_distance(axis: Axis, places: int, jobs: list[Taps]) -> int:
    """Steps of the first axis from one to the other that shares its taps but the ends, or 0 if there are none."""
    distance = axis.dilation // math.gcd(axis.dilation, axis.stride)
    longest = max(len(set(job.shift[:, 0].tolist())) for job in jobs)
    return distance if longest > 1 and places > distance else 0


class Correlations:
    """Some jobs that read the same planes and each write as many, as `loops.correlate_block` takes them.

    Parameters
    ----------
    jobs : list of Taps
        What each reads.
    offsets : list of ndarray of int64
        Where every tap of every plane of a job reads, (planes, taps), flat.
    read, written : int
        Real planes that are read, and written by a job.
    distance, step : int
        Steps of the first axis from one to the other that is computed with it, 0 for none, and elements of a step.

    Attributes
    ----------
    runs : list of int
        Numbers of planes that are computed together.
    pair_offsets : list of ndarray of int64
        The offsets of a job for two steps.
    pair_columns : list of int
        Entries that only one of two steps reads.
    """

    def __init__(
        self, jobs: list[Taps], offsets: list[Ints], read: int, written: int, distance: int = 0, step: int = 0
    ) -> None:
        self.jobs, self.offsets, self.distance = jobs, offsets, distance
        self.runs = plane_runs(written)
        self._pairs = [Pairs.of(job, read) for job in jobs] if distance else []
        nothing = np.zeros(0, dtype=np.int64)
        self.pair_offsets = (
            [pairs.offsets(o, distance * step) for pairs, o in zip(self._pairs, offsets, strict=True)]
            if distance
            else [nothing] * len(jobs)
        )
        self.pair_columns = [len(pairs.first) for pairs in self._pairs] if distance else [0] * len(jobs)

    def weights(self, group: Array) -> tuple[list[Array], list[Array]]:
        """The weights of every job, and those for two steps, from the taps of a group, (written, read, taps)."""
        matrices = [group[:, :, job.number].reshape(len(group), -1) for job in self.jobs]
        nothing = np.zeros(0, dtype=group.dtype)
        pairs = [p.weights(m[0]) for p, m in zip(self._pairs, matrices, strict=True)] if self.distance else []
        return [_packed_runs(matrix, self.runs) for matrix in matrices], pairs or [nothing] * len(matrices)
