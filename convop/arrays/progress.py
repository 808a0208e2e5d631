"""Progress bars on standard error: for a number of steps, and for the convergence of a figure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def convergence_bar(name: str, goal: float) -> Iterator[Callable[[float], None]]:
    """A bar that fills, by the figure's logarithm, while a figure falls from one to a goal.

    Parameters
    ----------
    name : str
        Name of the figure.
    goal : float
        Value at which the bar is full.

    Yields
    ------
    callable
        Updates the bar; takes the figure after each iteration.

    Raises
    ------
    ModuleNotFoundError
        If rich is not installed.
    """
    total = -math.log(max(goal, 1e-16))
    with _bar(f"{name} {{task.fields[figure]}}", "{task.fields[steps]}") as progress:
        task = progress.add_task(name, total=total, figure="1", steps="")
        steps = 0

        def update(figure: float) -> None:
            nonlocal steps
            steps += 1
            completed = min(total, max(0.0, -math.log(figure))) if figure > 0 else total
            progress.update(task, completed=completed, figure=f"{figure:.1e}", steps=f"{steps} iterations")

        yield update


@contextmanager
def step_bar(name: str, total: int) -> Iterator[Callable[[str], None]]:
    """A bar that counts steps.

    Parameters
    ----------
    name : str
        Name of the steps.
    total : int
        Number of steps.

    Yields
    ------
    callable
        Advances the bar; takes a text that is shown beside it.

    Raises
    ------
    ModuleNotFoundError
        If rich is not installed.
    """
    with _bar(f"{{task.completed}} of {{task.total}} {name}", "{task.fields[text]}") as progress:
        task = progress.add_task(name, total=total, text="")

        def update(text: str) -> None:
            progress.update(task, advance=1, text=text)

        yield update


def _bar(before: str, after: str) -> Any:
    """A bar between two texts, which may contain fields of the task."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    except ModuleNotFoundError:
        raise ModuleNotFoundError("progress=True needs rich; pip install 'convop[cli]'") from None
    columns = (TextColumn(before), BarColumn(), TextColumn(after), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True))
