"""The GPU's engine for few channels and small kernels: each thread sums the elements that some results read."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from ...arrays.backend import Array, namespace
from ...cuda.tables import Direction
from ...geometry.spec import ConvSpec
from ...threads.locks import BuiltOnce
from ..cpu.components import as_columns


class ColumnEngine:
    """Base of the GPU's engines that apply one direction or the other to contiguous columns.

    Parameters
    ----------
    spec : ConvSpec
        Geometry.
    kernel : ndarray
        Taps in the dtype of the map, not flipped, on the GPU.
    """

    name: str

    def __init__(self, spec: ConvSpec, kernel: Array) -> None:
        self._spec, self._kernel = spec, kernel

    def forward(self, x: Array) -> Array:
        return self._apply(x, adjoint=False)

    def adjoint(self, y: Array) -> Array:
        return self._apply(y, adjoint=True)

    def _apply(self, x: Array, *, adjoint: bool) -> Array:
        dtype = np.result_type(x.dtype, self._kernel.dtype)
        if x.size == 0:
            empty: Array = namespace(x).zeros((self._spec.shape[1 if adjoint else 0], *x.shape[1:]), dtype)
            return empty
        result = self._columns(as_columns(x, dtype), adjoint)
        return result[0] if x.ndim == 1 else result.T

    def with_kernel(self, kernel: Array) -> Self:
        return type(self)(self._spec, kernel)

    def _columns(self, columns: Array, adjoint: bool) -> Array:
        """Results as columns of shape ``(P, elements)``, from such columns."""
        raise NotImplementedError


class DirectEngine(ColumnEngine):
    """Gather kernels: one CUDA kernel for both directions, without a matrix.

    There are no atomic additions: results are the same from run to run. NaN and infinities stay where the kernel reads
    them.
    """

    name = "direct"

    def __init__(self, spec: ConvSpec, kernel: Array) -> None:
        super().__init__(spec, kernel)
        self._directions: BuiltOnce[Direction] = BuiltOnce()
        self._weights: BuiltOnce[Array] = BuiltOnce()

    def with_kernel(self, kernel: Array) -> Self:
        other = super().with_kernel(kernel)
        other._directions = self._directions
        return other

    def _columns(self, columns: Array, adjoint: bool) -> Array:
        dtype: np.dtype[Any] = columns.dtype
        direction = self._directions.get(adjoint, lambda: Direction(self._spec, adjoint))
        kernel = self._kernel
        weights = self._weights.get((adjoint, dtype.char), lambda: direction.weights(kernel.astype(dtype, copy=False)))
        return direction.correlate(columns, weights)
