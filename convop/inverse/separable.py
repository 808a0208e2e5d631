r"""Kernels that are outer products over the axes, and their normal equations in the eigenvectors of each axis.

A kernel ``k = k_1 x ... x k_N`` makes ``A = A_1 x ... x A_N``, with the matrix ``A_a`` of the taps ``k_a`` and the boundary
of axis a. With ``A_a^H A_a = V_a S_a V_a^H``,

    (A^H A + d^2)^-1 = (V_1 x ... x V_N) (S_1 x ... x S_N + d^2)^-1 (V_1 x ... x V_N)^H,

for every boundary (Hansen, Nagy and O'Leary, Deblurring Images, 2006, section 4.4). So one eigenvalue problem for each axis
replaces a linear system of all unknowns.

A kernel that is only close to an outer product has this as a preconditioner: with the preconditioner's damping d, ``B = [A; d]``,
``E = A - A_1 x ... x A_N`` and ``norm(E) <= e``, the singular values of ``B`` relative to the model's are between ``1 - e/d`` and
``1 + e/d``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..arrays.backend import Array
from ..geometry.axis import Axis
from ..geometry.spec import ConvSpec
from ..spectral.axis_bases import AxisBasis, Cosine, Eigenvectors, Fourier, Identity

# The norm of what the outer product leaves out is at most this share of the damping: `A^H A + damp^2` differs from its
# model by factors between 0.25 and 2.25, which costs about ten iterations.
LARGEST_SHARE = 0.5
# Frequencies of an axis at which that norm is computed, at least.
_FREQUENCIES = 32


@dataclass(frozen=True)
class SeparableKernel:
    """An outer product over channel groups and axes that is close to a kernel.

    Attributes
    ----------
    scales : ndarray of shape ``(groups,)``
        Factors of the groups.
    factors : list of ndarray
        Taps along each axis.
    error : float
        Largest modulus of the symbol of the difference, on a grid of frequencies: about its norm without a boundary.
    """

    scales: Array
    factors: list[Array]
    error: float

    @classmethod
    def of(cls, spec: ConvSpec, taps: Array) -> SeparableKernel | None:
        """Returns the outer product of the leading singular vectors of all unfoldings, or None for several channels a group."""
        if spec.c_in != spec.groups or spec.c_out != spec.groups:
            return None
        kernel = taps.astype(np.result_type(taps.dtype, np.float64)).reshape(spec.groups, *taps.shape[-spec.ndim :])
        factors = [_leading_vector(kernel, axis) for axis in range(kernel.ndim)]
        core, outer = kernel, np.ones(())
        for vector in factors:
            core = np.tensordot(vector.conj(), core, axes=(0, 0))
            outer = np.multiply.outer(outer, vector)
        difference = kernel - core * outer
        lengths = [max(_FREQUENCIES, 2 * n) for n in difference.shape[1:]]
        symbol = np.fft.fftn(difference, s=lengths, axes=range(1, difference.ndim))
        return cls(core * factors[0], factors[1:], float(np.abs(symbol).max(initial=0.0)))


def _leading_vector(kernel: Array, axis: int) -> Array:
    """Returns the first left singular vector of the unfolding along an axis."""
    unfolding = np.moveaxis(kernel, axis, 0).reshape(kernel.shape[axis], -1)
    vector: Array = np.linalg.svd(unfolding, full_matrices=False)[0][:, 0]
    return vector


def diagonalised(axis: Axis, taps: Array, basis: AxisBasis) -> tuple[AxisBasis | Eigenvectors, Array]:
    """Returns a basis that makes the Gram matrix of an axis diagonal, and its eigenvalues for all frequencies.

    Parameters
    ----------
    axis : Axis
        The axis.
    taps : ndarray
        Its taps.
    basis : AxisBasis
        Without polyphase components; samples are replaced by the eigenvectors of their Gram matrix, ``A_a^H A_a`` for inputs
        and ``A_a A_a^H`` for outputs.
    """
    matrix = np.tensordot(taps, basis.table(axis, False), axes=(0, 0))
    if not isinstance(basis, Identity):
        return basis, np.abs(matrix[:, 0]) ** 2
    gram = matrix @ matrix.conj().T if basis.outputs else matrix.conj().T @ matrix
    values, vectors = np.linalg.eigh(gram)
    return Eigenvectors(basis.start, basis.stop, vectors), np.maximum(values, 0)


def is_without_components(basis: AxisBasis) -> bool:
    """Returns whether a basis gives one number for each frequency."""
    return isinstance(basis, Cosine) or (isinstance(basis, Fourier) and basis.stride == 1)


def condition_bound(kernel: SeparableKernel, damp: float) -> float:
    """Returns a bound of the condition number of ``A^H A + damp^2`` relative to its model, infinite if there is none."""
    share = kernel.error / damp if damp else (0.0 if kernel.error == 0 else math.inf)
    return ((1 + share) / (1 - share)) ** 2 if share < 1 else math.inf
