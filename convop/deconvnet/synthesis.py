"""The data term of a layer: maps to what they are maps of, and systems in it."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
from scipy.fft import irfft2, next_fast_len, rfft2

from ..arrays.backend import Array
from ..operators.conv import Conv
from ..threads.sizes import transform_workers

__all__ = ["Synthesis"]

# Arrays of the size of the symbol that there are at once, at most.
_SYMBOLS = 5


class Synthesis:
    """``A``: the sum over all maps of 'valid' convolutions with their filters, and ``A A^T``.

    The maps are larger than what they make up by the kernel less one, so that ``A A^T`` is Toeplitz to the last row:
    a correlation, with zeros beyond the ends, with the correlations of the filters with each other,

        (A A^T s)_c[o] = sum_d sum_t R[c, d, t] s_d[o + t],    R[c, d, t] = sum_k sum_u F[c, k, u] F[d, k, u + t].

    It has as many channels as there are maps below, far fewer than there are maps. So systems in ``A^T A + rho`` are
    solved in it: ``(A^T A + rho)^-1 (A^T y + rho q) = q + A^T s`` with ``(A A^T + rho) s = y - A q`` (Woodbury).

    Vectors are columns, an image each: ``A`` maps ``(K1*h*w, I)`` to ``(K0*n*m, I)``.
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
        """The mean square of the norm of a map's filter."""
        return float((self.filters.astype(np.float64) ** 2).sum() / self.filters.shape[1])

    def __call__(self, maps: Array) -> Array:
        made: Array = self.operator.matmat(maps)
        return made

    def adjoint(self, images: Array) -> Array:
        """``A^T``."""
        analysed: Array = self.operator.rmatmat(images)
        return analysed

    @cached_property
    def correlations(self) -> Array:
        """R, of shape ``(K0, K0, 2 k - 1, 2 k - 1)``: what ``A A^T`` makes of one pixel, read backwards."""
        below, maps, *taps = self.filters.shape
        reach = tuple(2 * k - 1 for k in taps)
        A = Conv(self.filters, (maps, *(n + k - 1 for n, k in zip(reach, taps, strict=True))), flip=True)
        pixels = np.zeros((below, *reach, below), self.filters.dtype)
        middle = [k - 1 for k in taps]
        pixels[np.arange(below), middle[0], middle[1], np.arange(below)] = 1
        columns = pixels.reshape(-1, below)
        response = A.matmat(A.rmatmat(columns)).reshape(below, *reach, below)
        return np.ascontiguousarray(np.moveaxis(response, -1, 1)[:, :, ::-1, ::-1])

    @cached_property
    def gram(self) -> Conv:
        """``A A^T``."""
        taps = self.filters.shape[2:]
        return Conv(self.correlations, self.dimsd, padding=tuple(k - 1 for k in taps))

    @cached_property
    def _grid(self) -> tuple[int, int]:
        """Frequencies of each axis: nothing wraps round, and the largest gain is not missed by much."""
        sizes = (max(n + k - 1, 4 * k) for n, k in zip(self.space, self.filters.shape[2:], strict=True))
        rows, columns = (int(next_fast_len(size, real=True)) for size in sizes)
        return rows, columns

    @property
    def nbytes(self) -> int:
        """Bytes that the symbol and its inverse take, with those that making them takes: they have a matrix for each frequency."""
        rows, columns = self._grid
        return _SYMBOLS * 16 * len(self.filters) ** 2 * rows * (columns // 2 + 1)

    @cached_property
    def _symbol(self) -> Array:
        """Of ``A A^T``, of shape ``(rows, columns/2 + 1, K0, K0)``: Hermitian, not negative."""
        taps = self.filters.shape[2:]
        padded = np.zeros((*self.correlations.shape[:2], *self._grid))
        rows, columns = (2 * k - 1 for k in taps)
        # Tap t multiplies exp(+i theta t): a correlation, not a convolution.
        padded[:, :, :rows, :columns] = self.correlations[:, :, ::-1, ::-1]
        turned = np.roll(padded, [1 - k for k in taps], axis=(2, 3))
        symbol = np.moveaxis(rfft2(turned, workers=transform_workers(turned.size)), (0, 1), (2, 3))
        return np.asarray((symbol + symbol.conj().swapaxes(-1, -2)) / 2)

    @cached_property
    def gain(self) -> float:
        """An upper bound of the largest singular value of ``A A^T``.

        Its symbol is a trigonometric polynomial of degree ``k - 1`` in each axis; on N points one finds at least
        ``cos(pi (k - 1)/N)`` of its largest value.
        """
        values = np.linalg.eigvalsh(self._symbol) if len(self.filters) > 1 else self._symbol.real
        shares = (math.cos(math.pi * (k - 1) / n) for k, n in zip(self.filters.shape[2:], self._grid, strict=True))
        return float(values.max()) / math.prod(shares)

    def preconditioner(self, rho: float) -> Preconditioner:
        """Close to ``(A A^T + rho)^-1``: its inverse on a domain that is zero beyond the ends.

        Positive definite: of a rho that is lost in the rounding of the symbol, the rounding is taken.
        """
        rounding = 8 * float(np.finfo(self.filters.dtype).eps) * float(np.abs(self._symbol).max())
        damped = self._symbol.copy()
        diagonal = np.arange(damped.shape[-1])
        damped[..., diagonal, diagonal] += max(rho, rounding)
        inverse = np.linalg.inv(damped) if damped.shape[-1] > 1 else 1 / damped.real
        return Preconditioner(inverse, self.dimsd, self._grid)


class Preconditioner:
    """A circular inverse on a larger domain; symmetric and positive definite."""

    def __init__(self, inverse: Array, dimsd: tuple[int, ...], grid: tuple[int, int]) -> None:
        self._inverse, self._dimsd, self._grid = inverse, dimsd, grid

    def __call__(self, columns: Array) -> Array:
        below, rows, width = self._dimsd
        images = columns.T.reshape(-1, *self._dimsd)
        threads = transform_workers(len(images) * below * math.prod(self._grid))
        waves = rfft2(images, self._grid, workers=threads)
        if below == 1:
            waves *= self._inverse[..., 0, 0]
        else:
            waves = np.einsum("ijcd,ndij->ncij", self._inverse, waves, optimize=True)
        back = irfft2(waves, self._grid, workers=threads)[:, :, :rows, :width]
        return np.asarray(back.reshape(len(images), -1).T, dtype=columns.dtype)
