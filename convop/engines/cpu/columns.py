"""Transforms along the first axis only, for kernels that are tall and not too wide.

Along the first axis a convolution becomes a product for each frequency; along the others it stays a correlation, which
register tiles do at the full rate of the machine:

    Y[f, o] = sum_c,t W[f, o, c, t] * X[f, c, . + t],      W[f, o, c, t] = sum_s k[o, c, s, t] exp(2 pi i f s / L) / L

Two halves of a block are the real and the imaginary part of one transform, as the kernel of real numbers acts on both
alike. A kernel of ``a x b`` taps takes about ``2 b L / (L - a + 1)`` multiplications a result, and the transforms
themselves move nothing across vectors (see `butterflies`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...arrays import memory
from ...arrays.backend import Array
from ...geometry.spec import ConvSpec
from ...threads.pool import awake_workers
from .blocks import padded, rooms, tiled
from .planes import Geometry, Result, grouped_kernel, read_only
from .polyphase import Taps

__all__ = ["ColumnDirection", "ColumnGeometry", "Cut", "cut"]

# Nanoseconds a byte, measured with one thread: to read or write an element, to transform it in one step of radix 4,
# to multiply and add two, and to read a weight again for another block; and nanoseconds of a line, which is read,
# correlated and written by itself.
_MOVE, _STEP, _MULTIPLY, _WEIGHT, _LINE_TIME = 0.06, 0.017, 0.0065, 0.05, 80
# A step takes so much longer where the columns of a cache line are more than the first-level cache.
_BEYOND_FIRST_CACHE = 1.7
_FIRST_CACHE = 2**15
# Bytes of a block that the caches of one core and its neighbours still hold; larger ones are slower, and take memory.
_HELD = 2**23
# Blocks come in a number that some workers can share evenly.
_WORKERS = 4
_LENGTHS = (8, 16, 32, 64, 128, 256, 512, 1024)
_WIDTH_CUTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
# Places of a half of a block at least, or what there are.
_LEAST_WIDTH = 32
_TILE_BYTES = (128, 32)
_LINE = 64


@dataclass(frozen=True)
class Cut:
    """How planes are cut for transforms along the first axis.

    Attributes
    ----------
    length : int
        Of a transform, a power of two.
    steps, width : int
        Steps of the first axis and places of the last that a block writes.
    nanoseconds : float
        Predicted for them with one thread.
    """

    length: int
    steps: int
    width: int
    nanoseconds: float


def cut(
    places: tuple[int, int], reach: tuple[int, int], lines: tuple[int, int], planes: tuple[int, int], entries: int,
    itemsize: int, halves: int,
) -> Cut | None:  # fmt: skip
    """The cut that costs least.

    Parameters
    ----------
    places, reach : (int, int)
        Results along the first and the last axis, and the largest shifts.
    lines : (int, int)
        Lines that are read for a step of the first axis, and lines of results.
    planes : (int, int)
        Complex planes that are read and written.
    entries : int
        Pairs of them times the taps of the other axes.
    itemsize : int
        Bytes of a real number.
    halves : int
        Two for real numbers.

    Returns
    -------
    Cut or None
        None if the first axis has nothing to transform, or reaches too far.
    """
    best: Cut | None = None
    wide, narrow = (size // itemsize for size in _TILE_BYTES)
    for length in _LENGTHS if reach[0] else ():
        if length <= reach[0]:
            continue
        row_blocks = math.ceil(places[0] / (length - reach[0]))
        steps = math.ceil(places[0] / row_blocks)
        step = _STEP * (_BEYOND_FIRST_CACHE if 2 * length * _LINE > _FIRST_CACHE else 1)
        for wanted in _WIDTH_CUTS:
            width = math.ceil(places[1] / wanted)
            half = math.ceil(width / halves)
            if wanted > 1 and half < _LEAST_WIDTH:
                break
            read, written = planes[0] * lines[0] * (half + reach[1]), planes[1] * lines[1] * half
            transformed = 2 * length * (read + written) * math.log2(length) / 2
            multiplied = 4 * length * entries * lines[1] * tiled(half, wide, narrow)
            moved = 2 * ((steps + reach[0]) * read + steps * written)
            lines_read = 2 * (planes[0] * lines[0] * (steps + reach[0]) + planes[1] * lines[1] * steps)
            weights = 4 * length * entries
            work = step * transformed + _MULTIPLY * multiplied + _MOVE * moved + _WEIGHT * weights
            blocks = row_blocks * math.ceil(places[1] / width)
            held = 2 * length * (read + written) * itemsize
            each = (itemsize * work + _LINE_TIME * lines_read) * max(1.0, (held / _HELD) ** 0.25)
            nanoseconds = -(-blocks // _WORKERS) * _WORKERS * each
            if best is None or nanoseconds < best.nanoseconds:
                best = Cut(length, steps, width, nanoseconds)
    return best


def _order(length: int) -> Array:
    """The frequencies in the order in which the steps leave them."""
    if length <= 2:
        return np.arange(length)
    return np.concatenate([4 * _order(length // 4) + quarter for quarter in range(4)])


def _twiddles(length: int) -> Array:
    """The factors of all steps but the last: three complex numbers for each row of the first quarter of a span."""
    factors = [np.zeros(0, complex)]
    while length >= 4:
        factors.append(np.exp(-2j * np.pi / length * np.outer(np.arange(length // 4), [1, 2, 3])).ravel())
        length //= 4
    return np.concatenate(factors).view(float)


@dataclass(frozen=True)
class _Entries:
    """Taps of a job that differ along the first axis alone are one entry, with a weight for each frequency.

    Attributes
    ----------
    of_tap : ndarray of int
        The entry of each tap.
    taps : Taps
        A tap of each entry, for where it reads along the other axes.
    """

    of_tap: Array
    taps: Taps

    @classmethod
    def of(cls, job: Taps) -> _Entries:
        keys = np.column_stack([job.phase, job.shift[:, 1:]])
        _, first, of_tap = np.unique(keys, axis=0, return_index=True, return_inverse=True)
        return cls(of_tap.reshape(-1), Taps(job.number[first], job.shift[first], job.phase[first]))


class ColumnGeometry(Geometry):
    """The blocks of a direction, its offsets, and the frequencies of its transforms.

    Parameters
    ----------
    spec, adjoint, real, parts
        As in `Geometry`.
    found : Cut
        How planes are cut.
    """

    def __init__(self, spec: ConvSpec, adjoint: bool, real: np.dtype[Any], parts: int, found: Cut) -> None:
        from ..kernels.microkernels import lanes

        super().__init__(spec, adjoint, real, parts)
        plan = self.plan
        first, last = plan.axes[0], plan.axes[-1]
        self.cut, self.lanes = found, lanes(real)
        half = math.ceil(found.width / (3 - parts))
        self.line_step = padded(half + last.reach, real.itemsize)
        self.plane_step = padded(found.length * plan.lines_a_step * self.line_step + _LINE, real.itemsize)
        self.blocks = math.ceil(first.places / found.steps) * math.ceil(last.places / found.width)
        self.entries = [_Entries.of(job) for job in self.jobs]
        self.offsets = [self._offsets(entries.taps) for entries in self.entries]
        # complex planes by twos: four real ones share what they read
        self.runs = [4] * (self.written // 2) + [2] * (self.written % 2)
        self.twiddles = _twiddles(found.length).astype(real)

    def _offsets(self, taps: Taps) -> Array:
        """Where every entry of every channel reads its real and its imaginary part, (channels, entries, 2), flat."""
        plan = self.plan
        lines = np.zeros(len(taps.number), dtype=np.int64)
        for axis, shift in zip(plan.axes[1:-1], taps.shift.T[1:-1], strict=True):
            lines = lines * (axis.places + axis.reach) + shift
        phases = plan.read_phases
        phase_step, imaginary = (1, phases) if self.parts == 2 else (2, 1)  # in planes
        planes = 2 * phases * np.arange(self.read)[:, None, None] + phase_step * taps.phase[:, None]
        planes = planes + imaginary * np.arange(2)
        return (planes * self.plane_step + (lines * self.line_step + taps.shift[:, -1])[:, None]).ravel()

    def direction(self, kernel: Array) -> ColumnDirection:
        return ColumnDirection(self, kernel)

    def weights(self, kernel: Array) -> tuple[Array, Array]:
        """The transformed kernel in the order in which the loops read it, and where each group's and job's begins."""
        taps = grouped_kernel(self.plan.spec, kernel, self.plan.adjoint)
        sizes = [self.cut.length * 2 * self.written * len(offsets) for offsets in self.offsets]
        # all of them packed, and those of a job as complex numbers, as real ones and in runs
        nbytes = len(taps) * sum(sizes) * self.real.itemsize + max(sizes) * (8 + 2 * self.real.itemsize)
        memory.require(nbytes, f"the transformed kernel of {self.plan.spec} (engine 'fft')")
        begins = np.cumsum([0, *sizes * len(taps)])
        packed = np.empty(begins[-1], self.real)
        numbers = [(group, job) for group in range(len(taps)) for job in range(len(self.jobs))]
        for (group, job), begin, stop in zip(numbers, begins[:-1], begins[1:], strict=True):
            packed[begin:stop] = self._packed(self._spectra(taps[group], job))
        return begins[:-1].reshape(len(taps), len(self.jobs)), packed

    def _spectra(self, group: Array, number: int) -> Array:
        """Weights of a job, (frequencies, channels written, channels read, entries), complex."""
        job, of_tap, length = self.jobs[number], self.entries[number].of_tap, self.cut.length
        written, read, _ = group.shape
        spectra = np.zeros((length, written, read, of_tap.max() + 1), complex)
        turns = np.outer(_order(length), np.arange(self.plan.axes[0].reach + 1)) % length
        factors = np.exp(2j * np.pi / length * turns) / length
        for shift in np.unique(job.shift[:, 0]):
            taps = np.flatnonzero(job.shift[:, 0] == shift)
            with np.errstate(invalid="ignore", over="ignore"):  # of kernels that are not finite
                spectra[..., of_tap[taps]] += factors[:, shift, None, None, None] * group[:, :, job.number[taps]]
        return spectra

    def _packed(self, spectra: Array) -> Array:
        """Weights as real ones, ``[[re, -im], [im, re]]``: by frequency, run of planes, entry, and plane of the run."""
        length, written, read, entries = spectra.shape
        # the parts that are read, the channels written, and their parts
        real = np.empty((length, read, entries, 2, written, 2), self.real)
        moved = np.moveaxis(spectra, 1, -1)
        real[..., 0, :, 0] = real[..., 1, :, 1] = moved.real
        real[..., 0, :, 1] = moved.imag
        real[..., 1, :, 0] = -moved.imag
        real = real.reshape(length, 2 * read * entries, 2 * written)
        runs = np.split(real, np.cumsum(self.runs)[:-1], axis=2)
        return np.concatenate([run.reshape(length, -1) for run in runs], axis=1).ravel()

    def arguments(self, kernel: Array) -> tuple[Any, ...]:
        """Everything that `column_loops.convolve` takes after the arrays it works on."""
        plan, found = self.plan, self.cut
        first, last = plan.axes[0], plan.axes[-1]
        begins, weights = self.weights(kernel)
        o_at = np.cumsum([0, *(len(offsets) for offsets in self.offsets)])
        return (
            self.groups, self.read, self.written, self.parts, plan.read_space, plan.written_space,
            *self.reading, *self.writing,
            first.places, first.reach, last.places, last.reach, plan.lines_a_step, plan.between,
            found.steps, found.width, found.length, self.plane_step, self.line_step, self.lanes, self.twiddles,
            np.array(self.runs), o_at, np.concatenate(self.offsets), begins, weights,
        )  # fmt: skip


class ColumnDirection:
    """The map in one direction, with the transforms of the kernel."""

    def __init__(self, geometry: ColumnGeometry, kernel: Array) -> None:
        self.geometry = geometry
        self.arguments = geometry.arguments(kernel)

    def apply(self, columns: Array, dtype: np.dtype[Any]) -> Array:
        from ..kernels.columns import convolve

        geometry = self.geometry
        result = Result(geometry.plan, len(columns), dtype)
        items = len(columns) * geometry.groups * geometry.blocks
        work = int(geometry.cut.nanoseconds) * 10 * len(columns) * geometry.groups
        crew = awake_workers(items, work)
        threads = len(crew) + 1
        x = rooms("x", threads, 2 * geometry.read * geometry.plan.read_phases * geometry.plane_step, geometry.real)
        y = rooms("y", threads, 2 * geometry.written * geometry.plane_step, geometry.real)
        convolve(
            crew, items, read_only(columns.view(geometry.real).reshape(-1)), result.target, result.aside, result.rim,
            x, read_only(x), y, *self.arguments,
        )  # fmt: skip
        return result.finish()
