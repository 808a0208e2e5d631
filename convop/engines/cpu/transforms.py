"""Transforms along all axes, for kernels that are large in all of them: products of spectra, block by block.

The valid part of a stride-1 correlation of planes is a circular one as long as the block and the reach of its taps are
no longer than the transform, so nothing is padded but to a length with small factors:

    Y[o] = sum_c conj(F k[o, c]) * F x[c],      y[o] = the first places of F^-1 Y[o]

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
from ...threads.sizes import transform_workers, thread_count
from .blocks import scratch
from .planes import Block, Geometry, Result, grouped_kernel, real_weights

__all__ = ["BlockDirection", "BlockGeometry", "Lengths", "block_lengths"]

# Costs in nanoseconds, measured with scipy.fft: what a block takes besides, a byte of a plane that is transformed, which
# hardly depends on the length as long as a block fits the cache, and a byte of a product. Their ratios decide how planes
# are cut.
_BLOCK, _BYTE, _PRODUCT = 8e4, 0.55, 0.15
_CACHE_BYTES, _BEYOND_CACHE = 2**20, 1.4
# Blocks along an axis that are tried, and points that a block has at least.
_CUTS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 128)
_LEAST_POINTS = 2**12


def _cuts(places: int, reach: int) -> list[tuple[int, int]]:
    """Numbers of blocks along an axis that are worth trying, and the length of a transform of each.

    A block shares its reach with its neighbour, so that blocks of less than the reach are mostly repetition.
    """
    cuts = [(n, scipy.fft.next_fast_len(math.ceil(places / n) + reach, real=True)) for n in _CUTS]
    return [(n, length) for n, length in cuts if n == 1 or n * reach <= places]


@dataclass(frozen=True)
class Lengths:
    """How planes are cut for transforms along all axes.

    Attributes
    ----------
    lengths : tuple of int
        Of the transforms of a block.
    nanoseconds : float
        Predicted for them with one thread.
    """

    lengths: tuple[int, ...]
    nanoseconds: float


def block_lengths(places: list[int], reach: list[int], planes: tuple[int, int], itemsize: int) -> Lengths:
    """The cut that costs least.

    Parameters
    ----------
    places, reach : list of int
        Results along each axis, and the largest shift. The first and the last axis may be cut.
    planes : (int, int)
        Planes that are transformed forth and back.
    itemsize : int
        Bytes of a real number.

    Returns
    -------
    Lengths
    """
    read, written = planes
    middle = [scipy.fft.next_fast_len(p + r, real=True) for p, r in zip(places[1:-1], reach[1:-1], strict=True)]

    def of(rows: int, first: int, columns: int, last: int) -> Lengths:
        lengths = (*([first] if len(places) > 1 else []), *middle, last)
        blocks, points = rows * columns, math.prod(lengths)
        nbytes = points * itemsize
        byte = _BYTE if nbytes <= _CACHE_BYTES else _BYTE * _BEYOND_CACHE
        each = _BLOCK + nbytes * ((read + written) * byte + read * written * _PRODUCT)
        return Lengths(lengths, float(each * (blocks + blocks % 2)))  # for an even number of workers

    cuts = [
        of(rows, first, columns, last)
        for rows, first in (_cuts(places[0], reach[0]) if len(places) > 1 else [(1, 1)])
        for columns, last in _cuts(places[-1], reach[-1])
        if rows * columns == 1 or first * math.prod(middle) * last >= _LEAST_POINTS
    ]
    return min(cuts, key=lambda cut: cut.nanoseconds)


class BlockGeometry(Geometry):
    """The blocks of a direction, and the lengths of their transforms."""

    def __init__(self, spec: ConvSpec, adjoint: bool, real: np.dtype[Any], parts: int) -> None:
        super().__init__(spec, adjoint, real, parts)
        axes = self.plan.axes
        first, last = axes[0], axes[-1]
        planes = (self.read_planes, self.written * parts * len(self.jobs))
        self.lengths = block_lengths([a.places for a in axes], [a.reach for a in axes], planes, real.itemsize).lengths
        # as even as they can be
        rows, columns = (
            math.ceil(a.places / (n - a.reach)) for a, n in ((first, self.lengths[0]), (last, self.lengths[-1]))
        )
        self.steps, self.width = math.ceil(first.places / rows), math.ceil(last.places / columns)
        self.spectrum = (*self.lengths[:-1], self.lengths[-1] // 2 + 1)
        self.extents = tuple(axis.places + axis.reach for axis in axes[1:-1])
        self.between = np.zeros(1, dtype=np.int64)
        for axis, length in zip(axes[1:-1], self.lengths[1:-1], strict=True):
            self.between = (self.between[:, None] * length + np.arange(axis.places)).ravel()
        self.blocks = (math.ceil(first.places / self.steps), math.ceil(last.places / self.width))

    def direction(self, kernel: Array) -> BlockDirection:
        return BlockDirection(self, kernel)

    def read_block(self, block: Block, source: Array) -> Array:
        """What a block reads, with zeros up to the lengths of the transforms: (planes, *lengths), this thread's own."""
        size = math.prod(self.lengths)
        planes = scratch("fft", self.read_planes * size, self.real)[: self.read_planes * size]
        planes[:] = 0
        # Only a middle axis makes the lines of a block differ from those that are read: these are then read apart.
        if self.extents == self.lengths[1:-1]:
            block.read(self, source, planes, size, self.lengths[-1])
            return planes.reshape(-1, *self.lengths)
        axes = self.plan.axes
        shape = (self.read_planes, block.steps + axes[0].reach, *self.extents, block.width + axes[-1].reach)
        read = np.empty(shape, self.real)
        block.read(self, source, read.reshape(-1), math.prod(shape[1:]), shape[-1])
        placed = planes.reshape(-1, *self.lengths)
        placed[tuple(slice(n) for n in shape)] = read
        return placed


