"""Connection tables between the maps of a layer and the maps below."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import numpy.typing as npt

from ..arrays.backend import Array

_PATTERNS = ("full", "singles+pairs", "random-pairs")


def connection_table(connectivity: str | npt.ArrayLike, below: int, maps: int, rng: np.random.Generator) -> Array:
    """Returns the connection table of a layer.

    Parameters
    ----------
    connectivity : {"full", "singles+pairs", "random-pairs"} or array_like of bool
        All connections; a map for each map below and for each pair of them; two maps below for each map, drawn so that all
        pairs occur equally often; or the table itself.
    below, maps : int
        Numbers of maps below and of maps of the layer.
    rng : numpy.random.Generator
        Draws the pairs.

    Returns
    -------
    ndarray of bool of shape ``(below, maps)``
        A new array with at least one connection for every map.

    Raises
    ------
    ValueError
        If the numbers of maps do not match the pattern or the table.
    """
    if isinstance(connectivity, str):
        return _pattern_table(connectivity, below, maps, rng)
    table = np.asarray(connectivity)
    if table.dtype != bool or table.shape != (below, maps):
        raise ValueError(
            f"connectivity must be an array of bool of shape {(below, maps)}, maps below and maps; got "
            f"{table.dtype} of shape {table.shape}"
        )
    if not table.any(axis=0).all():
        raise ValueError(f"connectivity must connect every map, but map {int(np.argmin(table.any(axis=0)))} has none")
    return table.copy()


def _pattern_table(pattern: str, below: int, maps: int, rng: np.random.Generator) -> Array:
    pairs = list(combinations(range(below), 2))
    connected: list[tuple[int, ...]]
    if pattern == "full":
        connected = [tuple(range(below))] * maps
    elif pattern == "singles+pairs":
        connected = [*((c,) for c in range(below)), *pairs]
        if len(connected) != maps:
            raise ValueError(
                f"connectivity 'singles+pairs' makes {len(connected)} maps of {below} maps below, but n_maps is {maps}"
            )
    elif pattern == "random-pairs":
        if not pairs:
            raise ValueError("connectivity 'random-pairs' needs two or more maps below, got 1")
        # All pairs once, in random order, before any pair occurs twice.
        rounds = -(-maps // len(pairs))
        order = np.concatenate([rng.permutation(len(pairs)) for _ in range(rounds)])[:maps]
        connected = [pairs[number] for number in order]
    else:
        raise ValueError(f"connectivity must be one of {', '.join(_PATTERNS)} or an array of bool, got {pattern!r}")
    table = np.zeros((below, maps), dtype=bool)
    for column, rows in enumerate(connected):
        table[list(rows), column] = True
    return table
