"""The GPU's engine that multiplies by the sparse matrix, with cuSPARSE."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...arrays.backend import Array, gpu
from ...cuda.matrix import fill_matrix
from ...cuda.tables import Direction
from ...geometry.spec import ConvSpec
from ...threads.locks import BuiltOnce


class CsrEngine:
    """Multiplies by the CSR matrix, and for the adjoint by its conjugate transpose in CSR too.

    cuSPARSE's own transposed product is slower, and not the same from run to run. Each matrix is built when it is
    first needed.

    Parameters
    ----------
    spec : ConvSpec
        Geometry.
    kernel : ndarray
        Taps in the dtype of the map, not flipped, on the GPU.
    """

    name = "csr"

    def __init__(self, spec: ConvSpec, kernel: Array) -> None:
        self._spec, self._kernel = spec, kernel
        self._directions: BuiltOnce[Direction] = BuiltOnce()
        self._structures: dict[bool, tuple[Array, Array]] = {}
        self._matrices: BuiltOnce[Any] = BuiltOnce()

    def _matrix(self, adjoint: bool, dtype: np.dtype[Any]) -> Any:
        return self._matrices.get((adjoint, dtype.char), lambda: self._build(adjoint, dtype))

    def _build(self, adjoint: bool, dtype: np.dtype[Any]) -> Any:
        direction = self._directions.get(adjoint, lambda: Direction(self._spec, adjoint))
        matrix = fill_matrix(direction, self._kernel.astype(dtype, copy=False), self._structures.get(adjoint))
        self._structures[adjoint] = (matrix.indices, matrix.indptr)
        return matrix

    def forward(self, x: Array) -> Array:
        return self._product(x, adjoint=False)

    def adjoint(self, y: Array) -> Array:
        return self._product(y, adjoint=True)

    def _product(self, x: Array, *, adjoint: bool) -> Array:
        dtype = np.result_type(x.dtype, self._kernel.dtype)
        matrix = self._matrix(adjoint, dtype)
        if math.prod(x.shape) == 0:
            empty: Array = gpu().zeros((matrix.shape[0], *x.shape[1:]), dtype)
            return empty
        product: Array = matrix @ x.astype(dtype, copy=False)
        return product

    def with_kernel(self, kernel: Array) -> CsrEngine:
        other = CsrEngine(self._spec, kernel)
        other._directions, other._structures = self._directions, self._structures
        return other
