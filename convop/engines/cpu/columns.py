"""Fourier transforms along the first axis only, for kernels that are tall and not too wide.

Along the first axis a convolution becomes a product for each frequency (overlap-save, block by block); along the other
axes it stays a correlation, which the microkernels do at the full rate of the machine:

    Y[f, o] = sum_c,t W[f, o, c, t] * X[f, c, . + t],      W[f, o, c, t] = sum_s k[o, c, s, t] exp(2 pi i f s / L) / L

Two halves of a block of real numbers are the real and the imaginary component of one transform, because a real kernel
acts on both alike. A kernel of ``a x b`` taps takes about ``2 b L / (L - a + 1)`` multiplications a result, and the
transforms themselves move nothing across vectors (see `kernels.butterflies`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from ...arrays import memory
from ...arrays.backend import Array
from ...geometry.spec import ConvSpec
from ..kernels.records import ColumnPlan, TapTable
from ..kernels.tiles import plane_runs, tile_elements, tile_vectors
from .components import grouped_kernel
from .packing import ColumnEntries, concatenated
from .planes import CompiledGeometry
from .polyphase import PhaseTaps
from .tiling import tiled
from .tuning import Tuning, cheapest
from .workspace import padded

# Bytes of a cache line.
_LINE = 64


@dataclass(frozen=True)
class ColumnProblem:
    """What the cost of transforms along the first axis depends on.

    Attributes
    ----------
    outer_size, outer_halo, row_size, row_halo : int
        Results along the first and the last axis, and the largest shifts.
    read_rows, result_rows : int
        Rows that are read for an index of the first axis, and rows of results.
    read, written : int
        Complex planes.
    entries : int
        Pairs of a plane that is read and a plane that is written, times the taps of the other axes.
    itemsize : int
        Bytes of a real number.
    components : int
        2 for complex numbers; a block of real numbers is transformed as two halves.
    """

    outer_size: int
    outer_halo: int
    row_size: int
    row_halo: int
    read_rows: int
    result_rows: int
    read: int
    written: int
    entries: int
    itemsize: int
    components: int

    def nanoseconds(self, length: int, outer: int, columns: int, tuning: Tuning) -> float:
        """Returns the predicted time of all blocks with one thread."""
        costs, half = tuning.columns, self.half(columns)
        tile = tile_elements([tile_vectors(2)], f"f{self.itemsize}")  # of real and imaginary components
        read = self.read * self.read_rows * (half + self.row_halo)
        written = self.written * self.result_rows * half
        step = costs.step * (costs.beyond_first_cache if 2 * length * _LINE > costs.first_cache else 1)
        transformed = 2 * length * (read + written) * math.log2(length) / 2
        multiplied = 4 * length * self.entries * self.result_rows * tiled(half, tile, tuning.narrow_tile)
        moved = 2 * ((outer + self.outer_halo) * read + outer * written)
        rows = 2 * (self.read * self.read_rows * (outer + self.outer_halo) + self.written * self.result_rows * outer)
        weights = 4 * length * self.entries
        work = step * transformed + costs.multiply * multiplied + costs.move * moved + costs.weight * weights
        held = 2 * length * (read + written) * self.itemsize
        each = (self.itemsize * work + costs.row * rows) * max(1.0, (held / costs.held_bytes) ** 0.25)
        blocks = self.row_blocks(length) * math.ceil(self.row_size / columns)
        return float(-(-blocks // costs.workers) * costs.workers * each)

    def half(self, columns: int) -> int:
        """Returns the columns of a block that are transformed as one component."""
        return math.ceil(columns / (3 - self.components))

    def row_blocks(self, length: int) -> int:
        """Returns the number of blocks along the first axis."""
        return math.ceil(self.outer_size / (length - self.outer_halo))


@dataclass(frozen=True)
class ColumnCut:
    """How planes are cut for transforms along the first axis.

    Attributes
    ----------
    length : int
        Of a transform, a power of two.
    outer, columns : int
        Indices of the first axis and of the last that a block writes.
    nanoseconds : float
        Predicted with one thread.
    """

    length: int
    outer: int
    columns: int
    nanoseconds: float


def column_cut(problem: ColumnProblem, tuning: Tuning) -> ColumnCut | None:
    """Returns the cheapest cut.

    Returns
    -------
    ColumnCut or None
        None if the first axis has nothing to transform, or reaches too far.
    """
    costs = tuning.columns
    cuts = []
    for length in costs.lengths if problem.outer_halo else ():
        if length <= problem.outer_halo:
            continue
        outer = math.ceil(problem.outer_size / problem.row_blocks(length))
        for count in costs.cuts:
            columns = math.ceil(problem.row_size / count)
            if count > 1 and problem.half(columns) < costs.least_width:
                break
            cuts.append(ColumnCut(length, outer, columns, problem.nanoseconds(length, outer, columns, tuning)))
    return cheapest(cuts, lambda cut: cut.nanoseconds) if cuts else None


def _frequencies(length: int) -> Array:
    """Returns the frequencies in the digit-reversed order in which the transform leaves them."""
    if length <= 2:
        return np.arange(length)
    return np.concatenate([4 * _frequencies(length // 4) + quarter for quarter in range(4)])


def _twiddles(length: int) -> Array:
    """Returns the factors of all steps but the last: three complex numbers for each row of a quarter of a span."""
    factors = [np.zeros(0, complex)]
    while length >= 4:
        factors.append(np.exp(-2j * np.pi / length * np.outer(np.arange(length // 4), [1, 2, 3])).ravel())
        length //= 4
    return np.concatenate(factors).view(float)


class ColumnGeometry(CompiledGeometry):
    """The blocks of a direction, its tap offsets, and the frequencies of its transforms.

    Parameters
    ----------
    spec, adjoint, dtype
        As in `Geometry`.
    cut : ColumnCut
        How planes are cut.
    """

    def __init__(self, spec: ConvSpec, adjoint: bool, dtype: np.dtype[Any], cut: ColumnCut) -> None:
        super().__init__(spec, adjoint, dtype)
        plan, itemsize = self.plan, self.real.itemsize
        first, last = plan.axes[0], plan.axes[-1]
        self.cut = cut
        half = math.ceil(cut.columns / (3 - self.components))
        self.row_stride = padded(half + last.halo, itemsize)
        self.plane_stride = padded(cut.length * plan.rows_per_index * self.row_stride + _LINE, itemsize)
        self.blocks = math.ceil(first.output_size / cut.outer) * math.ceil(last.output_size / cut.columns)
        self.work = int(cut.nanoseconds) * 10 * self.groups
        self.workspace = (
            2 * self.read * plan.read_phases * self.plane_stride,
            2 * self.written * self.plane_stride,
        )
        self.entries = [ColumnEntries.of(taps, cut.length) for taps in self.phases]
        self.offsets = [self._offsets(entries.taps) for entries in self.entries]
        # Complex planes by twos: four real planes share what they read.
        self.runs = plane_runs(2 * self.written)

    def _offsets(self, taps: PhaseTaps) -> Array:
        """Returns where every entry of every channel reads its two components, (channels, entries, 2), flat."""
        rows = self.plan.row_numbers(taps.shift, first_axis=False)
        phases = self.plan.read_phases
        phase_planes, imaginary = (1, phases) if self.components == 2 else (2, 1)
        planes = 2 * phases * np.arange(self.read)[:, None, None] + phase_planes * taps.phase[:, None]
        planes = planes + imaginary * np.arange(2)
        return (planes * self.plane_stride + (rows * self.row_stride + taps.shift[:, -1])[:, None]).ravel()

    def loop(self) -> Any:
        from ..kernels.columns import convolve

        return convolve

    def record(self, kernel: Array) -> ColumnPlan:
        return ColumnPlan(
            tiling=self.tiling(self.cut.outer, self.cut.columns),
            reading=self.reading,
            writing=self.writing,
            layout=self.layout(self.plane_stride, self.row_stride),
            length=self.cut.length,
            twiddles=_twiddles(self.cut.length).astype(self.real),
            taps=self._tap_table(kernel),
        )

    def _tap_table(self, kernel: Array) -> TapTable:
        """Returns the transformed kernel in the order in which the loops read it."""
        taps = grouped_kernel(self.plan.spec, kernel, self.plan.adjoint)
        sizes = [self.cut.length * 2 * self.written * len(offsets) for offsets in self.offsets]
        # All weights packed, and those of one phase as complex numbers, as real numbers and in runs.
        nbytes = len(taps) * sum(sizes) * self.real.itemsize + max(sizes) * (8 + 2 * self.real.itemsize)
        memory.require(nbytes, f"the transformed kernel of {self.plan.spec} (engine 'fft')")
        begins = np.cumsum([0, *sizes * len(taps)])
        weights = np.empty(begins[-1], self.real)
        numbers = product(range(len(taps)), range(len(self.phases)))
        for (group, phase), begin, stop in zip(numbers, begins[:-1], begins[1:], strict=True):
            weights[begin:stop] = self._packed(self._spectra(taps[group], phase))
        offset_at, offsets = concatenated(self.offsets, np.int64)
        return TapTable(np.array(self.runs), offsets, offset_at, weights, begins[:-1].reshape(len(taps), -1))

    def _spectra(self, group: Array, phase: int) -> Array:
        """Returns the weights of a phase, (frequencies, channels written, channels read, entries), complex."""
        taps, of_tap, length = self.phases[phase], self.entries[phase].of_tap, self.cut.length
        written, read, _ = group.shape
        spectra = np.zeros((length, written, read, of_tap.max() + 1), complex)
        turns = np.outer(_frequencies(length), np.arange(self.plan.axes[0].halo + 1)) % length
        factors = np.exp(2j * np.pi / length * turns) / length
        for shift in np.unique(taps.shift[:, 0]):
            some = np.flatnonzero(taps.shift[:, 0] == shift)
            with np.errstate(invalid="ignore", over="ignore"):  # of kernels that are not finite
                spectra[..., of_tap[some]] += factors[:, shift, None, None, None] * group[:, :, taps.number[some]]
        return spectra

    def _packed(self, spectra: Array) -> Array:
        """Returns weights as real numbers ``[[re, -im], [im, re]]``, by frequency, run, entry, and plane of the run."""
        length, written, read, entries = spectra.shape
        # axes: frequency, channel and entry that are read, component that is read, channel and component written
        real = np.empty((length, read, entries, 2, written, 2), self.real)
        moved = np.moveaxis(spectra, 1, -1)
        real[..., 0, :, 0] = real[..., 1, :, 1] = moved.real
        real[..., 0, :, 1] = moved.imag
        real[..., 1, :, 0] = -moved.imag
        real = real.reshape(length, 2 * read * entries, 2 * written)
        runs = np.split(real, np.cumsum(self.runs)[:-1], axis=2)
        return np.concatenate([run.reshape(length, -1) for run in runs], axis=1).ravel()
