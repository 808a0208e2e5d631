r"""Bases along one axis in which a convolution is block diagonal: Fourier, cosine (DCT-II) or identity.

- `Fourier` is exact where the axis is periodic. With stride ``s``, ``n = s*m`` inputs are ``s`` polyphase components of
  ``m`` samples, and tap ``t`` reads component ``p = q mod s`` shifted by ``r = (q - p)/s``, where ``q = t*d - lo``.
  Transformed,

      Y[k] = sum_p (sum_{t of component p} K[t] exp(2 pi i k r/m)) X_p[k]

  (Vaidyanathan, Multirate Systems and Filter Banks, 1993, section 4.3).
- `Cosine` is exact where the extension is half-sample symmetric and so are the taps: the DCT-II, in which taps at ``q``
  and ``-q`` multiply frequency ``k`` by ``cos(pi k q/n)``.
- `Identity` transforms nothing: the samples of the whole axis, or of a subdomain of it.
- `Eigenvectors` are those of the Gram matrix of one axis on a subdomain, for kernels that are outer products over the axes.

The table of a basis holds the factor by which each tap contributes to each entry of the blocks along the axis.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from ..arrays.backend import Array
from ..geometry.axis import Axis
from ..geometry.spec import ConvSpec

# Taps count as symmetric up to this many units in the last place of the largest, in double precision.
_SYMMETRY_ULPS = 8


@dataclass(frozen=True)
class Fourier:
    """The Fourier basis of an axis of ``count*stride`` inputs and `count` outputs that is periodic, or treated as such."""

    count: int
    stride: int

    def table(self, axis: Axis, half: bool) -> Array:
        """Returns the factors of the taps, (taps, frequencies, polyphase components); of half of the frequencies or all."""
        q = np.arange(axis.taps) * axis.dilation - axis.lo
        component, shift = q % self.stride, q // self.stride
        k = np.arange(self.count // 2 + 1 if half else self.count)
        # Integers are reduced modulo the period first, so that large shifts lose no digits of the angle.
        turns = np.outer(shift % self.count, k) % self.count
        waves = np.exp(2j * np.pi / self.count * turns)
        table = np.zeros((axis.taps, len(k), self.stride), dtype=np.complex128)
        table[np.arange(axis.taps), :, component] = waves
        return table


@dataclass(frozen=True)
class Cosine:
    """The DCT-II basis of an axis of `count` inputs and outputs with a half-sample symmetric extension.

    Attributes
    ----------
    count : int
        Number of samples and of frequencies.
    sign : {0, 1, -1}
        0 for the cosines of symmetric taps. With 1 or -1 the factors are those of a Fourier transform at the same
        frequencies, with this sign in the exponent.
    """

    count: int
    sign: int = 0

    def table(self, axis: Axis, half: bool) -> Array:  # noqa: ARG002 - cosines have no conjugate half
        """Returns the factors of the taps, (taps, frequencies, 1)."""
        q = np.arange(axis.taps) * axis.dilation - axis.lo
        turns = np.outer(q, np.arange(self.count)) % (2 * self.count)
        angle = np.pi / self.count * turns
        return np.asarray(np.exp(self.sign * 1j * angle) if self.sign else np.cos(angle))[:, :, None]


@dataclass(frozen=True)
class Identity:
    """The samples ``start <= i < stop`` of an axis, without a transform.

    Attributes
    ----------
    start, stop : int
        The subdomain.
    outputs : bool
        Whether the samples are outputs, together with all inputs that they read. Otherwise they are inputs, together
        with all outputs that read any of them.
    """

    start: int
    stop: int
    outputs: bool = False

    def table(self, axis: Axis, half: bool) -> Array:  # noqa: ARG002 - samples have no conjugate half
        """Returns 1 where a tap of an output reads an input and 0 elsewhere, (taps, outputs, inputs)."""
        is_read, column, columns = self._reads_by_outputs(axis) if self.outputs else self._reads_of_inputs(axis)
        row, tap = np.nonzero(is_read)
        table = np.zeros((axis.taps, len(is_read), columns))
        table[tap, row, column[row, tap]] = 1
        return table

    def _reads_by_outputs(self, axis: Axis) -> tuple[Array, Array, int]:
        """Returns which taps of the outputs read an input, the column of that input, and the number of columns."""
        source = axis.source(np.arange(self.start, self.stop))
        read = np.unique(source[source >= 0])
        column = np.searchsorted(read, source) if len(read) else source
        return source >= 0, column, max(1, len(read))

    def _reads_of_inputs(self, axis: Axis) -> tuple[Array, Array, int]:
        """Returns the same triple for the outputs that read one of the inputs of the subdomain."""
        # Candidates are the outputs of the boundary and those whose taps reach into the subdomain.
        a, b = axis.interior
        first = max(a, (self.start + axis.lo - axis.extent) // axis.stride)
        last = min(b, (self.stop + axis.lo) // axis.stride + 1)
        source = axis.source(np.union1d(axis.boundary, np.arange(first, last)))
        is_read = (source >= self.start) & (source < self.stop)
        rows = np.flatnonzero(is_read.any(axis=1))
        if not len(rows):  # a stride may leave the last inputs unread
            rows = np.zeros(1, dtype=np.int64)
        return is_read[rows], source[rows] - self.start, self.stop - self.start


@dataclass(frozen=True, eq=False)
class Eigenvectors:
    """The eigenvectors of a Hermitian matrix on the samples ``start <= i < stop`` of an axis.

    Attributes
    ----------
    start, stop : int
        The subdomain.
    vectors : ndarray of shape ``(stop - start, stop - start)``
        Unit eigenvectors, as columns.
    """

    start: int
    stop: int
    vectors: Array

    @property
    def count(self) -> int:
        """The number of samples and of eigenvectors."""
        return self.stop - self.start


AxisBasis: TypeAlias = Fourier | Cosine | Identity


def exact_bases(spec: ConvSpec, kernel: Array) -> list[AxisBasis]:
    """Returns the basis of each axis that makes the matrix exactly block diagonal, with the smallest blocks.

    Parameters
    ----------
    spec : ConvSpec
        Geometry.
    kernel : ndarray
        Taps, not flipped.

    Returns
    -------
    list of AxisBasis
        One per axis. If all are `Identity`, the matrix itself is the only block.
    """
    ndim = spec.ndim
    return [_exact_basis(axis, kernel, number - ndim) for number, axis in enumerate(spec.axes)]


def _exact_basis(axis: Axis, kernel: Array, number: int) -> AxisBasis:
    if is_periodic(axis):
        return Fourier(axis.outputs, axis.stride)
    if is_half_sample_symmetric(axis) and 2 * axis.lo == axis.extent - 1:
        asymmetry = np.abs(kernel - np.flip(kernel, number)).max()
        if asymmetry <= _SYMMETRY_ULPS * float(np.finfo(np.float64).eps) * np.abs(kernel).max():
            return Cosine(axis.inputs)
    # Selected by outputs, because a stride may leave most of the inputs unread.
    return Identity(0, axis.outputs, outputs=True)


def is_periodic(axis: Axis) -> bool:
    """Returns whether a Fourier basis is exact: a whole number of strides, circular or with no tap beyond the ends."""
    return axis.outputs * axis.stride == axis.inputs and (axis.mode == "circular" or axis.interior == (0, axis.outputs))


def is_half_sample_symmetric(axis: Axis) -> bool:
    """Returns whether inputs and outputs share a grid whose extension is that of the DCT-II (``d c b a | a b c d``)."""
    return axis.mode == "symmetric" and axis.stride == 1 and axis.outputs == axis.inputs
