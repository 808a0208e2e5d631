"""Inference: finds the maps of images for given filters by the solver that was asked for, in blocks that fit the memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from ..arrays.backend import Array
from ..arrays.memory import available, check_fits
from .admm import admm, admm_initialise, reweighted_l1
from .half_quadratic import half_quadratic
from .options import SolverOptions
from .problem import WORKING_ARRAYS, Problem
from .proximal_gradient import fista, ista
from .stopping import ConvergenceMonitor

# Images are solved together if their largest moduli differ by at most this factor: they share one rho, which must fit
# the size of their maps.
_MAX_RATIO = 16.0


@dataclass(frozen=True, eq=False)
class Codes:
    """The result of `sparse_codes`.

    Attributes
    ----------
    maps : ndarray of shape ``(I, K1, n + k - 1, m + k - 1)``
        The maps of each image.
    objective : ndarray of shape ``(I,)``
        The objective of each image.
    gap : ndarray of shape ``(I,)``
        An upper bound of the objective's distance to its minimum, relative to the objective, from a dual solution; NaN for
        p < 1, where no bound is known.
    iterations : int
        Products with the filters and with their transpose; with several blocks of images, the maximum over blocks.
    converged : bool
        Whether all images have reached the tolerance, as far as the stopping rule can tell: see the notes of
        `sparse_codes`.
    reason : str
        Why the iteration ended, in words.
    """

    maps: Array
    objective: Array
    gap: Array
    iterations: int
    converged: bool
    reason: str


class _Solution(NamedTuple):
    """Maps of a block of images; `bound` is a lower bound of each image's minimum, or NaN."""

    w: Array
    bound: Array
    iterations: int
    converged: bool


def infer_codes(filters: Array, images: Array, lam: float, p: float, options: SolverOptions) -> Codes:
    """Returns the codes of arguments that have been checked; `sparse_codes` describes them.

    Raises
    ------
    MemoryError
        If the maps of a single image do not fit the free memory.
    OverflowError
        If the maps are too large for the dtype.
    """
    maps_shape = (filters.shape[1], *(n + k - 1 for n, k in zip(images.shape[2:], filters.shape[2:], strict=True)))
    maps = np.zeros((len(images), *maps_shape), images.dtype)
    (objective, gap), iterations, converged = np.zeros((2, len(images))), 0, True
    for group in _groups_by_scale(images):
        problem = Problem.from_images(filters, images[group], lam, p)
        for block in _memory_blocks(problem, maps.nbytes):
            selected, at = problem.select(block), group[block]
            solution = (_minimise_convex if p == 1 else _minimise_nonconvex)(selected, options)
            w, minimum = _better(selected, solution.w, selected.zeros)
            # Rounding may put the objective below the bound.
            gap[at] = np.maximum(minimum - solution.bound, 0) / np.where(minimum > 0, minimum, 1)
            with np.errstate(over="ignore"):
                maps[at], objective[at] = selected.unscale_maps(w), selected.unscale_objective(minimum)
            iterations, converged = max(iterations, solution.iterations), converged and solution.converged
    if not (np.isfinite(maps).all() and np.isfinite(objective).all()):
        raise OverflowError(
            f"the maps are too large for {images.dtype}: scale filters to norms near 1, see also rescale"
        )
    return Codes(maps, objective, gap, iterations, converged, _reason(p, gap, iterations, converged, options.maxiter))


def _groups_by_scale(images: Array) -> list[Array]:
    """The indices of images in groups whose largest moduli differ by at most `_MAX_RATIO`, largest first."""
    largest = np.abs(images).max(axis=(1, 2, 3))
    groups: list[list[int]] = []
    for image in np.argsort(-largest, kind="stable"):
        if not groups or largest[image] * _MAX_RATIO < largest[groups[-1][0]]:
            groups.append([])
        groups[-1].append(int(image))
    return [np.sort(group) for group in groups]


