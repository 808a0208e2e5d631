"""What all operators of the package are: PyLops operators with a sparse matrix at hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Self

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import LinearOperator as ScipyLinearOperator

from ..arrays import memory
from ..arrays.backend import Array, as_array, dense, namespace, on_gpu, require_gpu_memory, to_cpu, to_gpu
from ..arrays.dtypes import kept_dtype
from ..geometry.arguments import one_of
from ..matrix.build import checked_format, convert
from ..spectral.singular_values import all_values, condition, largest
from .linear_operator import LinearOperator

__all__ = ["MatrixOperator", "own", "transposed_csr"]

# Lanczos' method ends when it changes the norm by less, relative to itself.
_NORM_RTOL = 1e-12


class MatrixOperator(LinearOperator):  # type: ignore[misc]
    """A PyLops operator over two functions on vectors or batches of columns, with a sparse matrix at hand."""

    _forward: Callable[[Array], Array]
    _backward: Callable[[Array], Array]

    @property
    def on_gpu(self) -> bool:
        """Whether the operator is on the GPU, and takes and returns CuPy's arrays."""
        raise NotImplementedError

    def to_gpu(self) -> Self:
        """The operator on the GPU.

        Returns
        -------
        MatrixOperator
            A new operator of the same type, which takes and returns CuPy's arrays. Its engine is the one that was asked
            for where the GPU has it, and ``"auto"`` otherwise.

        Raises
        ------
        RuntimeError
            If CuPy, a GPU with its driver, or one of CUDA's libraries is missing; the message says which.
        """
        return self._moved(to_gpu)

    def to_cpu(self) -> Self:
        """The operator on the CPU.

        Returns
        -------
        MatrixOperator
            A new operator of the same type, which takes and returns NumPy's arrays.
        """
        return self._moved(to_cpu)

    def _moved(self, move: Callable[[Array], Array]) -> Self:
        """The operator with its arrays moved."""
        raise NotImplementedError

    def _matvec(self, x: Any) -> Array:
        return self._applied(self._forward, x)

    def _rmatvec(self, x: Any) -> Array:
        return self._applied(self._backward, x)

    def _applied(self, function: Callable[[Array], Array], given: Any) -> Array:
        """A function on vectors or columns, for input of any dtype: as NumPy promotes it, integers as float64."""
        x = as_array(dense(given), "x")
        self._check_place(x)
        kept = kept_dtype(x.dtype, "x")
        x = x.astype(kept, copy=False)
        if kept.kind == "c" and self.dtype.kind != "c":
            # A real map of complex columns is that map of twice as many real ones.
            xp = namespace(x)
            columns = x.shape[1] if x.ndim > 1 else 1
            parts = xp.ascontiguousarray(x).reshape(len(x), columns).view(kept.type(0).real.dtype)
            result: Array = xp.ascontiguousarray(function(parts))
            return result.view(np.result_type(kept, result.dtype, np.complex64)).reshape(len(result), *x.shape[1:])
        return function(x)

    def _check_place(self, x: Array) -> None:
        if on_gpu(x) and not self.on_gpu:
            raise TypeError(
                "x must be an array of NumPy, as the operator is on the CPU; got one of CuPy: "
                "move it with x.get(), or the operator with to_gpu()"
            )
        if self.on_gpu and not on_gpu(x):
            raise TypeError(
                "x must be an array of CuPy, as the operator is on the GPU; got one of NumPy: "
                "move it with cupy.asarray(x), or the operator with to_cpu()"
            )

    _matmat = _matvec
    _rmatmat = _rmatvec

    def dot(self, x: Any) -> Any:
        """Apply to an array of shape `dims`, ``(*dims, P)``, ``(N,)`` or ``(N, P)``, or compose with an operator.

        Parameters
        ----------
        x : array_like, scalar or linear operator
            What stands to the right of ``@`` or ``*``.

        Returns
        -------
        ndarray or LinearOperator
            An array of shape `dimsd`, ``(*dimsd, P)``, ``(M,)`` or ``(M, P)``; or the product.

        Raises
        ------
        ValueError
            If the array has none of these shapes.
        """
        if isinstance(x, LinearOperator | ScipyLinearOperator) or (np.isscalar(x) and not isinstance(x, str | bytes)):
            return super().dot(x)
        x = as_array(dense(x), "x")
        columns = self.shape[1]
        if x.shape == self.dims:
            return self.matvec(x.reshape(columns)).reshape(self.dimsd)
        if x.shape[:-1] == self.dims and x.ndim > 1:
            return self.matmat(x.reshape(columns, x.shape[-1])).reshape(*self.dimsd, x.shape[-1])
        if x.shape == (columns,):
            return self.matvec(x)
        if x.ndim == 2 and len(x) == columns:
            return self.matmat(x)
        raise ValueError(
            f"x must have the shape {self.dims} or ({columns},), or a batch of them in a last axis; got {x.shape}"
        )

    def tosparse(self, format: str = "csr") -> Any:
        """The operator as a SciPy sparse array, built at once and yours to change.

        Parameters
        ----------
        format : {"csr", "csc", "coo", "bsr", "dia", "lil", "dok"}
            Sparse format. On the GPU "csr", "csc" or "coo".

        Returns
        -------
        scipy.sparse array of shape ``self.shape``
            Of cupyx.scipy.sparse for an operator on the GPU.

        Raises
        ------
        MemoryError
            If it does not fit the free memory.
        """
        return self._sparse(checked_format(format, gpu=self.on_gpu))

    def _sparse(self, format: str) -> Any:
        raise NotImplementedError

    def todense(self, backend: str | None = None) -> Array:
        """The operator as a dense matrix.

        Parameters
        ----------
        backend : {"numpy", "cupy"}, optional
            Whose array is wanted. By default NumPy's for an operator on the CPU, CuPy's for one on the GPU.

        Returns
        -------
        ndarray of shape ``self.shape``

        Raises
        ------
        MemoryError
            If it does not fit the free memory.
        """
        wanted = self.on_gpu if backend is None else one_of("backend", backend, ("numpy", "cupy")) == "cupy"
        if wanted != self.on_gpu:
            return (self.to_gpu() if wanted else self.to_cpu()).todense()
        nbytes = math.prod(self.shape) * self.dtype.itemsize
        (require_gpu_memory if wanted else memory.require)(nbytes, f"the dense matrix of shape {self.shape}")
        dense: Array = self.tosparse().toarray()
        return dense

    def norm(self) -> float:
        """The spectral norm: the largest singular value.

        Returns
        -------
        float
            To rounding where the operator breaks into small blocks, or is small. Beyond, to about 1e-9 of it; to
            1e-6 where many singular values lie that close to the largest, as of a long signal. NaN if the operator has
            entries that are not finite. That of an operator on the GPU is computed on the CPU.

        See Also
        --------
        convop.spectrum.norm : With a tolerance, and with bounds.
        """
        return largest(self.to_cpu() if self.on_gpu else self, _NORM_RTOL)[0]

    def cond(self) -> float:
        """The condition number: the largest singular value over the smallest, computed in double precision.

        Returns
        -------
        float
            ``inf`` for a matrix that is singular to rounding, NaN for one with entries that are not finite. That of an
            operator on the GPU is computed on the CPU.

        Raises
        ------
        ValueError
            If the smaller side of the matrix, or of its diagonal blocks, exceeds 4096: all singular values are computed.
        MemoryError
            If the dense matrix does not fit the free memory.

        See Also
        --------
        convop.spectrum.singular_values : What it is computed from.
        """
        return condition(all_values(self.to_cpu() if self.on_gpu else self), self.shape)


def own(array: Array) -> Array:
    """A copy, safe from whoever holds the original; read-only where its library has such."""
    own = array.copy()
    if not on_gpu(own):
        own.setflags(write=False)
    return own


def transposed_csr(matrix: sp.csr_array, format: str) -> Any:
    """The transpose of a canonical CSR matrix, in a format."""
    transposed = matrix.T
    transposed.has_canonical_format = True
    if format == "csc":
        return transposed
    nbytes = matrix.data.nbytes + matrix.indices.nbytes + matrix.indptr.nbytes
    memory.require(nbytes, f"the transpose of a matrix of shape {matrix.shape}")
    transposed = transposed.tocsr()
    transposed.has_canonical_format = True
    return convert(transposed, format)
