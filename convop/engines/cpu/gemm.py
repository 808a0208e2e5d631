"""The engine for many channels: matrix products of the BLAS, on taps collected block by block.

The runs of places that the taps of all planes read are the rows of a matrix, the weights another; a block is small
enough for their product to find both in the cache. The whole matrix of collected taps never exists.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ...arrays.backend import Array
from ...geometry.spec import ConvSpec
from ...threads.blocks import run_items
from .blocks import Blocks, scratch
from .planes import Block, Geometry, PlaneEngine, Result, grouped_kernel, real_weights

__all__ = ["GemmEngine", "is_pointwise"]

# Bytes of the collected taps of a block.
_PANEL = 2**21


def is_pointwise(spec: ConvSpec) -> bool:
    """Whether every output has one tap, and reads the place where it is: a product of the weights and the channels."""
    return all(axis.taps == axis.stride == 1 and axis.lo == axis.hi == 0 for axis in spec.axes)


class _Geometry(Geometry):
    """Blocks of a direction, and the offsets of their taps."""

    def __init__(self, spec: ConvSpec, adjoint: bool, real: np.dtype[Any], parts: int) -> None:
        super().__init__(spec, adjoint, real, parts)
        entries = self.read * parts * max(len(job.number) for job in self.jobs)
        self.blocks = Blocks.whole_runs(self.plan, real.itemsize, max(1, _PANEL // (real.itemsize * entries)))
        self.offsets = [self.blocks.offsets(self.plan, job, self.read * parts) for job in self.jobs]

    def direction(self, kernel: Array) -> _Direction:
        return _Direction(self, kernel)


class _Direction:
    """The map in one direction, with its weights as matrices."""

    def __init__(self, geometry: _Geometry, kernel: Array) -> None:
        self.geometry = geometry
        weights = real_weights(grouped_kernel(geometry.plan.spec, kernel, geometry.plan.adjoint))
        self.matrices = [
            [np.ascontiguousarray(group[:, :, job.number].reshape(len(group), -1)) for job in geometry.jobs]
            for group in weights
        ]

    def apply(self, columns: Array, dtype: np.dtype[Any]) -> Array:
        geometry = self.geometry
        result = Result(geometry.plan, len(columns), dtype)
        if geometry.parts == 1 and is_pointwise(geometry.plan.spec):
            (matrices,) = zip(*self.matrices, strict=True)
            read, written = (
                (len(columns), geometry.groups, planes, geometry.plan.places)
                for planes in (geometry.read, geometry.written)
            )
            np.matmul(np.stack(matrices), columns.reshape(read), out=result.columns.reshape(written))
            return result.columns
        work = partial(self._work, columns.view(geometry.real).reshape(-1), result)
        # The BLAS divides each product over its own threads.
        run_items(work, len(columns) * geometry.groups * geometry.blocks.count(geometry.plan), work=0)
        return result.finish()

    def _work(self, source: Array, result: Result, first: int, stop: int) -> None:
        from ..kernels.planes import collect

        geometry, plan, blocks = self.geometry, self.geometry.plan, self.geometry.blocks
        x = scratch("x", geometry.read_planes * blocks.plane_step, geometry.real)
        for item in range(first, stop):
            block = Block.number(item, plan, blocks.steps, blocks.width)
            block.read(geometry, source, x, blocks.plane_step, blocks.line_step)
            run = ((block.steps - 1) * plan.lines_a_step + int(plan.between[-1])) * blocks.line_step + block.width
            for job, matrix in enumerate(self.matrices[block.place % geometry.groups]):
                written, entries = matrix.shape
                panel = scratch("panel", entries * run, geometry.real)[: entries * run].reshape(entries, run)
                collect(x, geometry.offsets[job], panel)
                sums = scratch("y", written * run, geometry.real)[: written * run].reshape(written, run)
                np.matmul(matrix, panel, out=sums)
                block.write(
                    geometry, job, sums.reshape(-1), (run, blocks.line_step, plan.lines_a_step, plan.between), result
                )


class GemmEngine(PlaneEngine):
    """Products of the weights with blocks of collected taps, by the BLAS that NumPy brings.

    NaN and infinities stay where the kernel reads them.
    """

    name = "gemm"
    _geometry = staticmethod(_Geometry)
