"""Sums over the positions that an extension gives to one element, in a fixed order."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .axis import Ints

__all__ = ["positions_of"]


def positions_of(source: Ints, count: int) -> Iterator[tuple[Ints, Ints]]:
    """The positions of the extended axis that stand for each element: first one of each, then a second, and so on.

    Parameters
    ----------
    source : ndarray of int
        The element that every position stands for, or -1.
    count : int
        Number of elements.

    Yields
    ------
    (ndarray, ndarray)
        Elements, each once, and a position of each of them.
    """
    order = np.argsort(source, kind="stable")[np.count_nonzero(source < 0) :]
    begins = np.searchsorted(source[order], np.arange(count + 1))
    multiplicity = np.diff(begins)
    for n in range(int(multiplicity.max())):
        element = np.flatnonzero(multiplicity > n)
        yield element, order[begins[element] + n]
