"""Diagonal blocks of ``A^H A`` in transform bases: averages over reflections, comparisons, Hermitian inverses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
from scipy.linalg import lapack

from ..arrays.backend import Array
from ..geometry.spec import ConvSpec
from ..spectral.axis_bases import AxisBasis, Cosine, Fourier
from ..spectral.blocks import diagonal_blocks

# Blocks up to this size are multiplied and inverted as stacks of matrices, larger ones each by itself.
_SMALL_BLOCK = 32


def gram_blocks(spec: ConvSpec, taps: Array, axes: Sequence[AxisBasis], outputs: bool) -> Array:
    """Returns the blocks of ``A^H A``, or of ``A A^H`` for the outputs, averaged over reflections of signed cosine axes.

    Parameters
    ----------
    spec : ConvSpec
        Geometry.
    taps : ndarray
        Not flipped, on the CPU.
    axes : sequence of AxisBasis
        The basis of each axis.
    outputs : bool
        Whether the operator is ``A^H``, so that the unknowns are the outputs of the convolution.

    Returns
    -------
    ndarray of shape ``(*frequencies, groups, size, size)``
    """
    grams = list(reflected_gram_blocks(spec, taps, axes, outputs))
    return np.asarray(sum(grams[1:], grams[0]) / len(grams))


def reflected_gram_blocks(spec: ConvSpec, taps: Array, axes: Sequence[AxisBasis], outputs: bool) -> Iterator[Array]:
    """Yields the blocks of ``A^H A`` for each combination of signs along the axes of signed cosines.

    If all transformed axes are cosines, reflecting all axes at once conjugates the blocks. Then half of the combinations
    suffice: the average of each such pair is the real part.
    """
    signed = [a for a, basis in enumerate(axes) if isinstance(basis, Cosine) and basis.sign]
    is_paired = bool(signed) and not any(isinstance(basis, Fourier) for basis in axes)
    for signs in product((1, -1), repeat=len(signed) - is_paired):
        reflected = list(axes)
        for a, sign in zip(signed[is_paired:], signs, strict=True):
            reflected[a] = Cosine(spec.axes[a].inputs, sign)
        B = diagonal_blocks(spec, taps, reflected, f"a preconditioner of {spec}")
        gram = _gram(B.swapaxes(-1, -2).conj() if outputs else B)
        yield gram.real if is_paired else gram


def _gram(B: Array) -> Array:
    """Returns ``B^H B`` for many matrices."""
    BH = B.conj().swapaxes(-1, -2)
    if B.shape[-1] <= _SMALL_BLOCK:
        return np.asarray(BH @ B)
    gram = np.empty((*B.shape[:-2], B.shape[-1], B.shape[-1]), B.dtype)
    for index in np.ndindex(B.shape[:-2]):
        gram[index] = BH[index] @ B[index]  # NumPy computes half of the product of a matrix and its own transpose
    return gram


def add_to_diagonals(blocks: Array, value: float) -> Array:
    """Adds a number to the diagonals of many matrices in place, and returns them."""
    diagonal = np.arange(blocks.shape[-1])
    blocks[..., diagonal, diagonal] += value
    return blocks


def eigenvalue_bounds(true: Array, model: Array) -> tuple[float, float]:
    """Returns the least and the largest of ``<x, true x>/<x, model x>``, the generalised eigenvalues, over many pairs.

    Parameters
    ----------
    true, model : ndarray of shape ``(..., n, n)``
        Hermitian positive definite matrices.

    Returns
    -------
    (float, float)
    """
    if true.shape[-1] == 1:
        ratios = true.real / model.real
    else:
        half = np.linalg.inv(np.linalg.cholesky(model))
        ratios = np.linalg.eigvalsh(half @ true @ half.conj().swapaxes(-1, -2))
    return float(ratios.min()), float(ratios.max())


def hermitian_inverses(blocks: Array) -> Array:
    """Returns the inverses of Hermitian positive definite matrices, Hermitian to the last bit.

    Parameters
    ----------
    blocks : ndarray of shape ``(..., n, n)``
        The matrices, in double precision.

    Returns
    -------
    ndarray of shape ``(..., n, n)``

    Raises
    ------
    numpy.linalg.LinAlgError
        If a large block is not positive definite; a damping of 1e-4 of the gain excludes this.
    """
    size = blocks.shape[-1]
    if size == 1:
        return np.asarray(1 / blocks.real)
    if size <= _SMALL_BLOCK:
        inverse = np.linalg.inv(blocks)
        return np.asarray((inverse + inverse.conj().swapaxes(-1, -2)) / 2)
    is_complex = blocks.dtype.kind == "c"
    factor, invert = (lapack.zpotrf, lapack.zpotri) if is_complex else (lapack.dpotrf, lapack.dpotri)
    inverse = np.empty_like(blocks)
    diagonal = np.arange(size)
    for index in np.ndindex(blocks.shape[:-2]):
        triangle, failed = factor(blocks[index].T, lower=False, clean=False, overwrite_a=False)
        if not failed:
            triangle, failed = invert(triangle, lower=False, overwrite_c=True)
        if failed:
            raise np.linalg.LinAlgError(f"a block of the preconditioner is not positive definite (LAPACK: {failed})")
        # The upper triangle of the transpose is the lower triangle of the matrix.
        upper = np.triu(triangle, 1)
        inverse[index] = (upper + upper.conj().T).T
        inverse[index][diagonal, diagonal] = triangle[diagonal, diagonal].real
    return inverse
