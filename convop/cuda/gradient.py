"""The gradient of a kernel on the GPU: products of the input and of residuals, summed tap by tap."""

from __future__ import annotations

import math

import numpy as np

from ..arrays.backend import Array, gpu
from ..geometry.spec import ConvSpec
from .tables import INT_MAX, KernelOptions, compiled_kernel

_THREADS = 128
# Threads that fill a large GPU, and outputs that a thread sums at least.
_MANY_THREADS, _CHUNK = 2**18, 256
_MOST_CHUNKS = 65535


class Gradient:
    """The gradient of the kernel of a spec.

    Parameters
    ----------
    spec : ConvSpec
        Geometry.
    """

    def __init__(self, spec: ConvSpec) -> None:
        self._spec = spec
        self._extensions = [axis.extension() for axis in spec.axes]

    def of(self, x: Array, residuals: Array) -> Array:
        """The gradients for one input and columns of residuals.

        Parameters
        ----------
        x : ndarray of shape ``spec.input_shape``
            The input, on the GPU.
        residuals : ndarray of shape ``(columns, outputs)``
            Contiguous, of the dtype of `x`.

        Returns
        -------
        ndarray of shape ``(columns, elements of the kernel)``
        """
        spec, cupy, columns = self._spec, gpu(), len(residuals)
        elements, outputs = math.prod(spec.kernel_shape), math.prod(axis.outputs for axis in spec.axes)
        size = columns * elements
        if size == 0:
            empty: Array = cupy.zeros((columns, elements), x.dtype)
            return empty
        wanted = max(1, min(_MANY_THREADS // size, math.ceil(outputs / _CHUNK), _MOST_CHUNKS))
        chunk = math.ceil(outputs / wanted)
        chunks = math.ceil(outputs / chunk)
        largest = max(x.size, residuals.size, chunks * size, *(axis.positions + abs(axis.lo) for axis in spec.axes))
        options = KernelOptions(x.dtype.char, axes=spec.ndim, wide=largest + _THREADS * _MOST_CHUNKS > INT_MAX)
        integers = (self._info(outputs, columns, chunk), np.concatenate(self._extensions))
        info, extensions = (cupy.asarray(i.astype(options.integer)) for i in integers)
        partial = cupy.empty((chunks, columns, elements), x.dtype)
        grid = (math.ceil(size / _THREADS), chunks)
        compiled_kernel(options, "gradient")(grid, (_THREADS,), (x, residuals, partial, info, extensions))
        summed: Array = partial.sum(axis=0)
        return summed

    def _info(self, outputs: int, columns: int, chunk: int) -> Array:
        """The integers that describe the sums, in the order of the enumerations in `gather.cu`."""
        spec = self._spec
        info = [spec.groups, spec.c_in // spec.groups, spec.c_out // spec.groups]
        info += [math.prod(axis.inputs for axis in spec.axes), outputs, math.prod(axis.taps for axis in spec.axes)]
        info += [columns, chunk]
        at = 0
        for a, axis in enumerate(spec.axes):
            pitch = math.prod(inner.inputs for inner in spec.axes[a + 1 :])
            info += [axis.outputs, axis.taps, pitch, axis.stride, axis.dilation, at]
            at += axis.positions
        return np.array(info)
