"""Convolutional sparse coding: the maps of given images for given filters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from ..arguments import at_least_one, one_of, positive
from ..backend import Array
from ..memory import available, compare
from ..scaling import exponent, times_two_to
from .half_quadratic import BETAS, half_quadratic
from .images import as_images
from .problem import ARRAYS, Monitor, Problem, shifted
from .proximal import checked_power
from .proximal_gradient import accelerated, descended
from .splitting import alternate, begun, reweighted
from .synthesis import Synthesis

__all__ = ["SOLVERS", "Codes", "checked_betas", "chosen_solver", "solve", "sparse_codes"]

SOLVERS = ("auto", "admm", "fista", "hqs")


@dataclass(frozen=True)
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
        Whether the tolerance was reached, for all images.
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
        For "hqs": the weights of its stages, growing.
    cg_iterations : int
        Conjugate-gradient iterations in each system of "admm" and "hqs".
    rtol : float
        By how much the objective may be above its minimum, relative to itself.
    maxiter : int
        Iterations at most.

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
    Images are solved together, or in blocks where there is no memory for all: each takes ten times its maps.

    All convolutions are 'valid', so that maps are larger than images, and products with ``A = Conv(filters, ...,
    flip=True)`` and its transpose, of all images in one call.

    *admm* and *hqs* solve ``(lam A^T A + rho) z = lam A^T y + rho q`` in each iteration, by conjugate gradients on the
    equivalent system in ``A A^T``, which has as many channels as the images, is Toeplitz, and is preconditioned by the
    FFT; begun where the last iteration ended, two iterations are enough. An iteration costs a product with ``A`` and one
    with its transpose, as one of *fista* does. ADMM (Boyd et al., 2011) balances its residuals by rho; half-quadratic
    splitting (Zeiler et al., CVPR 2010) raises beta by stages and has no multipliers. For a fixed beta it is
    proximal gradient descent on a smoothed objective, and is accelerated as FISTA (Beck and Teboulle, 2009) is.

    *The minimum*, for p = 1, is no less than ``<u, y> - norm(u)^2/(2 lam)`` for any u with ``max |A^T u| <= 1``; each
    iteration has such a u. It ends when the gap to it is below `rtol`, or when it is below ten times `rtol` and the
    objective has settled: the bound is loose, and the objective is usually better than it says.

    *For p < 1* there are many local minima. "admm" begins with the solution for p = 1 and minimises sums of
    ``p (|z_0| + e)^(p - 1) |z|`` about the last solution z_0, with smaller and smaller e (Candes, Wakin and Boyd, 2008);
    "hqs" continues with the proximal operator of ``|.|^p``. Both end with proximal gradient steps, which only descend.

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
    bank = np.asarray(filters)
    if bank.ndim != 4 or bank.shape[0] != data.shape[1] or 0 in bank.shape:
        raise ValueError(
            f"filters must have the shape (channels, maps, k, l) with the {data.shape[1]} channels of the images, "
            f"got {bank.shape}"
        )
    if bank.dtype.kind not in "fiub" or not np.isfinite(bank).all():
        raise ValueError("filters must be real and finite")
    if not 0 < rtol < 1:
        raise ValueError(f"rtol must be between 0 and 1, got {rtol!r}")
    p = checked_power(p)
    name = chosen_solver(solver, p)
    return solve(
        bank.astype(dtype), data, positive("lam", lam), p, name, betas=checked_betas(betas),
        cg=at_least_one("cg_iterations", cg_iterations), rtol=rtol, limit=at_least_one("maxiter", maxiter),
    )  # fmt: skip


def checked_betas(betas: Sequence[float]) -> tuple[float, ...]:
    """Positive numbers that grow."""
    try:
        checked = tuple(positive("betas", beta) for beta in betas)
    except TypeError:
        raise TypeError(f"betas must be positive numbers, got {betas!r}") from None
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
    to be ``2^(2 b)`` and beta ``2^(2 (b - a))`` times as large.
    """
    a, b = exponent(filters), exponent(data)
    problem = Problem(
        Synthesis(times_two_to(filters, -a), (data.shape[2], data.shape[3])),
        times_two_to(data, -b),
        shifted(lam, 2 * b - p * (b - a)),
    )
    betas = tuple(shifted(beta, (2 - p) * (b - a)) for beta in betas)
    maps = problem.zeros
    count = maps.shape[1]
    objective, gap, steps, converged = np.zeros(count), np.zeros(count), 0, True
    at_once = _images_at_once(problem)
    for start in range(0, count, at_once):
        images = slice(start, start + at_once)
        part = problem.of(images)
        maps[:, images], objective[images], gap[images], taken, ended = _solved(part, p, solver, betas, cg, rtol, limit)
        steps, converged = max(steps, taken), converged and ended
    reason = "converged" if converged else f"stopped after maxiter={limit} iterations"
    if steps == 0:
        reason = "zero is a solution, nothing is worth its penalty"
    elif p < 1:
        reason = f"{'settled in a local minimum' if converged else reason}, from the solution for p = 1"
    elif solver == "hqs":
        reason = f"{reason}: the last of {len(betas)} stages"
    else:
        reason = f"{reason}: within {float(gap.max()):.2g} of the minimum"
    with np.errstate(over="ignore"):
        maps, objective = times_two_to(maps, b - a), objective * np.exp2(p * (b - a))
    if not (np.isfinite(maps).all() and np.isfinite(objective).all()):
        raise OverflowError(f"the maps are too large for {data.dtype}: scale filters to norms near 1, see also rescale")
    return Codes(problem.shaped(maps), objective, gap, steps, converged, reason)


