"""Dictionary learning for one layer: alternating minimisation over maps and filters, with continuation in the weight."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays.backend import Array
from ..arrays.memory import require
from .admm import admm_initialise
from .alternation import alternate, normalise_planes
from .filter_moves import recentre_filters, reinitialise_dead_filters
from .problem import WORKING_ARRAYS, Problem

# Alternation steps in an epoch.
_STEPS_PER_EPOCH = 5
# Continuation starts at the weight lam with which the largest correlation is _FIRST_CORRELATION/lam. Maps need 1/lam.
# The structure that lowers the cost most is then learned first, by a single filter.
_FIRST_CORRELATION = 2.0


@dataclass(frozen=True)
class LearnedFilters:
    """The filters after an epoch of learning.

    Attributes
    ----------
    filters : ndarray of shape ``(K0, K1, k, l)``
        Connected planes have unit norm, others are zero.
    cost : float
        ``lam/2 norm(A z - y)^2 + sum |z|^p`` summed over all images, at the maps that inference has found.
    maps_are_zero : bool
        Whether all maps are zero: no map is worth its penalty, and the filters have not changed.
    """

    filters: Array
    cost: float
    maps_are_zero: bool


def random_filters(table: Array, size: tuple[int, int], dtype: np.dtype[Any], rng: np.random.Generator) -> Array:
    """White noise in connected planes of unit norm; other planes are zero."""
    filters = rng.standard_normal((*table.shape, *size)) * table[:, :, None, None]
    return np.asarray(normalise_planes(filters, filters)[0], dtype=dtype)


def learn_filters(
    filters: Array, table: Array, images: Array, lam: float, p: float, cg_iterations: int, epochs: int
) -> Iterator[LearnedFilters]:
    """Learns filters from images; the cost does not rise from one epoch to the next.

    Before the first epoch, continuation runs as many alternation steps as all epochs together, with p = 1 and a growing
    weight of the data.

    Parameters
    ----------
    filters : ndarray of shape ``(K0, K1, k, l)``
        The first filters, in the dtype of the images.
    table : ndarray of bool of shape ``(K0, K1)``
        The connected planes.
    images : ndarray of shape ``(I, K0, n, m)``
        The data.
    lam, p : float
        Weight of the data and power of the penalty.
    cg_iterations : int
        Conjugate-gradient iterations in each linear system.
    epochs : int
        Epochs of `_STEPS_PER_EPOCH` alternation steps.

    Yields
    ------
    LearnedFilters
        After each epoch.

    Raises
    ------
    MemoryError
        If the maps of all images do not fit the free memory; raised before anything is computed.
    """
    problem = Problem.from_images(filters, images, lam, p)
    lam = problem.lam
    # The symbols of two sets of filters are held while a filter step is tried.
    require(
        WORKING_ARRAYS * len(images) * problem.image_nbytes + 2 * problem.A.nbytes,
        f"learning from the maps of {problem}",
    )
    state = admm_initialise(problem)
    for weight in _continuation_weights(problem, _STEPS_PER_EPOCH * epochs):
        problem = reinitialise_dead_filters(problem.with_penalty(weight, 1.0), state, table)
        problem = recentre_filters(problem, state, table, cg_iterations)
        problem, _ = alternate(problem, state, table, cg_iterations)
    problem = problem.with_penalty(lam, p)
    for epoch in range(epochs):
        if epoch < epochs - 1:
            problem = reinitialise_dead_filters(problem, state, table)
            problem = recentre_filters(problem, state, table, cg_iterations)
        for _ in range(_STEPS_PER_EPOCH):
            problem, cost = alternate(problem, state, table, cg_iterations)
        yield LearnedFilters(problem.A.filters, float(problem.unscale_objective(cost)), not state.w.any())


def _continuation_weights(problem: Problem, count: int) -> list[float]:
    """Weights of the data for p = 1, growing geometrically to the weight with about the effect of the problem's own."""
    last = problem.convex_weight
    first = min(last, _FIRST_CORRELATION / (problem.max_correlation or 1.0))
    return [float(weight) for weight in np.geomspace(first, last, count, endpoint=False)]