class BlockDirection:
    """The map in one direction, with the transforms of the kernel."""

    def __init__(self, geometry: BlockGeometry, kernel: Array) -> None:
        self.geometry = geometry
        weights = real_weights(grouped_kernel(geometry.plan.spec, kernel, geometry.plan.adjoint))
        complex_size = 2 * geometry.real.itemsize
        kernels = weights.shape[0] * weights.shape[1] * weights.shape[2] * geometry.plan.read_phases
        nbytes = kernels * len(geometry.jobs) * math.prod(geometry.spectrum) * complex_size
        memory.require(nbytes, f"the transformed kernel of {geometry.plan.spec} (engine 'fft')")
        self.spectra = [self._spectra(group) for group in weights]

    def _spectra(self, group: Array) -> list[Array]:
        """For each job ``conj(F k)``, (planes written, planes read, *spectrum)."""
        geometry = self.geometry
        written, read, _ = group.shape
        spectra = []
        for job in geometry.jobs:
            placed = np.zeros((written, read, geometry.plan.read_phases, *geometry.lengths), geometry.real)
            placed[(slice(None), slice(None), job.phase, *job.shift.T)] = group[:, :, job.number]
            placed = placed.reshape(written, -1, *geometry.lengths)
            axes = tuple(range(2, placed.ndim))
            transformed = scipy.fft.rfftn(placed, axes=axes, workers=transform_workers(placed.size))
            spectra.append(np.conj(transformed, out=transformed))
        return spectra

    def apply(self, columns: Array, dtype: np.dtype[Any]) -> Array:
        geometry = self.geometry
        result = Result(geometry.plan, len(columns), dtype)
        items = len(columns) * geometry.groups * math.prod(geometry.blocks)
        # A single transform is divided within itself.
        inner = thread_count() if items == 1 else 1
        work = partial(self._work, columns.view(geometry.real).reshape(-1), result, inner)
        transforms = geometry.read_planes + geometry.written * geometry.parts * len(geometry.jobs)
        run_items(work, items, work=items * transforms * math.prod(geometry.lengths) * 10)
        return result.finish()

    def _work(self, source: Array, result: Result, inner: int, first: int, stop: int) -> None:
        geometry, plan = self.geometry, self.geometry.plan
        axes = tuple(range(1, len(geometry.lengths) + 1))
        size = math.prod(geometry.lengths)
        layout = (size, geometry.lengths[-1], math.prod(geometry.lengths[1:-1]), geometry.between)
        for item in range(first, stop):
            block = Block.number(item, plan, geometry.steps, geometry.width)
            transformed = scipy.fft.rfftn(geometry.read_block(block, source), axes=axes, workers=inner)
            for job, spectra in enumerate(self.spectra[block.place % geometry.groups]):
                with np.errstate(invalid="ignore", over="ignore"):  # of kernels and inputs that are not finite
                    product = spectra[:, 0] * transformed[0]
                    for plane in range(1, geometry.read_planes):
                        product += spectra[:, plane] * transformed[plane]
                sums = scipy.fft.irfftn(product, s=geometry.lengths, axes=axes, workers=inner, overwrite_x=True)
                block.write(geometry, job, sums.reshape(-1), layout, result)
