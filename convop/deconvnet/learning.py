"""Learning the filters of a layer: inference and a step in the filters, by turns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backend import Array
from ..filter_operator import ConvFilter
from ..memory import require
from ..scaling import exponent, times_two_to
from .elementwise import power_sums
from .problem import ARRAYS, Problem, shifted
from .proximal_gradient import descended
from .splitting import Splitting, alternate, begun
from .synthesis import Synthesis

__all__ = ["Learned", "first_filters", "learned"]

# Turns of inference and filters in an epoch, iterations of inference in each, and how often a step in the filters that
# would raise the cost is halved.
_TURNS, _INFERENCE_STEPS, _HALVINGS = 5, 20, 4


@dataclass(frozen=True)
class Learned:
    """Filters after an epoch, and the cost of the images with them.

    Attributes
    ----------
    filters : ndarray of shape ``(K0, K1, k, l)``
        Connected planes of unit norm, others zero.
    cost : float
        ``sum lam/2 norm(A z - y)^2 + sum |z|^p`` over all images, with the maps that inference has come to.
    empty : bool
        Whether all maps are zero: nothing of the images is worth its penalty, and nothing is learned.
    """

    filters: Array
    cost: float
    empty: bool


def first_filters(table: Array, size: tuple[int, int], dtype: np.dtype[Any], rng: np.random.Generator) -> Array:
    """White noise, in connected planes of unit norm."""
    filters = rng.standard_normal((*table.shape, *size)) * table[:, :, None, None]
    return np.asarray(_normalised(filters, filters)[0], dtype=dtype)


def learned(
    filters: Array, table: Array, data: Array, *, lam: float, p: float, cg: int, epochs: int
) -> Iterator[Learned]:
    """The filters after each epoch.

    The cost does not rise, neither in inference nor in a step of the filters. For the maps fixed, and filters of any
    norm, let the norms count,

        lam/2 norm(sum_k f_k * z_k - y)^2 + sum_k norm(f_k)^p S_k,    S_k = sum |z_k|^p,

    which is the cost of filters over their norms and maps times them. As ``t^(p/2)`` lies below its tangent in t, at
    filters of norm 1 this is no more than the same with ``p/2 S_k norm(f_k)^2`` and a constant; that is quadratic, and
    conjugate gradients lower it from where the filters are. With several channels, each connected plane has a norm of 1, and one
    factor for the map has to stand for all; then a step is halved until it does not raise the cost.

    Yields
    ------
    Learned

    Raises
    ------
    MemoryError
        Before anything is computed, if the maps of all images do not fit.
    """
    space, power = data.shape[2:], exponent(data)
    data, lam = times_two_to(data, -power), shifted(lam, (2 - p) * power)
    problem = Problem(Synthesis(filters, space), data, lam)
    require(ARRAYS * len(data) * problem.image_nbytes, f"learning from the maps of {problem}")
    state = begun(problem)
    for _ in range(epochs):
        cost = np.inf
        for _ in range(_TURNS):
            _inferred(problem, state, p, cg)
            filters, cost = _filter_step(problem, state, table, p, cg)
            problem = Problem(Synthesis(filters, space), data, lam)
        yield Learned(filters, cost * float(np.exp2(p * power)), not state.w.any())


def _cost(problem: Problem, w: Array, p: float) -> Array:
    return problem.objective(w, problem.A(w), p)


def _inferred(problem: Problem, state: Splitting, p: float, cg: int) -> None:
    """Better maps, of each image that has become better."""
    before, old = state.w, _cost(problem, state.w, p)
    if p == 1 or not before.any():
        alternate(problem, state, cg, _INFERENCE_STEPS)
    if p < 1:
        state.w, _, _ = descended(problem, state.w, p, 1e-4, _INFERENCE_STEPS)
    worse = _cost(problem, state.w, p) > old
    if worse.any() and before.any():
        # ADMM may rise on its way: from where it began, proximal gradient steps do not.
        instead, _, _ = descended(problem, before, p, 1e-4, _INFERENCE_STEPS)
        state.w = np.where(worse, instead, state.w)


def _filter_step(problem: Problem, state: Splitting, table: Array, p: float, cg: int) -> tuple[Array, float]:
    """Filters for the maps of a state, whose maps are rescaled with them; and the cost."""
    filters = problem.A.filters
    before = float(_cost(problem, state.w, p).sum())
    wanted = _least_squares(problem, state.w, table, p, cg)
    share = 1.0
    for _ in range(_HALVINGS + 1):
        candidate, norms = _normalised(filters + share * (wanted - filters), filters)
        candidate = candidate.astype(filters.dtype)
        trial = Problem(Synthesis(candidate, problem.A.space), problem.shaped_data, problem.lam)
        scaled = _scaled(problem, state.w, norms)
        cost = float(_cost(trial, scaled, p).sum())
        if cost <= before:
            state.w = scaled
            return candidate, cost
        share /= 2
    return filters, before


def _scaled(problem: Problem, w: Array, norms: Array) -> Array:
    maps = problem.shaped(w) * norms.astype(w.dtype)[:, None, None]
    return np.asarray(maps.reshape(len(maps), -1).T)


def _normalised(filters: Array, former: Array) -> tuple[Array, Array]:
    """Planes of unit norm, and for each map the mean of the norms they had.

    Planes that have become zero stay what they were. With one channel, maps times these norms make up the same images. With
    several they would need a factor for each; the mean is the one that filters over their norms, times it, are nearest to
    what they were.
    """
    norms = np.sqrt((filters.astype(np.float64) ** 2).sum(axis=(2, 3)))
    there = norms > 0
    planes = np.where(there[:, :, None, None], filters / np.where(there, norms, 1)[:, :, None, None], former)
    return planes, norms.sum(axis=0) / np.maximum(1, there.sum(axis=0))


def _least_squares(problem: Problem, w: Array, table: Array, p: float, cg: int) -> Array:
    """Some conjugate-gradient iterations on the filters' normal equations, from the filters there are.

    ``(lam Z^T Z + p S) f = lam Z^T y`` on connected planes, with Z the convolution with the maps as an operator on filters.
    """
    filters, maps, images = problem.A.filters, problem.shaped(w), problem.shaped_data
    operators = [ConvFilter(z, filters.shape, flip=True) for z in maps]
    mask = table[:, :, None, None].astype(filters.dtype)
    sizes = power_sums(maps.reshape(len(maps) * maps.shape[1], -1).T, p).reshape(len(maps), -1).sum(axis=0)
    ridge = (p / problem.lam * sizes).astype(filters.dtype)[None, :, None, None]

    def normal(f: Array) -> Array:
        gram = sum(Z.rmatvec(Z.matvec(f.ravel())) for Z in operators)
        return np.asarray(mask * (np.asarray(gram).reshape(f.shape) + ridge * f))

    misfit = sum(
        Z.rmatvec(image.ravel() - Z.matvec(filters.ravel())) for Z, image in zip(operators, images, strict=True)
    )
    f = filters
    r = mask * (np.asarray(misfit).reshape(f.shape) - ridge * f)
    direction, square = r, float((r * r).sum(dtype=np.float64))
    for _ in range(cg):
        if square == 0:
            break
        product = normal(direction)
        curvature = float((direction * product).sum(dtype=np.float64))
        if not curvature > 0:
            break
        step = f.dtype.type(square / curvature)
        f = f + step * direction
        r = r - step * product
        before, square = square, float((r * r).sum(dtype=np.float64))
        direction = r + f.dtype.type(square / before) * direction
    return f
