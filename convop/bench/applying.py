"""Engines and peers side by side: workloads, dtypes and directions; equal results first, then times."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from ..arrays.backend import Array
from ..engines import make
from ..engines.choose import suitable
from ..engines.costs import predicted
from .machine import Machine
from .peers import elements, peers
from .timing import medians, times_in_turn
from .workloads import QUICK, WORKLOADS, Problem, Workload

__all__ = ["ApplyLine", "apply_lines", "compared"]

# What two right results may differ by, over the largest of them.
_TOLERANCE = {"float64": 1e-10, "float32": 2e-4}
# Engines that would take so many times as long as the best are left out; means that take this long get few repeats.
_HOPELESS = 30.0
_SLOW_SECONDS = 0.5


@dataclass(frozen=True)
class ApplyLine:
    """One workload in one dtype and direction.

    Attributes
    ----------
    workload, dtype, direction : str
        What was computed.
    engine : str
        What ``engine="auto"`` chose.
    seconds : dict of float
        Median seconds of ``"auto"`` and of every engine.
    peers : dict of float
        Median seconds of every peer.
    ratios : dict of float
        For every peer, the median over repeats of its time over that of ``"auto"``.
    share : float
        Least time that this machine could take, over the time of ``"auto"``.
    gemm_share : float
        Rate of multiplications over that of a large matrix product.
    """

    workload: str
    dtype: str
    direction: str
    engine: str
    seconds: dict[str, float]
    peers: dict[str, float]
    ratios: dict[str, float]
    share: float
    gemm_share: float

    @property
    def fastest_peer(self) -> str | None:
        return min(self.peers, key=self.peers.__getitem__, default=None)

    @property
    def ratio(self) -> float:
        """Time of the fastest peer over that of ``"auto"``: above 1, ``"auto"`` is ahead."""
        return min(self.ratios.values(), default=math.nan)

    @property
    def over_best(self) -> float:
        """Time of ``"auto"`` over that of the best engine."""
        return self.seconds["auto"] / min(self.seconds.values())

    def as_dict(self) -> dict[str, Any]:
        """The measurement as plain values, for JSON."""
        return {**asdict(self), "fastest_peer": self.fastest_peer, "ratio": self.ratio}


def apply_lines(
    machine: Machine,
    *,
    quick: bool = False,
    repeats: int = 7,
    workloads: Sequence[Workload] | None = None,
    dtypes: Sequence[str] = ("float64", "float32"),
) -> Iterator[ApplyLine]:
    """Measure workloads with all engines and all installed peers.

    Parameters
    ----------
    machine : Machine
        Rates that the times are compared with.
    quick : bool
        Two small workloads, to see that it runs.
    repeats : int
        Rounds; fewer where something takes long.
    workloads : sequence of Workload, optional
        Others than the usual ones.
    dtypes : sequence of str
        Of kernel and input.

    Yields
    ------
    ApplyLine

    Raises
    ------
    AssertionError
        If one of them computes something else.
    """
    for workload in workloads or (QUICK if quick else WORKLOADS):
        for dtype in dtypes:
            problem = Problem(workload, np.dtype(dtype))
            yield from _lines(problem, machine, repeats)


def _lines(problem: Problem, machine: Machine, repeats: int) -> Iterator[ApplyLine]:
    spec, x, y = problem.spec, problem.x.ravel(), problem.y.ravel()
    engines = {name: make(name, spec, problem.kernel) for name in ("auto", *_engines(problem))}
    others = peers(problem)
    multiplied = spec.c_out * (spec.c_in // spec.groups) * math.prod(a.taps * a.outputs for a in spec.axes)
    for direction, (side, given) in {"forward": (0, x), "adjoint": (1, y)}.items():
        ours: dict[str, Callable[[], Any]] = {
            name: partial(engine.adjoint if side else engine.forward, given) for name, engine in engines.items()
        }
        theirs = {name: pair[side] for name, pair in others.items()}
        functions = ours | {name: f for name, f in theirs.items() if f is not None}
        slow = compared(problem, functions)
        times = times_in_turn({n: f for n, f in functions.items() if n not in slow}, repeats)
        # What takes long is not run again and again beside what does not: its one time is compared.
        times |= {name: [seconds] * repeats for name, seconds in slow.items()}
        middle = medians(times)
        ratios = {
            name: statistics.median(b / a for a, b in zip(times["auto"], times[name], strict=True))
            for name in theirs
            if name in times
        }
        nbytes = sum(spec.shape) * problem.dtype.itemsize
        least = machine.least_seconds(multiplied, nbytes, problem.dtype.itemsize)
        rate = machine.gemm64 if problem.dtype.itemsize == 8 else machine.gemm32
        yield ApplyLine(
            workload=problem.workload.name,
            dtype=problem.dtype.name,
            direction=direction,
            engine=engines["auto"].name,
            seconds={name: middle[name] for name in ours},
            peers={name: middle[name] for name in theirs if name in middle},
            ratios=ratios,
            share=least / middle["auto"],
            gemm_share=multiplied / middle["auto"] / rate,
        )


def _engines(problem: Problem) -> list[str]:
    """The engines that are worth measuring."""
    seconds = {n: predicted(n, problem.spec, problem.dtype) for n in suitable(problem.spec, problem.dtype)}
    best = min(seconds.values())
    return [name for name, s in seconds.items() if s <= _HOPELESS * best]


def compared(problem: Problem, functions: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Compare all results; returns the seconds of what takes long."""
    slow: dict[str, float] = {}
    reference: Array | None = None
    for name, function in functions.items():
        start = time.perf_counter()
        result = elements(function())
        seconds = time.perf_counter() - start
        if seconds > _SLOW_SECONDS and name != "auto":
            start = time.perf_counter()
            function()  # not the first time: nothing is compiled or planned any more
            seconds = time.perf_counter() - start
            if seconds > _SLOW_SECONDS:
                slow[name] = seconds
        if reference is None:
            reference = result
        error = float(np.abs(result - reference).max() / np.abs(reference).max())
        if not error <= _TOLERANCE[problem.dtype.name]:
            raise AssertionError(f"{problem.workload.name}, {problem.dtype.name}: {name} differs by {error:.1e}")
    return slow
