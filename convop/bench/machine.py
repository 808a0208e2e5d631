"""Limits of the machine, as in the roofline model: the rate of BLAS matrix products and the bandwidth of a copy."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from ..threads.blocks import run_blocks
from ..threads.sizes import thread_count
from .timing import time_call

_ROUNDS = 5


@dataclass(frozen=True)
class Machine:
    """Rates of this machine, each the best of several rounds.

    Attributes
    ----------
    gemm64, gemm32 : float
        Fused multiply-adds per second of a large matrix product, in float64 and float32.
    bandwidth : float
        Bytes per second that a copy reads and writes.
    threads : int
        Threads of the package's loops; 0 on a GPU.
    device : str
        Name of the GPU, or ``"CPU"``.
    """

    gemm64: float
    gemm32: float
    bandwidth: float
    threads: int
    device: str = "CPU"

    @classmethod
    def measure(cls, *, quick: bool = False) -> Machine:
        """Measure the rates of the CPU.

        Parameters
        ----------
        quick : bool
            Use small arrays, to check that everything runs.

        Returns
        -------
        Machine
        """
        size = 256 if quick else 2048
        elements = 2**16 if quick else 2**25
        return cls(_gemm_rate(size, "float64"), _gemm_rate(size, "float32"), _copy_rate(elements), thread_count())

    def gemm_rate(self, itemsize: int) -> float:
        """Return `gemm64` for elements of 8 bytes, `gemm32` for others."""
        return self.gemm64 if itemsize == 8 else self.gemm32

    def roofline_seconds(self, multiplications: float, nbytes: float, itemsize: int) -> float:
        """Return the lower bound of a computation's time: the longer of its arithmetic and its memory traffic."""
        return max(multiplications / self.gemm_rate(itemsize), nbytes / self.bandwidth)


def _gemm_rate(size: int, dtype: str) -> float:
    a = np.random.default_rng(0).standard_normal((size, size)).astype(dtype)
    product = np.empty_like(a)
    return size**3 / min(time_call(partial(np.matmul, a, a, out=product)) for _ in range(_ROUNDS))


def _copy_rate(elements: int) -> float:
    source, target = np.ones(elements), np.ones(elements)
    threads = thread_count()

    def copy_block(start: int, stop: int) -> None:
        target[start:stop] = source[start:stop]

    copy = partial(run_blocks, copy_block, elements, threads=threads, blocks=threads)
    return 2 * source.nbytes / min(time_call(copy) for _ in range(_ROUNDS))
