"""Learning the filters of a layer: inference and a step in the filters, by turns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..arrays.backend import Array
from ..arrays.memory import require
from ..arrays.scaling import power_of_two_scale, scale_by_power_of_two
from ..operators.conv_filter import ConvFilter
from .elementwise import power_sums
from .problem import ARRAYS, Problem, shifted
from .proximal_gradient import descended
from .splitting import Splitting, alternate, begun
from .synthesis import Synthesis

__all__ = ["Learned", "first_filters", "learned"]

# Turns of inference and filters in an epoch, iterations of inference in each, and how often a step in the filters that
# would raise the cost is halved.
_TURNS, _INFERENCE_STEPS, _HALVINGS = 5, 20, 4
# Before the first epoch there are as many turns as in all epochs, with p = 1 and a smaller weight of the data, which grows
# from where the largest gradient is so many times its threshold: what is most worth its penalty is learned first, by one
# filter and not by several.
_FIRST_WORTH = 2.0
# A filter without maps begins anew as a patch whose norm, with one map below, is so many times the least that is worth a map.
_NEWS = 2.0
# Filters are moved by so many pixels at most, to a window with so much more energy, in filters with a margin that so many
# iterations have found.
_MARGIN, _MORE_ENERGY, _WIDE_STEPS = 2, 1.02, 4


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
    space, power = data.shape[2:], power_of_two_scale(data)
    data, lam = scale_by_power_of_two(data, -power), shifted(lam, (2 - p) * power)
    problem = Problem(Synthesis(filters, space), data, lam)
    # Two sets of filters are there when a step is tried.
    require(ARRAYS * len(data) * problem.image_nbytes + 2 * problem.A.nbytes, f"learning from the maps of {problem}")
    state = begun(problem)
    for weight in _growing(problem, p, _TURNS * epochs):
        problem = _renewed(problem.weighing(weight), state, table)
        problem = _recentred(problem, state, table, 1.0, cg)
        problem, _ = _turn(problem, state, table, 1.0, cg)
    problem = problem.weighing(lam)
    for epoch in range(epochs):
        cost = np.inf
        if epoch < epochs - 1:
            problem = _recentred(_renewed(problem, state, table), state, table, p, cg)
        for _ in range(_TURNS):
            problem, cost = _turn(problem, state, table, p, cg)
        yield Learned(problem.A.filters, cost * float(np.exp2(p * power)), not state.w.any())


def _growing(problem: Problem, p: float, count: int) -> Array:
    """Weights of the data for p = 1, from small ones to what has the effect of the problem's own for p."""
    last = problem.convex_weight(p)
    return np.geomspace(min(last, _FIRST_WORTH / (problem.steepest or 1.0)), last, count, endpoint=False)


def _turn(problem: Problem, state: Splitting, table: Array, p: float, cg: int) -> tuple[Problem, float]:
    """Better maps, then better filters; and the cost."""
    _inferred(problem, state, p, cg)
    filters, cost = _filter_step(problem, state, table, p, cg)
    return problem.with_filters(filters), cost


def _renewed(problem: Problem, state: Splitting, table: Array) -> Problem:
    """Filters whose maps are zero begin anew, as the patch with most energy of what the others leave of the images.

    Where maps are a minimum, no filter there is has a product of more than 1/lam with what they leave. A patch with a norm
    well above that is like none of them; and as its maps are zero, the cost stays what it is.
    """
    unused = ~problem.shaped(state.w).any(axis=(0, 2, 3))
    if not unused.any() or unused.all():
        return problem
    filters, u = problem.A.filters.copy(), problem.shaped(state.u).copy()
    taps = filters.shape[2:]
    if any(n < k for n, k in zip(problem.A.space, taps, strict=True)):
        return problem
    left = problem.shaped_data - problem.A(state.w).T.reshape(problem.shaped_data.shape)
    for k in np.flatnonzero(unused):
        planes = table[:, k]
        energy = sliding_window_view((left[:, planes] ** 2).sum(axis=1), taps, axis=(1, 2)).sum(axis=(-2, -1))
        image, row, column = np.unravel_index(np.argmax(energy), energy.shape)
        if energy[image, row, column] <= planes.sum() * (_NEWS / problem.lam) ** 2:
            continue
        window = (image, slice(None), slice(row, row + taps[0]), slice(column, column + taps[1]))
        patch = left[window] * planes[:, None, None]
        filters[:, k] = _normalised(patch[:, None], filters[:, [k]])[0][:, 0]
        u[:, k] = 0
        left[window] = 0
    if np.array_equal(filters, problem.A.filters):
        return problem
    state.u = _columns(u)
    return problem.with_filters(filters)


