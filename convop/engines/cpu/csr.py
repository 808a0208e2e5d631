"""The engine that is the SciPy matrix itself: for small problems, for algebra, and to check the other engines."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from ...arrays import memory
from ...arrays.backend import Array
from ...geometry.spec import ConvSpec
from ...matrix.build import build, with_values
from ...threads.locks import BuiltOnce


class CsrEngine:
    """Multiplies by the CSR matrix, and by its conjugate transpose, which is stored as CSR too.

    Each is built when it is first needed. NaN and infinities stay where they meet a stored entry.

    Parameters
    ----------
    spec : ConvSpec
        Geometry.
    kernel : ndarray
        Taps in the dtype of the map, not flipped.
    structure : (ndarray, ndarray), optional
        Column indices and row pointers of another matrix of the same spec.
    """

    name = "csr"

    def __init__(self, spec: ConvSpec, kernel: Array, structure: tuple[Array, Array] | None = None) -> None:
        self._spec, self._kernel, self._structure = spec, kernel, structure
        self._matrices: BuiltOnce[sp.csr_array] = BuiltOnce()

    @property
    def matrix(self) -> sp.csr_array:
        """The matrix in canonical CSR."""
        return self._matrices.get("matrix", self._build)

    @property
    def adjoint_matrix(self) -> sp.csr_array:
        """Its conjugate transpose in canonical CSR: SciPy's transposed product is slower than a second matrix."""
        return self._matrices.get("adjoint", self._transpose)

    def _build(self) -> sp.csr_array:
        if self._structure is None:
            matrix = build(self._spec, self._kernel)
            self._structure = (matrix.indices, matrix.indptr)
            return matrix
        return with_values(self._spec, self._kernel, *self._structure)

    def _transpose(self) -> sp.csr_array:
        matrix = self.matrix
        memory.require(self._spec.matrix_nbytes(matrix.dtype), f"the transposed matrix of {self._spec}")
        adjoint = matrix.T.tocsr()
        if adjoint.dtype.kind == "c":
            np.conj(adjoint.data, out=adjoint.data)
        adjoint.has_canonical_format = True
        return adjoint

    def forward(self, x: Array) -> Array:
        product: Array = self.matrix @ x
        return product

    def adjoint(self, y: Array) -> Array:
        product: Array = self.adjoint_matrix @ y
        return product

    def with_kernel(self, kernel: Array) -> CsrEngine:
        return CsrEngine(self._spec, kernel, self._structure)
