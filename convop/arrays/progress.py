"""Progress bars: for steps that are counted, and for a figure that falls to a known one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["counting", "falling"]


@contextmanager
def falling(name: str, goal: float) -> Iterator[Callable[[float], None]]:
    """A bar on standard error that is full when a figure that began near one has fallen to a goal, by its logarithm.

    Parameters
    ----------
    name : str
        What falls.
    goal : float
        Where it is to get.

    Yields
    ------
    callable
        To be told the figure.

    Raises
    ------
    ModuleNotFoundError
        If rich is not installed.
    """
    whole = -math.log(max(goal, 1e-16))
    with _bar(f"{name} {{task.fields[figure]}}", "{task.fields[steps]}") as progress:
        task = progress.add_task(name, total=whole, figure="1", steps="")
        steps = 0

        def told(figure: float) -> None:
            nonlocal steps
            steps += 1
            fallen = min(whole, max(0.0, -math.log(figure))) if figure > 0 else whole
            progress.update(task, completed=fallen, figure=f"{figure:.1e}", steps=f"{steps} iterations")

        yield told


@contextmanager
def counting(name: str, total: int) -> Iterator[Callable[[str], None]]:
    """A bar on standard error that is full after so many steps.

    Parameters
    ----------
    name : str
        What is counted.
    total : int
        How many.

    Yields
    ------
    callable
        To be called after each, with what is to be said of it.

    Raises
    ------
    ModuleNotFoundError
        If rich is not installed.
    """
    with _bar(f"{{task.completed}} of {{task.total}} {name}", "{task.fields[said]}") as progress:
        task = progress.add_task(name, total=total, said="")

        def told(said: str) -> None:
            progress.update(task, advance=1, said=said)

        yield told


def _bar(before: str, after: str) -> Any:
    """A bar between two texts."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    except ModuleNotFoundError:
        raise ModuleNotFoundError("progress=True needs rich; pip install 'convop[cli]'") from None
    columns = (TextColumn(before), BarColumn(), TextColumn(after), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True))
