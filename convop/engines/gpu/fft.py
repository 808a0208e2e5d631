"""The GPU's engine for large kernels: products of Fourier transforms of the whole extended input."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...arrays.backend import Array, gpu_module, namespace, require_gpu_memory
from ...geometry.folding import extend_axis, fold_axis
from ...geometry.spec import ConvSpec
from .direct import ColumnEngine

# Columns, groups and channels precede the spatial axes.
_FIRST_AXIS = 3


class FftEngine(ColumnEngine):
    """Fourier transforms along all axes, by cuFFT.

    The rounding error of every result is relative to the largest of them, and NaN or infinities spread over all.
    """

    name = "fft"

    def __init__(self, spec: ConvSpec, kernel: Array) -> None:
        super().__init__(spec, kernel)
        self._fft = gpu_module("fft")
        # Positions of the extended input that any output reads, and lengths that transform fast: correlations with
        # the kernel do not wrap around their ends.
        self._extended = tuple(axis.positions for axis in spec.axes)
        self._lengths = tuple(self._fft.next_fast_len(n) for n in self._extended)
        self._sources = [axis.extension() for axis in spec.axes]
        self._spectra: dict[str, Array] = {}

    def _spectrum(self, dtype: np.dtype[Any]) -> Array:
        """``sum_t K[t] exp(2 pi i f t d / L)``, (groups, channels out, channels in, *frequencies)."""
        spectrum = self._spectra.get(dtype.char)
        if spectrum is None:
            spec, kernel = self._spec, self._kernel.astype(dtype, copy=False)
            shape = (spec.groups, spec.c_out // spec.groups, spec.c_in // spec.groups)
            nbytes = 2 * kernel.itemsize * spec.c_out * shape[2] * int(np.prod(self._lengths))
            require_gpu_memory(nbytes, f"the transformed kernel of {spec} (engine 'fft')")
            dilated = namespace(kernel).zeros((*shape, *(axis.extent for axis in spec.axes)), dtype)
            taps: Any = (..., *(slice(None, None, axis.dilation) for axis in spec.axes))
            dilated[taps] = kernel.reshape(*shape, *(axis.taps for axis in spec.axes)).conj()
            spectrum = self._spectra[dtype.char] = self._transform(dilated).conj()
        return spectrum

    def _transform(self, planes: Array) -> Array:
        """Forward transform along the spatial axes: half of the spectrum for real planes."""
        transform = self._fft.fftn if planes.dtype.kind == "c" else self._fft.rfftn
        spectra: Array = transform(planes, s=self._lengths, axes=tuple(range(-len(self._lengths), 0)))
        return spectra

    def _inverse(self, spectra: Array, dtype: np.dtype[Any]) -> Array:
        """Inverse transform to planes of a dtype."""
        transform = self._fft.ifftn if dtype.kind == "c" else self._fft.irfftn
        planes: Array = transform(spectra, s=self._lengths, axes=tuple(range(-len(self._lengths), 0)))
        return planes

    def _columns(self, columns: Array, adjoint: bool) -> Array:
        spec, dtype = self._spec, columns.dtype
        xp, spectrum, batch = namespace(columns), self._spectrum(dtype), len(columns)
        outputs: Any = (..., *(slice(None, (a.outputs - 1) * a.stride + 1, a.stride) for a in spec.axes))
        if not adjoint:
            planes = columns.reshape(batch, spec.groups, -1, *(axis.inputs for axis in spec.axes))
            for a, source in enumerate(self._sources, start=_FIRST_AXIS):
                planes = extend_axis(planes, a, source, xp.asarray)
            products = xp.einsum("pgi...,goi...->pgo...", self._transform(planes), spectrum)
            results = self._inverse(products, dtype)[outputs]
        else:
            residuals = columns.reshape(batch, spec.groups, -1, *(axis.outputs for axis in spec.axes))
            upsampled = xp.zeros((*residuals.shape[:_FIRST_AXIS], *self._extended), dtype)
            upsampled[outputs] = residuals
            products = xp.einsum("pgo...,goi...->pgi...", self._transform(upsampled), spectrum.conj())
            extended: Any = (..., *(slice(None, n) for n in self._extended))
            results = self._inverse(products, dtype)[extended]
            for a, (source, axis) in enumerate(zip(self._sources, spec.axes, strict=True), start=_FIRST_AXIS):
                inputs = xp.zeros((*results.shape[:a], axis.inputs, *results.shape[a + 1 :]), dtype)
                results = fold_axis(results, inputs, a, source, xp.asarray)
        contiguous: Array = xp.ascontiguousarray(results).reshape(batch, -1)
        return contiguous
