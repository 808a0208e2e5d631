"""Alternating minimisation over maps and filters: the map update, the filter update, and both in turn.

The filter update is a least-squares step for fixed maps, projected to planes of unit norm. No update raises the cost.
"""

from __future__ import annotations

import numpy as np

from ..arrays.backend import Array
from ..inverse.conjugate_gradients import ConjugateGradients
from ..operators.conv_filter import ConvFilter
from .admm import AdmmState, admm
from .elementwise import power_sums
from .problem import Problem
from .proximal_gradient import ista

# Iterations of a map update, and the tolerance at which its proximal gradient steps end earlier.
_MAP_ITERATIONS, _MAP_RTOL = 20, 1e-4
# The largest number of halvings of a filter step that would raise the cost.
_HALVINGS = 4


def alternate(problem: Problem, state: AdmmState, table: Array, cg_iterations: int) -> tuple[Problem, float]:
    """Updates the maps of a state and then the filters; returns the problem with the new filters, and its cost."""
    update_maps(problem, state, cg_iterations)
    return update_filters(problem, state, table, cg_iterations)


def update_maps(problem: Problem, state: AdmmState, cg_iterations: int) -> None:
    """Replaces the maps of a state by better maps; images for which none are found keep theirs."""
    if not state.w.any() and problem.lam * problem.max_correlation <= 1:
        return  # zero is the solution for p = 1
    before, old = state.w, problem.objective(state.w)
    if problem.p == 1 or not before.any():
        admm(problem, state, cg_iterations, _MAP_ITERATIONS)
    if problem.p < 1:
        state.w, _, _ = ista(problem, state.w, _MAP_RTOL, _MAP_ITERATIONS)
    worse = problem.objective(state.w) > old
    if worse.any() and before.any():
        # ADMM does not lower the objective in each iteration; proximal gradient steps from the same maps do.
        instead, _, _ = ista(problem, before, _MAP_RTOL, _MAP_ITERATIONS)
        state.w = np.where(worse, instead, state.w)


def update_filters(problem: Problem, state: AdmmState, table: Array, cg_iterations: int) -> tuple[Problem, float]:
    """Returns the problem with better filters for the maps of a state, and its cost; rescales the maps with the filters.

    For filters of any norm, and fixed maps,

        lam/2 norm(sum_k f_k * z_k - y)^2 + sum_k norm(f_k)^p S_k,    S_k = sum |z_k|^p,

    is the cost of the filters over their norms and the maps times them. ``t^(p/2)`` lies below its tangent in t, so at
    filters of norm 1 this is at most the same expression with ``p/2 S_k norm(f_k)^2`` and a constant. That is quadratic,
    and conjugate gradients lower it from the present filters. With several channels each connected plane has norm 1, and
    one factor for the map stands for the norms of all its planes; a step that would raise the cost is therefore halved.

    Parameters
    ----------
    problem : Problem
        The problem with the present filters.
    state : AdmmState
        Its maps are rescaled.
    table : ndarray of bool of shape ``(K0, K1)``
        The connected planes.
    cg_iterations : int
        Conjugate-gradient iterations.
    """
    filters = problem.A.filters
    before = float(problem.objective(state.w).sum())
    maps = problem.shape_maps(state.w)
    penalties = power_sums(as_columns(maps.reshape(-1, *maps.shape[2:])), problem.p).reshape(maps.shape[:2]).sum(axis=0)
    ridge = problem.p / problem.lam * penalties
    wanted = least_squares_filters(filters, maps, problem.images, table, ridge, cg_iterations)
    for halvings in range(_HALVINGS + 1):
        candidate, norms = normalise_planes(filters + 0.5**halvings * (wanted - filters), filters)
        trial = problem.with_filters(candidate.astype(filters.dtype))
        w = scale_maps(problem, state.w, norms)
        cost = float(trial.objective(w).sum())
        if cost <= before:
            state.w = w
            return trial, cost
    return problem, before


def least_squares_filters(
    filters: Array, maps: Array, images: Array, table: Array, ridge: Array, cg_iterations: int
) -> Array:
    """Conjugate-gradient iterations on the filters' normal equations ``(Z^T Z + ridge) f = Z^T y``, from given filters.

    Z is the convolution with the maps as a linear map of the filters.

    Parameters
    ----------
    filters : ndarray of shape ``(K0, K1, k, l)``
        The filters to start with.
    maps, images : ndarray of shapes ``(I, K1, h, w)`` and ``(I, K0, n, m)``
        Maps and data.
    table : ndarray of bool of shape ``(K0, K1)``
        The connected planes; the others stay as they are.
    ridge : ndarray of shape ``(K1,)``
        A weight of the squared norm for each map's filter.
    cg_iterations : int
        Iterations.

    Returns
    -------
    ndarray of the shape of `filters`
    """
    operators = [ConvFilter(z, filters.shape, flip=True) for z in maps]
    mask = table[:, :, None, None].astype(filters.dtype)
    ridge = ridge.astype(filters.dtype)[None, :, None, None]

    def normal(f: Array) -> Array:
        gram = sum(Z.rmatvec(Z.matvec(f.ravel())) for Z in operators)
        return np.asarray(mask * (np.asarray(gram).reshape(f.shape) + ridge * f))

    def inner(a: Array, b: Array) -> Array:
        return np.array([(a * b).sum(dtype=np.float64)])

    adjoint_term = sum(
        Z.rmatvec(image.ravel() - Z.matvec(filters.ravel())) for Z, image in zip(operators, images, strict=True)
    )
    residual = mask * (np.asarray(adjoint_term).reshape(filters.shape) - ridge * filters)
    cg = ConjugateGradients(normal, filters, residual, inner=inner)
    for _ in range(cg_iterations):
        cg.step()
    return cg.x


def normalise_planes(filters: Array, former: Array) -> tuple[Array, Array]:
    """Returns filters with planes of unit norm, and for each map the mean norm that its planes had.

    Planes of zeros are replaced by the planes of `former`. With one channel, maps times these norms give the same images.
    With several channels each plane would need a factor of its own; the mean is the factor with which the normalised
    filters are nearest to the given filters.
    """
    norms = np.sqrt((filters.astype(np.float64) ** 2).sum(axis=(2, 3)))
    nonzero = norms > 0
    planes = np.where(nonzero[:, :, None, None], filters / np.where(nonzero, norms, 1)[:, :, None, None], former)
    return planes, norms.sum(axis=0) / np.maximum(1, nonzero.sum(axis=0))


def scale_maps(problem: Problem, w: Array, factors: Array) -> Array:
    """Maps, as columns, times one factor for each filter."""
    return as_columns(problem.shape_maps(w) * factors.astype(w.dtype)[:, None, None])


def as_columns(maps: Array) -> Array:
    """An array with one image along the first axis as an array with one image per column."""
    return maps.reshape(len(maps), -1).T
