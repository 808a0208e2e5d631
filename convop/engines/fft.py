"""The engine for large kernels: products of Fourier transforms, block by block.

The valid part of a stride-1 correlation of planes is a circular one as long as the block and the reach of its taps are
no longer than the transform, so nothing is padded but to a length with small factors:

    Y[o] = sum_c conj(F k[o, c]) * F x[c],      y[o] = the first places of F^-1 Y[o]

The planes are real, so half of each transform is enough, also for complex kernels.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import scipy.fft

from .. import memory
from ..backend import Array
from ..parallel import run_items, workers
from ..spec import ConvSpec
from .planes import Block, Geometry, PlaneEngine, Result, grouped_kernel, real_weights

__all__ = ["FftEngine", "FftGeometry", "transform_lengths"]

# Costs in nanoseconds, measured with scipy.fft: a call, a point of a transform per doubling of its size, in cache and
# beyond it, and a product. Their ratios decide how planes are cut.
_CALL, _POINT, _PRODUCT = 6e4, 0.5, 1.5
_CACHE_BYTES, _BEYOND_CACHE = 2**20, 1.6


def _lengths(places: int, reach: int) -> list[int]:
    """Lengths of transforms worth trying along an axis: the whole, and shorter ones of at least twice the reach."""
    length = scipy.fft.next_fast_len(places + reach, real=True)
    lengths = [length]
    while length > max(2 * reach, 32):
        length = scipy.fft.next_fast_len(math.ceil(length * 0.7), real=True)
        if length >= lengths[-1] or length <= reach:
            break
        lengths.append(length)
    return lengths


def transform_lengths(
    places: list[int], reach: list[int], read: int, written: int, itemsize: int
) -> tuple[tuple[int, ...], int]:
    """Lengths of the transforms of a block, and the number of blocks, that cost least.

    Parameters
    ----------
    places, reach : list of int
        Results along each axis, and the largest shift. The first and the last axis may be cut.
    read, written : int
        Planes that are transformed forth and back.
    itemsize : int
        Bytes of a real number.

    Returns
    -------
    tuple of int, int
    """
    middle = [scipy.fft.next_fast_len(p + r, real=True) for p, r in zip(places[1:-1], reach[1:-1], strict=True)]
    firsts = _lengths(places[0], reach[0]) if len(places) > 1 else [0]

    def blocks(first: int, last: int) -> int:
        count = math.ceil(places[-1] / (last - reach[-1]))
        return count * math.ceil(places[0] / (first - reach[0])) if first else count

    def cost(pair: tuple[int, int]) -> float:
        size = max(pair[0], 1) * math.prod(middle) * pair[1]
        point = _POINT * math.log2(size + 1) * (1 if size * itemsize <= _CACHE_BYTES else _BEYOND_CACHE)
        work = (read + written) * size * point + read * written * size / 2 * _PRODUCT
        return float(blocks(*pair) * (_CALL + work))

    best = min(((f, n) for f in firsts for n in _lengths(places[-1], reach[-1])), key=cost)
    return (*([best[0]] if best[0] else []), *middle, best[1]), blocks(*best)


class FftGeometry(Geometry):
    """The blocks of a direction, and the lengths of their transforms."""

    def __init__(self, spec: ConvSpec, adjoint: bool, real: np.dtype[Any], parts: int) -> None:
        super().__init__(spec, adjoint, real, parts)
        axes = self.plan.axes
        first, last = axes[0], axes[-1]
        written = self.written * parts * len(self.jobs)
        self.lengths, _ = transform_lengths(
            [axis.places for axis in axes], [axis.reach for axis in axes], self.read_planes, written, real.itemsize
        )
        self.steps = min(first.places, self.lengths[0] - first.reach)
        self.width = min(last.places, self.lengths[-1] - last.reach)
        self.spectrum = (*self.lengths[:-1], self.lengths[-1] // 2 + 1)
        self.extents = tuple(axis.places + axis.reach for axis in axes[1:-1])
        self.between = np.zeros(1, dtype=np.int64)
        for axis, length in zip(axes[1:-1], self.lengths[1:-1], strict=True):
            self.between = (self.between[:, None] * length + np.arange(axis.places)).ravel()
        self.blocks = (math.ceil(first.places / self.steps), math.ceil(last.places / self.width))

    def read_block(self, block: Block, source: Array) -> Array:
        """What a block reads, (planes, *places)."""
        axes = self.plan.axes
        line = block.width + axes[-1].reach
        planes = np.empty((self.read_planes, block.steps + axes[0].reach, *self.extents, line), self.real)
        block.read(self, source, planes.reshape(-1), math.prod(planes.shape[1:]), line)
        return planes


class _Direction:
    """The map in one direction, with the transforms of the kernel."""

    def __init__(self, geometry: FftGeometry, kernel: Array) -> None:
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
            transformed = scipy.fft.rfftn(placed, axes=axes, workers=workers())
            spectra.append(np.conj(transformed, out=transformed))
        return spectra

    def apply(self, columns: Array, dtype: np.dtype[Any]) -> Array:
        geometry = self.geometry
        result = Result(geometry.plan, len(columns), dtype)
        items = len(columns) * geometry.groups * math.prod(geometry.blocks)
        # A single transform is divided within itself.
        inner = workers() if items == 1 else 1
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
            transformed = scipy.fft.rfftn(
                geometry.read_block(block, source), s=geometry.lengths, axes=axes, workers=inner
            )
            for job, spectra in enumerate(self.spectra[block.place % geometry.groups]):
                with np.errstate(invalid="ignore", over="ignore"):  # of kernels and inputs that are not finite
                    product = spectra[:, 0] * transformed[0]
                    for plane in range(1, geometry.read_planes):
                        product += spectra[:, plane] * transformed[plane]
                sums = scipy.fft.irfftn(product, s=geometry.lengths, axes=axes, workers=inner, overwrite_x=True)
                block.write(geometry, job, sums.reshape(-1), layout, result)


class FftEngine(PlaneEngine):
    """Fourier transforms of blocks, with the transform of the kernel kept.

    A NaN or an infinity spreads over its whole block. Errors are of the size of rounding relative to the largest
    results, not to each single one.
    """

    name = "fft"
    _geometry_type = FftGeometry
    _direction_type = _Direction
