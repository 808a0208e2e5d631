"""Engines the other way round: the input is fixed, and the kernel is what they are applied to.

Forward is the same map as an engine's, with an output channel for every column of kernels. The adjoint takes a residual
to the gradient of the kernel, a correlation of the input with the residual,

    K[o, c, t] = sum_p conj(x[c, p*s + t*d - lo]) * y[o, p]

on the same planes, block by block. No matrix of the input exists, except in the csr engine.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import numpy as np
import scipy.fft
import scipy.sparse as sp

from ...arrays import memory
from ...arrays.backend import Array
from ...geometry.spec import ConvSpec
from ...matrix.data_matrix import group_matrices
from ...threads.blocks import run_items
from ...threads.locks import ForkSafeLock
from ...threads.sizes import thread_count
from ..protocol import Engine
from .blocks import Blocks, scratch
from .direct import DirectEngine
from .fft import FftEngine
from .gemm import GemmEngine
from .planes import Block, Geometry, as_columns, complex_products, parts_of, read_only, real_of
from .separable import SeparableEngine
from .transforms import BlockGeometry

__all__ = ["CsrFilter", "DirectFilter", "FftFilter", "Filter", "GemmFilter", "PlaneFilter", "SeparableFilter"]

# Bytes of what a block reads and of its residuals, in the second-level cache.
_CACHE = 2**19
_BLOCKS = 8


class Filter(Protocol):
    """A convolution as a linear map of its kernel, made as ``SomeFilter(spec, data)``.

    `forward` takes flattened kernels, ``(elements,)`` or ``(elements, P)``, to outputs; `adjoint` takes residuals to
    gradients of the kernel.
    """

    name: str

    def forward(self, kernels: Array) -> Array: ...

    def adjoint(self, residuals: Array) -> Array: ...


class CsrFilter:
    """The data matrix of each group: what `ConvFilter.tosparse` consists of."""

    name = "csr"

    def __init__(self, spec: ConvSpec, data: Array) -> None:
        self._spec, self._data = spec, data
        self._groups: list[sp.csr_array] | None = None
        self._lock = ForkSafeLock()

    @property
    def matrices(self) -> list[sp.csr_array]:
        """For every group the matrix that multiplies the kernel of one output channel."""
        with self._lock:
            if self._groups is None:
                self._groups = group_matrices(self._spec, self._data, flip=False)
            return self._groups

    def forward(self, kernels: Array) -> Array:
        matrices, spec = self.matrices, self._spec
        outputs, taps = matrices[0].shape
        # (groups, channels of a group, taps, P): all channels of a group and all columns are one batch
        k = kernels.reshape(spec.groups, spec.c_out // spec.groups, taps, *kernels.shape[1:] or (1,))
        batch = k.shape[1] * k.shape[3]
        y = np.stack(
            [
                (m @ kg.transpose(1, 0, 2).reshape(taps, batch)).reshape(outputs, k.shape[1], k.shape[3])
                for m, kg in zip(matrices, k, strict=True)
            ]
        )
        return y.transpose(0, 2, 1, 3).reshape(spec.shape[0], *kernels.shape[1:])

    def adjoint(self, residuals: Array) -> Array:
        matrices, spec = self.matrices, self._spec
        outputs, taps = matrices[0].shape
        r = residuals.reshape(spec.groups, spec.c_out // spec.groups, outputs, *residuals.shape[1:] or (1,))
        batch = r.shape[1] * r.shape[3]
        # m^H r as conj(m^T conj(r)): of a real matrix that copies nothing.
        k = np.stack(
            [
                (m.T @ rg.transpose(1, 0, 2).reshape(outputs, batch)).reshape(taps, r.shape[1], r.shape[3])
                for m, rg in zip(matrices, r.conj(), strict=True)
            ]
        ).conj()
        return k.transpose(0, 2, 1, 3).reshape(math.prod(spec.kernel_shape), *residuals.shape[1:])


class PlaneFilter:
    """A filter by an engine, and by sums of products of planes for its adjoint.

    Parameters
    ----------
    spec : ConvSpec
        Geometry.
    data : ndarray of shape ``spec.input_shape``
        The input.
    """

    name: str

    def __init__(self, spec: ConvSpec, data: Array) -> None:
        self._spec, self._data = spec, data
        self._engines: dict[int, Engine] = {}

    @staticmethod
    def _engine(spec: ConvSpec, kernel: Array) -> Engine:
        raise NotImplementedError

    def _products(self, x: Array, residuals: Array, real: np.dtype[Any], parts: int) -> Array:
        """Sums of products of all real planes, (columns, groups, planes of outputs, planes of inputs, taps)."""
        raise NotImplementedError

    def forward(self, kernels: Array) -> Array:
        spec = self._spec
        dtype = np.result_type(self._data.dtype, kernels.dtype)
        columns = math.prod(kernels.shape[1:])
        outputs = spec.c_out // spec.groups
        if not columns:
            return np.zeros((spec.shape[0], 0), dtype)
        # The kernels of all columns are output channels of one convolution.
        taps = [axis.taps for axis in spec.axes]
        k = kernels.reshape(spec.groups, outputs, -1, columns).transpose(0, 3, 1, 2)
        k = np.ascontiguousarray(k, dtype).reshape(-1, spec.c_in // spec.groups, *taps)
        # Other columns are another geometry; what the last one prepared is kept for the next kernels.
        engine = self._engines.get(columns)
        if engine is None:
            self._engines.clear()
            wide = ConvSpec((spec.c_in, *(axis.inputs for axis in spec.axes)), k.shape, **spec.parameters())
            engine = self._engines[columns] = self._engine(wide, k)
        else:
            engine = engine.with_kernel(k)
        y = engine.forward(self._data.reshape(-1)).reshape(spec.groups, columns, outputs, -1)
        return y.transpose(0, 2, 3, 1).reshape(spec.shape[0], *kernels.shape[1:])

    def adjoint(self, residuals: Array) -> Array:
        spec = self._spec
        dtype = np.result_type(self._data.dtype, residuals.dtype)
        parts = parts_of(dtype)
        columns = as_columns(residuals, dtype)
        kernels = np.zeros((0, math.prod(spec.kernel_shape)), dtype)
        if len(columns):
            data = np.ascontiguousarray(self._data, dtype)
            products = self._products(data, columns, real_of(dtype), parts)
            shape = (len(columns), spec.groups, spec.c_out // spec.groups, parts, spec.c_in // spec.groups, parts, -1)
            kernels = (
                complex_products(products.reshape(shape), parts).reshape(len(columns), -1).astype(dtype, copy=False)
            )
        return kernels[0] if residuals.ndim == 1 else kernels.T


class _Sums:
    """The blocks of an input and of residuals at the same places, and the sums of their products."""

    def __init__(self, spec: ConvSpec, real: np.dtype[Any], parts: int) -> None:
        self.geometry = geometry = Geometry(spec, False, real, parts)
        plan = geometry.plan
        planes = geometry.read_planes + geometry.written * parts
        run = min(_CACHE // (planes * real.itemsize), math.ceil(plan.places * spec.groups / _BLOCKS))
        self.blocks = blocks = Blocks.whole_runs(plan, real.itemsize, run)
        (job,) = geometry.jobs
        self.offsets = blocks.offsets(plan, job, geometry.read * parts)
        self.items = spec.groups * blocks.count(plan)
        self.lines = residual_lines(geometry)

    def read_residual(self, block: Block, place: int, source: Array, planes: Array, plane_step: int) -> None:
        read_residual(self.geometry, self.lines, block, place, source, planes, plane_step, self.blocks.line_step)


def residual_lines(geometry: Geometry) -> Array:
    """Where each line of a block begins in a plane of residuals, or -1 for one that holds no results."""
    plan = geometry.plan
    lines = np.full((plan.axes[0].places, plan.lines_a_step), -1)
    results = np.arange(plan.axes[0].places * len(plan.between)) * plan.axes[-1].places
    lines[:, plan.between] = results.reshape(-1, len(plan.between))
    return lines.reshape(1, -1)


def read_residual(
    geometry: Geometry, lines: Array, block: Block, place: int, source: Array, planes: Array, plane_step: int,
    line_step: int,
) -> None:  # fmt: skip
    """Read the residuals of a block into planes of zeros, each where the planes of the input have its place."""
    from ..kernels.planes import gather

    plan = geometry.plan
    zero, length = np.zeros(1, dtype=np.int64), plan.axes[-1].places
    gather(
        read_only(source), place * geometry.written * plan.places * geometry.parts, geometry.written, geometry.parts, plan.places,
        lines, block.first * plan.lines_a_step, block.steps * plan.lines_a_step, zero, 1, zero, np.full(1, length),
        np.zeros((1, 1), dtype=np.int64), block.left, block.width, planes, plane_step, line_step,
    )  # fmt: skip


def _summed(work: Callable[[int, int], Array], items: int, size: int) -> Array:
    """The sum of what blocks of work return, one for each thread, in their order."""
    partial_sums: dict[int, Array] = {}

    def keep(first: int, stop: int) -> None:
        partial_sums[first] = work(first, stop)

    run_items(keep, items, work=size, blocks_per_thread=1)
    total, *others = (partial_sums[first] for first in sorted(partial_sums))
    for other in others:
        total += other
    return total


class DirectFilter(PlaneFilter):
    """Forward by the direct engine; products summed in registers."""

    name = "direct"
    _engine = staticmethod(DirectEngine)

    def _products(self, x: Array, residuals: Array, real: np.dtype[Any], parts: int) -> Array:
        sums = _Sums(self._spec, real, parts)
        size = len(residuals) * sums.geometry.plan.places * self._spec.c_out * len(sums.offsets) * parts
        work = partial(self._block_products, sums, x.view(real).reshape(-1), residuals.view(real).reshape(-1))
        total = _summed(partial(work, len(residuals)), sums.items, size)
        return total[..., : len(sums.offsets)]

    def _block_products(self, sums: _Sums, x: Array, y: Array, columns: int, first: int, stop: int) -> Array:
        from ..kernels.microkernels import DOT_TILES
        from ..kernels.planes import gradient

        g, plan, blocks = sums.geometry, sums.geometry.plan, sums.blocks
        taps, room = len(sums.offsets), len(sums.offsets) + max(DOT_TILES.values())
        offsets = np.concatenate([sums.offsets, np.full(room - taps, sums.offsets[-1])])
        total = np.zeros((columns, g.groups, g.written * g.parts, room), g.real)
        out_step = blocks.plane_step
        planes = scratch("x", (g.read_planes + 1) * blocks.plane_step, g.real)[
            : (g.read_planes + 1) * blocks.plane_step
        ]
        out = scratch("y", g.written * g.parts * out_step, g.real)[: g.written * g.parts * out_step]
        axes = plan.axes
        gradient(
            first, stop, read_only(x), read_only(y), columns, planes, out, total, g.groups, g.read, g.written, g.parts, plan.read_space,
            plan.places, *g.reading, sums.lines, axes[-1].places, axes[0].places, axes[0].reach,
            axes[-1].places, axes[-1].reach, plan.lines_a_step, plan.between, blocks.steps, blocks.width,
            blocks.plane_step, blocks.line_step, out_step, offsets, taps,
        )  # fmt: skip
        return total


class SeparableFilter(DirectFilter):
    """Forward by the factors of each kernel; no kernel is known that the adjoint could factor."""

    name = "separable"
    _engine = staticmethod(SeparableEngine)  # type: ignore[assignment]


class GemmFilter(PlaneFilter):
    """Products of residuals and collected taps by the BLAS."""

    name = "gemm"
    _engine = staticmethod(GemmEngine)

    def _products(self, x: Array, residuals: Array, real: np.dtype[Any], parts: int) -> Array:
        from ..kernels.planes import collect

        sums = _Sums(self._spec, real, parts)
        g, blocks = sums.geometry, sums.blocks
        x, y = x.view(real).reshape(-1), residuals.view(real).reshape(-1)
        planes = np.zeros(g.read_planes * blocks.plane_step, real)
        total = np.zeros((len(residuals), g.groups, g.written * g.parts, len(sums.offsets)), real)
        for item in range(sums.items):
            block = Block.number(item, g.plan, blocks.steps, blocks.width)
            block.read(g, x, planes, blocks.plane_step, blocks.line_step)
            run = ((block.steps - 1) * g.plan.lines_a_step + int(g.plan.between[-1])) * blocks.line_step + block.width
            panel = np.empty((len(sums.offsets), run), real)
            collect(planes, sums.offsets, panel)
            size = block.steps * g.plan.lines_a_step * blocks.line_step
            for column in range(len(residuals)):
                out = np.zeros((g.written * g.parts, size), real)
                sums.read_residual(block, column * g.groups + block.place, y, out.reshape(-1), size)
                total[column, block.place] += out[:, :run] @ panel.T
        return total


class _Transformed:
    """The transforms of the blocks of an input, each made when it is first needed, and kept if all fit in memory."""

    def __init__(self, spec: ConvSpec, x: Array, real: np.dtype[Any], parts: int) -> None:
        self.geometry = g = BlockGeometry(spec, False, real, parts)
        self._source = x.view(real).reshape(-1)
        self.items = g.groups * math.prod(g.blocks)
        nbytes = self.items * g.read_planes * math.prod(g.spectrum) * 2 * real.itemsize
        free = memory.available()
        self._keeps = free is None or nbytes < free / 4
        self._kept: dict[int, Array] = {}

    def block(self, item: int, block: Block) -> Array:
        """The transforms of the planes that a block reads."""
        transformed = self._kept.get(item)
        if transformed is None:
            axes = tuple(range(1, len(self.geometry.lengths) + 1))
            transformed = scipy.fft.rfftn(self.geometry.read_block(block, self._source), axes=axes)
            if self._keeps:
                self._kept[item] = transformed
        return transformed


class FftFilter(PlaneFilter):
    """Forward by the fft engine; for the adjoint products of the transforms of residuals and of the input, which are kept."""

    name = "fft"
    _engine = staticmethod(FftEngine)

    def __init__(self, spec: ConvSpec, data: Array) -> None:
        super().__init__(spec, data)
        self._transformed: dict[tuple[str, int], _Transformed] = {}

    def _products(self, x: Array, residuals: Array, real: np.dtype[Any], parts: int) -> Array:
        # Threads that arrive together may both make one; either is right, and one is kept.
        data = self._transformed.get((real.char, parts))
        if data is None:
            data = self._transformed[real.char, parts] = _Transformed(self._spec, x, real, parts)
        g = data.geometry
        lines = residual_lines(g)
        columns, written = len(residuals), g.written * parts
        size = math.prod(g.lengths) * (g.read_planes + columns * written)
        total_nbytes = columns * g.groups * written * g.read_planes * math.prod(g.spectrum) * 2 * real.itemsize
        memory.require(
            (min(thread_count(), data.items) + 2) * total_nbytes,
            f"the products of transforms of {self._spec} (engine 'fft')",
        )
        work = partial(self._block_products, data, lines, residuals.view(real).reshape(-1), columns)
        total = _summed(work, data.items, data.items * size * 10)
        sums = scipy.fft.irfftn(total, s=g.lengths, axes=tuple(range(4, total.ndim)))
        sums = sums.reshape(columns, g.groups, written, g.read * parts, g.plan.read_phases, *g.lengths)
        (job,) = g.jobs
        # the index arrays' axis comes last, as nothing stands between them
        taken: Array = sums[(slice(None), slice(None), slice(None), slice(None), job.phase, *job.shift.T)]
        return taken

    @staticmethod
    def _block_products(data: _Transformed, lines: Array, y: Array, columns: int, first: int, stop: int) -> Array:
        g = data.geometry
        written, plan = g.written * g.parts, g.plan
        axes = tuple(range(1, len(g.lengths) + 1))
        kind = np.result_type(g.real, np.complex64)
        total = np.zeros((columns, g.groups, written, g.read_planes, *g.spectrum), kind)
        for item in range(first, stop):
            block = Block.number(item, plan, g.steps, g.width)
            transformed = data.block(item, block)
            for column in range(columns):
                shape = (written, block.steps, *g.extents, block.width)
                out = np.zeros(shape, g.real)
                read_residual(
                    g, lines, block, column * g.groups + block.place, y, out.reshape(-1), math.prod(shape[1:]),
                    block.width,
                )  # fmt: skip
                spectra = np.conj(scipy.fft.rfftn(out, s=g.lengths, axes=axes))
                for plane in range(written):
                    total[column, block.place, plane] += spectra[plane] * transformed
        return total
