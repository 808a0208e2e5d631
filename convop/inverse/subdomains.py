"""Overlapping subdomains of the axes for the additive Schwarz preconditioner, and their partition of unity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.fft import next_fast_len

from ..arrays.backend import Array
from ..geometry.axis import Axis
from ..geometry.spec import ConvSpec
from ..spectral.axis_bases import AxisBasis, Cosine, Fourier, Identity, exact_bases, is_half_sample_symmetric
from .normal_blocks import add_to_diagonals, eigenvalue_bounds, gram_blocks, reflected_gram_blocks
from .separable import LARGEST_SHARE, SeparableKernel, is_without_components

# Samples of a subdomain at an end of an axis: at least so many, or so many times the extent of the kernel, within which
# the correlations of the inverse die out. Longer ones save iterations, but their inversion takes time that grows with the
# sixth power of their length. So they grow slowly with the unknowns beyond 2^14, with this power of their number.
_LEAST_SAMPLES, _EXTENTS, _GROWTH = 12, 1.4, 0.1
# Numbers that the inverses of the corner subdomains may take: for each unknown, and in all at least and at most.
_NUMBERS_PER_UNKNOWN, _LEAST_NUMBERS, _MOST_NUMBERS = 8, 2**20, 2**21
# Subdomains shorter than this share of the kernel's extent do not pay.
_LEAST_SHARE = 1 / 2
# With a separable kernel, an axis up to this size is one subdomain, whose eigenvectors take about as long as 20 products;
# subdomains at the ends of longer ones have at least so many samples, or so many times the extent of the kernel.
_WHOLE_AXIS, _LEAST_EIGENVECTORS, _EIGENVECTOR_EXTENTS = 256, 32, 3
# The cosine basis is used where its model of `A^H A + damp^2` differs from the matrix by at most these factors, in the
# interior and at the ends: the iterations grow with the roots of them, and subdomains at the ends need some 10 to 60.
_INTERIOR_RATIO, _END_RATIO = 100.0, 30.0
# The ends are compared over so many samples, at so many frequencies of the other axes.
_COMPARED_SAMPLES, _COMPARED_FREQUENCIES = 24, 12


@dataclass(frozen=True)
class AxisSubdomain:
    """A subdomain along one axis.

    Attributes
    ----------
    basis : AxisBasis
        Its basis.
    weight : ndarray, optional
        Its weights in the partition of unity, 1 everywhere by default.
    """

    basis: AxisBasis
    weight: Array | None = None


@dataclass(frozen=True)
class Subdomains:
    """The subdomains of the domain: all combinations of those of the axes.

    Attributes
    ----------
    axes : list of list of AxisSubdomain
        For each axis.
    separable : SeparableKernel, optional
        The outer product that takes the place of the kernel, if it is close to one: samples are then to be transformed to
        the eigenvectors of their axis.
    """

    axes: list[list[AxisSubdomain]]
    separable: SeparableKernel | None = None


def divide_into_subdomains(spec: ConvSpec, taps: Array, shift: float, outputs: bool) -> Subdomains:
    """Returns the whole axis where a basis is exact or cheap, otherwise an interior and two ends.

    Parameters
    ----------
    spec : ConvSpec
        Geometry.
    taps : ndarray
        Not flipped, on the CPU.
    shift : float
        The square of the damping.
    outputs : bool
        Whether the unknowns are the outputs of the convolution.

    Returns
    -------
    Subdomains
    """
    exact = exact_bases(spec, taps)
    inexact = [a for a, basis in enumerate(exact) if isinstance(basis, Identity)]
    subdomains = [[AxisSubdomain(basis)] for basis in exact]
    if not inexact:
        return Subdomains(subdomains)
    separable = _separable_subdomains(spec, taps, exact, shift, outputs)
    if separable is not None:
        return separable
    if all(is_half_sample_symmetric(spec.axes[a]) for a in inexact) and taps.dtype.kind != "c":
        averaged: list[AxisBasis] = [
            Cosine(axis.inputs, 1) if a in inexact else exact[a] for a, axis in enumerate(spec.axes)
        ]
        if _is_close_in_cosine_basis(spec, taps, averaged, shift):
            return Subdomains([[AxisSubdomain(basis)] for basis in averaged])
    lengths = _end_lengths(spec, exact, inexact, outputs)
    for a in inexact:
        axis, length = spec.axes[a], lengths.get(a)
        if length is None:
            subdomains[a] = [AxisSubdomain(_zero_extended_basis(axis, outputs))]
        else:
            subdomains[a] = overlapping_subdomains(axis, length, outputs)
    return Subdomains(subdomains)


def _separable_subdomains(
    spec: ConvSpec, taps: Array, exact: Sequence[AxisBasis], shift: float, outputs: bool
) -> Subdomains | None:
    """Returns subdomains whose ends are in eigenvectors, or None if the kernel is too far from an outer product."""
    kernel = SeparableKernel.of(spec, taps)
    if kernel is None or kernel.error > LARGEST_SHARE * math.sqrt(shift):
        return None
    axes = []
    for axis, basis in zip(spec.axes, exact, strict=True):
        n = _size(axis, outputs)
        if is_without_components(basis):
            axes.append([AxisSubdomain(basis)])
        elif not isinstance(basis, Identity) or (axis.stride > 1 and n > _WHOLE_AXIS):
            return None
        else:
            length = (
                n if n <= _WHOLE_AXIS else min(n // 2, max(_LEAST_EIGENVECTORS, _EIGENVECTOR_EXTENTS * axis.extent))
            )
            axes.append(overlapping_subdomains(axis, length, outputs))
    return Subdomains(axes, kernel)


def _size(axis: Axis, outputs: bool) -> int:
    return axis.outputs if outputs else axis.inputs


def _end_lengths(spec: ConvSpec, exact: Sequence[AxisBasis], inexact: Sequence[int], outputs: bool) -> dict[int, int]:
    """Returns the lengths of the subdomains at the ends of the inexact axes; no lengths where these would not pay."""
    channels = (spec.c_out if outputs else spec.c_in) // spec.groups
    unknowns = spec.shape[0] if outputs else spec.shape[1]
    # A corner is exact in all inexact axes, and has a block for every frequency of the others.
    frequencies, components = spec.groups, channels
    for basis in exact:
        if isinstance(basis, Fourier):
            frequencies, components = frequencies * basis.count, components * (1 if outputs else basis.stride)
        elif isinstance(basis, Cosine):
            frequencies *= basis.count
    numbers = min(max(_NUMBERS_PER_UNKNOWN * unknowns, _LEAST_NUMBERS), _MOST_NUMBERS) / (frequencies * components**2)
    extents = _EXTENTS * max(1.0, unknowns / 2**14) ** _GROWTH
    lengths: dict[int, int] = {}
    # Short axes first: where it is cheap, one subdomain covers such an axis, which leaves more numbers to the others.
    for done, a in enumerate(sorted(inexact, key=lambda a: _size(spec.axes[a], outputs))):
        axis = spec.axes[a]
        n, step = _size(axis, outputs), axis.stride if outputs else 1
        share = numbers ** (1 / (len(inexact) - done))
        if n * n <= share:
            lengths[a] = n
            numbers /= n * n
            continue
        wanted = math.ceil(max(_LEAST_SAMPLES, extents * axis.extent) / step)
        lengths[a] = max(1, min(wanted, n // 2, int(math.sqrt(share / 2))))
        if lengths[a] < min(n // 2, _LEAST_SHARE * axis.extent / step):
            return {}
        numbers /= 2 * lengths[a] ** 2
    return lengths


def _zero_extended_basis(axis: Axis, outputs: bool) -> Fourier:
    """Returns the Fourier basis of the axis with so many zeros beyond its end that nothing wraps round."""
    length = axis.inputs + axis.extent
    count = -(-length // axis.stride) if not outputs else axis.outputs + -(-axis.extent // axis.stride)
    return Fourier(next_fast_len(count, real=True), axis.stride)


def overlapping_subdomains(axis: Axis, length: int, outputs: bool) -> list[AxisSubdomain]:
    """Returns a Fourier interior and an exact subdomain at either end, or one exact subdomain for all of a short axis.

    Parameters
    ----------
    axis : Axis
        The axis.
    length : int
        Samples of a subdomain at an end; the size of the axis for one subdomain.
    outputs : bool
        Whether the unknowns are the outputs of the convolution.

    Returns
    -------
    list of AxisSubdomain
        The squares of their weights add up to 1.
    """
    n = _size(axis, outputs)
    if length == n:
        return [AxisSubdomain(Identity(0, n, outputs))]
    # The weights have no jump in their first two derivatives.
    t = np.minimum((np.arange(n) + 0.5) / length, 1)
    low = np.cos(np.pi / 2 * t * t * (3 - 2 * t))
    high = low[::-1]
    interior = np.sqrt(np.maximum(0, 1 - low**2 - high**2))
    count = n if outputs else -(-n // axis.stride)
    return [
        AxisSubdomain(Fourier(count, axis.stride), interior),
        AxisSubdomain(Identity(0, length, outputs), low[:length]),
        AxisSubdomain(Identity(n - length, n, outputs), high[n - length :]),
    ]


def _is_close_in_cosine_basis(spec: ConvSpec, taps: Array, axes: Sequence[AxisBasis], shift: float) -> bool:
    """Returns whether the average of ``A^H A`` over reflections is a good model of it, in the interior and at the ends."""
    mean = add_to_diagonals(gram_blocks(spec, taps, axes, False), shift)
    grams = reflected_gram_blocks(spec, taps, axes, False)
    interior = [eigenvalue_bounds(add_to_diagonals(gram, shift), mean) for gram in grams]
    if not max(high for _, high in interior) <= _INTERIOR_RATIO * min(low for low, _ in interior):
        return False
    return all(
        _is_close_at_ends(spec, taps, axes, a, mean, shift)
        for a, basis in enumerate(axes)
        if isinstance(basis, Cosine) and basis.sign
    )


def _is_close_at_ends(
    spec: ConvSpec, taps: Array, axes: Sequence[AxisBasis], a: int, mean: Array, shift: float
) -> bool:
    """Returns whether the cosine model `mean` is close to ``A^H A + shift`` on the first and the last samples of an axis."""
    n = spec.axes[a].inputs
    length = min(n, _COMPARED_SAMPLES)
    along = np.moveaxis(mean, a, 0)
    along = along.reshape(n, -1, *mean.shape[-2:])
    chosen = np.unique(np.linspace(0, along.shape[1] - 1, _COMPARED_FREQUENCIES).astype(int))
    angle = np.pi / n * np.outer(np.arange(n) + 0.5, np.arange(n))
    cosines = np.cos(angle) * np.sqrt(np.where(np.arange(n) == 0, 1, 2) / n)
    for end in (Identity(0, length), Identity(n - length, n)):
        seen = cosines[end.start : end.stop]
        model = np.einsum("ik,kfcd,jk->fcidj", seen, along[:, chosen], seen, optimize=True)
        size = model.shape[1] * length
        true = gram_blocks(spec, taps, [end if b == a else other for b, other in enumerate(axes)], False)
        true = add_to_diagonals(true.reshape(-1, size, size)[chosen], shift)
        low, high = eigenvalue_bounds(true, model.reshape(-1, size, size))
        if not high <= _END_RATIO * low:
            return False
    return True
