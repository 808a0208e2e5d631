"""A linear map and its adjoint as two functions of vectors, from an operator of any maker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from ..arrays.backend import Array, as_cpu_operator
from ..arrays.dtypes import kept_dtype


@dataclass(frozen=True)
class Maps:
    """A map and its adjoint on vectors."""

    forward: Callable[[Array], Array]
    adjoint: Callable[[Array], Array]
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    complex_linear: bool = True

    def reversed(self) -> Maps:
        """The adjoint as the forward map."""
        return Maps(self.adjoint, self.forward, self.shape[::-1], self.dtype, self.complex_linear)

    def named(self) -> tuple[tuple[str, Callable[[Array], Array], tuple[int, int]], ...]:
        """Name, function and shape of the forward map and of the adjoint."""
        return ("forward map", self.forward, self.shape), ("adjoint", self.adjoint, self.shape[::-1])


def as_maps(op: Any) -> Maps:
    """The map of an operator of any maker, and its adjoint.

    Parameters
    ----------
    op : LinearOperator of SciPy or PyLops, sparse matrix, array
        The operator.

    Returns
    -------
    Maps

    Raises
    ------
    TypeError
        If it is not an operator.
    """
    op = as_cpu_operator(op)
    if sp.issparse(op) or isinstance(op, np.ndarray) or not hasattr(op, "matvec"):
        matrix = op if sp.issparse(op) else np.asarray(op)
        if matrix.ndim != 2 or matrix.dtype.kind not in "biufc":
            raise TypeError(
                f"op must be a matrix, or an operator with shape, matvec and rmatvec; got {type(op).__name__}"
            )
        kept = _probe_dtype(matrix.dtype)
        matrix = matrix.astype(kept) if matrix.dtype.kind in "biu" else matrix
        return Maps(lambda x: matrix @ x, lambda y: matrix.conj().T @ y, matrix.shape, kept)
    rows, columns = (int(n) for n in op.shape)
    dtype = np.dtype(np.float64 if op.dtype is None else op.dtype)
    return Maps(op.matvec, op.rmatvec, (rows, columns), _probe_dtype(dtype), getattr(op, "clinear", True))


def _probe_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Dtype of the random vectors: the operator's, or double for an operator of extended precision."""
    double = np.dtype(np.complex128 if dtype.kind == "c" else np.float64)
    return double if dtype.kind in "fc" and dtype.itemsize > double.itemsize else kept_dtype(dtype, "op")
