"""Times of the same work by several means, called by turns.

Every figure is a ratio of times, the median over repeats, because absolute times on a shared machine mean little.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Line", "in_turn", "medians", "times_in_turn"]

# Seconds after which OpenBLAS's threads are at rest: they wait actively for more work, for some 70 ms where it was measured.
_SETTLE = 0.1
# Seconds for which a function is called before it counts, and for which calls count. After a pause two threads may wake on
# one core, and it takes some ticks of the system's clock until it moves one of them.
_WARM, _BURST = 0.03, 0.01
# Calls of either kind, at least and at most.
_CALLS = (3, 7)
# What takes longer is called once before it counts, and counts once.
_LONG = 0.05


@dataclass(frozen=True)
class Line:
    """One measurement.

    Attributes
    ----------
    name : str
        What was done.
    against : str
        What it is compared with.
    seconds, against_seconds : float
        Median times.
    ratio : float
        Median of the ratios ``seconds/against_seconds`` of single repeats.
    limit : float
        What the ratio should not exceed.
    entries : int
        Entries of the matrix, 0 where there is none.
    unit : str
        Of what was measured, seconds unless said.
    """

    name: str
    against: str
    seconds: float
    against_seconds: float
    ratio: float
    limit: float
    entries: int = 0
    unit: str = "s"

    def as_dict(self) -> dict[str, Any]:
        """The measurement as plain values, for JSON."""
        return asdict(self)


def times_in_turn(functions: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of functions called by turns, after one round to warm up.

    Before each there is a pause, as the threads of BLAS and OpenMP libraries go on spinning on the cores of whoever
    comes next, and a few calls that do not count, as in the loop of a solver. Then the median of some calls counts, or
    one call that takes long. Each round has an order of its own, so that none always comes after the same one.

    Parameters
    ----------
    functions : dict of callable
        What is timed, by name.
    repeats : int
        Rounds.

    Returns
    -------
    dict of list of float
        By name, in the order of the rounds.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    order, dice = list(functions.items()), random.Random(repeats)
    for _ in range(repeats + 1):
        dice.shuffle(order)
        for name, function in order:
            time.sleep(_SETTLE)
            seconds[name].append(_burst(function))
    return {name: times[1:] for name, times in seconds.items()}


def _burst(function: Callable[[], object]) -> float:
    """Seconds of a call, when it has been called for some time."""
    warm = [_seconds(function)]
    while sum(warm) < _WARM or (len(warm) < _CALLS[0] and warm[-1] < _LONG):
        warm.append(_seconds(function))
    least, most = _CALLS if warm[-1] < _LONG else (1, 1)
    calls = min(most, max(least, int(_BURST / max(warm[-1], _BURST / most))))
    return statistics.median(_seconds(function) for _ in range(calls))


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    result = function()
    seconds = time.perf_counter() - start
    del result  # freeing is not part of the work, and the next one finds the memory free
    return seconds


def medians(seconds: dict[str, list[float]]) -> dict[str, float]:
    """The median of each."""
    return {name: statistics.median(times) for name, times in seconds.items()}


def in_turn(ours: Callable[[], object], theirs: Callable[[], object], repeats: int) -> tuple[float, float, float]:
    """Median times of two functions called by turns, and the median of their ratios.

    Parameters
    ----------
    ours, theirs : callable
        What is compared.
    repeats : int
        Rounds.

    Returns
    -------
    ours, theirs, ratio : float
    """
    seconds = times_in_turn({"theirs": theirs, "ours": ours}, repeats)
    ratios = [a / b for a, b in zip(seconds["ours"], seconds["theirs"], strict=True)]
    middle = medians(seconds)
    return middle["ours"], middle["theirs"], statistics.median(ratios)
