"""The extension of one axis of an array, and its transpose, which folds the extension back by sums in a fixed order.

Both follow a table `source` that names the element at each position of the extended axis, or -1 for a zero:

    extend      extended[p] = x[source[p]]
    fold        x[i] = sum of extended[p] over the positions p with source[p] == i, in ascending order

They work on NumPy's and CuPy's arrays and on PyTorch's tensors: a function passed as `as_index` makes indices for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .axis import Ints


def extend_axis(planes: Any, axis: int, source: Ints, as_index: Callable[[Ints], Any]) -> Any:
    """An array with one axis extended: the elements that a table names, zeros where it names none.

    Parameters
    ----------
    planes : array or tensor
        Any array that can be indexed by an array of integers along one axis.
    axis : int
        Number of the axis, 0 or more.
    source : ndarray of int
        Element of the axis at every position of the extended axis, or -1.
    as_index : callable
        Makes an index of the array's library and device from an array of integers.

    Returns
    -------
    array or tensor
        New, with ``len(source)`` elements along the axis.
    """
    before = (slice(None),) * axis
    extended = planes[(*before, as_index(np.maximum(source, 0)))]
    outside = np.flatnonzero(source < 0)
    if len(outside):
        extended[(*before, as_index(outside))] = 0
    return extended


def fold_axis(planes: Any, into: Any, axis: int, source: Ints, as_index: Callable[[Ints], Any]) -> Any:
    """The transpose of `extend_axis`: adds every position of the extended axis to the element it was read from.

    Parameters
    ----------
    planes : array or tensor
        With ``len(source)`` elements along the axis.
    into : array or tensor
        Zeros, with as many elements along the axis as it has without the extension. Written to.
    axis, source, as_index
        As in `extend_axis`.

    Returns
    -------
    array or tensor
        `into`.
    """
    before = (slice(None),) * axis
    # Elements of one step are distinct, so a GPU adds to each of them once, and in the same order in every run.
    for element, position in positions_by_rank(source, into.shape[axis]):
        into[(*before, as_index(element))] += planes[(*before, as_index(position))]
    return into


def positions_by_rank(source: Ints, count: int) -> Iterator[tuple[Ints, Ints]]:
    """The positions of the extended axis that read each element: the first of each element, then the second, and so on.

    Parameters
    ----------
    source : ndarray of int
        Element at every position, or -1.
    count : int
        Number of elements.

    Yields
    ------
    (ndarray, ndarray)
        Distinct elements in ascending order, and a position of each of them.

    Examples
    --------
    >>> for element, position in positions_by_rank(np.array([1, 0, 1, -1, 1]), 2):
    ...     print(element, position)
    [0 1] [1 0]
    [1] [2]
    [1] [4]
    """
    order = np.argsort(source, kind="stable")[np.count_nonzero(source < 0) :]
    begins = np.searchsorted(source[order], np.arange(count + 1))
    multiplicity = np.diff(begins)
    for rank in range(int(multiplicity.max())):
        element = np.flatnonzero(multiplicity > rank)
        yield element, order[begins[element] + rank]
