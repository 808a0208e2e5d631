r"""Predicts the iterations of conjugate gradients from the symbol of a convolution and the spectrum of its data.

The residuals of conjugate gradients depend on the operator only through the measure that puts the squared moduli of the
right-hand side's components at the eigenvalues (Golub and Meurant, Matrices, Moments and Quadrature, 2010, chapter 4).
Without a boundary these are the values of the symbol and a Fourier transform of the right-hand side. So the iteration is run on
up to a thousand numbers: classes of eigenvalues, and their shares. Boundaries change few of the eigenvalues of large images, and
their iterations little. On axes that are hardly longer than the kernel, the forecast can be far off.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from ..arrays.backend import Array, to_cpu
from ..operators.conv import Conv, ConvTranspose
from ..spectral.axis_bases import AxisBasis, Fourier
from ..spectral.blocks import diagonal_blocks
from ..spectral.transform_basis import TransformBasis

# Samples of the right-hand side whose spectrum is taken: without channels and stride; over the square of the size of the
# blocks (channels times polyphase components); of an axis at least.
_SAMPLES, _SAMPLES_OF_BLOCKS, _LEAST_SAMPLES = 2**16, 2**12, 4
# A window leaves the middle of an axis where so many times as much is under it elsewhere.
_FAR_MORE = 10
# Eigenvalues are collected in so many classes between the damping and the largest.
_CLASSES = 1000


@dataclass
class PlainForecast:
    """Conjugate gradients without a preconditioner, on a measure of eigenvalues.

    Attributes
    ----------
    values : ndarray of shape ``(n,)``
        Eigenvalues of ``A^H A + damp^2``.
    shares : ndarray of shape ``(n,)``
        Squared moduli of the right-hand side's components; their sum is 1.
    rtol : float
        The reduction of the residual to reach.
    """

    values: Array
    shares: Array
    rtol: float
    _iterations: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._residual = self._direction = np.ones_like(self.values)
        self._square = 1.0

    @classmethod
    def of(cls, A: Conv | ConvTranspose, b: Array, damp: float, rtol: float, *, is_dual: bool) -> PlainForecast:
        """Returns the forecast for the normal equations of a convolution.

        Parameters
        ----------
        A : Conv or ConvTranspose
            The operator.
        b : ndarray of shape ``(n, P)``
            Right-hand sides: of inputs of `A`, or of its outputs for the dual system.
        damp, rtol : float
            As in `tikhonov`.
        is_dual : bool
            Whether the matrix is ``A A^H``.
        """
        values, shares = _spectrum(A, b, is_dual)
        values = np.maximum(values, 0) + damp**2
        largest = float(values.max(initial=1.0))
        least = max(damp**2, largest * float(np.finfo(np.float64).eps))
        # Classes of equal ratios between eigenvalues.
        logarithms = np.log(np.maximum(values, least) / least)
        number = (
            (logarithms * ((_CLASSES - 1) / max(math.log(largest / least), 1e-9))).astype(int).clip(0, _CLASSES - 1)
        )
        masses = np.bincount(number, shares, _CLASSES)
        kept = masses > 0
        means = np.bincount(number, shares * values, _CLASSES)[kept] / masses[kept]
        return cls(means, masses[kept] / masses.sum(), rtol)

    def iterations(self, limit: int) -> int:
        """Returns the iterations until convergence, or at least the limit if they are as many.

        What an earlier call has computed is kept, so a lower limit than before changes nothing.
        """
        while self._square > self.rtol**2 and self._iterations < limit:
            image = self.values * self._direction
            curvature = float(self.shares @ (self._direction * image))
            if not curvature > 0:
                break
            self._residual = self._residual - self._square / curvature * image
            square = float(self.shares @ self._residual**2)
            self._direction = self._residual + square / self._square * self._direction
            self._square = square
            self._iterations += 1
        return self._iterations


def _spectrum(A: Conv | ConvTranspose, b: Array, is_dual: bool) -> tuple[Array, Array]:
    """Returns eigenvalues of ``A^H A``, or ``A A^H``, without a boundary, and the squares of right-hand sides along them."""
    (spec, taps), is_transpose = A.convolution(), isinstance(A, ConvTranspose)
    outputs = is_dual != is_transpose  # whether vectors are outputs of the convolution
    strides = 1 if outputs else math.prod(axis.stride for axis in spec.axes)
    size = (spec.c_out if outputs else spec.c_in) // spec.groups * strides
    samples = _SAMPLES if size == 1 else _SAMPLES_OF_BLOCKS // size**2
    most = max(_LEAST_SAMPLES, int((samples / b.shape[1]) ** (1 / spec.ndim)))
    counts = [max(1, min(axis.outputs if outputs else axis.inputs // axis.stride, most)) for axis in spec.axes]
    bases: list[AxisBasis] = [Fourier(count, axis.stride) for count, axis in zip(counts, spec.axes, strict=True)]
    lengths = [count * (1 if outputs else axis.stride) for count, axis in zip(counts, spec.axes, strict=True)]
    blocks = diagonal_blocks(spec, taps, bases, "a forecast")
    basis = TransformBasis.of(spec, bases, taps.dtype, outputs=outputs)
    coefficients = basis.forward(_sample(to_cpu(b), basis, lengths, taps.dtype.kind == "c"))
    if blocks.shape[-2:] == (1, 1):
        values = np.abs(blocks[..., 0]) ** 2
        along = np.abs(coefficients) ** 2
    else:
        gram = blocks @ blocks.conj().swapaxes(-1, -2) if outputs else blocks.conj().swapaxes(-1, -2) @ blocks
        values, vectors = np.linalg.eigh(gram)
        along = np.abs(vectors.conj().swapaxes(-1, -2) @ coefficients) ** 2
    totals = along.sum(axis=tuple(range(along.ndim - 1)))
    shares = (along / np.where(totals > 0, totals, 1)).sum(axis=-1)
    return values.ravel(), shares.ravel()


def _sample(b: Array, basis: TransformBasis, lengths: list[int], is_complex: bool) -> Array:
    """Returns right-hand sides ``(n, P)`` under a window, whose ends are zero: ``(P, channels, *lengths)``.

    The window is over the middle of each axis, or where far more is under it. Beyond the ends are zeros.
    """
    planes = b.T.reshape(-1, *basis.shape)
    if not is_complex:
        planes = np.concatenate([planes.real, planes.imag]) if planes.dtype.kind == "c" else planes
    for a, length in enumerate(lengths):
        lines = np.moveaxis(planes, 2 + a, -1)
        n = lines.shape[-1]
        kept = min(n, length)
        window = np.hanning(kept + 2)[1:-1]
        energy = (np.abs(lines) ** 2).reshape(-1, n).sum(axis=0)
        # Windows that begin at 1 - kept, 2 - kept, ..., n - 1.
        under = np.convolve(energy, window**2)
        best, middle = int(np.argmax(under)), (n - kept) // 2 + kept - 1
        begin = (best if under[best] > _FAR_MORE * under[middle] else middle) - (kept - 1)
        first, stop = max(0, begin), min(n, begin + kept)
        sample = np.zeros((*lines.shape[:-1], kept), lines.dtype)
        sample[..., first - begin : stop - begin] = lines[..., first:stop]
        planes = np.moveaxis(sample * window, -1, 2 + a)
    return planes
