"""Convolutional sparse coding: the maps of given images for given filters."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from ..arrays.backend import Array
from ..arrays.memory import available, compare
from ..arrays.scaling import power_of_two_scale, scale_by_power_of_two
from ..geometry.arguments import at_least_one, number, one_of, positive
from .half_quadratic import BETAS, half_quadratic
from .images import as_images, real_array
from .problem import ARRAYS, Monitor, Problem, shifted
from .proximal import checked_power
from .proximal_gradient import accelerated, descended
from .splitting import alternate, begun, reweighted
from .synthesis import Synthesis

__all__ = ["SOLVERS", "Codes", "checked_betas", "chosen_solver", "solve", "sparse_codes"]

SOLVERS = ("auto", "admm", "fista", "hqs")
# Images are solved together whose largest moduli differ by no more than this factor.
_ALIKE = 16.0


@dataclass(frozen=True, eq=False)
class Codes:
    """What `sparse_codes` found.

    Attributes
    ----------
    maps : ndarray of shape ``(I, K1, n + k - 1, m + k - 1)``
        The maps of each image.
    objective : ndarray of shape ``(I,)``
        What was minimised, of each image.
    gap : ndarray of shape ``(I,)``
        How far above the minimum it is at most, relative to itself, by a dual solution; NaN for p < 1, where the minimum
        is not known.
    iterations : int
        Products with the filters and with their transpose, where images are solved in blocks the most of a block.
    converged : bool
        Whether the tolerance was reached for all images, as far as can be told: see the notes of `sparse_codes`.
    reason : str
        Why it ended, in words.
    """

    maps: Array
    objective: Array
    gap: Array
    iterations: int
    converged: bool
    reason: str


def sparse_codes(
    filters: npt.ArrayLike,
    images: npt.ArrayLike,
    *,
    lam: float = 1.0,
    p: float = 1.0,
    solver: str = "auto",
    betas: Sequence[float] = BETAS,
    cg_iterations: int = 2,
    rtol: float = 1e-3,
    maxiter: int = 1000,
) -> Codes:
    r"""Maps z that minimise ``lam/2 norm(sum_k f_k * z_k - y)^2 + sum |z|^p`` for each image y.

    Parameters
    ----------
    filters : array_like of shape ``(K0, K1, k, l)``
        For each of K1 maps a filter for each of K0 channels.
    images : array_like of shape ``(I, K0, n, m)`` or ``(I, n, m)``
        The data.
    lam : float
        Weight of the data, more than 0.
    p : float
        Power of the penalty, more than 0 and at most 1.
    solver : {"auto", "admm", "fista", "hqs"}
        Alternating directions, accelerated proximal gradients (for p = 1) or half-quadratic splitting. "auto" is "admm".
    betas : sequence of float
        For "hqs": the weights of its stages, growing, for maps whose largest is about 1; they are scaled to others.
    cg_iterations : int
        Conjugate-gradient iterations in each system of "admm" and "hqs", at least: there are more where these leave much of
        the residual.
    rtol : float
        By how much the objective may be above its minimum, relative to itself.
    maxiter : int
        Iterations at most, in all stages together.

    Returns
    -------
    Codes

    Raises
    ------
    ValueError, TypeError
        For arguments that do not fit together.
    MemoryError
        Before anything is computed, if the maps do not fit.
    OverflowError
        If maps are too large for the dtype.

    Notes
    -----
    Images are solved together if their largest values are within a factor of 16, in blocks where there is no memory for all:
    each takes ten times its maps. How an image is approximated depends on those it is solved with, and in its last digits on
    the number of threads; the minimum does not.

    All convolutions are 'valid', so that maps are larger than images, and products with ``A = Conv(filters, ...,
    flip=True)`` and its transpose, of all images in one call.

    *admm* and *hqs* solve ``(lam A^T A + rho) z = lam A^T y + rho q`` in each iteration, by conjugate gradients on the
    equivalent system in ``A A^T``, which has as many channels as the images, is Toeplitz, and is preconditioned by the
    FFT; begun where the last iteration ended, two iterations are enough for most filters. An iteration costs a product with
    ``A`` and one with its transpose, as one of *fista* does. ADMM (Boyd et al., 2011) balances its residuals by rho;
    half-quadratic splitting (Zeiler et al., CVPR 2010) raises beta by stages and has no multipliers. For a fixed beta it is
    proximal gradient descent on a smoothed objective, and for p = 1 accelerated as FISTA (Beck and Teboulle, 2009) is; after
    its stages FISTA goes on from where it is, until the minimum is as close as `rtol` asks.

    *The minimum*, for p = 1, is no less than ``<u, y> - norm(u)^2/(2 lam)`` for any u with ``max |A^T u| <= 1``; each
    iteration has such a u. It ends when the gap to it is below `rtol`, or when it is below ten times `rtol` and the
    objective has moved by less than a tenth of `rtol` over the last fifth of all iterations, ten at least: the bound is
    loose, and the objective is usually better than it says.

    *For p < 1* there are many local minima. Both solvers begin with the solution of a problem with p = 1, of a weight that
    follows from p and the size of the maps, so that units do not matter. "admm" minimises sums of
    ``p (|z_0| + e)^(p - 1) |z|`` about the last solution z_0, with smaller and smaller e (Candes, Wakin and Boyd, 2008);
    "hqs" goes through its stages with the proximal operator of ``|.|^p``. From the better of this and the solution for p = 1
    with the same lam, proximal gradient steps descend to a local minimum; zero is the result where it is better.

    Examples
    --------
    >>> import numpy as np
    >>> from convop.deconvnet import sparse_codes
    >>> rng = np.random.default_rng(0)
    >>> codes = sparse_codes(rng.standard_normal((1, 4, 5, 5)), rng.standard_normal((2, 16, 16)), lam=0.3)
    >>> codes.maps.shape, codes.converged
    ((2, 4, 20, 20), True)
    """
    data = as_images(images)
    dtype = data.dtype
    bank = real_array(filters, "filters")
    if bank.ndim != 4 or bank.shape[0] != data.shape[1] or 0 in bank.shape:
        raise ValueError(
            f"filters must have the shape (channels, maps, k, l) with the {data.shape[1]} channels of the images, "
            f"got {bank.shape}"
        )
    with np.errstate(over="ignore"):
        cast = bank.astype(dtype)
    if not np.isfinite(cast).all() or bool(cast.any()) != bool(bank.any()):
        raise ValueError(
            f"filters as large or small as {float(np.abs(bank).max()):.1e} leave {dtype}, the dtype of the images: give images in float64"
        )
    if not 0 < number("rtol", rtol) < 1:
        raise ValueError(f"rtol must be between 0 and 1, got {rtol!r}")
    p = checked_power(p)
    name = chosen_solver(solver, p)
    return solve(
        cast, data, positive("lam", lam), p, name, betas=checked_betas(betas),
        cg=at_least_one("cg_iterations", cg_iterations), rtol=float(rtol), limit=at_least_one("maxiter", maxiter),
    )  # fmt: skip


def checked_betas(betas: Sequence[float]) -> tuple[float, ...]:
    """Positive numbers that grow."""
    if isinstance(betas, str | bytes) or not np.iterable(betas):
        raise TypeError(f"betas must be one or more numbers that grow, got {betas!r}")
    checked = tuple(positive("betas", beta) for beta in betas)
    if not checked or any(b <= a for a, b in pairwise(checked)):
        raise ValueError(f"betas must be one or more numbers that grow, got {betas!r}")
    return checked


def chosen_solver(solver: str, p: float) -> str:
    """The solver that is meant."""
    name = one_of("solver", solver, SOLVERS)
    if name == "fista" and p != 1:
        raise ValueError(f"solver 'fista' is for p = 1, got p = {p:g}: use 'admm' or 'hqs'")
    return "admm" if name == "auto" else name


def solve(
    filters: Array,
    data: Array,
    lam: float,
    p: float,
    solver: str,
    *,
    betas: tuple[float, ...] = BETAS,
    cg: int = 2,
    rtol: float = 1e-3,
    limit: int = 1000,
) -> Codes:
    """`sparse_codes` of what has been checked: of all images at once, or of as many as there is memory for.

    Filters and images whose squares leave the range of their dtype are divided by powers of two, ``2^a`` and ``2^b``. Maps
    are ``2^(b - a)`` times those that are found then, and the penalty ``2^(p (b - a))`` times as large, over which lam has
    to be ``2^(2 b)`` times as large.
    """
    count = len(data)
    dims = (filters.shape[1], *(n + k - 1 for n, k in zip(data.shape[2:], filters.shape[2:], strict=True)))
    maps = np.zeros((count, *dims), data.dtype)
    objective, gap, steps, converged = np.zeros(count), np.zeros(count), 0, True
    for images in _alike(data):
        a, b = power_of_two_scale(filters), power_of_two_scale(data[images])
        problem = Problem(
            Synthesis(scale_by_power_of_two(filters, -a), (data.shape[2], data.shape[3])),
            scale_by_power_of_two(data[images], -b),
            shifted(lam, 2 * b - p * (b - a)),
        )
        for block in _blocks(problem, maps.nbytes):
            at = images[block]
            w, objective[at], gap[at], taken, ended = _solved(problem.of(block), p, solver, betas, cg, rtol, limit)
            with np.errstate(over="ignore"):
                maps[at] = scale_by_power_of_two(problem.shaped(w), b - a)
                objective[at] *= np.exp2(p * (b - a))
            steps, converged = max(steps, taken), converged and ended
    if not (np.isfinite(maps).all() and np.isfinite(objective).all()):
        raise OverflowError(f"the maps are too large for {data.dtype}: scale filters to norms near 1, see also rescale")
    return Codes(maps, objective, gap, steps, converged, _reason(p, gap, steps, converged, limit))


def _alike(data: Array) -> list[Array]:
    """The numbers of images whose largest moduli are alike.

    They are solved together, with one rho, which has to fit their maps.
    """
    largest = np.abs(data).max(axis=(1, 2, 3))
    order = np.argsort(-largest, kind="stable")
    groups: list[list[int]] = []
    for image in order:
        if not groups or largest[image] * _ALIKE < largest[groups[-1][0]]:
            groups.append([])
        groups[-1].append(int(image))
    return [np.sort(group) for group in groups]


def _blocks(problem: Problem, kept: int) -> Iterator[slice]:
    """As many images at once as there is memory for.

    Raises
    ------
    MemoryError
        If there is none for a single one.
    """
    count, each, free = problem.y.shape[1], problem.image_nbytes, available()
    at_once = count
    if free is not None:
        symbols = problem.A.nbytes
        compare(kept + symbols + ARRAYS * each, free, f"finding the maps of {problem}", "memory")
        # Half of what is left: others are there, too.
        at_once = max(1, min(count, (free - kept - symbols) // (2 * ARRAYS * each)))
    for start in range(0, count, at_once):
        yield slice(start, start + at_once)


def _reason(p: float, gap: Array, steps: int, converged: bool, limit: int) -> str:
    """Why it ended."""
    if steps == 0:
        return (
            "zero is the solution: nothing is worth its penalty"
            if p == 1
            else "zero, a local minimum; none better was found"
        )
    ended = "converged" if converged else f"stopped after maxiter={limit} iterations"
    if p == 1:
        return f"{ended}: within {float(gap.max()):.2g} of the minimum"
    return "settled in a local minimum" if converged else ended


def _solved(
    problem: Problem, p: float, solver: str, betas: tuple[float, ...], cg: int, rtol: float, limit: int
) -> tuple[Array, Array, Array, int, bool]:
    """Maps, objective, gap, iterations and whether they have converged."""
    if p == 1:
        w, dual, steps, converged = _convex(problem, solver, betas, cg, rtol, limit)
    else:
        # From maps that a penalty of p = 1 of about the same effect gives, whatever the unit of the images is.
        w, _, steps, converged = _convex(problem.weighing(problem.convex_weight(p)), "admm", betas, cg, rtol, limit)
        if w.any():
            go_on = partial(half_quadratic, betas=betas) if solver == "hqs" else reweighted
            w, taken = go_on(problem, w, p, cg=cg, limit=limit - steps)
            steps += taken
        # No worse than the solution for p = 1 is.
        other, _, taken, _ = _convex(problem, "admm", betas, cg, rtol, (limit - steps) // 2)
        steps += taken
        w, _ = _better(problem, w, other, p)
        if w.any():
            w, taken, converged = descended(problem, w, p, rtol, limit - steps)
            steps += taken
        dual = np.full(problem.y.shape[1], math.nan)
    w, objective = _better(problem, w, problem.zeros, p)
    # Rounding may find a minimum below the bound.
    return w, objective, np.maximum(objective - dual, 0) / np.where(objective > 0, objective, 1), steps, converged


def _better(problem: Problem, w: Array, other: Array, p: float) -> tuple[Array, Array]:
    """Of each image the maps with the lower objective, and that."""
    first, second = (problem.objective(maps, problem.A(maps), p) for maps in (w, other))
    return (np.where(second < first, other, w) if (second < first).any() else w), np.minimum(first, second)


def _convex(
    problem: Problem, solver: str, betas: tuple[float, ...], cg: int, rtol: float, limit: int
) -> tuple[Array, Array, int, bool]:
    """Maps for p = 1, a lower bound of their objective, iterations and whether they have converged."""
    if problem.lam * problem.steepest <= 1:
        return problem.zeros, problem.misfit(np.zeros_like(problem.y)), 0, True
    w, monitor, taken = problem.zeros, Monitor.of(problem, rtol), 0
    if solver == "admm":
        state = begun(problem)
        steps, converged = alternate(problem, state, cg, limit, monitor.done)
        return state.w, monitor.best_dual, steps, converged
    if solver == "hqs":
        w, taken = half_quadratic(problem, w, 1.0, betas, cg, limit)
    w, steps, converged = accelerated(problem, w, monitor, limit - taken)
    if steps == 0:
        residual = problem.y - problem.A(w)
        return w, problem.dual(residual, np.abs(problem.A.adjoint(residual)).max(axis=0)), taken, False
    return w, monitor.best_dual, taken + steps, converged
