"""Engines that are linear in the kernel: the input is fixed, and they are applied to kernels.

Forward is the map of an engine, with an output channel for every kernel of a batch. The adjoint takes a residual to the
gradient of the kernel, a correlation of the input with the residual,

    K[o, c, t] = sum_p conj(x[c, p*s + t*d - lo]) * y[o, p]

on the same planes, block by block. No matrix of the input exists, except in the csr engine.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, Protocol

import numpy as np
import scipy.sparse as sp

from ...arrays.backend import Array
from ...geometry.spec import ConvSpec
from ...matrix.data_matrix import group_matrices
from ...threads.blocks import run_items
from ...threads.locks import BuiltOnce
from ..kernels.records import Block, GradientPlan, Layout, Reading
from ..protocol import Engine
from .components import as_columns, complex_products, component_count, read_only
from .direct import DirectEngine
from .gemm import GemmEngine
from .planes import BlockGeometry, Geometry, call_kernel
from .separable import SeparableEngine
from .tiling import tap_offsets, whole_run_tiling
from .tuning import Tuning
from .winograd import WinogradEngine
from .workspace import scratch


class Filter(Protocol):
    """A convolution as a linear map of its kernel, made as ``SomeFilter(spec, data)``.

    `forward` takes flattened kernels, ``(elements,)`` or ``(elements, P)``, to outputs; `adjoint` takes residuals to
    gradients of the kernel.
    """

    name: str

    def forward(self, kernels: Array) -> Array: ...

    def adjoint(self, residuals: Array) -> Array: ...


class CsrFilter:
    """The data matrix of each group: the blocks of `ConvFilter.tosparse`.

    Parameters
    ----------
    spec : ConvSpec
        Geometry.
    data : ndarray of shape ``spec.input_shape``
        The input.
    """

    name = "csr"

    def __init__(self, spec: ConvSpec, data: Array) -> None:
        self._spec, self._data = spec, data
        self._groups: BuiltOnce[list[sp.csr_array]] = BuiltOnce()

    @property
    def matrices(self) -> list[sp.csr_array]:
        """For every group the matrix that multiplies the kernel of one output channel."""
        return self._groups.get("matrices", lambda: group_matrices(self._spec, self._data, flip=False))

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
        # m^H r as conj(m^T conj(r)), which copies nothing of a real matrix
        k = np.stack(
            [
                (m.T @ rg.transpose(1, 0, 2).reshape(outputs, batch)).reshape(taps, r.shape[1], r.shape[3])
                for m, rg in zip(matrices, r.conj(), strict=True)
            ]
        ).conj()
        return k.transpose(0, 2, 1, 3).reshape(math.prod(spec.kernel_shape), *residuals.shape[1:])


class PlaneFilter:
    """A filter that is forward an engine, and sums products of planes for its adjoint.

    Parameters
    ----------
    spec : ConvSpec
        Geometry.
    data : ndarray of shape ``spec.input_shape``
        The input.
    tuning : Tuning, optional
        Costs and cache sizes by which blocks are chosen.
    """

    name: str

    def __init__(self, spec: ConvSpec, data: Array, tuning: Tuning | None = None) -> None:
        self._spec, self._data, self._tuning = spec, data, tuning or Tuning.packaged()
        self._engines: dict[int, Engine] = {}
        self._gradients: BuiltOnce[_GradientGeometry] = BuiltOnce()

    def _gradient(self, dtype: np.dtype[Any]) -> _GradientGeometry:
        """Returns the blocks of the gradient in a dtype."""
        return self._gradients.get(dtype.char, lambda: _GradientGeometry(self._spec, dtype, self._tuning))

    def _engine(self, spec: ConvSpec, kernel: Array) -> Engine:
        """Returns an engine of this filter's kind."""
        raise NotImplementedError

    def _products(self, x: Array, residuals: Array) -> Array:
        """Returns sums of products of all planes, (P, groups, planes of outputs, planes of inputs, taps), flattened."""
        raise NotImplementedError

    def forward(self, kernels: Array) -> Array:
        spec = self._spec
        dtype = np.result_type(self._data.dtype, kernels.dtype)
        batch = math.prod(kernels.shape[1:])
        outputs = spec.c_out // spec.groups
        if not batch:
            return np.zeros((spec.shape[0], 0), dtype)
        # The kernels of a batch are output channels of one convolution.
        taps = [axis.taps for axis in spec.axes]
        k = kernels.reshape(spec.groups, outputs, -1, batch).transpose(0, 3, 1, 2)
        k = np.ascontiguousarray(k, dtype).reshape(-1, spec.c_in // spec.groups, *taps)
        # Another batch is another geometry; the engine of the last one is kept for the next kernels.
        engine = self._engines.get(batch)
        if engine is None:
            self._engines.clear()
            wide = ConvSpec((spec.c_in, *(axis.inputs for axis in spec.axes)), k.shape, **spec.parameters())
            engine = self._engines[batch] = self._engine(wide, k)
        else:
            engine = engine.with_kernel(k)
        y = engine.forward(self._data.reshape(-1)).reshape(spec.groups, batch, outputs, -1)
        return y.transpose(0, 2, 3, 1).reshape(spec.shape[0], *kernels.shape[1:])

    def adjoint(self, residuals: Array) -> Array:
        spec = self._spec
        dtype = np.result_type(self._data.dtype, residuals.dtype)
        components = component_count(dtype)
        columns = as_columns(residuals, dtype)
        kernels = np.zeros((0, math.prod(spec.kernel_shape)), dtype)
        if len(columns):
            products = self._products(np.require(self._data, dtype, ["C", "A"]), columns)
            outputs, inputs = spec.c_out // spec.groups, spec.c_in // spec.groups
            products = products.reshape(len(columns), spec.groups, outputs, components, inputs, components, -1)
            kernels = complex_products(products, components).reshape(len(columns), -1).astype(dtype, copy=False)
        return kernels[0] if residuals.ndim == 1 else kernels.T


def residual_reading(geometry: Geometry) -> Reading:
    """Returns how residuals are read: at the positions that results have in the input planes, with zeros between."""
    plan, row_size = geometry.plan, geometry.plan.axes[-1].output_size
    rows = np.full((plan.axes[0].output_size, plan.rows_per_index), -1)
    results = np.arange(plan.axes[0].output_size * len(plan.row_offsets)) * row_size
    rows[:, plan.row_offsets] = results.reshape(-1, len(plan.row_offsets))
    return Reading(
        channels=geometry.written,
        components=geometry.components,
        space=plan.plane_size,
        rows=rows.reshape(1, -1),
        start=np.zeros(1, dtype=np.int64),
        step=1,
        first=np.zeros(1, dtype=np.int64),
        stop=np.full(1, row_size),
        edges=np.zeros((1, 1), dtype=np.int64),
    )


def read_residual(reading: Reading, block: Block, stack: int, source: Array, planes: Array, layout: Layout) -> None:
    """Reads the residuals of a block and of one stack of channels into planes of zeros."""
    from ..kernels.planes import gather

    call_kernel(gather, planes.dtype, read_only(source), reading, block._replace(stack=stack), planes, layout)


def sum_over_threads(work: Callable[[int, int], Array], items: int, size: int) -> Array:
    """Returns the sum of what ``work(first, stop)`` returns for the items of each thread, added in their order."""
    sums: dict[int, Array] = {}

    def keep(first: int, stop: int) -> None:
        sums[first] = work(first, stop)

    run_items(keep, items, work=size, blocks_per_thread=1)
    total, *others = (sums[first] for first in sorted(sums))
    for other in others:
        total += other
    return total


class _GradientGeometry(BlockGeometry):
    """The blocks of an input and of residuals, whose results lie in one run."""

    def __init__(self, spec: ConvSpec, dtype: np.dtype[Any], tuning: Tuning) -> None:
        super().__init__(spec, False, dtype)
        plan, costs = self.plan, tuning.gradient
        planes = self.read_planes + self.written_planes
        run = min(
            costs.cache_bytes // (planes * self.real.itemsize),
            math.ceil(plan.plane_size * spec.groups / costs.least_blocks),
        )
        outer, columns, plane_stride, row_stride = whole_run_tiling(plan, self.real.itemsize, run)
        self.blocks, self.planes = self.tiling(outer, columns), self.layout(plane_stride, row_stride)
        (taps,) = self.phases
        self.offsets = tap_offsets(plan, taps, self.read * self.components, plane_stride, row_stride)
        self.residual = residual_reading(self)

    @cached_property
    def record(self) -> GradientPlan:
        """The plan that the compiled loop takes."""
        from ..kernels.microkernels import DOT_TILES

        last = np.full(max(DOT_TILES.values()), self.offsets[-1])
        return GradientPlan(
            tiling=self.blocks,
            reading=self.reading,
            residual=self.residual,
            layout=self.planes,
            offsets=np.concatenate([self.offsets, last]),
            tap_count=len(self.offsets),
        )


class DirectFilter(PlaneFilter):
    """Forward by the direct engine; products summed in registers."""

    name = "direct"

    def _engine(self, spec: ConvSpec, kernel: Array) -> Engine:
        return DirectEngine(spec, kernel, self._tuning)

    def _products(self, x: Array, residuals: Array) -> Array:
        geometry = self._gradient(x.dtype)
        taps = len(geometry.offsets)
        x, y = (array.view(geometry.real).reshape(-1) for array in (x, residuals))
        work = partial(self._block_products, geometry, (x, y), len(residuals))
        size = len(residuals) * geometry.plan.plane_size * self._spec.c_out * taps * geometry.components
        return sum_over_threads(work, geometry.block_count(), size)[..., :taps]

    @staticmethod
    def _block_products(
        geometry: _GradientGeometry, data: tuple[Array, Array], batch: int, first: int, stop: int
    ) -> Array:
        from ..kernels.gradient import gradient

        plan = geometry.record
        stride, real = geometry.planes.plane_stride, geometry.real
        total = np.zeros((batch, geometry.groups, geometry.written_planes, len(plan.offsets)), real)
        x, y = (
            scratch("x", (geometry.read_planes + 1) * stride, real),
            scratch("y", geometry.written_planes * stride, real),
        )
        source, residual = (read_only(array) for array in data)
        call_kernel(gradient, real, (first, stop), plan, source, residual, x, y, total)
        return total


class SeparableFilter(DirectFilter):
    """Forward by the factors of each kernel; the adjoint has no kernel that could be factorised."""

    name = "separable"

    def _engine(self, spec: ConvSpec, kernel: Array) -> Engine:
        return SeparableEngine(spec, kernel, self._tuning)


class WinogradFilter(DirectFilter):
    """Forward by short transforms of each kernel; the adjoint sums products directly."""

    name = "winograd"

    def _engine(self, spec: ConvSpec, kernel: Array) -> Engine:
        return WinogradEngine(spec, kernel, self._tuning)


class GemmFilter(PlaneFilter):
    """Products of residuals and im2col matrices by the BLAS."""

    name = "gemm"

    def _engine(self, spec: ConvSpec, kernel: Array) -> Engine:
        return GemmEngine(spec, kernel, self._tuning)

    def _products(self, x: Array, residuals: Array) -> Array:
        from ..kernels.gradient import im2col

        g = self._gradient(x.dtype)
        x, y = x.view(g.real).reshape(-1), residuals.view(g.real).reshape(-1)
        planes = np.zeros(g.read_planes * g.planes.plane_stride, g.real)
        total = np.zeros((len(residuals), g.groups, g.written_planes, len(g.offsets)), g.real)
        for item in range(g.block_count()):
            block = g.block(item)
            g.read_block(block, x, planes, g.planes)
            run = g.run_length(block)
            panel = np.empty((len(g.offsets), run), g.real)
            call_kernel(im2col, g.real, planes, g.offsets, panel)
            size = block.outer_count * g.planes.rows_per_index * g.planes.row_stride
            layout = g.planes._replace(plane_stride=size)
            for b in range(len(residuals)):
                out = np.zeros((g.written_planes, size), g.real)
                read_residual(g.residual, block, b * g.groups + block.group, y, out.reshape(-1), layout)
                total[b, block.group] += out[:, :run] @ panel.T
        return total
