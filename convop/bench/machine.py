"""Limits of the machine, as in the roofline model: the peak rate of multiply-adds and the bandwidth of a copy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..engines.cpu.workspace import aligned
from ..threads.pool import awake_workers
from ..threads.sizes import thread_count
from ..threads.vectors import vector_unit
from .timing import time_call

_ROUNDS = 20
# Items of work for each thread, so that one that is interrupted does not keep the others waiting for long, and
# multiply-adds of each sum in an item: 0.05 ms. A round takes 6 ms, in which a thread that slept is soon awake.
_ITEMS, _MULTIPLY_ADDS = 128, 25_000
# Elements that a thread copies at a time: 4 MiB.
_COPIED = 2**19


@dataclass(frozen=True)
class Machine:
    """Rates of this machine, each the best of several rounds.

    Attributes
    ----------
    peak64, peak32 : float
        Operations per second in float64 and float32, of which a multiply-add is two: on a CPU of a loop that uses
        registers only, on a GPU of a large matrix product.
    bandwidth : float
        Bytes per second that a copy of large arrays reads and writes.
    threads : int
        Threads of the package's loops; 0 on a GPU.
    device : str
        Name of the GPU, or ``"CPU"``.
    """

    peak64: float
    peak32: float
    bandwidth: float
    threads: int
    device: str = "CPU"

    @classmethod
    def measure(cls, *, quick: bool = False) -> Machine:
        """Measure the rates of the CPU, with as many threads as the package's loops use.

        Parameters
        ----------
        quick : bool
            Use small arrays, to check that everything runs.

        Returns
        -------
        Machine
        """
        peak64, peak32 = (_peak(np.dtype(dtype)) for dtype in ("float64", "float32"))
        return cls(peak64, peak32, _copy_rate(2**20 if quick else 2**25), thread_count())

    def peak(self, itemsize: int) -> float:
        """Return `peak64` for elements of 8 bytes, `peak32` for others."""
        return self.peak64 if itemsize == 8 else self.peak32

    def roofline_seconds(self, multiplications: float, nbytes: float, itemsize: int) -> float:
        """Return the lower bound of a computation's time: the longer of its arithmetic and its memory traffic."""
        return max(2 * multiplications / self.peak(itemsize), nbytes / self.bandwidth)


def _peak(dtype: np.dtype[Any]) -> float:
    from .rate_loops import SUMS, multiply_adds

    operands = np.array([0.5, 1.0], dtype)
    totals = np.zeros(_ITEMS * thread_count(), dtype)
    lanes = vector_unit().bytes // dtype.itemsize
    operations = 2 * lanes * SUMS * _MULTIPLY_ADDS * len(totals)
    workers = partial(awake_workers, len(totals), operations)
    return operations / _least_seconds(lambda: multiply_adds(workers(), operands, _MULTIPLY_ADDS, totals))


def _copy_rate(elements: int) -> float:
    from .rate_loops import copy

    source, target = aligned(elements, np.dtype(float)), aligned(elements, np.dtype(float))
    source[:], target[:] = 1, 0
    workers = partial(awake_workers, -(-elements // _COPIED), elements)
    return 2 * source.nbytes / _least_seconds(lambda: copy(workers(), source, target, _COPIED))


def _least_seconds(function: Callable[[], object]) -> float:
    function()  # compiles the loop
    return min(time_call(function) for _ in range(_ROUNDS))
