"""Convolutions by the real Fourier transforms of ducc0, with the kernel's transform computed beforehand."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ...arrays.backend import Array
from ...geometry.axis import Axis
from ...threads.sizes import thread_count
from ..workloads import Problem
from .support import UNSUPPORTED, ForwardAdjoint, is_installed


def ducc_fft(problem: Problem) -> ForwardAdjoint:
    """Prepare transforms of one channel: of the extended input with zeros, of the input itself with a circular boundary.

    With tap t of the kernel at element ``t*dilation - lo``, modulo the length of the transform, element ``stride*o`` of the
    circular correlation is output o. The adjoint multiplies by the conjugate of the forward's factor.
    """
    spec = problem.spec
    if not problem.workload.is_single_channel or not is_installed("ducc0"):
        return UNSUPPORTED
    if spec.padding_mode == "zeros":
        lengths = [_transform_length(axis, is_last=axis is spec.axes[-1]) for axis in spec.axes]
    elif spec.padding_mode == "circular" and all((a.outputs - 1) * a.stride < a.inputs for a in spec.axes):
        lengths = [axis.inputs for axis in spec.axes]
    else:
        return UNSUPPORTED
    import ducc0

    threads = thread_count()
    forward_transform = partial(ducc0.fft.r2c, nthreads=threads)
    inverse_transform = partial(ducc0.fft.c2r, lastsize=lengths[-1], forward=False, inorm=2, nthreads=threads)
    factor = np.conj(forward_transform(_placed_kernel(problem, lengths)))
    conjugate = factor.conj()
    inputs = tuple(slice(axis.inputs) for axis in spec.axes)
    outputs = tuple(slice(0, (axis.outputs - 1) * axis.stride + 1, axis.stride) for axis in spec.axes)
    extended = np.zeros(lengths, problem.dtype), np.zeros(lengths, problem.dtype)

    def apply(x: Array, read: tuple[slice, ...], multiplier: Array, written: tuple[slice, ...], buffer: Array) -> Any:
        if x.shape != buffer.shape:
            buffer[read] = x
            x = buffer
        transformed = forward_transform(x)
        transformed *= multiplier
        return inverse_transform(transformed)[written]

    return (
        partial(apply, problem.x, inputs, factor, outputs, extended[0]),
        partial(apply, problem.y, outputs, conjugate, inputs, extended[1]),
    )


def _transform_length(axis: Axis, *, is_last: bool) -> int:
    """Return a length of fast transforms that is large enough for no output to read the input's other end."""
    import ducc0

    least = max(axis.inputs + max(axis.lo, axis.hi, 0), (axis.outputs - 1) * axis.stride + 1)
    length: int = ducc0.fft.good_size(least, is_last)
    return length


def _placed_kernel(problem: Problem, lengths: list[int]) -> Array:
    """Return the kernel with tap t at element ``t*dilation - lo``, modulo the lengths; taps that meet are added."""
    placed = np.zeros(lengths, problem.dtype)
    positions = [
        (np.arange(axis.taps) * axis.dilation - axis.lo) % length
        for axis, length in zip(problem.spec.axes, lengths, strict=True)
    ]
    np.add.at(placed, np.ix_(*positions), problem.kernel)
    return placed
