"""The base class of all operators: a PyLops operator that also has its sparse matrix, its norm and a GPU version."""

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
from ..cuda.matrix import to_gpu_matrix
from ..geometry.arguments import one_of
from ..matrix.build import checked_format, convert
from ..spectral.singular_values import all_values, condition_number, largest_value
from .linear_operator import LinearOperator

# Lanczos' method stops when the norm changes by less than this, relative to itself.
_NORM_RTOL = 1e-12


class MatrixOperator(LinearOperator):  # type: ignore[misc]
    """A PyLops operator that applies two functions to vectors or batches of columns, and has a sparse matrix."""

    _forward: Callable[[Array], Array]
    _backward: Callable[[Array], Array]

    @property
    def on_gpu(self) -> bool:
        """Whether the operator is on the GPU, where it takes and returns CuPy arrays."""
        raise NotImplementedError

    def to_gpu(self) -> Self:
        """Returns the operator on the GPU.

        Returns
        -------
        MatrixOperator
            A new operator of the same type, which takes and returns CuPy arrays. Its engine is the requested one if the
            GPU has it, and ``"auto"`` otherwise.

        Raises
        ------
        RuntimeError
            If CuPy, a GPU with its driver, or one of CUDA's libraries is missing; the message says which.
        """
        return self._to_device(to_gpu)

    def to_cpu(self) -> Self:
        """Returns the operator on the CPU.

        Returns
        -------
        MatrixOperator
            A new operator of the same type, which takes and returns NumPy arrays.
        """
        return self._to_device(to_cpu)

    def _to_device(self, move: Callable[[Array], Array]) -> Self:
        """Returns the operator with its arrays moved by a function."""
        raise NotImplementedError

    def _matvec(self, x: Any) -> Array:
        return self._apply(self._forward, x)

    def _rmatvec(self, x: Any) -> Array:
        return self._apply(self._backward, x)

    _matmat = _matvec
    _rmatmat = _rmatvec

    def _apply(self, function: Callable[[Array], Array], given: Any) -> Array:
        """Applies a function to vectors or columns of any dtype, promoted as NumPy does, integers as float64."""
        x = as_array(dense(given), "x")
        self._check_device(x)
        kept = kept_dtype(x.dtype, "x")
        x = x.astype(kept, copy=False)
        if kept.kind == "c" and self.dtype.kind != "c":
            # A real map of complex columns is the same map of twice as many real columns, their components.
            xp = namespace(x)
            columns = x.shape[1] if x.ndim > 1 else 1
            components = xp.ascontiguousarray(x).reshape(len(x), columns).view(kept.type(0).real.dtype)
            result: Array = xp.ascontiguousarray(function(components))
            return result.view(np.result_type(kept, result.dtype, np.complex64)).reshape(len(result), *x.shape[1:])
        return function(x)

    def _check_device(self, x: Array) -> None:
        if on_gpu(x) and not self.on_gpu:
            raise TypeError(
                "x must be a NumPy array, because the operator is on the CPU; got a CuPy array: "
                "move it with x.get(), or the operator with to_gpu()"
            )
        if self.on_gpu and not on_gpu(x):
            raise TypeError(
                "x must be a CuPy array, because the operator is on the GPU; got a NumPy array: "
                "move it with cupy.asarray(x), or the operator with to_cpu()"
            )

    def dot(self, x: Any) -> Any:
        """Applies the operator to an array of shape `dims`, ``(*dims, P)``, ``(N,)`` or ``(N, P)``, or composes operators.

        Parameters
        ----------
        x : array_like, scalar or linear operator
            The right operand of ``@`` or ``*``.

        Returns
        -------
        ndarray or LinearOperator
            An array of shape `dimsd`, ``(*dimsd, P)``, ``(M,)`` or ``(M, P)``; or the product of two operators.

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
        """Returns the matrix of the operator as a new SciPy sparse array, which the caller may change.

        Parameters
        ----------
        format : {"csr", "csc", "coo", "bsr", "dia", "lil", "dok"}
            Sparse format. On the GPU "csr", "csc" or "coo".

        Returns
        -------
        scipy.sparse array of shape ``self.shape``
            For an operator on the GPU a cupyx.scipy.sparse array.

        Raises
        ------
        MemoryError
            If the matrix does not fit the free memory.
        """
        format = checked_format(format, gpu=self.on_gpu)
        return convert(self._gpu_csr(), format) if self.on_gpu else self._sparse(format)

    def _sparse(self, format: str) -> Any:
        """Returns the matrix of an operator on the CPU in a format."""
        raise NotImplementedError

    def _gpu_csr(self) -> Any:
        """Returns the matrix of an operator on the GPU in CSR; by default built on the CPU and moved."""
        return to_gpu_matrix(self.to_cpu().tosparse())

    def todense(self, backend: str | None = None) -> Array:
        """Returns the matrix of the operator as a dense array.

        Parameters
        ----------
        backend : {"numpy", "cupy"}, optional
            Library of the result. By default NumPy for an operator on the CPU, and CuPy for an operator on the GPU.

        Returns
        -------
        ndarray of shape ``self.shape``

        Raises
        ------
        MemoryError
            If the matrix does not fit the free memory.
        """
        wanted = self.on_gpu if backend is None else one_of("backend", backend, ("numpy", "cupy")) == "cupy"
        if wanted != self.on_gpu:
            return (self.to_gpu() if wanted else self.to_cpu()).todense()
        nbytes = math.prod(self.shape) * self.dtype.itemsize
        (require_gpu_memory if wanted else memory.require)(nbytes, f"the dense matrix of shape {self.shape}")
        dense: Array = self.tosparse().toarray()
        return dense

    def norm(self) -> float:
        """Returns the spectral norm: the largest singular value.

        Returns
        -------
        float
            Exact to rounding if the operator has small diagonal blocks, or is small. Otherwise correct to about 1e-9; to
            1e-6 if many singular values lie that close to the largest, as for a long signal. NaN if the operator has
            entries that are not finite. For an operator on the GPU, the norm is computed on the CPU.

        See Also
        --------
        convop.spectrum.norm : With a tolerance, and with bounds.
        """
        return largest_value(self.to_cpu() if self.on_gpu else self, _NORM_RTOL)[0]

    def cond(self) -> float:
        """Returns the condition number: the largest singular value over the smallest, computed in double precision.

        Returns
        -------
        float
            ``inf`` for a matrix that is singular to rounding, NaN for a matrix with entries that are not finite. For an
            operator on the GPU, it is computed on the CPU.

        Raises
        ------
        ValueError
            If the smaller side of the matrix, or of its diagonal blocks, exceeds 4096: all singular values are computed.
        MemoryError
            If the dense matrix does not fit the free memory.

        See Also
        --------
        convop.spectrum.singular_values : All or some of the singular values.
        """
        return condition_number(all_values(self.to_cpu() if self.on_gpu else self), self.shape)


def transposed_csr(matrix: sp.csr_array, format: str) -> Any:
    """Returns the transpose of a canonical CSR matrix in a format."""
    transposed = matrix.T
    transposed.has_canonical_format = True
    if format == "csc":
        return transposed
    nbytes = matrix.data.nbytes + matrix.indices.nbytes + matrix.indptr.nbytes
    memory.require(nbytes, f"the transpose of a matrix of shape {matrix.shape}")
    transposed = transposed.tocsr()
    transposed.has_canonical_format = True
    return convert(transposed, format)
