"""The engine of the GPU for large kernels: products of transforms of the whole extended input."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...arrays.backend import Array, gpu_module, namespace, require_gpu_memory
from ...geometry.axis import Ints, extend
from ...geometry.folding import positions_of
from ...geometry.spec import ConvSpec
from .direct import DirectionEngine

__all__ = ["FftEngine"]


class FftEngine(DirectionEngine):
    """Transforms along all axes, by cuFFT.

    Results are as precise as the largest of them, and what is not finite spreads over all of them.
    """

    name = "fft"

    def __init__(self, spec: ConvSpec, kernel: Array) -> None:
        super().__init__(spec, kernel)
        self._fft = gpu_module("fft")
        # Positions of the extended input that any output reads, and lengths that transform fast: correlations with
        # the kernel do not reach round their ends.
        self._positions = [(axis.outputs - 1) * axis.stride + axis.extent for axis in spec.axes]
        self._lengths = tuple(self._fft.next_fast_len(n) for n in self._positions)
        self._sources = [
            extend(np.arange(n) - axis.lo, axis.inputs, axis.mode)
            for n, axis in zip(self._positions, spec.axes, strict=True)
        ]
        self._spectra: dict[str, Array] = {}

    def _spectrum(self, dtype: np.dtype[Any]) -> Array:
        """``sum_t K[t] exp(2 pi i f t d / L)``, (groups, channels out, channels in, *frequencies)."""
        spectrum = self._spectra.get(dtype.char)
        if spectrum is None:
            spec, kernel = self._spec, self._kernel.astype(dtype, copy=False)
            shape = (spec.groups, spec.c_out // spec.groups, spec.c_in // spec.groups)
            nbytes = 2 * kernel.itemsize * spec.c_out * shape[2] * int(np.prod(self._lengths))
            require_gpu_memory(nbytes, f"the transformed kernel of {spec} (engine 'fft')")
            spread = namespace(kernel).zeros((*shape, *(axis.extent for axis in spec.axes)), dtype)
            steps: Any = (..., *(slice(None, None, axis.dilation) for axis in spec.axes))
            spread[steps] = kernel.reshape(*shape, *(axis.taps for axis in spec.axes)).conj()
            spectrum = self._spectra[dtype.char] = self._there(spread).conj()
        return spectrum

    def _there(self, planes: Array) -> Array:
        transform = self._fft.fftn if planes.dtype.kind == "c" else self._fft.rfftn
        spectra: Array = transform(planes, s=self._lengths, axes=tuple(range(-len(self._lengths), 0)))
        return spectra

    def _back(self, spectra: Array, dtype: np.dtype[Any]) -> Array:
        transform = self._fft.ifftn if dtype.kind == "c" else self._fft.irfftn
        planes: Array = transform(spectra, s=self._lengths, axes=tuple(range(-len(self._lengths), 0)))
        return planes

    def _columns(self, columns: Array, adjoint: bool) -> Array:
        spec, dtype = self._spec, columns.dtype
        xp, spectrum = namespace(columns), self._spectrum(dtype)
        ndim, batch = spec.ndim, len(columns)
        first = 3  # columns, groups and channels come before the axes
        written: Any = (..., *(slice(None, (a.outputs - 1) * a.stride + 1, a.stride) for a in spec.axes))
        if not adjoint:
            planes = columns.reshape(batch, spec.groups, -1, *(axis.inputs for axis in spec.axes))
            for a, source in enumerate(self._sources):
                planes = _extended(planes, first + a, source)
            products = xp.einsum("pgi...,goi...->pgo...", self._there(planes), spectrum)
            results = self._back(products, dtype)[written]
        else:
            residuals = columns.reshape(batch, spec.groups, -1, *(axis.outputs for axis in spec.axes))
            spread = xp.zeros((*residuals.shape[:first], *self._positions), dtype)
            spread[written] = residuals
            products = xp.einsum("pgo...,goi...->pgi...", self._there(spread), spectrum.conj())
            read: Any = (..., *(slice(None, n) for n in self._positions))
            results = self._back(products, dtype)[read]
            for a in range(ndim):
                results = _folded(results, first + a, self._sources[a], spec.axes[a].inputs)
        contiguous: Array = xp.ascontiguousarray(results).reshape(batch, -1)
        return contiguous


def _extended(planes: Array, axis: int, source: Ints) -> Array:
    """The planes at the elements of an axis that a table names, zero where it names none."""
    xp = namespace(planes)
    taken: Array = planes.take(xp.asarray(np.maximum(source, 0)), axis=axis)
    if (source < 0).any():
        taken[(slice(None),) * axis + (xp.asarray(np.flatnonzero(source < 0)),)] = 0
    return taken


def _folded(planes: Array, axis: int, source: Ints, count: int) -> Array:
    """The transpose of `_extended`: sums over the positions that stand for each of `count` elements, in their order."""
    xp = namespace(planes)
    folded: Array = xp.zeros((*planes.shape[:axis], count, *planes.shape[axis + 1 :]), planes.dtype)
    for element, position in positions_of(source, count):
        place = (slice(None),) * axis + (xp.asarray(element),)
        folded[place] += planes.take(xp.asarray(position), axis=axis)
    return folded
