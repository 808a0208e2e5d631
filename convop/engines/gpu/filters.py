"""A convolution as a linear map of its kernel, on the GPU: the input is fixed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...arrays.backend import Array, namespace
from ...cuda.gradient import Gradient
from ...geometry.spec import ConvSpec
from ..cpu.components import as_columns
from ..protocol import Engine


class GpuFilter:
    """Forward by an engine made for each kernel; adjoint by products of the input and residuals.

    Parameters
    ----------
    spec : ConvSpec
        Geometry.
    data : ndarray of shape ``spec.input_shape``
        The input, on the GPU.
    name : str
        Name of the engine.
    engine : callable
        Makes the engine from a spec and a kernel.
    """

    def __init__(self, spec: ConvSpec, data: Array, name: str, engine: Callable[[ConvSpec, Array], Engine]) -> None:
        self._spec, self._data, self._make = spec, data, engine
        self.name = name
        self._gradient = Gradient(spec)
        self._engine: Engine | None = None

    def forward(self, k: Array) -> Array:
        """The convolutions of the input with one kernel or columns of kernels."""
        xp, dtype = namespace(k), np.result_type(k.dtype, self._data.dtype)
        x = self._data.reshape(-1).astype(dtype, copy=False)
        results: Array = xp.empty((self._spec.shape[0], *k.shape[1:]), dtype)
        for column in np.ndindex(k.shape[1:]):
            kernel = xp.ascontiguousarray(k[(slice(None), *column)], dtype=dtype).reshape(self._spec.kernel_shape)
            # Threads that arrive together may both make an engine; the two are equal, and one is kept.
            latest = self._engine
            engine = self._make(self._spec, kernel) if latest is None else latest.with_kernel(kernel)
            self._engine = engine
            results[(slice(None), *column)] = engine.forward(x)
        return results

    def adjoint(self, y: Array) -> Array:
        """The gradients of the kernel for one residual or columns of residuals."""
        dtype = np.result_type(y.dtype, self._data.dtype)
        gradients = self._gradient.of(self._data.astype(dtype, copy=False), as_columns(y, dtype))
        return gradients[0] if y.ndim == 1 else gradients.T
