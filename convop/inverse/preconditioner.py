"""Preconditioner for Tikhonov regularisation: additive Schwarz with an FFT or DCT interior and exact subdomains at the ends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from ..arrays.backend import Array
from ..geometry.spec import ConvSpec
from ..operators.block_diagonal import BlockOperator, SubdomainTerm, to_precision
from ..operators.conv import Conv, ConvTranspose, require_convolution
from ..spectral.axis_bases import AxisBasis, Eigenvectors
from ..spectral.blocks import halved_axis
from ..spectral.transform_basis import TransformBasis
from ..threads.sizes import one_blas_thread
from .normal_blocks import add_to_diagonals, gram_blocks, hermitian_inverses
from .separable import diagonalised
from .subdomains import AxisSubdomain, Subdomains, divide_into_subdomains

# The damping is at least this share of the largest gain, in single and in double precision: the inverses are no more
# accurate than that, and have to stay positive definite.
_LEAST_DAMP = {4: 1e-3, 8: 1e-4}
# The preconditioner of the least damping is still used for smaller ones, down to this share of it.
_USED_SHARE = 0.1


def preconditioner(A: Conv | ConvTranspose, damp: float) -> BlockOperator:
    r"""Returns a preconditioner: a Hermitian positive definite operator close to ``(A^H A + damp^2 I)^-1``.

    Parameters
    ----------
    A : Conv or ConvTranspose
        The operator, on the CPU or the GPU.
    damp : float
        Damping, at least 0, in units of the gain of `A`. A damping below 1e-4 of the largest gain of `A`, in single
        precision below 1e-3, is raised to that value.

    Returns
    -------
    BlockOperator of shape ``(A.shape[1], A.shape[1])``
        In the dtype of `A`, on the CPU or the GPU as `A` is; Hermitian and positive definite in every padding mode.

    Raises
    ------
    TypeError
        If `A` is neither a `Conv` nor a `ConvTranspose`.
    ValueError
        If `damp` is negative or not finite, or a tap is not finite.
    MemoryError
        If the blocks do not fit the free memory.

    See Also
    --------
    tikhonov : Conjugate gradients with this preconditioner.

    Notes
    -----
    The preconditioner is exact where the boundary allows: for circular axes whose length is a multiple of the stride, by
    the FFT, with a small matrix for each frequency (of channels and polyphase components); for symmetric axes and
    kernels, by the DCT-II. Kernels that are nearly symmetric, with a symmetric boundary, use the DCT-II of ``A^H A``
    averaged over all reflections.

    Elsewhere a circulant preconditioner fails at the boundary, because every end of an axis has singular vectors of its
    own. So the domain is divided into overlapping subdomains, along each axis an interior and one subdomain at either
    end, and the preconditioner is

        P = sum_z  W_z  T_z^-1 (B_z^H B_z + damp^2 I)^-1 T_z  W_z,      sum_z W_z^2 = I

    over all combinations z of them. In the interior T is the FFT, and B are the blocks of `A` without a boundary; at an
    end T is the identity along that axis, and B are columns of `A` itself. A corner is exact in all axes, an edge in
    one, with the FFT along the others. Each term is positive definite, and so is the sum. This is an additive Schwarz
    method with a smooth partition of unity, whose interior is solved by one FFT (Toselli and Widlund, Domain
    Decomposition Methods, 2005, chapter 2).

    If a kernel is an outer product over the axes (Gaussian, box), or differs from one by at most half of the damping, the
    ends are in the eigenvectors of each axis (`inverse.separable`), and so are whole axes of up to 256 samples. Then the
    set-up takes as long as a few products, and P is exact, up to that difference, where all axes are so short.

    Where subdomains would cost more than the unknowns (many channels), the FFT on a zero-extended domain replaces them.

    Examples
    --------
    >>> import numpy as np
    >>> from convop import Conv, preconditioner
    >>> A = Conv([[0.0, 0.2], [0.3, 0.5]], (6, 8), padding="same", padding_mode="circular")
    >>> P = preconditioner(A, 0.1)
    >>> np.allclose(P.todense() @ ((A.H @ A).todense() + 0.01 * np.eye(48)), np.eye(48))
    True
    """
    return PreconditionerPlan.of(A, damp).build()


@dataclass(frozen=True)
class PreconditionerPlan:
    """A preconditioner that is not yet computed.

    Attributes
    ----------
    operator : Conv or ConvTranspose
        The operator.
    spec, taps : ConvSpec, ndarray
        The operator is their matrix or, if `outputs`, its conjugate transpose.
    shift : float
        Square of the damping.
    outputs : bool
        Whether the unknowns are the outputs of the convolution.
    subdomains : Subdomains
        The domains of the terms.
    """

    operator: Conv | ConvTranspose
    spec: ConvSpec
    taps: Array
    shift: float
    outputs: bool
    subdomains: Subdomains

    @classmethod
    def of(cls, A: Conv | ConvTranspose, damp: float) -> PreconditionerPlan:
        """Checks the arguments of `preconditioner`, and divides the domain."""
        require_convolution(A)
        damp = validate_damp(damp)
        # A is the matrix of these taps, or its conjugate transpose.
        (spec, taps), outputs = A.convolution(), isinstance(A, ConvTranspose)
        if not np.isfinite(taps).all():
            raise ValueError("A must have finite taps to have a preconditioner")
        most = max(damp, float(np.abs(taps).max(initial=0.0)))
        if most and abs(math.log2(most)) > np.finfo(taps.dtype).maxexp / 2 - 2:
            raise ValueError(
                f"A and damp must have squares within the range of {taps.dtype.name}, but the larger of them is "
                f"{most:.3g}: multiply the kernel, and damp, by a power of two"
            )
        shift = max(damp, _least_damp(spec, taps)) ** 2 or 1.0  # of a zero kernel without damping, the identity
        with one_blas_thread():
            subdomains = divide_into_subdomains(spec, taps, shift, outputs)
        return cls(A, spec, taps, shift, outputs, subdomains)

    def build(self) -> BlockOperator:
        """Computes the preconditioner."""
        A = self.operator
        with one_blas_thread():
            terms = _terms(self.spec, self.taps, self.subdomains, self.shift, self.outputs)
        operator = BlockOperator(terms, dims=A.dims, dimsd=A.dims, dtype=A.dtype, name="P", hermitian=True)
        return operator.to_gpu() if A.on_gpu else operator


def validate_damp(damp: float) -> float:
    """Returns a damping as a float, finite and not negative."""
    try:
        value = float(damp)
    except (TypeError, ValueError):
        raise TypeError(f"damp must be a number, got {damp!r}") from None
    if not 0 <= value < math.inf:
        raise ValueError(f"damp must be finite and at least 0, got {damp!r}")
    return value


def is_preconditionable(A: Conv | ConvTranspose, damp: float) -> bool:
    """Returns whether a damping is large enough for `preconditioner` to be close to the inverse."""
    return damp > 0 and damp >= _USED_SHARE * _least_damp(*A.convolution())


def _least_damp(spec: ConvSpec, taps: Array) -> float:
    return _LEAST_DAMP[taps.real.itemsize] * gain_estimate(spec, taps)


def gain_estimate(spec: ConvSpec, taps: Array) -> float:
    """Returns an estimate of the largest singular value: the root of the largest row sum times the largest column sum of channels."""
    moduli = np.abs(taps).astype(np.float64)
    if not spec.channels:
        return float(moduli.sum())
    pairs = moduli.sum(axis=tuple(range(2, taps.ndim))).reshape(spec.groups, -1, moduli.shape[1])
    return float(np.sqrt(pairs.sum(axis=1).max() * pairs.sum(axis=2).max()))


def _terms(spec: ConvSpec, taps: Array, subdomains: Subdomains, shift: float, outputs: bool) -> list[SubdomainTerm]:
    """Returns the terms of all subdomains: inverses of ``B^H B + shift`` in their bases, between the weights W."""
    kernel = subdomains.separable
    if kernel is None:
        terms = []
        for subdomain in product(*subdomains.axes):
            axes = [along_axis.basis for along_axis in subdomain]
            inverse = hermitian_inverses(add_to_diagonals(gram_blocks(spec, taps, axes, outputs), shift))
            terms.append(_term(spec, taps, axes, subdomain, inverse, outputs))
        return terms
    diagonal = [
        [(along_axis, *diagonalised(axis, factor, along_axis.basis)) for along_axis in of_axis]
        for axis, factor, of_axis in zip(spec.axes, kernel.factors, subdomains.axes, strict=True)
    ]
    return [
        _term(
            spec,
            taps,
            [basis for _, basis, _ in subdomain],
            [along_axis for along_axis, _, _ in subdomain],
            _separable_inverse(subdomain, kernel.scales, taps.dtype, shift),
            outputs,
        )
        for subdomain in product(*diagonal)
    ]


def _term(
    spec: ConvSpec,
    taps: Array,
    axes: Sequence[AxisBasis | Eigenvectors],
    subdomain: Sequence[AxisSubdomain],
    inverse: Array,
    outputs: bool,
) -> SubdomainTerm:
    """Returns the term of a subdomain from the inverse in its basis."""
    basis = TransformBasis.of(spec, axes, taps.dtype, outputs=outputs)
    weight: Array | None = None
    if any(along_axis.weight is not None for along_axis in subdomain):
        weight = np.ones(1)
        for along_axis, samples in zip(subdomain, basis.subdomain, strict=True):
            factor = np.ones(samples.stop - samples.start) if along_axis.weight is None else along_axis.weight
            weight = np.multiply.outer(weight, factor)
        weight = weight.astype(taps.real.dtype)
    basis = basis.to_device(lambda vectors: to_precision(vectors, taps.dtype))
    return SubdomainTerm(basis, basis, to_precision(inverse, taps.dtype), weight)


def _separable_inverse(
    subdomain: Sequence[tuple[AxisSubdomain, AxisBasis | Eigenvectors, Array]],
    scales: Array,
    dtype: np.dtype[Any],
    shift: float,
) -> Array:
    """Returns ``1/(|scale|^2 s_1 ... s_N + shift)`` for all eigenvalues s of the axes, (*frequencies, groups, 1, 1)."""
    halved = halved_axis([basis for _, basis, _ in subdomain], dtype)
    grams = np.ones(())
    for a, (_, _, values) in enumerate(subdomain):
        grams = np.multiply.outer(grams, values[: len(values) // 2 + 1] if a == halved else values)
    grams = np.multiply.outer(grams, np.abs(scales) ** 2)
    inverse: Array = 1 / (grams + shift)[..., None, None]
    return inverse
