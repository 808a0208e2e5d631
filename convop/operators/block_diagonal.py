"""Operators that are small matrices in the bases of `frequency`: exact inverses, filters and preconditioners."""

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
from ..cuda.matrix import moved
from ..geometry.spec import ConvSpec
from ..matrix.build import convert
from ..spectral.blocks import Part, Place
from .base import MatrixOperator
from .linear_operator import LinearOperator

__all__ = ["BlockOperator", "Piece", "narrowed", "place"]


def place(spec: ConvSpec, parts: Sequence[Part], dtype: np.dtype[Any], *, outputs: bool) -> Place:
    """Inputs or outputs of a convolution in the bases of parts.

    Parameters
    ----------
    spec : ConvSpec
        The geometry.
    parts : sequence of Part
        One per axis.
    dtype : dtype
        Of the vectors.
    outputs : bool
        Whether they are outputs.

    Returns
    -------
    Place
    """
    channels = spec.c_out if outputs else spec.c_in
    space = (spec.output_shape if outputs else spec.input_shape)[-spec.ndim :]
    return Place((channels, *space), spec.groups, tuple(parts), outputs, dtype)


def narrowed(values: Array, dtype: np.dtype[Any]) -> Array:
    """Blocks of double precision in the precision of a dtype; real or complex as they are.

    Parameters
    ----------
    values : ndarray
        float64 or complex128, of any shape.
    dtype : dtype
        One of the four that are kept.

    Returns
    -------
    ndarray
        `values` itself where nothing changes.
    """
    real = dtype.type(0).real.dtype
    return values.astype(np.result_type(real, np.complex64) if values.dtype.kind == "c" else real, copy=False)


@dataclass(frozen=True)
class Piece:
    """``W_t T_t^-1 F T_s W_s``: to the bases of parts, a small matrix for each frequency there, and back.

    Attributes
    ----------
    source, target : Place
        What the piece reads and writes.
    blocks : ndarray of shape ``(*frequencies, groups, rows, columns)``
        F.
    weight : ndarray, optional
        Factors of the elements of the window, before and after; for pieces with one place alone.
    """

    source: Place
    target: Place
    blocks: Array
    weight: Array | None = None

    def add(self, planes: Array, results: Array, adjoint: bool) -> None:
        """Add the piece's results, or those of its conjugate transpose, for planes ``(P, channels, *space)``."""
        source, target = (self.target, self.source) if adjoint else (self.source, self.target)
        seen = planes[(slice(None), slice(None), *source.windows)]
        values = source.there(seen if self.weight is None else seen * self.weight)
        xp, blocks = namespace(planes), self.adjoint if adjoint else self.blocks
        scalar = blocks.shape[-2:] == (1, 1)
        values = blocks * values if scalar else xp.matmul(blocks, values)
        written = target.back(values)
        if self.weight is not None:
            written = written * self.weight
        results[(slice(None), slice(None), *target.windows)] += written

    @cached_property
    def adjoint(self) -> Array:
        """The blocks' conjugate transposes."""
        adjoint: Array = namespace(self.blocks).ascontiguousarray(self.blocks.conj().swapaxes(-1, -2))
        return adjoint

    def moved(self, move: Callable[[Array], Array]) -> Piece:
        """The piece with its arrays moved."""
        return replace(self, blocks=move(self.blocks), weight=None if self.weight is None else move(self.weight))


class BlockOperator(MatrixOperator):
    """A sum of pieces, as a linear operator."""

    def __init__(
        self,
        pieces: Sequence[Piece],
        *,
        dims: tuple[int, ...],
        dimsd: tuple[int, ...],
        dtype: np.dtype[Any],
        name: str,
        hermitian: bool = False,
    ) -> None:
        self._pieces = tuple(pieces)
        self._hermitian = hermitian
        self._forward = self._sum
        self._backward = self._sum if hermitian else self._adjoint_sum
        LinearOperator.__init__(self, dtype=dtype, dims=dims, dimsd=dimsd, name=name)

    def _sum(self, x: Array) -> Array:
        return self._applied_pieces(x, False)

    def _adjoint_sum(self, y: Array) -> Array:
        return self._applied_pieces(y, True)

    def _applied_pieces(self, x: Array, adjoint: bool) -> Array:
        first = self._pieces[0]
        source, target = (first.target, first.source) if adjoint else (first.source, first.target)
        dtype = np.result_type(x.dtype, self.dtype)
        xp = namespace(x)
        columns = x.astype(dtype, copy=False).reshape(len(x), -1).T
        planes = columns.reshape(len(columns), *source.shape)
        results = xp.zeros((len(columns), *target.shape), dtype)
        for piece in self._pieces:
            piece.add(planes, results, adjoint)
        flat: Array = results.reshape(len(columns), -1).T
        return flat.reshape(-1, *x.shape[1:])

    @property
    def on_gpu(self) -> bool:
        """Whether the operator is on the GPU, and takes and returns CuPy's arrays."""
        return on_gpu(self._pieces[0].blocks)

    def _moved(self, move: Callable[[Array], Array]) -> Self:
        pieces = [piece.moved(move) for piece in self._pieces]
        return type(self)(
            pieces, dims=self.dims, dimsd=self.dimsd, dtype=self.dtype, name=self.name, hermitian=self._hermitian
        )

    def _adjoint(self) -> BlockOperator:
        if self._hermitian:
            return self
        pieces = [Piece(p.target, p.source, p.adjoint, p.weight) for p in self._pieces]
        return BlockOperator(pieces, dims=self.dimsd, dimsd=self.dims, dtype=self.dtype, name=f"{self.name}H")

    def _transpose(self) -> Any:
        return self._adjoint() if self.dtype.kind != "c" else super()._transpose()

    def _sparse(self, format: str) -> Any:
        if self.on_gpu:
            return convert(moved(self.to_cpu()._sparse("csr")), format)
        memory.require(2 * math.prod(self.shape) * self.dtype.itemsize, f"the dense matrix of shape {self.shape}")
        return convert(sp.csr_array(self.matmat(np.eye(self.shape[1], dtype=self.dtype))), format)
