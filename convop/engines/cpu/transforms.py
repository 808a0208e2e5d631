"""Fourier transforms along all axes, for kernels that are large in all of them: products of spectra, block by block.

The valid part of a stride-1 correlation of planes is a circular one as long as the block and its halo are no longer than
the transform (overlap-save; Oppenheim and Schafer, Discrete-Time Signal Processing, section 8.7.3), so nothing is padded
but to a length with small factors:

    Y[o] = sum_c conj(F k[o, c]) * F x[c],      y[o] = the first results of F^-1 Y[o]

The planes are real, so half of each transform is enough, also for complex kernels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import scipy.fft

from ...arrays import memory
from ...arrays.backend import Array
from ...geometry.spec import ConvSpec
from ...threads.blocks import run_items
from ...threads.sizes import thread_count, transform_workers
from ..kernels.records import Block, Layout
from .components import grouped_kernel, real_weights
from .planes import BlockGeometry, Result
from .tuning import Tuning, cheapest
from .workspace import scratch


def _axis_cuts(output_size: int, halo: int, counts: tuple[int, ...]) -> list[tuple[int, int]]:
    """Returns numbers of blocks along an axis that are worth trying, and the length of a transform of each.

    A block shares its halo with its neighbour, so blocks of less than the halo are mostly repetition.
    """
    cuts = [(n, scipy.fft.next_fast_len(math.ceil(output_size / n) + halo, real=True)) for n in counts]
    return [(n, length) for n, length in cuts if n == 1 or n * halo <= output_size]


@dataclass(frozen=True)
class TransformLengths:
    """How planes are cut for transforms along all axes.

    Attributes
    ----------
    lengths : tuple of int
        Of the transforms of a block.
    nanoseconds : float
        Predicted with one thread.
    """

    lengths: tuple[int, ...]
    nanoseconds: float


def transform_lengths(
    axes: list[tuple[int, int]], planes: tuple[int, int], itemsize: int, tuning: Tuning
) -> TransformLengths:
    """Returns the cheapest lengths.

    Parameters
    ----------
    axes : list of (int, int)
        Results along each axis, and the largest shift. The first and the last axis may be cut.
    planes : (int, int)
        Planes that are transformed, and planes that are transformed back.
    itemsize : int
        Bytes of a real number.
    tuning : Tuning
        Costs.

    Returns
    -------
    TransformLengths
    """
    (read, written), costs = planes, tuning.transforms
    middle = [scipy.fft.next_fast_len(size + halo, real=True) for size, halo in axes[1:-1]]

    def of(rows: int, first: int, columns: int, last: int) -> TransformLengths:
        lengths = (*([first] if len(axes) > 1 else []), *middle, last)
        blocks, points = rows * columns, math.prod(lengths)
        nbytes = points * itemsize
        byte = costs.byte if nbytes <= costs.cache_bytes else costs.byte * costs.beyond_cache
        each = costs.block + nbytes * ((read + written) * byte + read * written * costs.product)
        return TransformLengths(lengths, float(each * (blocks + blocks % 2)))  # for an even number of workers

    cuts = [
        of(rows, first, columns, last)
        for rows, first in (_axis_cuts(*axes[0], costs.cuts) if len(axes) > 1 else [(1, 1)])
        for columns, last in _axis_cuts(*axes[-1], costs.cuts)
        if rows * columns == 1 or first * math.prod(middle) * last >= costs.least_points
    ]
    return cheapest(cuts, lambda cut: cut.nanoseconds)


class TransformGeometry(BlockGeometry):
    """The blocks of a direction, and the lengths of their transforms.

    Parameters
    ----------
    spec, adjoint, dtype
        As in `Geometry`.
    tuning : Tuning
        Costs.
    """

    def __init__(self, spec: ConvSpec, adjoint: bool, dtype: np.dtype[Any], tuning: Tuning) -> None:
        super().__init__(spec, adjoint, dtype)
        axes = self.plan.axes
        first, last = axes[0], axes[-1]
        planes = (self.read_planes, self.written_planes * len(self.phases))
        sizes = [(axis.output_size, axis.halo) for axis in axes]
        self.lengths = transform_lengths(sizes, planes, self.real.itemsize, tuning).lengths
        # Blocks are as even as they can be.
        rows, columns = (
            math.ceil(axis.output_size / (n - axis.halo))
            for axis, n in ((first, self.lengths[0]), (last, self.lengths[-1]))
        )
        self.blocks = self.tiling(math.ceil(first.output_size / rows), math.ceil(last.output_size / columns))
        self.spectrum = (*self.lengths[:-1], self.lengths[-1] // 2 + 1)
        self.extents = tuple(axis.output_size + axis.halo for axis in axes[1:-1])
        row_offsets = np.zeros(1, dtype=np.int64)
        for axis, length in zip(axes[1:-1], self.lengths[1:-1], strict=True):
            row_offsets = (row_offsets[:, None] * length + np.arange(axis.output_size)).ravel()
        self.planes = self.layout(math.prod(self.lengths), self.lengths[-1])
        self.results = Layout(
            self.planes.plane_stride, self.planes.row_stride, math.prod(self.lengths[1:-1]), row_offsets
        )

    def direction(self, kernel: Array) -> TransformDirection:
        return TransformDirection(self, kernel)

    def padded_block(self, block: Block, source: Array) -> Array:
        """Returns what a block reads, with zeros up to the lengths of the transforms: (planes, *lengths), a workspace."""
        size = math.prod(self.lengths)
        planes = scratch("fft", self.read_planes * size, self.real)
        planes[:] = 0
        # A middle axis is padded between the rows of a block, which are then read apart.
        if self.extents == self.lengths[1:-1]:
            self.read_block(block, source, planes, self.planes)
            return planes.reshape(-1, *self.lengths)
        axes = self.plan.axes
        shape = (self.read_planes, block.outer_count + axes[0].halo, *self.extents, block.column_count + axes[-1].halo)
        read = np.empty(shape, self.real)
        self.read_block(block, source, read.reshape(-1), self.layout(math.prod(shape[1:]), shape[-1]))
        placed = planes.reshape(-1, *self.lengths)
        placed[tuple(slice(n) for n in shape)] = read
        return placed


class TransformDirection:
    """The map in one direction, with the transforms of the kernel.

    Parameters
    ----------
    geometry : TransformGeometry
        Of the direction.
    kernel : ndarray
        Taps in the dtype of the results.
    """

    def __init__(self, geometry: TransformGeometry, kernel: Array) -> None:
        self.geometry = geometry
        weights = real_weights(grouped_kernel(geometry.plan.spec, kernel, geometry.plan.adjoint))
        complex_size = 2 * geometry.real.itemsize
        kernels = weights.shape[0] * weights.shape[1] * weights.shape[2] * geometry.plan.read_phases
        nbytes = kernels * len(geometry.phases) * math.prod(geometry.spectrum) * complex_size
        memory.require(nbytes, f"the transformed kernel of {geometry.plan.spec} (engine 'fft')")
        self.spectra = [self._spectra(group) for group in weights]

    def _spectra(self, group: Array) -> list[Array]:
        """Returns ``conj(F k)`` for each output phase, (planes written, planes read, *spectrum)."""
        geometry = self.geometry
        written, read, _ = group.shape
        spectra = []
        for taps in geometry.phases:
            placed = np.zeros((written, read, geometry.plan.read_phases, *geometry.lengths), geometry.real)
            placed[(slice(None), slice(None), taps.phase, *taps.shift.T)] = group[:, :, taps.number]
            placed = placed.reshape(written, -1, *geometry.lengths)
            axes = tuple(range(2, placed.ndim))
            transformed = scipy.fft.rfftn(placed, axes=axes, workers=transform_workers(placed.size))
            spectra.append(np.conj(transformed, out=transformed))
        return spectra

    def apply(self, columns: Array, dtype: np.dtype[Any]) -> Array:
        geometry = self.geometry
        result = Result(geometry, len(columns), dtype)
        items = geometry.block_count(len(columns))
        # A single transform is divided within itself.
        inner = thread_count() if items == 1 else 1
        work = partial(self._work, columns.view(geometry.real).reshape(-1), result, inner)
        transforms = geometry.read_planes + geometry.written_planes * len(geometry.phases)
        run_items(work, items, work=items * transforms * math.prod(geometry.lengths) * 10)
        return result.finish()

    def _work(self, source: Array, result: Result, inner: int, first: int, stop: int) -> None:
        geometry = self.geometry
        axes = tuple(range(1, len(geometry.lengths) + 1))
        for item in range(first, stop):
            block = geometry.block(item)
            transformed = scipy.fft.rfftn(geometry.padded_block(block, source), axes=axes, workers=inner)
            for phase, spectra in enumerate(self.spectra[block.group]):
                with np.errstate(invalid="ignore", over="ignore"):  # of kernels and inputs that are not finite
                    product = spectra[:, 0] * transformed[0]
                    for plane in range(1, geometry.read_planes):
                        product += spectra[:, plane] * transformed[plane]
                sums = scipy.fft.irfftn(product, s=geometry.lengths, axes=axes, workers=inner, overwrite_x=True)
                geometry.write_block(sums.reshape(-1), geometry.results, phase, result, block)
