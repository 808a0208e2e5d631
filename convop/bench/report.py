"""Measurements as tables for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from rich.table import Column, Table

from .applying import ApplyLine
from .runs import Results
from .timing import Line

__all__ = ["apply_table", "line_table", "summary", "tables"]


def _right(*names: str) -> list[Column]:
    return [Column(name, justify="right") for name in names]


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3g}" if seconds < 1 else f"{seconds * 1e3:.0f}"


def apply_table(lines: Sequence[ApplyLine]) -> Table:
    """Workloads by engines and peers.

    Parameters
    ----------
    lines : sequence of ApplyLine
        Measurements.

    Returns
    -------
    rich.table.Table
        ``"x peer"`` is the time of the fastest peer over that of ``engine="auto"``; the other engines' and peers'
        milliseconds follow. ``"GEMM"`` is the rate of multiplications over that of a large matrix product, ``"limit"``
        the least time of this machine over the time taken.
    """
    table = Table(
        "workload", "", *_right("auto ms"), "engine", *_right("x peer"), "fastest peer", *_right("GEMM", "limit"),
        "engines ms", "peers ms", title="applying, forward and adjoint",
    )  # fmt: skip
    for line in lines:
        behind = line.ratio < 1
        table.add_row(
            line.workload,
            f"f{line.dtype[-2:]} {line.direction}",
            _milliseconds(line.seconds["auto"]),
            line.engine,
            f"[{'red' if behind else 'green'}]{line.ratio:.2f}[/]" if line.ratios else "",
            line.fastest_peer or "",
            f"{line.gemm_share:.0%}",
            f"{line.share:.0%}",
            ", ".join(f"{name} {_milliseconds(s)}" for name, s in line.seconds.items() if name != "auto"),
            ", ".join(f"{name.removeprefix('SciPy ')} {_milliseconds(s)}" for name, s in line.peers.items()),
        )
    return table


def summary(lines: Sequence[ApplyLine]) -> str:
    """Geometric means and least of the ratios to the fastest peer, by dtype."""
    parts = []
    for dtype in dict.fromkeys(line.dtype for line in lines):
        ratios = [line.ratio for line in lines if line.dtype == dtype and line.ratios]
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        parts.append(f"{dtype}: {mean:.2f} times the fastest peer in the geometric mean, {min(ratios):.2f} at least")
    return "\n".join(parts)


def _amount(line: Line, value: float) -> str:
    return f"{value * 1e3:.4g}" if line.unit == "s" else f"{value:.3g} {line.unit}"


def line_table(lines: Sequence[Line]) -> Table:
    """Single comparisons with what the ratio should not exceed.

    Parameters
    ----------
    lines : sequence of Line
        Measurements.

    Returns
    -------
    rich.table.Table
    """
    table = Table("work", *_right("entries", "ms"), "against", *_right("ms", "ratio", "at most"))
    for line in lines:
        good = line.ratio <= line.limit
        table.add_row(
            line.name,
            f"{line.entries / 1e6:.1f} M" if line.entries > 1e5 else "",
            _amount(line, line.seconds),
            line.against,
            _amount(line, line.against_seconds),
            f"[{'green' if good else 'red'}]{line.ratio:.3g}[/]",
            f"{line.limit:.3g}",
        )
    return table


def tables(results: Results) -> Iterator[Table | str]:
    """All there is to show.

    Parameters
    ----------
    results : Results
        Measurements.

    Yields
    ------
    rich.table.Table or str
    """
    machine = results.machine
    yield (
        f"{f'{machine.threads} threads' if machine.threads else machine.device}; matrix products at {machine.gemm64 / 1e9:.1f} (float64) and "
        f"{machine.gemm32 / 1e9:.1f} (float32) billion multiplications a second, copies at "
        f"{machine.bandwidth / 1e9:.1f} GB/s"
    )
    if results.applying:
        yield apply_table(results.applying)
        yield summary(results.applying)
    if results.lines:
        yield line_table(results.lines)
