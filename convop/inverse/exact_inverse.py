"""Exact damped inverses of convolutions that fast transforms make block diagonal: a small matrix for each frequency."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..arrays.backend import Array
from ..arrays.scaling import scale_by_power_of_two
from ..operators.block_diagonal import BlockOperator, SubdomainTerm, to_precision
from ..operators.conv import Conv, ConvTranspose
from ..spectral.axis_bases import Identity, exact_bases
from ..spectral.blocks import scaled_diagonal_blocks
from ..spectral.transform_basis import TransformBasis
from .scaled_problem import scale_damp

# Above this condition number of the damped normal matrices, blocks are inverted by their singular values: normal
# matrices lose as many digits as the condition number has.
_NORMAL_CONDITION = 1e6


def exact_inverse(A: Conv | ConvTranspose, damp: float, dtype: np.dtype[Any] | None = None) -> BlockOperator | None:
    """Returns ``(A^H A + damp^2)^-1 A^H``, or the pseudo-inverse for no damping, where fast transforms diagonalise `A`.

    Parameters
    ----------
    A : Conv or ConvTranspose
        The operator.
    damp : float
        At least 0.
    dtype : dtype, optional
        The dtype of the inverse; by default the dtype of `A`.

    Returns
    -------
    BlockOperator of shape ``A.shape[::-1]``, or None
        None where an axis is neither periodic nor diagonalised by cosines.

    Raises
    ------
    ValueError
        If a tap is not finite.
    MemoryError
        If the blocks do not fit the free memory.
    """
    # A is the matrix of these taps, or its conjugate transpose.
    (spec, taps), is_transpose = A.convolution(), isinstance(A, ConvTranspose)
    if not np.isfinite(taps).all():
        raise ValueError("A must have finite taps to be inverted")
    axes = exact_bases(spec, taps)
    if any(isinstance(basis, Identity) for basis in axes):
        return None
    B, power = scaled_diagonal_blocks(spec, taps, axes, f"an inverse of {spec}")
    B = B.conj().swapaxes(-1, -2) if is_transpose else B
    inverse = _damped_inverses(B, scale_damp(damp, power, B.dtype), max(spec.shape))
    dtype = dtype or taps.dtype
    source, target = (
        TransformBasis.of(spec, axes, taps.dtype, outputs=outputs) for outputs in (not is_transpose, is_transpose)
    )
    term = SubdomainTerm(source, target, to_precision(scale_by_power_of_two(inverse, -power), dtype))
    operator = BlockOperator([term], dims=A.dimsd, dimsd=A.dims, dtype=dtype, name="inverse")
    return operator.to_gpu() if A.on_gpu else operator


def _damped_inverses(B: Array, damp: float, size: int) -> Array:
    """Returns ``(B^H B + damp^2)^-1 B^H`` for many matrices B; without damping their pseudo-inverses.

    Parameters
    ----------
    B : ndarray of shape ``(..., rows, columns)``
        In double precision.
    damp : float
        At least 0.
    size : int
        The larger number of rows or columns of the matrix whose diagonal blocks these are. Without damping, singular
        values up to ``size*eps`` times the largest Frobenius norm of a block count as zero.

    Returns
    -------
    ndarray of shape ``(..., columns, rows)``
    """
    BH = B.conj().swapaxes(-1, -2)
    rows, columns = B.shape[-2:]
    largest = float(np.linalg.norm(B, axis=(-2, -1)).max(initial=0.0))
    cutoff = 0.0 if damp else largest * size * float(np.finfo(np.float64).eps)
    if min(rows, columns) == 1:  # a vector v has the one singular value norm(v)
        squares = (B.real**2 + B.imag**2).sum(axis=(-2, -1), keepdims=True)
        squares[squares <= cutoff**2] = math.inf
        return np.asarray(BH / (squares + damp**2))
    if damp and (largest / damp) ** 2 <= _NORMAL_CONDITION:
        is_wide = rows < columns
        gram = B @ BH if is_wide else BH @ B
        diagonal = np.arange(min(rows, columns))
        gram[..., diagonal, diagonal] += damp**2
        # (B^H B + c)^-1 B^H = B^H (B B^H + c)^-1
        solved = np.linalg.solve(gram, B if is_wide else BH)
        return np.asarray(solved.conj().swapaxes(-1, -2) if is_wide else solved)
    U, values, VH = np.linalg.svd(B, full_matrices=False)
    divisors = np.where(values > cutoff, values, math.inf)
    factors = 1 / (divisors + damp**2 / divisors)
    return np.asarray((VH.conj().swapaxes(-1, -2) * factors[..., None, :]) @ U.conj().swapaxes(-1, -2))
