"""Times of `tikhonov`: its default, with a preconditioner, and without, over problems of many sizes, kernels and boundaries."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from .. import kernels
from ..arrays.backend import Array
from ..geometry.axis import PADDING_MODES
from ..inverse.scaled_problem import Solution
from ..inverse.tikhonov import tikhonov
from ..operators.conv import Conv
from .timing import Comparison

_COUNT = 40
_SIZES, _QUICK_SIZES = (64, 128, 256, 512, 1024, 2048), (64, 80)
_DAMPS = (0.1, 0.01, 1e-3, 1e-4)  # of the gain
_NOISE = 0.01
# A way that takes so many times the time of another one is stopped; its time is then a lower bound.
_PATIENCE = 3.0
# Problems below this time are solved several times.
_SHORT, _REPEATS = 0.5, 5


def camera_shake(taps: int, *, rng: int = 3) -> Array:
    """Return the path of a shaken camera: a smooth random walk that fills a square of taps.

    Parameters
    ----------
    taps : int
        Size of the square.
    rng : int
        Seed.

    Returns
    -------
    ndarray of shape ``(taps, taps)``
        Of sum 1.
    """
    path = np.random.default_rng(rng).standard_normal((400, 2)).cumsum(axis=0).cumsum(axis=0)
    path -= path.min(axis=0)
    pixels = np.rint(path / path.max() * (taps - 1)).astype(int)
    kernel: Array = np.zeros((taps, taps))
    np.add.at(kernel, tuple(pixels.T), 1)
    kernel /= kernel.sum()
    return kernel


def disk(taps: int) -> Array:
    """Return the blur of a lens that is out of focus: a disk with a soft edge, of sum 1."""
    t = np.arange(taps) - taps // 2
    kernel: Array = np.clip(0.36 * taps + 0.5 - np.hypot(t[:, None], t), 0, 1)
    kernel /= kernel.sum()
    return kernel


def natural_image(shape: tuple[int, ...], *, rng: int = 0) -> Array:
    """Return noise with the spectrum of photographs, which falls as the inverse of the frequency; in the last two axes.

    Parameters
    ----------
    shape : tuple of int
        ``(*channels, rows, columns)``.
    rng : int
        Seed.

    Returns
    -------
    ndarray
        Of mean 0.5 and standard deviation 0.2.
    """
    rows, columns = np.fft.fftfreq(shape[-2]), np.fft.rfftfreq(shape[-1])
    frequency = np.hypot(rows[:, None], columns)
    frequency[0, 0] = math.inf
    noise = np.fft.rfft2(np.random.default_rng(rng).standard_normal(shape))
    image = np.fft.irfft2(noise / frequency, s=shape[-2:])
    scaled: Array = 0.5 + 0.2 * image / image.std()
    return scaled


def _kernels() -> dict[str, Array]:
    gaussian = kernels.gaussian(1.6)
    nearly = gaussian * (1 + 0.02 * np.random.default_rng(0).standard_normal(gaussian.shape))
    return {
        "Gaussian": gaussian,
        "shake 15^2": camera_shake(15),
        "disk 17^2": disk(17),
        "nearly symmetric": nearly / nearly.sum(),
    }


@dataclass(frozen=True)
class Problem:
    """A problem of the table.

    Attributes
    ----------
    name : str
        Size, kernel, boundary and damping.
    operator : Conv
        The blur.
    data : ndarray
        A blurred image with noise.
    damp : float
        The damping, in units of the operator.
    """

    name: str
    operator: Conv
    data: Array
    damp: float

    @classmethod
    def of(cls, name: str, operator: Conv, damp: float, gain: float = 1.0) -> Problem:
        """Returns the problem of a damping relative to the gain, which is 1 for blurs of sum 1."""
        clean = operator @ natural_image(operator.dims)
        data = clean + _NOISE * np.random.default_rng(1).standard_normal(clean.shape)
        return cls(f"{name}, damp {damp:g}", operator, data, damp * gain)


def problems(*, quick: bool = False) -> Iterator[Problem]:
    """Yield the 40 problems of the table: every size, kernel, boundary and damping, and some with channels.

    Parameters
    ----------
    quick : bool
        Yield four small ones.
    """
    sizes, count = (_QUICK_SIZES, 4) if quick else (_SIZES, _COUNT)
    named = _kernels()
    combinations = list(product(sizes, named, PADDING_MODES, _DAMPS))
    chosen = np.random.default_rng(0).permutation(len(combinations))[: count - 1 if quick else count - 4]
    for size, kernel, mode, damp in (combinations[i] for i in sorted(chosen)):
        operator = Conv(named[kernel], (size, size), padding="same", padding_mode=mode)
        yield Problem.of(f"{size}^2, {kernel}, {mode}", operator, damp)
    for damp in (0.01,) if quick else _DAMPS:
        operator = Conv(np.random.default_rng(0).standard_normal((4, 4, 3, 3)), (4, 64, 64), padding="same")
        yield Problem.of("4 to 4 channels 64^2", operator, damp, float(operator.norm()))


class _TooLong(Exception):
    """A solution takes longer than it may."""


def _timed(problem: Problem, precondition: Any, most: float) -> tuple[float, Solution | None]:
    """Returns the seconds of a solution, and the solution; None if it took longer than `most` seconds."""
    start = time.perf_counter()

    def check(_: Array) -> None:
        if time.perf_counter() - start > most:
            raise _TooLong

    try:
        solution = tikhonov(
            problem.operator, problem.data, problem.damp, precondition=precondition, callback=check, maxiter=20_000
        )
    except _TooLong:
        solution = None
    return time.perf_counter() - start, solution


def time_ways(problem: Problem, repeats: int) -> Mapping[Any, tuple[float, Solution | None]]:
    """Time a problem in three ways: ``"auto"``, True (with a preconditioner) and False (without).

    Parameters
    ----------
    problem : Problem
        The problem.
    repeats : int
        Rounds of short problems.

    Returns
    -------
    dict
        Median seconds, which are a lower bound where there is no solution, and the solution of each way.
    """
    ways: dict[Any, tuple[float, Solution | None]] = {}
    for way in ("auto", True, False):
        limit = _PATIENCE * min((seconds for seconds, solution in ways.values() if solution), default=math.inf)
        seconds, solution = _timed(problem, way, limit)
        if seconds < 20 * _SHORT:  # the first call may have compiled kernels
            seconds, solution = _timed(problem, way, limit)
        rounds = [seconds]
        while solution is not None and seconds < _SHORT and len(rounds) < min(repeats, _REPEATS):
            rounds.append(_timed(problem, way, math.inf)[0])
        ways[way] = statistics.median(rounds), solution
    return ways


def measure_solving(*, quick: bool = False, repeats: int = 7) -> Iterator[Comparison]:
    """Time the default of `tikhonov` against the faster of both ways, set-up included, and against conjugate gradients alone.

    Parameters
    ----------
    quick : bool
        Use four small problems, to check that everything runs.
    repeats : int
        Number of rounds of short problems.

    Yields
    ------
    Comparison

    Raises
    ------
    AssertionError
        If the default does not converge where another way does.
    """
    for problem in problems(quick=quick):
        ways = time_ways(problem, repeats)
        seconds, solution = ways["auto"]
        others = {way: ways[way][0] for way in (True, False) if _has_converged(ways[way][1])}
        if others and not _has_converged(solution):
            raise AssertionError(f"{problem.name}: the default does not converge, but {others} do")
        iterations = solution.iterations if solution else 0
        name = f"tikhonov {problem.name}: {iterations} iterations"
        best = min(others.values(), default=seconds)
        yield Comparison(name, "faster of with and without preconditioner", seconds, best, seconds / best, 1.1)
        plain = ways[False][0]
        yield Comparison(name, "conjugate gradients alone, at least", seconds, plain, seconds / plain, 1.1)


def _has_converged(solution: Solution | None) -> bool:
    return solution is not None and solution.converged
