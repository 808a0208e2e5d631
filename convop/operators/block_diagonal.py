"""Operators that are block diagonal in transform bases, and sums of them: exact inverses and preconditioners."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import scipy.sparse as sp

from ..arrays import memory
from ..arrays.backend import Array, namespace, on_gpu
from ..matrix.build import convert
from ..spectral.transform_basis import TransformBasis
from .base import MatrixOperator
from .linear_operator import LinearOperator


def to_precision(values: Array, dtype: np.dtype[Any]) -> Array:
    """Returns blocks in the precision of a dtype; real blocks stay real, and complex blocks complex.

    Parameters
    ----------
    values : ndarray
        float64 or complex128, of any shape.
    dtype : dtype
        float32, float64, complex64 or complex128.

    Returns
    -------
    ndarray
        `values` itself if its dtype is right.
    """
    real = dtype.type(0).real.dtype
    return values.astype(np.result_type(real, np.complex64) if values.dtype.kind == "c" else real, copy=False)


@dataclass(frozen=True)
class SubdomainTerm:
    """``W_t T_t^-1 F T_s W_s``: weight, transform, multiply each frequency by a small matrix, transform back, weight.

    Attributes
    ----------
    source, target : TransformBasis
        Bases of what the term reads and writes.
    blocks : ndarray of shape ``(*frequencies, groups, rows, columns)``
        F.
    weight : ndarray, optional
        Factors W of the samples of the subdomain, before and after; for terms with equal `source` and `target`.
    """

    source: TransformBasis
    target: TransformBasis
    blocks: Array
    weight: Array | None = None

    def add(self, planes: Array, results: Array, adjoint: bool) -> None:
        """Adds the term's results, or those of its conjugate transpose, for planes ``(P, channels, *space)``."""
        source, target = (self.target, self.source) if adjoint else (self.source, self.target)
        restricted = planes[(slice(None), slice(None), *source.subdomain)]
        values = source.forward(restricted if self.weight is None else restricted * self.weight)
        xp, blocks = namespace(planes), self.adjoint_blocks if adjoint else self.blocks
        is_scalar = blocks.shape[-2:] == (1, 1)
        values = blocks * values if is_scalar else xp.matmul(blocks, values)
        contribution = target.inverse(values)  # an array of its own, as `values` is
        if self.weight is not None:
            contribution *= self.weight
        results[(slice(None), slice(None), *target.subdomain)] += contribution

    @cached_property
    def adjoint_blocks(self) -> Array:
        """The conjugate transposes of the blocks."""
        adjoint: Array = namespace(self.blocks).ascontiguousarray(self.blocks.conj().swapaxes(-1, -2))
        return adjoint

    def to_device(self, move: Callable[[Array], Array]) -> SubdomainTerm:
        """Returns the term with its arrays moved by a function."""
        return replace(
            self,
            source=self.source.to_device(move),
            target=self.target.to_device(move),
            blocks=move(self.blocks),
            weight=None if self.weight is None else move(self.weight),
        )


class BlockOperator(MatrixOperator):
    """A sum of subdomain terms as a linear operator.

    Parameters
    ----------
    terms : sequence of SubdomainTerm
        At least one.
    dims, dimsd : tuple of int
        Shapes of inputs and outputs.
    dtype : dtype
        The operator's dtype.
    name : str
        The operator's name.
    hermitian : bool
        Whether the sum equals its conjugate transpose.
    """

    def __init__(
        self,
        terms: Sequence[SubdomainTerm],
        *,
        dims: tuple[int, ...],
        dimsd: tuple[int, ...],
        dtype: np.dtype[Any],
        name: str,
        hermitian: bool = False,
    ) -> None:
        self.terms = tuple(terms)
        self._hermitian = hermitian
        self._forward = self._sum
        self._backward = self._sum if hermitian else self._adjoint_sum
        LinearOperator.__init__(self, dtype=dtype, dims=dims, dimsd=dimsd, name=name)

    def _sum(self, x: Array) -> Array:
        return self._apply_terms(x, False)

    def _adjoint_sum(self, y: Array) -> Array:
        return self._apply_terms(y, True)

    def _apply_terms(self, x: Array, adjoint: bool) -> Array:
        first = self.terms[0]
        source, target = (first.target, first.source) if adjoint else (first.source, first.target)
        dtype = np.result_type(x.dtype, self.dtype)
        xp = namespace(x)
        columns = x.astype(dtype, copy=False).reshape(len(x), -1).T
        planes = columns.reshape(len(columns), *source.shape)
        results = xp.zeros((len(columns), *target.shape), dtype)
        for term in self.terms:
            term.add(planes, results, adjoint)
        flat: Array = results.reshape(len(columns), -1).T
        return flat.reshape(-1, *x.shape[1:])

    @property
    def on_gpu(self) -> bool:
        """Whether the operator is on the GPU, where it takes and returns CuPy arrays."""
        return on_gpu(self.terms[0].blocks)

    def _to_device(self, move: Callable[[Array], Array]) -> Self:
        terms = [term.to_device(move) for term in self.terms]
        return type(self)(
            terms, dims=self.dims, dimsd=self.dimsd, dtype=self.dtype, name=self.name, hermitian=self._hermitian
        )

    def _adjoint(self) -> BlockOperator:
        if self._hermitian:
            return self
        terms = [SubdomainTerm(term.target, term.source, term.adjoint_blocks, term.weight) for term in self.terms]
        return BlockOperator(terms, dims=self.dimsd, dimsd=self.dims, dtype=self.dtype, name=f"{self.name}H")

    def _transpose(self) -> Any:
        return self._adjoint() if self.dtype.kind != "c" else super()._transpose()

    def _sparse(self, format: str) -> Any:
        memory.require(2 * math.prod(self.shape) * self.dtype.itemsize, f"the dense matrix of shape {self.shape}")
        return convert(sp.csr_array(self.matmat(np.eye(self.shape[1], dtype=self.dtype))), format)
