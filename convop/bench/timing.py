"""Interleaved timing: functions that do the same work are called in turn, in one process.

Results are ratios of times, as medians over rounds, because absolute times on a shared machine vary too much.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

# Seconds of pause before each function: OpenBLAS's threads spin for more work, for about 70 ms where it was measured, those
# of ONNX Runtime for 35 ms.
PAUSE = 0.1
# Seconds of warm-up calls, and of measured calls. After a pause two threads may wake on one core; the scheduler takes some
# ticks of the system's clock to move one of them.
WARM_UP, _MEASURED = 0.03, 0.01
# Minimum and maximum number of calls, of warm-up and of measurement.
_MIN_CALLS, _MAX_CALLS = 3, 7
# A call of at least this many seconds needs one warm-up call and one measured call.
_LONG_CALL = 0.05


@dataclass(frozen=True)
class Comparison:
    """Times of the same work by this package and by a reference.

    Attributes
    ----------
    name : str
        The work.
    against : str
        The reference.
    seconds, against_seconds : float
        Median times of this package and of the reference.
    ratio : float
        Median over rounds of the ratios ``seconds/against_seconds``.
    limit : float
        Upper limit that the ratio should keep.
    entries : int
        Number of matrix entries; 0 if the work builds no matrix.
    unit : str
        Unit of `seconds` and `against_seconds`; "s" except in comparisons of memory.
    """

    name: str
    against: str
    seconds: float
    against_seconds: float
    ratio: float
    limit: float
    entries: int = 0
    unit: str = "s"

    @classmethod
    def of_times(
        cls, name: str, against: str, ours: Sequence[float], theirs: Sequence[float], *, limit: float, entries: int = 0
    ) -> Comparison:
        """Summarise the times of all rounds, in seconds.

        Parameters
        ----------
        name, against, limit, entries
            As in the attributes.
        ours, theirs : sequence of float
            Seconds of each round.

        Returns
        -------
        Comparison
        """
        ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
        return cls(name, against, statistics.median(ours), statistics.median(theirs), ratio, limit, entries)

    def as_dict(self) -> dict[str, Any]:
        """Return the attributes as plain values, for JSON."""
        return asdict(self)


def compare(
    name: str,
    against: str,
    ours: Callable[[], object],
    theirs: Callable[[], object],
    *,
    repeats: int,
    limit: float,
    entries: int = 0,
    units: int = 1,
) -> Comparison:
    """Time two functions in turn.

    Parameters
    ----------
    name, against, limit, entries
        As in `Comparison`.
    ours, theirs : callable
        The functions, without arguments.
    repeats : int
        Number of rounds.
    units : int
        Amount of work in a call; the result has the seconds of one unit.

    Returns
    -------
    Comparison
    """
    seconds = interleaved_times({"theirs": theirs, "ours": ours}, repeats)
    per_unit = {side: [time / units for time in times] for side, times in seconds.items()}
    return Comparison.of_times(name, against, per_unit["ours"], per_unit["theirs"], limit=limit, entries=entries)


def interleaved_times(functions: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Time functions in turn, after one round of warm-up.

    A pause before each function lets the spinning threads of BLAS and OpenMP libraries come to rest. A few calls follow
    that are not measured, as in the loop of a solver; then the median of some calls, or one long call, is the time. Each
    round has a random order, so that no function always follows the same one.

    Parameters
    ----------
    functions : dict of callable
        The functions by name.
    repeats : int
        Number of rounds.

    Returns
    -------
    dict of list of float
        Seconds by name, in the order of the rounds.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    order, rng = list(functions.items()), random.Random(repeats)
    for _ in range(repeats + 1):
        rng.shuffle(order)
        for name, function in order:
            time.sleep(PAUSE)
            seconds[name].append(_time_warm_calls(function))
    return {name: times[1:] for name, times in seconds.items()}


def _time_warm_calls(function: Callable[[], object]) -> float:
    """Return the median seconds of a call after warm-up calls."""
    warm_up = [time_call(function)]
    while sum(warm_up) < WARM_UP or (len(warm_up) < _MIN_CALLS and warm_up[-1] < _LONG_CALL):
        warm_up.append(time_call(function))
    least, most = (_MIN_CALLS, _MAX_CALLS) if warm_up[-1] < _LONG_CALL else (1, 1)
    calls = min(most, max(least, int(_MEASURED / max(warm_up[-1], _MEASURED / most))))
    return statistics.median(time_call(function) for _ in range(calls))


def time_call(function: Callable[[], object]) -> float:
    """Return the seconds of one call, without the deallocation of its result.

    Parameters
    ----------
    function : callable
        Without arguments.

    Returns
    -------
    float
    """
    start = time.perf_counter()
    result = function()
    seconds = time.perf_counter() - start
    del result  # after the clock has stopped, and before the next call allocates
    return seconds


def repeat(function: Callable[[], object], calls: int) -> Callable[[], None]:
    """Return a function that calls another one many times, for calls shorter than the clock's resolution.

    Parameters
    ----------
    function : callable
        Without arguments.
    calls : int
        Number of calls.

    Returns
    -------
    callable
    """

    def loop() -> None:
        for _ in range(calls):
            function()

    return loop


def medians(seconds: dict[str, list[float]]) -> dict[str, float]:
    """Return the median time of each function.

    Parameters
    ----------
    seconds : dict of list of float
        From `interleaved_times`.

    Returns
    -------
    dict of float
    """
    return {name: statistics.median(times) for name, times in seconds.items()}
