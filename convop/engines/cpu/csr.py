"""The engine that is the SciPy matrix itself: for small problems, for algebra, and to check the others."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from ...arrays import memory
from ...arrays.backend import Array
from ...geometry.spec import ConvSpec
from ...matrix.build import build, with_values
from ...threads.locks import ForkSafeLock

__all__ = ["CsrEngine"]


class CsrEngine:
    """Multiplies by the CSR matrix, and by its conjugate transpose stored as CSR too.

    Each is built when it is first needed. NaN and infinities stay where they meet a stored entry.

    Parameters
    ----------
    spec : ConvSpec
        Geometry.
    kernel : ndarray
        Taps in the dtype of the map, not flipped.
    """

    name = "csr"

    def __init__(self, spec: ConvSpec, kernel: Array) -> None:
        self._spec = spec
        self._kernel = kernel
        self._matrix: sp.csr_array | None = None
        self._adjoint: sp.csr_array | None = None
        self._structure: tuple[Array, Array] | None = None
        self._lock = ForkSafeLock()  # so that threads arriving together do not each build the matrix

    @property
    def matrix(self) -> sp.csr_array:
        """The matrix in canonical CSR."""
        with self._lock:
            if self._matrix is None:
                if self._structure is None:
                    self._matrix = build(self._spec, self._kernel)
                else:
                    self._matrix = with_values(self._spec, self._kernel, *self._structure)
            return self._matrix

    @property
    def adjoint_matrix(self) -> sp.csr_array:
        """Its conjugate transpose in canonical CSR: SciPy's transposed product is slower than a second matrix."""
        matrix = self.matrix
        with self._lock:
            if self._adjoint is None:
                nbytes = self._spec.matrix_nbytes(matrix.dtype)
                memory.require(nbytes, f"the transposed matrix of {self._spec}")
                adjoint = matrix.T.tocsr()
                if adjoint.dtype.kind == "c":
                    np.conj(adjoint.data, out=adjoint.data)
                adjoint.has_canonical_format = True
                self._adjoint = adjoint
            return self._adjoint

    def forward(self, x: Array) -> Array:
        product: Array = self.matrix @ x
        return product

    def adjoint(self, y: Array) -> Array:
        product: Array = self.adjoint_matrix @ y
        return product

    def with_kernel(self, kernel: Array) -> CsrEngine:
        other = CsrEngine(self._spec, kernel)
        with self._lock:
            matrix = self._matrix
            other._structure = self._structure if matrix is None else (matrix.indices, matrix.indptr)
        return other