def _recentred(problem: Problem, state: Splitting, table: Array, p: float, cg: int) -> Problem:
    """Filters moved to where they are whole, and maps the other way, if a turn with them lowers the cost.

    A filter that is learned one pixel beside where it could be whole is cut off at an edge, and neither step by itself gets
    out of this. For the maps fixed, filters with a margin on all sides are estimated by least squares, and of each the
    window with the most energy is taken.
    """
    filters = problem.A.filters
    taps = filters.shape[2:]
    margin = [min(_MARGIN, k - 1, (n - 1) // 2) for k, n in zip(taps, problem.A.space, strict=True)]
    if not any(margin) or not state.w.any():
        return problem
    rows, columns = (slice(m, n - m) for m, n in zip(margin, problem.A.space, strict=True))
    padded = np.pad(filters, [(0, 0), (0, 0), *((m, m) for m in margin)])
    wide = _least_squares(
        padded,
        problem.shaped(state.w),
        problem.shaped_data[:, :, rows, columns],
        table,
        np.zeros(filters.shape[1]),
        _WIDE_STEPS,
    )
    energy = sliding_window_view((wide.astype(np.float64) ** 2).sum(axis=0), taps, axis=(1, 2)).sum(axis=(-2, -1))
    moved, w, u = filters.copy(), problem.shaped(state.w).copy(), problem.shaped(state.u).copy()
    for k, energies in enumerate(energy):
        at = np.unravel_index(np.argmax(energies), energies.shape)
        if energies[at] > _MORE_ENERGY * energies[tuple(margin)]:
            moved[:, k] = wide[:, k, at[0] : at[0] + taps[0], at[1] : at[1] + taps[1]]
            for maps in (w, u):
                maps[:, k] = _moved(maps[:, k], (int(at[0]) - margin[0], int(at[1]) - margin[1]))
    if np.array_equal(moved, filters):
        return problem
    cost = float(_cost(problem, state.w, p).sum())
    unit, norms = _normalised(moved, filters)
    there = problem.with_filters(unit.astype(filters.dtype))
    trial = Splitting(_scaled(there, _columns(w), norms), _columns(u), np.zeros_like(problem.y), state.rho)
    there, after = _turn(there, trial, table, p, cg)
    if not after < cost:
        return problem
    state.w, state.u, state.s, state.rho = trial.w, trial.u, trial.s, trial.rho
    return there


def _moved(maps: Array, by: tuple[int, int]) -> Array:
    """Planes moved by some rows and columns, with zeros behind."""
    result = np.zeros_like(maps)
    target = tuple(slice(max(b, 0), n + min(b, 0)) for b, n in zip(by, maps.shape[1:], strict=True))
    source = tuple(slice(max(-b, 0), n + min(-b, 0)) for b, n in zip(by, maps.shape[1:], strict=True))
    result[:, *target] = maps[:, *source]
    return result


def _columns(maps: Array) -> Array:
    return maps.reshape(len(maps), -1).T


def _cost(problem: Problem, w: Array, p: float) -> Array:
    return problem.objective(w, problem.A(w), p)


def _inferred(problem: Problem, state: Splitting, p: float, cg: int) -> None:
    """Better maps, of each image that has become better."""
    if not state.w.any() and problem.lam * problem.steepest <= 1:
        return  # zero is the solution for p = 1
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
    maps = problem.shaped(state.w)
    sizes = power_sums(_columns(maps.reshape(-1, *maps.shape[2:])), p).reshape(maps.shape[:2]).sum(axis=0)
    wanted = _least_squares(filters, maps, problem.shaped_data, table, p / problem.lam * sizes, cg)
    share = 1.0
    for _ in range(_HALVINGS + 1):
        candidate, norms = _normalised(filters + share * (wanted - filters), filters)
        candidate = candidate.astype(filters.dtype)
        trial = problem.with_filters(candidate)
        scaled = _scaled(problem, state.w, norms)
        cost = float(_cost(trial, scaled, p).sum())
        if cost <= before:
            state.w = scaled
            return candidate, cost
        share /= 2
    return filters, before


def _scaled(problem: Problem, w: Array, norms: Array) -> Array:
    return _columns(problem.shaped(w) * norms.astype(w.dtype)[:, None, None])


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


def _least_squares(filters: Array, maps: Array, images: Array, table: Array, ridge: Array, cg: int) -> Array:
    """Some conjugate-gradient iterations on the filters' normal equations, from the filters there are.

    ``(Z^T Z + ridge) f = Z^T y`` on connected planes, with Z the convolution with the maps as an operator on filters, and a
    ridge for each map.
    """
    operators = [ConvFilter(z, filters.shape, flip=True) for z in maps]
    mask = table[:, :, None, None].astype(filters.dtype)
    ridge = ridge.astype(filters.dtype)[None, :, None, None]

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
