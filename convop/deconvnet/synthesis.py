"""The synthesis operator A of a layer, which maps feature maps to images, and the Gram operator ``A A^T``."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
from scipy.fft import irfft2, next_fast_len, rfft2

from ..arrays.backend import Array
from ..operators.conv import Conv
from ..threads.sizes import transform_workers

# Arrays of the size of the symbol that exist at the same time, at most.
_SYMBOLS = 5


class Synthesis:
    """``A``, the sum over all maps of 'valid' convolutions with their filters, and ``A A^T``.

    Each axis of the maps is longer than the axis of the images by the kernel size less one, so ``A A^T`` is exactly Toeplitz:
    a zero-padded correlation with the correlations of the filters,

        (A A^T s)_c[o] = sum_d sum_t R[c, d, t] s_d[o + t],    R[c, d, t] = sum_k sum_u F[c, k, u] F[d, k, u + t].

    It has as many channels as there are maps below, far fewer than maps. Systems in ``A^T A + rho`` are therefore solved in
    this space: ``(A^T A + rho)^-1 (A^T y + rho q) = q + A^T s`` with ``(A A^T + rho) s = y - A q`` (Woodbury identity).

    Vectors are columns, one for each image: ``A`` maps ``(K1*h*w, I)`` to ``(K0*n*m, I)``.

    Parameters
    ----------
    filters : ndarray of shape ``(K0, K1, k, l)``
        A filter for each channel and each map.
    space : (int, int)
        Rows n and columns m of the images.

    Attributes
    ----------
    dims, dimsd : tuple of int
        The shapes ``(K1, h, w)`` of the maps and ``(K0, n, m)`` of an image.
    operator : Conv
        ``A`` for a single image.
    """

    def __init__(self, filters: Array, space: tuple[int, int]) -> None:
        self.filters = filters
        below, maps, *taps = filters.shape
        self.space = space
        self.dims = (maps, *(n + k - 1 for n, k in zip(space, taps, strict=True)))
        self.dimsd = (below, *space)
        self.operator = Conv(filters, self.dims, flip=True)

    @property
    def energy(self) -> float:
        """The mean over the maps of the squared norm of a filter."""
        return float((self.filters.astype(np.float64) ** 2).sum() / self.filters.shape[1])

    def __call__(self, maps: Array) -> Array:
        """``A maps``."""
        images: Array = self.operator.matmat(maps)
        return images

    def adjoint(self, images: Array) -> Array:
        """``A^T images``."""
        correlations: Array = self.operator.rmatmat(images)
        return correlations

    @cached_property
    def correlations(self) -> Array:
        """R, of shape ``(K0, K0, 2 k - 1, 2 k - 1)``: the reversed impulse response of ``A A^T``."""
        below, maps, *taps = self.filters.shape
        support = tuple(2 * k - 1 for k in taps)
        A = Conv(self.filters, (maps, *(n + k - 1 for n, k in zip(support, taps, strict=True))), flip=True)
        impulses = np.zeros((below, *support, below), self.filters.dtype)
        impulses[np.arange(below), taps[0] - 1, taps[1] - 1, np.arange(below)] = 1
        response = A.matmat(A.rmatmat(impulses.reshape(-1, below))).reshape(below, *support, below)
        return np.ascontiguousarray(np.moveaxis(response, -1, 1)[:, :, ::-1, ::-1])

    @cached_property
    def gram(self) -> Conv:
        """``A A^T``."""
        taps = self.filters.shape[2:]
        return Conv(self.correlations, self.dimsd, padding=tuple(k - 1 for k in taps))

    @cached_property
    def _grid(self) -> tuple[int, int]:
        """The length of the FFT along each axis: long enough against wrap-around, and for the bound `gain` to be tight."""
        sizes = (max(n + k - 1, 4 * k) for n, k in zip(self.space, self.filters.shape[2:], strict=True))
        rows, columns = (int(next_fast_len(size, real=True)) for size in sizes)
        return rows, columns

    @property
    def nbytes(self) -> int:
        """Bytes of the symbol, its inverse and their temporaries, each with a ``(K0, K0)`` matrix for each frequency."""
        rows, columns = self._grid
        return _SYMBOLS * 16 * len(self.filters) ** 2 * rows * (columns // 2 + 1)

    @cached_property
    def _symbol(self) -> Array:
        """The symbol of ``A A^T``: Hermitian positive semidefinite matrices, of shape ``(rows, columns/2 + 1, K0, K0)``."""
        taps = self.filters.shape[2:]
        padded = np.zeros((*self.correlations.shape[:2], *self._grid))
        rows, columns = (2 * k - 1 for k in taps)
        # Tap t of a correlation multiplies exp(+i theta t); of a convolution, exp(-i theta t).
        padded[:, :, :rows, :columns] = self.correlations[:, :, ::-1, ::-1]
        centred = np.roll(padded, [1 - k for k in taps], axis=(2, 3))
        symbol = np.moveaxis(rfft2(centred, workers=transform_workers(centred.size)), (0, 1), (2, 3))
        return np.asarray((symbol + symbol.conj().swapaxes(-1, -2)) / 2)

    @cached_property
    def gain(self) -> float:
        """An upper bound of the largest singular value of ``A A^T``.

        The symbol is a trigonometric polynomial of degree ``k - 1`` in each axis; its maximum over N equidistant points is
        at least ``cos(pi (k - 1)/N)`` times its maximum.
        """
        values = np.linalg.eigvalsh(self._symbol) if len(self.filters) > 1 else self._symbol.real
        shares = (math.cos(math.pi * (k - 1) / n) for k, n in zip(self.filters.shape[2:], self._grid, strict=True))
        return float(values.max()) / math.prod(shares)

    def preconditioner(self, rho: float) -> Preconditioner:
        """An approximate inverse of ``A A^T + rho``: the circulant inverse on a zero-extended domain.

        Positive definite: rho is replaced by the rounding error of the symbol where it is smaller.
        """
        rounding = 8 * float(np.finfo(self.filters.dtype).eps) * float(np.abs(self._symbol).max())
        damped = self._symbol.copy()
        diagonal = np.arange(damped.shape[-1])
        damped[..., diagonal, diagonal] += max(rho, rounding)
        inverse = np.linalg.inv(damped) if damped.shape[-1] > 1 else 1 / damped.real
        return Preconditioner(inverse, self.dimsd, self._grid)


class Preconditioner:
    """Inverse of a circulant operator on a zero-extended domain, restricted to the images; symmetric positive definite."""

    def __init__(self, inverse: Array, dimsd: tuple[int, ...], grid: tuple[int, int]) -> None:
        self._inverse, self._dimsd, self._grid = inverse, dimsd, grid

    def __call__(self, columns: Array) -> Array:
        below, rows, width = self._dimsd
        images = columns.T.reshape(-1, *self._dimsd)
        threads = transform_workers(len(images) * below * math.prod(self._grid))
        spectrum = rfft2(images, self._grid, workers=threads)
        if below == 1:
            spectrum *= self._inverse[..., 0, 0]
        else:
            spectrum = np.einsum("ijcd,ndij->ncij", self._inverse, spectrum, optimize=True)
        filtered = irfft2(spectrum, self._grid, workers=threads)[:, :, :rows, :width]
        return np.asarray(filtered.reshape(len(images), -1).T, dtype=columns.dtype)
