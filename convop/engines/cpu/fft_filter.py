"""The gradient of a kernel by Fourier transforms along all axes; the transforms of the input are kept."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import scipy.fft

from ...arrays import memory
from ...arrays.backend import Array
from ...geometry.spec import ConvSpec
from ...threads.locks import BuiltOnce
from ...threads.sizes import thread_count
from ..kernels.records import Block
from ..protocol import Engine
from .fft import FftEngine
from .filters import PlaneFilter, read_residual, residual_reading, sum_over_threads
from .transforms import TransformGeometry
from .tuning import Tuning


class _TransformedInput:
    """The transforms of the blocks of an input, each made when it is first needed, and kept if all fit in memory."""

    def __init__(self, spec: ConvSpec, x: Array, tuning: Tuning) -> None:
        self.geometry = g = TransformGeometry(spec, False, x.dtype, tuning)
        self._source = x.view(g.real).reshape(-1)
        self.items = g.block_count()
        self.residual = residual_reading(g)
        nbytes = self.items * g.read_planes * math.prod(g.spectrum) * 2 * g.real.itemsize
        free = memory.available()
        self._keeps = free is None or nbytes < free / 4
        self._kept: dict[int, Array] = {}

    def block(self, item: int, block: Block) -> Array:
        """Returns the transforms of the planes that a block reads."""
        transformed = self._kept.get(item)
        if transformed is None:
            axes = tuple(range(1, len(self.geometry.lengths) + 1))
            transformed = scipy.fft.rfftn(self.geometry.padded_block(block, self._source), axes=axes)
            if self._keeps:
                self._kept[item] = transformed
        return transformed


class FftFilter(PlaneFilter):
    """Forward by the fft engine; products of the transforms of residuals and of the input for the adjoint."""

    name = "fft"

    def __init__(self, spec: ConvSpec, data: Array, tuning: Tuning | None = None) -> None:
        super().__init__(spec, data, tuning)
        self._transformed: BuiltOnce[_TransformedInput] = BuiltOnce()

    def _engine(self, spec: ConvSpec, kernel: Array) -> Engine:
        return FftEngine(spec, kernel, self._tuning)

    def _products(self, x: Array, residuals: Array) -> Array:
        data = self._transformed.get(x.dtype.char, lambda: _TransformedInput(self._spec, x, self._tuning))
        g, batch = data.geometry, len(residuals)
        size = math.prod(g.lengths) * (g.read_planes + batch * g.written_planes)
        total_nbytes = batch * g.groups * g.written_planes * g.read_planes * math.prod(g.spectrum) * 2 * g.real.itemsize
        memory.require(
            (min(thread_count(), data.items) + 2) * total_nbytes,
            f"the products of transforms of {self._spec} (engine 'fft')",
        )
        work = partial(self._block_products, data, residuals.view(g.real).reshape(-1), batch)
        total = sum_over_threads(work, data.items, data.items * size * 10)
        sums = scipy.fft.irfftn(total, s=g.lengths, axes=tuple(range(4, total.ndim)))
        sums = sums.reshape(batch, g.groups, g.written_planes, g.read * g.components, g.plan.read_phases, *g.lengths)
        (taps,) = g.phases
        # The axis of the index arrays comes last, because nothing stands between them.
        taken: Array = sums[(slice(None), slice(None), slice(None), slice(None), taps.phase, *taps.shift.T)]
        return taken

    @staticmethod
    def _block_products(data: _TransformedInput, y: Array, batch: int, first: int, stop: int) -> Array:
        g = data.geometry
        written = g.written_planes
        axes = tuple(range(1, len(g.lengths) + 1))
        kind: np.dtype[Any] = np.result_type(g.real, np.complex64)
        total = np.zeros((batch, g.groups, written, g.read_planes, *g.spectrum), kind)
        for item in range(first, stop):
            block = g.block(item)
            transformed = data.block(item, block)
            shape = (written, block.outer_count, *g.extents, block.column_count)
            layout = g.layout(math.prod(shape[1:]), block.column_count)
            for b in range(batch):
                out = np.zeros(shape, g.real)
                read_residual(data.residual, block, b * g.groups + block.group, y, out.reshape(-1), layout)
                spectra = np.conj(scipy.fft.rfftn(out, s=g.lengths, axes=axes))
                for plane in range(written):
                    total[b, block.group, plane] += spectra[plane] * transformed
        return total
