"""Products of an input and of residuals, tap by tap: the gradient of a kernel."""

from __future__ import annotations

import math

import numpy as np

from ..arrays.backend import Array, gpu
from ..geometry.axis import extend
from ..geometry.spec import ConvSpec
from .tables import Kernels, kernel_of

__all__ = ["Gradient"]

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
        self._positions = [
            extend(np.arange((a.outputs - 1) * a.stride + a.extent) - a.lo, a.inputs, a.mode) for a in spec.axes
        ]

    def of(self, x: Array, residuals: Array) -> Array:
        """The gradients for some residuals.

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
        elements, outputs = math.prod(spec.kernel_shape), math.prod(a.outputs for a in spec.axes)
        size = columns * elements
        if size == 0:
            nothing: Array = cupy.zeros((columns, elements), x.dtype)
            return nothing
        wanted = max(1, min(_MANY_THREADS // size, math.ceil(outputs / _CHUNK), _MOST_CHUNKS))
        chunk = math.ceil(outputs / wanted)
        chunks = math.ceil(outputs / chunk)
        largest = max(
            x.size,
            residuals.size,
            chunks * size,
            *(len(p) + abs(a.lo) for p, a in zip(self._positions, spec.axes, strict=True)),
        )
        wide = largest + _THREADS * _MOST_CHUNKS > 2**31 - 1
        real = "float" if x.dtype.char in "fF" else "double"
        kernels = Kernels(real, x.dtype.kind == "c", wide, "int", spec.ndim, 1, 0, 1, 1)
        info = [
            spec.groups, spec.c_in // spec.groups, spec.c_out // spec.groups, math.prod(a.inputs for a in spec.axes),
            outputs, math.prod(a.taps for a in spec.axes), columns, chunk,
        ]  # fmt: skip
        at = 0
        for a, axis in enumerate(spec.axes):
            pitch = math.prod(behind.inputs for behind in spec.axes[a + 1 :])
            info += [axis.outputs, axis.taps, pitch, axis.stride, axis.dilation, at]
            at += len(self._positions[a])
        integers = (np.array(info), np.concatenate(self._positions))
        partial = cupy.empty((chunks, columns, elements), x.dtype)
        kernel_of(kernels, "gradient")(
            (math.ceil(size / _THREADS), chunks), (_THREADS,),
            (x, residuals, partial, *(cupy.asarray(i.astype(kernels.integer)) for i in integers)),
        )  # fmt: skip
        summed: Array = partial.sum(axis=0)
        return summed
