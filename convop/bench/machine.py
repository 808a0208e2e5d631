"""What the machine can do at most: multiplications by its BLAS, and memory that is copied."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from ..threads.blocks import run_blocks
from ..threads.sizes import thread_count

__all__ = ["Machine"]


@dataclass(frozen=True)
class Machine:
    """Rates of this machine, the best of some repeats.

    Attributes
    ----------
    gemm64, gemm32 : float
        Multiplications with addition a second of a large matrix product, float64 and float32.
    bandwidth : float
        Bytes a second that a copy reads and writes.
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
    def measured(cls, *, quick: bool = False) -> Machine:
        """Measure.

        Parameters
        ----------
        quick : bool
            Small arrays, to see that it runs.

        Returns
        -------
        Machine
        """
        size = 256 if quick else 2048
        return cls(_gemm(size, "float64"), _gemm(size, "float32"), _copy(2**16 if quick else 2**25), thread_count())

    def least_seconds(self, multiplications: float, nbytes: float, itemsize: int) -> float:
        """What the work takes at least: the longer of its multiplications and its bytes."""
        return max(multiplications / (self.gemm64 if itemsize == 8 else self.gemm32), nbytes / self.bandwidth)


def _gemm(size: int, dtype: str) -> float:
    a = np.random.default_rng(0).standard_normal((size, size)).astype(dtype)
    product = np.empty_like(a)
    return size**3 / min(_seconds(partial(np.matmul, a, a, out=product)) for _ in range(5))


def _copy(elements: int) -> float:
    source, target = np.ones(elements), np.ones(elements)
    threads = thread_count()

    def block(start: int, stop: int) -> None:
        target[start:stop] = source[start:stop]

    copy = partial(run_blocks, block, elements, threads=threads, blocks=threads)
    return 2 * source.nbytes / min(_seconds(copy) for _ in range(5))


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
