"""Formats the results of the benchmark as tables for a terminal."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence

from rich.table import Column, Table

from .applying import WorkloadTimes
from .runs import Results
from .timing import Comparison

_CAPTION = (
    "auto: the engine that convop chooses. over auto: time divided by the time of auto. peer over auto: above 1, convop is "
    "faster. best engine over auto: 1 if no engine is faster; auto is timed for itself, so noise may take it above. limit: the "
    "larger of operations over the machine's rate and bytes over its bandwidth, for a direct evaluation with arrays in memory; "
    "1 is as fast as the machine, and transforms, separable kernels and arrays in the caches may exceed it"
)


def _right_aligned(*names: str) -> list[Column]:
    return [Column(name, justify="right") for name in names]


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3g}" if seconds < 1 else f"{seconds * 1e3:.0f}"


def applying_table(results: Sequence[WorkloadTimes]) -> Table:
    """Tabulate the times of engines and peers by workload.

    Parameters
    ----------
    results : sequence of WorkloadTimes
        The measurements.

    Returns
    -------
    rich.table.Table
        The columns "over auto" divide the time of the fastest peer, the time of the fastest engine and the machine's
        limit by the time of ``engine="auto"``. The last columns have the milliseconds of the engines and of the peers.
    """
    columns: list[Column | str] = ["workload", "dtype and\ndirection", *_right_aligned("auto\nms"), "engine"]
    columns += [*_right_aligned("peer\nover auto"), "fastest peer"]
    columns += [*_right_aligned("best engine\nover auto", "limit\nover auto"), "engines ms", "peers ms"]
    table = Table(*columns, title="applying, forward and adjoint", caption=_CAPTION, caption_justify="left")
    for result in results:
        colour = "red" if result.ratio < 1 else "green"
        table.add_row(
            result.workload,
            f"f{result.dtype[-2:]} {result.direction}",
            _milliseconds(result.seconds["auto"]),
            result.engine,
            f"[{colour}]{result.ratio:.2f}[/]" if result.ratios else "",
            result.fastest_peer or "",
            f"{result.best_over_auto:.2f}",
            f"{result.share:.2f}",
            ", ".join(f"{name} {_milliseconds(s)}" for name, s in result.seconds.items() if name != "auto"),
            ", ".join(f"{name.removeprefix('SciPy ')} {_milliseconds(s)}" for name, s in result.peers.items()),
        )
    return table


def summary(results: Sequence[WorkloadTimes]) -> str:
    """Summarise the ratios to the fastest peer, one line per dtype, and those of the fastest engine.

    Parameters
    ----------
    results : sequence of WorkloadTimes
        The measurements.

    Returns
    -------
    str
    """
    lines = []
    for dtype in dict.fromkeys(result.dtype for result in results):
        ratios = [result.ratio for result in results if result.dtype == dtype and result.ratios]
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        lines.append(f"{dtype}: fastest peer over auto: {mean:.2f} in the geometric mean, {min(ratios):.2f} at least")
    shares = [result.best_over_auto for result in results]
    lines.append(f"best engine over auto: {statistics.median(shares):.2f} in the median, {min(shares):.2f} at least")
    return "\n".join(lines)


def comparison_table(comparisons: Sequence[Comparison]) -> Table:
    """Tabulate comparisons, with the limit of each ratio.

    Parameters
    ----------
    comparisons : sequence of Comparison
        The measurements.

    Returns
    -------
    rich.table.Table
    """
    table = Table("work", *_right_aligned("entries", "ms"), "against", *_right_aligned("ms", "ratio", "at most"))
    for comparison in comparisons:
        colour = "green" if comparison.ratio <= comparison.limit else "red"
        table.add_row(
            comparison.name,
            f"{comparison.entries / 1e6:.1f} M" if comparison.entries > 1e5 else "",
            _with_unit(comparison.seconds, comparison.unit),
            comparison.against,
            _with_unit(comparison.against_seconds, comparison.unit),
            f"[{colour}]{comparison.ratio:.3g}[/]",
            f"{comparison.limit:.3g}",
        )
    return table


def _with_unit(value: float, unit: str) -> str:
    return f"{value * 1e3:.4g}" if unit == "s" else f"{value:.3g} {unit}"


def tables(results: Results) -> Iterator[Table | str]:
    """Format all results.

    Parameters
    ----------
    results : Results
        From `run`.

    Yields
    ------
    rich.table.Table or str
    """
    machine = results.machine
    device = f"{machine.threads} threads" if machine.threads else machine.device
    yield (
        f"{device}: at most {machine.peak64 / 1e9:.0f} (float64) and {machine.peak32 / 1e9:.0f} (float32) billion operations "
        f"a second, where a multiply-add is two; copies at {machine.bandwidth / 1e9:.1f} GB/s, bytes read and written"
    )
    if results.applying:
        yield applying_table(results.applying)
        yield summary(results.applying)
    if results.comparisons:
        yield comparison_table(results.comparisons)