def _images_at_once(problem: Problem) -> int:
    """How many images there is memory for beside the maps of all.

    Raises
    ------
    MemoryError
        If there is none for a single one.
    """
    count = problem.y.shape[1]
    each, free = problem.image_nbytes, available()
    if free is None:
        return count
    compare((count + ARRAYS) * each, free, f"finding the maps of {problem}", "memory")
    # Half of what is left: others are there, too.
    fitting: int = (free - count * each) // (2 * ARRAYS * each)
    return max(1, min(count, fitting))


def _solved(
    problem: Problem, p: float, solver: str, betas: tuple[float, ...], cg: int, rtol: float, limit: int
) -> tuple[Array, Array, Array, int, bool]:
    """Maps, objective, gap, iterations and whether they have converged."""
    if problem.lam * problem.steepest <= 1:
        # Zero is a minimum: the only one for p = 1, and for p < 1 the one that is nearest to it.
        w = problem.zeros
        objective = problem.objective(w, np.zeros_like(problem.y), p)
        return w, objective, np.full_like(objective, 0 if p == 1 else math.nan), 0, True
    monitor = Monitor.of(problem, rtol)
    if solver == "hqs":
        w, steps, converged = half_quadratic(problem, betas, cg, limit)
    elif solver == "fista":
        w, steps, converged = accelerated(problem, monitor, limit)
    else:
        state = begun(problem)
        steps, converged = alternate(problem, state, cg, limit, monitor.done)
        w = state.w
    if p == 1:
        objective = problem.objective(w, problem.A(w), 1.0)
        if solver == "hqs":
            gap = _certified(problem, w, objective)
        else:
            gap = (objective - monitor.best_dual) / np.where(objective > 0, objective, 1)
        return w, objective, gap, steps, converged
    first = w
    if solver != "hqs":
        w, more = reweighted(problem, w, p, cg)
        steps += more
    w, more, settled = descended(problem, w, p, rtol, limit)
    objective, of_first = problem.objective(w, problem.A(w), p), problem.objective(first, problem.A(first), p)
    w = np.where(objective <= of_first, w, first)
    return w, np.minimum(objective, of_first), np.full(len(objective), math.nan), steps + more, settled


def _certified(problem: Problem, w: Array, objective: Array) -> Array:
    """The gap of maps that came without a dual solution."""
    u = problem.lam * (problem.y - problem.A(w))
    dual = problem.dual(u, np.abs(problem.A.adjoint(u)).max(axis=0))
    return (objective - dual) / np.where(objective > 0, objective, 1)
