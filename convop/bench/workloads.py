"""Workloads of the benchmark: blurs, strided convolutions, signals, volumes, and layers of neural networks."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property, reduce
from typing import Any

import numpy as np

from ..arrays.backend import Array
from ..geometry.spec import ConvSpec


@dataclass(frozen=True)
class Workload:
    """A convolution to measure.

    Attributes
    ----------
    name : str
        Label of the workload: kind, size, kernel (k) and parameters.
    input_shape, kernel_shape : tuple of int
        As in `ConvSpec`.
    parameters : dict
        The other parameters of `ConvSpec`.
    is_separable : bool
        Whether the kernel, of one channel, is an outer product of one vector for each axis.
    """

    name: str
    input_shape: tuple[int, ...]
    kernel_shape: tuple[int, ...]
    parameters: dict[str, Any] = field(default_factory=dict)
    is_separable: bool = False

    @property
    def spec(self) -> ConvSpec:
        return ConvSpec(self.input_shape, self.kernel_shape, **self.parameters)

    @property
    def is_single_channel(self) -> bool:
        return len(self.kernel_shape) == len(self.input_shape)


@dataclass(frozen=True)
class Problem:
    """A workload with random data of one dtype: a kernel, an input and an output, from fixed seeds."""

    workload: Workload
    dtype: np.dtype[Any]

    @cached_property
    def spec(self) -> ConvSpec:
        return self.workload.spec

    def _random(self, seed: int, shape: tuple[int, ...]) -> Array:
        return np.random.default_rng(seed).standard_normal(shape).astype(self.dtype)

    @property
    def multiplications(self) -> int:
        """Multiply-adds of a direct evaluation: ``c_out * c_in/groups * prod(taps * outputs)``."""
        spec = self.spec
        return spec.c_out * (spec.c_in // spec.groups) * math.prod(a.taps * a.outputs for a in spec.axes)

    @property
    def vector_nbytes(self) -> int:
        """Bytes of the input and the output."""
        return sum(self.spec.shape) * self.dtype.itemsize

    @cached_property
    def kernel(self) -> Array:
        if not self.workload.is_separable:
            return self._random(0, self.spec.kernel_shape)
        product: Array = reduce(np.multiply.outer, (self._random(0, (taps,)) for taps in self.spec.kernel_shape))
        return product

    @cached_property
    def x(self) -> Array:
        return self._random(1, self.spec.input_shape)

    @cached_property
    def y(self) -> Array:
        return self._random(2, self.spec.output_shape)


_SAME = {"padding": "same"}
WORKLOADS = (
    Workload("blur 512^2 k7", (512, 512), (7, 7), _SAME),
    Workload("blur 512^2 k7 circular", (512, 512), (7, 7), {**_SAME, "padding_mode": "circular"}),
    Workload("blur 512^2 k7 reflect", (512, 512), (7, 7), {**_SAME, "padding_mode": "reflect"}),
    Workload("blur 1024^2 k15", (1024, 1024), (15, 15), _SAME),
    Workload("blur 1024^2 k15 separable", (1024, 1024), (15, 15), _SAME, is_separable=True),
    Workload("blur 1024^2 k31", (1024, 1024), (31, 31), _SAME),
    Workload("blur 2048^2 k3", (2048, 2048), (3, 3), _SAME),
    Workload("blur 1024^2 k8 stride 4", (1024, 1024), (8, 8), {"stride": 4, "padding": 2}),
    Workload("signal 2^20 k64", (2**20,), (64,), _SAME),
    Workload("volume 64^3 k5", (64, 64, 64), (5, 5, 5), _SAME),
    Workload("64->64 56^2 k3", (64, 56, 56), (64, 64, 3, 3), {"padding": 1}),
    Workload("3->64 224^2 k7 stride 2", (3, 224, 224), (64, 3, 7, 7), {"stride": 2, "padding": 3}),
    Workload("256->256 28^2 k3", (256, 28, 28), (256, 256, 3, 3), {"padding": 1}),
    Workload("256->64 28^2 1x1", (256, 28, 28), (64, 256, 1, 1)),
    Workload("16->16 128^2 k3 dilation 2", (16, 128, 128), (16, 16, 3, 3), {"padding": 2, "dilation": 2}),
    Workload("depthwise 64 112^2 k3", (64, 112, 112), (64, 1, 3, 3), {"padding": 1, "groups": 64}),
)
QUICK = (
    Workload("blur 96^2 k5", (96, 96), (5, 5), _SAME),
    Workload("3->8 40^2 k3 stride 2", (3, 40, 40), (8, 3, 3, 3), {"stride": 2, "padding": 1}),
)
