"""Moves of filters that alternating minimisation does not find: dead filters are reinitialised, cut-off ones shifted."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..arrays.backend import Array
from .admm import AdmmState
from .alternation import alternate, as_columns, least_squares_filters, normalise_planes, scale_maps
from .problem import Problem

# With one channel, the norm of a patch that replaces a dead filter exceeds 1/lam, the least norm with which it can have a
# map, by this factor.
_PATCH_NORM = 2.0
# Filters move by at most _MARGIN pixels, to a window with _ENERGY_GAIN times the energy, within filters with a margin that
# _MARGIN_ITERATIONS conjugate-gradient iterations estimate.
_MARGIN, _ENERGY_GAIN, _MARGIN_ITERATIONS = 2, 1.02, 4


def reinitialise_dead_filters(problem: Problem, state: AdmmState, table: Array) -> Problem:
    """Replaces each filter whose maps are zero by the patch of the residual images with the most energy.

    When the maps are optimal, no filter has a correlation of more than 1/lam with the residual. A patch whose norm is well
    above that therefore resembles no filter. The cost does not change, since the maps of the new filter are zero.

    Parameters
    ----------
    problem : Problem
        The problem with the present filters.
    state : AdmmState
        Its multipliers of the new filters are set to zero.
    table : ndarray of bool of shape ``(K0, K1)``
        The connected planes.

    Returns
    -------
    Problem
        The problem with the new filters; `problem` itself if no filter is replaced.
    """
    dead = ~problem.shape_maps(state.w).any(axis=(0, 2, 3))
    taps = problem.A.filters.shape[2:]
    if not dead.any() or dead.all() or any(n < k for n, k in zip(problem.A.space, taps, strict=True)):
        return problem
    filters, u = problem.A.filters.copy(), problem.shape_maps(state.u).copy()
    residual = problem.images - problem.A(state.w).T.reshape(problem.images.shape)
    for k in np.flatnonzero(dead):
        planes = table[:, k]
        energy = _window_energy((residual[:, planes] ** 2).sum(axis=1), taps)
        image, row, column = np.unravel_index(np.argmax(energy), energy.shape)
        if energy[image, row, column] <= planes.sum() * (_PATCH_NORM / problem.lam) ** 2:
            continue
        window = (image, slice(None), slice(row, row + taps[0]), slice(column, column + taps[1]))
        patch = residual[window] * planes[:, None, None]
        filters[:, k] = normalise_planes(patch[:, None], filters[:, [k]])[0][:, 0]
        u[:, k] = 0
        residual[window] = 0
    if np.array_equal(filters, problem.A.filters):
        return problem
    state.u = as_columns(u)
    return problem.with_filters(filters)


def recentre_filters(problem: Problem, state: AdmmState, table: Array, cg_iterations: int) -> Problem:
    """Shifts filters that are cut off at an edge, and their maps the other way, if an alternation step then lowers the cost.

    A filter that is learned a pixel off its centre loses a row or a column, and neither the map nor the filter update
    leaves this local minimum. For fixed maps, filters with a margin on all sides are estimated by least squares, and the
    window with the most energy becomes the filter.

    Parameters
    ----------
    problem : Problem
        The problem with the present filters.
    state : AdmmState
        Replaced in place if filters move.
    table : ndarray of bool of shape ``(K0, K1)``
        The connected planes.
    cg_iterations : int
        Conjugate-gradient iterations of the alternation step.

    Returns
    -------
    Problem
        The problem with the new filters, after the alternation step; `problem` itself if no filter moves.
    """
    filters = problem.A.filters
    margin = [min(_MARGIN, k - 1, (n - 1) // 2) for k, n in zip(filters.shape[2:], problem.A.space, strict=True)]
    if not any(margin) or not state.w.any():
        return problem
    moved, w, u = _move_to_most_energy(problem, state, _estimate_wide_filters(problem, state, table, margin), margin)
    if np.array_equal(moved, filters):
        return problem
    unit, norms = normalise_planes(moved, filters)
    trial = problem.with_filters(unit.astype(filters.dtype))
    trial_state = AdmmState(scale_maps(trial, w, norms), u, np.zeros_like(problem.y), state.rho)
    trial, cost = alternate(trial, trial_state, table, cg_iterations)
    if not cost < float(problem.objective(state.w).sum()):
        return problem
    state.w, state.u, state.s, state.rho = trial_state.w, trial_state.u, trial_state.s, trial_state.rho
    return trial


def _estimate_wide_filters(problem: Problem, state: AdmmState, table: Array, margin: list[int]) -> Array:
    """Estimates filters with a margin by least squares, on the pixels of the images where they fit 'valid' convolutions."""
    rows, columns = (slice(m, n - m) for m, n in zip(margin, problem.A.space, strict=True))
    padded = np.pad(problem.A.filters, [(0, 0), (0, 0), *((m, m) for m in margin)])
    maps, images = problem.shape_maps(state.w), problem.images[:, :, rows, columns]
    return least_squares_filters(padded, maps, images, table, np.zeros(padded.shape[1]), _MARGIN_ITERATIONS)


def _move_to_most_energy(
    problem: Problem, state: AdmmState, wide: Array, margin: list[int]
) -> tuple[Array, Array, Array]:
    """Returns the filters in the windows of `wide` with the most energy, and maps and multipliers shifted the other way."""
    filters, w, u = (
        array.copy() for array in (problem.A.filters, problem.shape_maps(state.w), problem.shape_maps(state.u))
    )
    taps = filters.shape[2:]
    for k, energy in enumerate(_window_energy((wide.astype(np.float64) ** 2).sum(axis=0), taps)):
        row, column = (int(start) for start in np.unravel_index(np.argmax(energy), energy.shape))
        if energy[row, column] > _ENERGY_GAIN * energy[tuple(margin)]:
            filters[:, k] = wide[:, k, row : row + taps[0], column : column + taps[1]]
            for maps in (w, u):
                maps[:, k] = _shift(maps[:, k], (row - margin[0], column - margin[1]))
    return filters, as_columns(w), as_columns(u)


def _window_energy(squares: Array, taps: tuple[int, ...]) -> Array:
    """The sums over all windows of the size of a filter, of squares of shape ``(count, rows, columns)``."""
    return np.asarray(sliding_window_view(squares, taps, axis=(1, 2)).sum(axis=(-2, -1)))


def _shift(maps: Array, by: tuple[int, int]) -> Array:
    """Maps of shape ``(I, h, w)`` shifted by rows and columns, with zeros shifted in."""
    result = np.zeros_like(maps)
    target = tuple(slice(max(b, 0), n + min(b, 0)) for b, n in zip(by, maps.shape[1:], strict=True))
    source = tuple(slice(max(-b, 0), n + min(-b, 0)) for b, n in zip(by, maps.shape[1:], strict=True))
    result[:, *target] = maps[:, *source]
    return result
