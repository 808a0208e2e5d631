"""A progress bar for what has no known number of steps, but a figure that falls to a known one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["falling"]


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
    try:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    except ModuleNotFoundError:
        raise ModuleNotFoundError("progress=True needs rich; pip install 'convop[cli]'") from None
    whole = -math.log(max(goal, 1e-16))
    columns = (TextColumn(f"{name} {{task.fields[figure]}}"), BarColumn(), TextColumn("{task.fields[steps]}"))
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task(name, total=whole, figure="1", steps="")
        steps = 0

        def told(figure: float) -> None:
            nonlocal steps
            steps += 1
            fallen = min(whole, max(0.0, -math.log(figure))) if figure > 0 else whole
            progress.update(task, completed=fallen, figure=f"{figure:.1e}", steps=f"{steps} iterations")

        yield told
