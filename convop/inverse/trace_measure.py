r"""The spectral measure of ``A A^H`` for traces, from frequencies and the ends of each axis, without products of `A`.

In the interior a convolution is diagonal in frequencies. An end of an axis changes a trace in proportion to the length of
the other axes, and where two ends meet, by an amount that does not depend on the size. With the trace t of a periodic
domain, for an element, and the trace T_a of a short axis a with both of its ends, periodic along the other axes,

    trace f(A A^H) = N t + sum_a N/n_a (T_a(L) - L t) + O(1)

for N elements, n_a of them along axis a, of which L remain (Widom, Asymptotic expansions for pseudodifferential operators
on bounded domains, 1985). Only the corners are left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..arrays.backend import Array
from ..geometry.spec import ConvSpec
from ..spectral.axis_bases import AxisBasis, Fourier, Identity, is_periodic
from ..spectral.blocks import block_multiplicities, diagonal_blocks
from ..threads.sizes import one_blas_thread
from .spectral_measure import SpectralMeasure

# The domain has to be so many times as large as the kernel along each axis, on the average: at 3.5 times, corners move the
# minimum of cross-validation by up to a factor of 3, and their share falls as the square.
_LEAST_EXTENTS = 16
# The short axis, and the frequencies of the others, are at least this number to the power 1/(dimensions + 2), and so many
# times the extent of the kernel.
_SAMPLES, _EXTENTS = 2**24, 3
# Frequencies of the interior.
_FREQUENCIES = 2**18
# Most multiplications, the cubes of the sizes of all matrices: some seconds.
_MOST_CUBES = 2**29


def trace_measure(spec: ConvSpec, taps: Array, rows: int) -> SpectralMeasure | None:
    """Returns the measure of all unit vectors together, which gives traces.

    Parameters
    ----------
    spec : ConvSpec
        Geometry.
    taps : ndarray
        Not flipped, on the CPU.
    rows : int
        Rows of `A`, which is the convolution or its conjugate transpose: the same but for singular values of zero.

    Returns
    -------
    SpectralMeasure or None
        Some masses are negative. None for domains that are small beside the kernel, of which corners are too large a part,
        for large kernels, and for several output channels in a group, whose matrices are large.
    """
    space, extents = [axis.outputs for axis in spec.axes], [-(-axis.extent // axis.stride) for axis in spec.axes]
    elements, groups = math.prod(space), spec.groups
    is_small = elements < math.prod(_LEAST_EXTENTS * extent for extent in extents)
    if spec.c_out != groups or is_small or not np.isfinite(taps).all():
        return None
    least = round(_SAMPLES ** (1 / (spec.ndim + 2)))
    short = [min(n, max(least, _EXTENTS * extent)) for n, extent in zip(space, extents, strict=True)]
    ends = [a for a, axis in enumerate(spec.axes) if not is_periodic(axis)]
    if sum(math.prod(short) // short[a] * short[a] ** 3 for a in ends) > _MOST_CUBES // groups:
        return None
    most = int(_FREQUENCIES ** (1 / spec.ndim))
    # A coarser grid than the extent would wrap the kernel round.
    counts = [min(axis.outputs, max(most, s)) for axis, s in zip(spec.axes, short, strict=True)]
    interior = _measure(spec, taps, [Fourier(n, axis.stride) for n, axis in zip(counts, spec.axes, strict=True)])
    values, masses, share = [interior.values], [], float(elements)
    for a in ends:
        shape = list(spec.input_shape)
        shape[a - spec.ndim] -= spec.axes[a].stride * (space[a] - short[a])
        smaller = ConvSpec(tuple(shape), spec.kernel_shape, **spec.parameters())
        bases: list[AxisBasis] = [Fourier(n, axis.stride) for n, axis in zip(short, spec.axes, strict=True)]
        bases[a] = Identity(0, short[a], outputs=True)
        of_ends = _measure(smaller, taps, bases)
        values.append(of_ends.values)
        masses.append(elements / space[a] * of_ends.masses)
        share -= elements / space[a] * short[a]
    # The transpose has other singular values of zero, or fewer of them.
    values.append(np.zeros(1))
    masses = [share * interior.masses, *masses, np.array([rows - float(elements * groups)])]
    return SpectralMeasure(np.concatenate(values), np.concatenate(masses))


def _measure(spec: ConvSpec, taps: Array, bases: Sequence[AxisBasis]) -> SpectralMeasure:
    """Returns the squares of the singular values of blocks, with masses that add up to the rows of a block, for each group."""
    B = diagonal_blocks(spec, taps, bases, f"the spectrum of {spec}")
    if B.shape[-2] == 1:
        squares = (np.abs(B) ** 2).sum(axis=-1)
    else:
        with one_blas_thread():
            squares = np.maximum(np.linalg.eigvalsh(B @ B.conj().swapaxes(-1, -2)), 0)
    counts = block_multiplicities(bases, taps.dtype)
    masses = np.broadcast_to((counts / counts.sum())[..., None, None], squares.shape)
    return SpectralMeasure.collect(squares, masses)