def _memory_blocks(problem: Problem, result_nbytes: int) -> Iterator[slice]:
    """Yields slices of the images, each of as many as fit half of the free memory.

    Raises
    ------
    MemoryError
        If a single image does not fit the free memory.
    """
    count, each, free = problem.y.shape[1], problem.image_nbytes, available()
    block = count
    if free is not None:
        fixed = result_nbytes + problem.A.nbytes
        check_fits(fixed + WORKING_ARRAYS * each, free, f"finding the maps of {problem}", "memory")
        # The other half is left to other processes.
        block = max(1, min(count, (free - fixed) // (2 * WORKING_ARRAYS * each)))
    for start in range(0, count, block):
        yield slice(start, start + block)


def _reason(p: float, gap: Array, iterations: int, converged: bool, maxiter: int) -> str:
    """Says why the iteration ended."""
    if iterations == 0:
        return (
            "zero is the solution: the penalty of any map exceeds what it saves in the data term"
            if p == 1
            else "zero is a local minimum, and no better minimum was found"
        )
    ended = "converged" if converged else f"stopped after maxiter={maxiter} iterations"
    if p == 1:
        return f"{ended}: within {float(gap.max()):.2g} of the minimum"
    return "settled in a local minimum" if converged else ended


def _minimise_nonconvex(problem: Problem, options: SolverOptions) -> _Solution:
    """Maps for p < 1: a local minimum, found from the solutions of two problems with p = 1."""
    by_admm = replace(options, solver="admm")
    # Start from maps that p = 1 penalises about as much as p does, in any unit of the images.
    w, _, steps, converged = _minimise_convex(problem.with_penalty(problem.convex_weight, 1.0), by_admm)
    if w.any():
        remaining = options.maxiter - steps
        if options.solver == "hqs":
            w, taken = half_quadratic(problem, w, options.betas, options.cg_iterations, remaining)
        else:
            w, taken = reweighted_l1(problem, w, options.cg_iterations, remaining)
        steps += taken
    # The result is not worse than the solution for p = 1 with the same weight.
    convex = problem.with_penalty(problem.lam, 1.0)
    other = _minimise_convex(convex, replace(by_admm, maxiter=(options.maxiter - steps) // 2))
    steps += other.iterations
    w, _ = _better(problem, w, other.w)
    if w.any():
        w, taken, converged = ista(problem, w, options.rtol, options.maxiter - steps)
        steps += taken
    return _Solution(w, np.full(problem.y.shape[1], math.nan), steps, converged)


def _better(problem: Problem, w: Array, other: Array) -> tuple[Array, Array]:
    """Returns for each image the maps with the lower objective, and that objective."""
    first, second = problem.objective(w), problem.objective(other)
    return (np.where(second < first, other, w) if (second < first).any() else w), np.minimum(first, second)


def _minimise_convex(problem: Problem, options: SolverOptions) -> _Solution:
    """Maps for p = 1."""
    w, steps = problem.zeros, 0
    if problem.lam * problem.max_correlation <= 1:
        return _Solution(w, problem.misfit(np.zeros_like(problem.y)), 0, True)
    monitor = ConvergenceMonitor(problem.y.shape[1], options.rtol)
    if options.solver == "admm":
        state = admm_initialise(problem)
        steps, converged = admm(problem, state, options.cg_iterations, options.maxiter, stop=monitor.update)
        return _Solution(state.w, monitor.best_bound, steps, converged)
    if options.solver == "hqs":
        w, steps = half_quadratic(problem, w, options.betas, options.cg_iterations, options.maxiter)
    w, taken, converged = fista(problem, w, monitor, options.maxiter - steps)
    if taken == 0:
        residual = problem.y - problem.A(w)
        bound = problem.dual_bound(residual, np.abs(problem.A.adjoint(residual)).max(axis=0))
        return _Solution(w, bound, steps, False)
    return _Solution(w, monitor.best_bound, steps + taken, converged)
