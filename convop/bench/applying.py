"""Times of engines and peers: workloads, dtypes and directions. Results are compared before anything is timed."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from ..arrays.backend import Array
from ..engines import Engine, make
from ..engines.choose import candidates
from ..engines.costs import predicted
from .machine import Machine
from .peers import cpu_peers, to_flat_numpy
from .timing import interleaved_times, medians, time_call
from .workloads import QUICK, WORKLOADS, Problem, Workload

# Largest difference of two correct results, relative to the largest element.
_TOLERANCE = {"float64": 1e-10, "float32": 2e-4}
# Engines whose predicted time exceeds the best by this factor are not measured.
_MAX_SLOWDOWN = 30.0
# Functions that take longer are timed once, and not in every round.
_SLOW_SECONDS = 0.5


@dataclass(frozen=True)
class WorkloadTimes:
    """Times of one workload in one dtype and direction.

    Attributes
    ----------
    workload, dtype, direction : str
        The computation; the direction is "forward" or "adjoint".
    engine : str
        The engine that ``engine="auto"`` chose.
    seconds : dict of float
        Median seconds of ``"auto"`` and of every engine.
    peers : dict of float
        Median seconds of every peer.
    ratios : dict of float
        For every peer, the median over rounds of its time over the time of ``"auto"``.
    share : float
        Lower bound of the time of a direct evaluation on this machine, over the time of ``"auto"``. It can exceed 1: the
        engines ``fft`` and ``separable`` need fewer operations, and arrays that stay in the caches need not be copied
        from and to memory.
    best_over_auto : float
        Time of the fastest engine over the time of ``"auto"``, which is timed for itself: about 1 if it is the fastest.
    """

    workload: str
    dtype: str
    direction: str
    engine: str
    seconds: dict[str, float]
    peers: dict[str, float]
    ratios: dict[str, float]
    share: float
    best_over_auto: float

    @classmethod
    def of_times(
        cls,
        problem: Problem,
        direction: str,
        times: dict[str, list[float]],
        engines: Mapping[str, Engine],
        least_seconds: float,
    ) -> WorkloadTimes:
        """Summarise the times of all rounds, in seconds.

        Parameters
        ----------
        problem : Problem
            The workload and its dtype.
        direction : {"forward", "adjoint"}
            The direction.
        times : dict of list of float
            Seconds of each round, by engine and peer.
        engines : mapping of str to Engine
            The engines, among them ``"auto"``; the other keys of `times` are peers.
        least_seconds : float
            Lower bound of the time on this machine.

        Returns
        -------
        WorkloadTimes
        """
        median, auto = medians(times), times["auto"]
        peers = {name: seconds for name, seconds in times.items() if name not in engines}
        return cls(
            workload=problem.workload.name,
            dtype=problem.dtype.name,
            direction=direction,
            engine=engines["auto"].name,
            seconds={name: median[name] for name in engines},
            peers={name: median[name] for name in peers},
            ratios={n: statistics.median(b / a for a, b in zip(auto, t, strict=True)) for n, t in peers.items()},
            share=least_seconds / median["auto"],
            best_over_auto=min(median[name] for name in engines if name != "auto") / median["auto"],
        )

    @property
    def fastest_peer(self) -> str | None:
        return min(self.peers, key=self.peers.__getitem__, default=None)

    @property
    def ratio(self) -> float:
        """Time of the fastest peer over the time of ``"auto"``: above 1, ``"auto"`` is faster."""
        return min(self.ratios.values(), default=math.nan)

    def as_dict(self) -> dict[str, Any]:
        """Return the attributes, the fastest peer and its ratio as plain values, for JSON."""
        return {**asdict(self), "fastest_peer": self.fastest_peer, "ratio": self.ratio}


def measure_workloads(
    machine: Machine,
    *,
    quick: bool = False,
    repeats: int = 7,
    workloads: Sequence[Workload] | None = None,
    dtypes: Sequence[str] = ("float64", "float32"),
) -> Iterator[WorkloadTimes]:
    """Time all engines and all installed peers.

    Parameters
    ----------
    machine : Machine
        Rates of the machine, from which the lower bounds of the times follow.
    quick : bool
        Use two small workloads, to check that everything runs.
    repeats : int
        Number of rounds; one for functions that take longer than 0.5 seconds.
    workloads : sequence of Workload, optional
        Workloads other than `WORKLOADS`.
    dtypes : sequence of str
        Dtypes of kernel and input.

    Yields
    ------
    WorkloadTimes

    Raises
    ------
    AssertionError
        If an engine or a peer computes a different result.
    """
    for workload in workloads or (QUICK if quick else WORKLOADS):
        for dtype in dtypes:
            yield from _measure_problem(Problem(workload, np.dtype(dtype)), machine, repeats)


def _measure_problem(problem: Problem, machine: Machine, repeats: int) -> Iterator[WorkloadTimes]:
    x, y = problem.x.ravel(), problem.y.ravel()
    auto = make("auto", problem.spec, problem.kernel)
    # The engine of separable kernels is not among those whose time the geometry alone predicts.
    names = dict.fromkeys((*_engines_worth_timing(problem), auto.name))
    engines = {"auto": auto, **{name: make(name, problem.spec, problem.kernel) for name in names}}
    pairs = cpu_peers(problem)
    least = machine.roofline_seconds(problem.multiplications, problem.vector_nbytes, problem.dtype.itemsize)
    for side, direction in enumerate(("forward", "adjoint")):
        functions: dict[str, Callable[[], Any]] = {
            name: partial(engine.adjoint, y) if side else partial(engine.forward, x) for name, engine in engines.items()
        }
        functions |= {name: function for name, pair in pairs.items() if (function := pair[side]) is not None}
        slow = check_agreement(problem, functions)
        times = interleaved_times({n: f for n, f in functions.items() if n not in slow}, repeats)
        # The single time of a slow function stands for all rounds.
        times = {name: [slow[name]] * repeats if name in slow else times[name] for name in functions}
        yield WorkloadTimes.of_times(problem, direction, times, engines, least)


def _engines_worth_timing(problem: Problem) -> list[str]:
    seconds = {n: predicted(n, problem.spec, problem.dtype) for n in candidates(problem.spec, problem.dtype)}
    best = min(seconds.values())
    return [name for name, s in seconds.items() if s <= _MAX_SLOWDOWN * best]


def check_agreement(problem: Problem, functions: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Check that all functions compute the same result.

    Parameters
    ----------
    problem : Problem
        The workload and its dtype.
    functions : dict of callable
        By name; the first result is the reference.

    Returns
    -------
    dict of float
        Seconds of the functions, other than ``"auto"``, that take longer than 0.5 seconds.

    Raises
    ------
    AssertionError
        If a result differs from the reference; the message names the function and the relative error.
    """
    slow: dict[str, float] = {}
    reference: Array | None = None
    for name, function in functions.items():
        start = time.perf_counter()
        result = to_flat_numpy(function())
        seconds = time.perf_counter() - start
        if seconds > _SLOW_SECONDS and name != "auto":
            # The first call may have compiled or planned something.
            seconds = time_call(function)
            if seconds > _SLOW_SECONDS:
                slow[name] = seconds
        reference = result if reference is None else reference
        error = float(np.abs(result - reference).max() / np.abs(reference).max())
        if not error <= _TOLERANCE[problem.dtype.name]:
            raise AssertionError(f"{problem.workload.name}, {problem.dtype.name}: {name} differs by {error:.1e}")
    return slow
