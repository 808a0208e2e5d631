"""The engine for many channels: im2col block by block, and matrix products by the BLAS.

The runs of all taps of all planes are the rows of one matrix, the weights another. A block is small enough for their
product to find both in the cache; the im2col matrix of the whole input never exists.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ...arrays.backend import Array
from ...geometry.spec import ConvSpec
from ...threads.blocks import run_items
from ..kernels.records import Layout
from .components import grouped_kernel, real_weights
from .planes import BlockGeometry, PlaneEngine, Result, call_kernel
from .tiling import tap_offsets, whole_run_tiling
from .tuning import Tuning
from .workspace import scratch


def is_pointwise(spec: ConvSpec) -> bool:
    """Returns whether every output reads one input at its own place: the map is a product of weights and channels."""
    return all(axis.taps == axis.stride == 1 and axis.lo == axis.hi == 0 for axis in spec.axes)


class _Geometry(BlockGeometry):
    """The blocks of a direction, and the offsets of their taps."""

    def __init__(self, spec: ConvSpec, adjoint: bool, dtype: np.dtype[Any], tuning: Tuning) -> None:
        super().__init__(spec, adjoint, dtype)
        read = self.read * self.components
        entries = read * max(len(taps.number) for taps in self.phases)
        run = max(1, tuning.im2col.panel_bytes // (self.real.itemsize * entries))
        outer, columns, plane_stride, row_stride = whole_run_tiling(self.plan, self.real.itemsize, run)
        self.blocks, self.planes = self.tiling(outer, columns), self.layout(plane_stride, row_stride)
        self.offsets = [tap_offsets(self.plan, taps, read, plane_stride, row_stride) for taps in self.phases]

    def direction(self, kernel: Array) -> _Direction:
        return _Direction(self, kernel)


class _Direction:
    """The map in one direction, with its weights as matrices."""

    def __init__(self, geometry: _Geometry, kernel: Array) -> None:
        self.geometry = geometry
        weights = real_weights(grouped_kernel(geometry.plan.spec, kernel, geometry.plan.adjoint))
        self.matrices = [
            [np.ascontiguousarray(group[:, :, taps.number].reshape(len(group), -1)) for taps in geometry.phases]
            for group in weights
        ]

    def apply(self, columns: Array, dtype: np.dtype[Any]) -> Array:
        geometry = self.geometry
        result = Result(geometry, len(columns), dtype)
        if geometry.components == 1 and is_pointwise(geometry.plan.spec):
            (matrices,) = zip(*self.matrices, strict=True)
            read, written = (
                (len(columns), geometry.groups, channels, geometry.plan.plane_size)
                for channels in (geometry.read, geometry.written)
            )
            np.matmul(np.stack(matrices), columns.reshape(read), out=result.columns.reshape(written))
            return result.columns
        work = partial(self._work, columns.view(geometry.real).reshape(-1), result)
        # The BLAS divides each product over its own threads.
        run_items(work, geometry.block_count(len(columns)), work=0)
        return result.finish()

    def _work(self, source: Array, result: Result, first: int, stop: int) -> None:
        from ..kernels.gradient import im2col

        geometry, planes = self.geometry, self.geometry.planes
        x = scratch("x", geometry.read_planes * planes.plane_stride, geometry.real)
        for item in range(first, stop):
            block = geometry.block(item)
            geometry.read_block(block, source, x, planes)
            run = geometry.run_length(block)
            results = Layout(run, planes.row_stride, planes.rows_per_index, planes.row_offsets)
            for phase, matrix in enumerate(self.matrices[block.group]):
                written, entries = matrix.shape
                panel = scratch("panel", entries * run, geometry.real).reshape(entries, run)
                call_kernel(im2col, geometry.real, x, geometry.offsets[phase], panel)
                sums = scratch("y", written * run, geometry.real).reshape(written, run)
                np.matmul(matrix, panel, out=sums)
                geometry.write_block(sums.reshape(-1), results, phase, result, block)


class GemmEngine(PlaneEngine):
    """Products of the weights with the im2col matrices of blocks, by the BLAS that NumPy brings.

    NaN and infinities stay where the kernel reads them.
    """

    name = "gemm"

    def _build_geometry(self, adjoint: bool, dtype: np.dtype[Any]) -> _Geometry:
        return _Geometry(self._spec, adjoint, dtype, self._tuning)
