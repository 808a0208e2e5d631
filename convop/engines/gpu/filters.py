"""The map as a function of the kernel, on the GPU."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...arrays.backend import Array, namespace
from ...cuda.gradient import Gradient
from ...geometry.spec import ConvSpec
from ..cpu.planes import as_columns
from ..protocol import Engine

__all__ = ["GpuFilter"]


class GpuFilter:
    """Forward by an engine, made for each kernel that it is applied to; products of residuals and input for the adjoint.

    Parameters
    ----------
    spec : ConvSpec
        Geometry.
    data : ndarray of shape ``spec.input_shape``
        The input, on the GPU.
    name : str
        Of the engine.
    engine : callable
        Makes it of a spec and a kernel.
    """

    def __init__(self, spec: ConvSpec, data: Array, name: str, engine: Callable[[ConvSpec, Array], Engine]) -> None:
        self._spec, self._data, self._engine = spec, data, engine
        self.name = name
        self._gradient = Gradient(spec)
        self._ready: Engine | None = None

    def forward(self, k: Array) -> Array:
        """The convolutions of the input with one kernel or columns of them."""
        xp, dtype = namespace(k), np.result_type(k.dtype, self._data.dtype)
        x = self._data.reshape(-1).astype(dtype, copy=False)
        results: Array = xp.empty((self._spec.shape[0], *k.shape[1:]), dtype)
        for column in np.ndindex(k.shape[1:]):
            kernel = xp.ascontiguousarray(k[(slice(None), *column)], dtype=dtype).reshape(self._spec.kernel_shape)
            # Threads that arrive together may both make one; either is right, and one is kept.
            ready = self._ready
            engine = self._engine(self._spec, kernel) if ready is None else ready.with_kernel(kernel)
            self._ready = engine
            results[(slice(None), *column)] = engine.forward(x)
        return results

    def adjoint(self, y: Array) -> Array:
        """The gradients of the kernel for one residual or columns of them."""
        dtype = np.result_type(y.dtype, self._data.dtype)
        gradients = self._gradient.of(self._data.astype(dtype, copy=False), as_columns(y, dtype))
        return gradients[0] if y.ndim == 1 else gradients.T
