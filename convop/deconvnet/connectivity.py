"""Which maps are connected to which maps below."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import numpy.typing as npt

from ..arrays.backend import Array

__all__ = ["PATTERNS", "connected"]

PATTERNS = ("full", "singles+pairs", "random-pairs")


def connected(connectivity: str | npt.ArrayLike, below: int, maps: int, rng: np.random.Generator) -> Array:
    """The connections of a layer.

    Parameters
    ----------
    connectivity : {"full", "singles+pairs", "random-pairs"} or array_like of bool
        All; one map for each map below and one for each pair of them; two maps below for each map, drawn so that all
        pairs come equally often; or the table itself.
    below, maps : int
        Maps below and maps of the layer.
    rng : numpy.random.Generator
        Draws the pairs.

    Returns
    -------
    ndarray of bool, of shape ``(below, maps)``
        With a connection for every map.

    Raises
    ------
    ValueError
        If the numbers of maps do not fit the pattern.
    """
    if isinstance(connectivity, str):
        if connectivity == "full":
            return np.ones((below, maps), dtype=bool)
        pairs = list(combinations(range(below), 2))
        if connectivity == "singles+pairs":
            chosen: list[tuple[int, ...]] = [*((c,) for c in range(below)), *pairs]
            if len(chosen) != maps:
                raise ValueError(
                    f"connectivity 'singles+pairs' makes {len(chosen)} maps of {below} maps below, but n_maps is {maps}"
                )
        elif connectivity == "random-pairs":
            if not pairs:
                raise ValueError("connectivity 'random-pairs' needs two or more maps below, got 1")
            # Every pair once, in random order, before any comes twice.
            rounds = -(-maps // len(pairs))
            order = np.concatenate([rng.permutation(len(pairs)) for _ in range(rounds)])[:maps]
            chosen = [pairs[number] for number in order]
        else:
            raise ValueError(
                f"connectivity must be one of {', '.join(PATTERNS)} or an array of bool, got {connectivity!r}"
            )
        table = np.zeros((below, maps), dtype=bool)
        for column, rows in enumerate(chosen):
            table[list(rows), column] = True
        return table
    table = np.asarray(connectivity)
    if table.dtype != bool or table.shape != (below, maps):
        raise ValueError(
            f"connectivity must be an array of bool of shape {(below, maps)}, maps below and maps; got "
            f"{table.dtype} of shape {table.shape}"
        )
    if not table.any(axis=0).all():
        raise ValueError(f"connectivity must connect every map, but map {int(np.argmin(table.any(axis=0)))} has none")
    return table.copy()
