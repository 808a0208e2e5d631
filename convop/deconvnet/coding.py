"""Convolutional sparse coding: the maps of given images for given filters."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from ..arguments import integer, one_of
from ..backend import Array
from .images import as_images
from .proximal import checked_power, shrunk
from .synthesis import Synthesis

__all__ = [
    "BETAS",
    "SOLVERS",
    "Codes",
    "Problem",
    "Splitting",
    "alternate",
    "at_least_one",
    "begun",
    "checked_betas",
    "checked_weight",
    "chosen_solver",
    "descended",
    "solve",
    "sparse_codes",
]

SOLVERS = ("auto", "admm", "fista", "hqs")
# Weights of the quadratic that half-quadratic splitting puts between the maps and their sparse copies, stage by stage.
BETAS = (1.0, 10.0, 100.0, 1e3, 1e4, 1e5)
# Over-relaxation of ADMM; where rho begins, over the largest gradient; how often it is balanced, by how much at most, and
# from which imbalance on.
_RELAXATION, _FIRST_RHO, _BALANCE_EVERY, _BALANCE_MOST, _BALANCE_FROM = 1.8, 10.0, 3, 2.0, 1.2
# Iterations settle when the objective has fallen by less than a share of the tolerance over so many of them, with a gap
# no larger than so many times the tolerance.
_SETTLED_STEPS, _SETTLED_SHARE, _SETTLED_GAP = 10, 0.1, 10.0
# Reweighting: rounds of iterations, and by what the offset begins and shrinks, relative to the largest map.
_ROUNDS, _ROUND_STEPS, _FIRST_OFFSET, _OFFSET_SHRINKS = 6, 30, 0.1, 0.3
# A stage of half-quadratic splitting ends when its maps change by less than this, or after so many steps.
_STAGE_CHANGE, _STAGE_STEPS = 3e-4, 120


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
        Products with the filters and with their transpose.
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

    Notes
    -----
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
    problem = Problem(Synthesis(bank.astype(dtype), data.shape[2:]), data, checked_weight("lam", lam))
    return solve(
        problem, p, name, betas=checked_betas(betas), cg=at_least_one("cg_iterations", cg_iterations), rtol=rtol,
        limit=at_least_one("maxiter", maxiter),
    )  # fmt: skip


def checked_weight(name: str, value: float) -> float:
    """A number that is positive and finite."""
    try:
        weight = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, got {value!r}") from None
    if not 0 < weight < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value!r}")
    return weight


def checked_betas(betas: Sequence[float]) -> tuple[float, ...]:
    """Positive numbers that grow."""
    try:
        checked = tuple(checked_weight("betas", beta) for beta in betas)
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


def at_least_one(name: str, value: int) -> int:
    """A count that is not zero."""
    count = integer(name, value)
    if count < 1:
        raise ValueError(f"{name} must be at least 1, got {value!r}")
    return count


class Problem:
    """Images and filters, as columns: one an image."""

    def __init__(self, synthesis: Synthesis, data: Array, lam: float) -> None:
        self.A = synthesis
        self.lam = lam
        self.y = data.reshape(len(data), -1).T

    @property
    def zeros(self) -> Array:
        """Maps with nothing in them."""
        return np.zeros((self.y.shape[1], math.prod(self.A.dims)), self.y.dtype).T

    @property
    def shaped_data(self) -> Array:
        """Images with their axes."""
        return self.y.T.reshape(-1, *self.A.dimsd)

    def shaped(self, columns: Array) -> Array:
        """Maps with their axes."""
        return columns.T.reshape(-1, *self.A.dims)

    def objective(self, w: Array, Aw: Array, p: float) -> Array:
        """Of each image, in double precision."""
        misfit = _sums((Aw - self.y) ** 2)
        sizes = np.abs(w)
        return self.lam / 2 * misfit + _sums(sizes if p == 1 else sizes ** sizes.dtype.type(p))

    def dual(self, u: Array, correlation: Array) -> Array:
        """A lower bound of each image's minimum for p = 1, from any u and the largest of ``|A^T u|``."""
        scale = 1 / np.maximum(1, correlation)
        return scale * _sums(u * self.y) - scale**2 * _sums(u * u) / (2 * self.lam)


def _sums(columns: Array) -> Array:
    return np.asarray(columns.sum(axis=0, dtype=np.float64))


def _norm(columns: Array) -> float:
    return float(np.linalg.norm(columns))


@dataclass
class Splitting:
    """The state of ADMM: sparse maps, multipliers, the dual solution of the last system, and rho."""

    w: Array
    u: Array
    s: Array
    rho: float


@dataclass
class _Monitor:
    """Says when to stop."""

    problem: Problem
    rtol: float
    best_dual: Array
    history: list[Array]
    gap: Array

    @classmethod
    def of(cls, problem: Problem, rtol: float) -> _Monitor:
        count = problem.y.shape[1]
        return cls(problem, rtol, np.full(count, -math.inf), [], np.full(count, math.inf))

    def done(self, objective: Array, dual: Array) -> bool:
        self.best_dual = np.maximum(self.best_dual, dual)
        scale = np.where(objective > 0, objective, 1)
        self.gap = (objective - self.best_dual) / scale
        self.history.append(objective)
        if (self.gap <= self.rtol).all():
            return True
        if len(self.history) <= _SETTLED_STEPS:
            return False
        moved = np.abs(self.history[-1 - _SETTLED_STEPS] - objective) / scale
        settled = (moved <= _SETTLED_SHARE * self.rtol) & (self.gap <= _SETTLED_GAP * self.rtol)
        return bool((settled | (self.gap <= self.rtol)).all())


def solve(
    problem: Problem,
    p: float,
    solver: str,
    *,
    betas: tuple[float, ...] = BETAS,
    cg: int = 2,
    rtol: float = 1e-3,
    limit: int = 1000,
) -> Codes:
    """`sparse_codes` of what has been checked."""
    if not problem.y.any():
        count = problem.y.shape[1]
        gap = np.zeros(count) if p == 1 else np.full(count, math.nan)
        return Codes(problem.shaped(problem.zeros), np.zeros(count), gap, 0, True, "the images are zero")
    monitor = _Monitor.of(problem, rtol)
    if solver == "hqs":
        w, steps, converged = _half_quadratic(problem, betas, cg, limit)
    elif solver == "fista":
        w, steps, converged = _fista(problem, monitor, limit)
    else:
        state = begun(problem)
        steps, converged = alternate(problem, state, cg, limit, monitor.done)
        w = state.w
    reason = "converged" if converged else f"stopped after maxiter={limit} iterations"
    if p == 1:
        objective = problem.objective(w, problem.A(w), 1.0)
        gap = (objective - monitor.best_dual) / np.where(objective > 0, objective, 1)
        if solver == "hqs":
            gap = _certified(problem, w, objective)
            reason = f"{reason}: the last of {len(betas)} stages"
        else:
            reason = f"{reason}: within {float(gap.max()):.2g} of the minimum"
        return Codes(problem.shaped(w), objective, gap, steps, converged, reason)
    first = w
    if solver != "hqs":
        w, more = _reweighted(problem, w, p, cg)
        steps += more
    w, more, settled = descended(problem, w, p, rtol, limit)
    objective, of_first = problem.objective(w, problem.A(w), p), problem.objective(first, problem.A(first), p)
    w = np.where(objective <= of_first, w, first)
    return Codes(
        problem.shaped(w),
        np.minimum(objective, of_first),
        np.full(len(objective), math.nan),
        steps + more,
        settled,
        f"{'settled in a local minimum' if settled else reason}, from the solution for p = 1",
    )


def _certified(problem: Problem, w: Array, objective: Array) -> Array:
    """The gap of maps that came without a dual solution."""
    u = problem.lam * (problem.y - problem.A(w))
    dual = problem.dual(u, np.abs(problem.A.adjoint(u)).max(axis=0))
    return (objective - dual) / np.where(objective > 0, objective, 1)


def begun(problem: Problem) -> Splitting:
    """ADMM's state at zero."""
    largest = float(np.abs(problem.A.adjoint(problem.y)).max())
    zeros = problem.zeros
    return Splitting(zeros, zeros.copy(order="K"), np.zeros_like(problem.y), _FIRST_RHO / (largest or 1.0))


class _Systems:
    """``(A A^T + rho/lam) s = b`` by conjugate gradients, each begun with the last solution."""

    def __init__(self, problem: Problem, s: Array, rho: float, iterations: int) -> None:
        self._gram = problem.A.gram
        self._A, self._lam, self._iterations = problem.A, problem.lam, iterations
        self.s = s
        self.image = self._gram.matmat(s)  # A A^T s
        self.set(rho)

    def set(self, rho: float) -> None:
        """Another rho."""
        self._damp = rho / self._lam
        self._preconditioner = self._A.preconditioner(self._damp)

    def solve(self, b: Array) -> None:
        s, image, damp = self.s, self.image, self.s.dtype.type(self._damp)
        r = b - image - damp * s
        z = self._preconditioner(r)
        direction, energy = z, (r * z).sum(axis=0)
        for number in range(self._iterations):
            product = self._gram.matmat(direction)
            curvature = (direction * (product + damp * direction)).sum(axis=0)
            step = np.divide(energy, curvature, out=np.zeros_like(energy), where=curvature > 0)
            s = s + step * direction
            image = image + step * product
            if number + 1 == self._iterations:
                break
            r = r - step * (product + damp * direction)
            z = self._preconditioner(r)
            before, energy = energy, (r * z).sum(axis=0)
            direction = z + np.divide(energy, before, out=np.zeros_like(energy), where=before > 0) * direction
        self.s, self.image = s, image


def alternate(
    problem: Problem,
    state: Splitting,
    cg: int,
    limit: int,
    done: Callable[[Array, Array], bool] | None = None,
    weights: Array | None = None,
) -> tuple[int, bool]:
    """ADMM on ``lam/2 norm(A z - y)^2 + sum weights |w|`` with ``z = w``, from a state and in it.

    Boyd, Parikh, Chu, Peleato and Eckstein (2011), scaled form, with over-relaxation (section 3.4.3) and rho balanced as
    Wohlberg (2017) does, by residuals relative to what they are residuals of.

    Returns
    -------
    (int, bool)
        The iterations, and whether `done` ended them.
    """
    A, y = problem.A, problem.y
    w, u, rho, relaxed = state.w, state.u, state.rho, y.dtype.type(_RELAXATION)
    systems = _Systems(problem, state.s, rho, cg)
    Aw, Au = A(w), A(u)
    step, ended = 0, False
    for step in range(1, limit + 1):
        # z = q + A^T s with q = w - u; A z follows from A A^T s.
        systems.solve(y - (Aw - Au))
        pulled = A.adjoint(systems.s)
        dual = problem.dual(rho * systems.s, rho * np.abs(pulled).max(axis=0)) if done is not None else None
        z = w - u
        z += pulled
        Az = Aw - Au + systems.image
        v = relaxed * z + (1 - relaxed) * w + u
        Av = relaxed * Az + (1 - relaxed) * Aw + Au
        threshold = y.dtype.type(1 / rho) if weights is None else weights / y.dtype.type(rho)
        new = np.sign(v) * np.maximum(np.abs(v) - threshold, 0)
        Anew = A(new)
        balance = step % _BALANCE_EVERY == 1
        if balance:
            primal = _norm(z - new) / max(_norm(z), _norm(new), 1e-30)
            dual_residual = _norm(new - w) / max(_norm(v - new), 1e-30)
        u, Au = v - new, Av - Anew
        w, Aw = new, Anew
        if balance and primal > 0 and dual_residual > 0:
            factor = min(max(math.sqrt(primal / dual_residual), 1 / _BALANCE_MOST), _BALANCE_MOST)
            if not 1 / _BALANCE_FROM < factor < _BALANCE_FROM:
                rho *= factor
                u = u / y.dtype.type(factor)
                Au = Au / y.dtype.type(factor)
                systems.set(rho)
        if done is not None and dual is not None and done(problem.objective(w, Aw, 1.0), dual):
            ended = True
            break
    state.w, state.u, state.s, state.rho = w, u, systems.s, rho
    return step, ended


def _reweighted(problem: Problem, w: Array, p: float, cg: int) -> tuple[Array, int]:
    """Maps for p < 1 from those for p = 1, by weights ``p (|w| + e)^(p - 1)`` with smaller and smaller e."""
    state = begun(problem)
    state.w = w
    largest = float(np.abs(w).max())
    if largest == 0:
        return w, 0
    steps, offset = 0, _FIRST_OFFSET * largest
    for _ in range(_ROUNDS):
        weights = p * (np.abs(state.w) + w.dtype.type(offset)) ** w.dtype.type(p - 1)
        taken, _ = alternate(problem, state, cg, _ROUND_STEPS, weights=weights)
        steps += taken
        offset *= _OFFSET_SHRINKS
    return state.w, steps


def descended(problem: Problem, w: Array, p: float, rtol: float, limit: int) -> tuple[Array, int, bool]:
    """Proximal gradient steps ``w <- prox(w - A^T (A w - y)/L)``, each of which lowers the objective, until they settle."""
    A, L = problem.A, problem.lam * problem.A.gain
    Aw = A(w)
    objective = problem.objective(w, Aw, p)
    step = 0
    for step in range(1, limit + 1):
        w = shrunk(w - w.dtype.type(1 / A.gain) * A.adjoint(Aw - problem.y), L, p)
        Aw = A(w)
        if step % _SETTLED_STEPS == 0:
            before, objective = objective, problem.objective(w, Aw, p)
            if (before - objective <= _SETTLED_SHARE * rtol * objective).all():
                return w, step, True
    return w, step, False


def _momentum(t: float) -> tuple[float, float]:
    after = (1 + math.sqrt(1 + 4 * t * t)) / 2
    return after, (t - 1) / after


def _fista(problem: Problem, monitor: _Monitor, limit: int) -> tuple[Array, int, bool]:
    """Beck and Teboulle (2009), with the momentum begun anew where it points uphill (O'Donoghue and Candes, 2015)."""
    A, y, lam, L = problem.A, problem.y, problem.lam, problem.lam * problem.A.gain
    w = problem.zeros
    v, Aw, Av, t = w, np.zeros_like(y), np.zeros_like(y), 1.0
    for step in range(1, limit + 1):
        residual = y - Av
        pulled = A.adjoint(residual)
        dual = problem.dual(lam * residual, lam * np.abs(pulled).max(axis=0))
        new = shrunk(v + y.dtype.type(1 / A.gain) * pulled, L, 1.0)
        Anew = A(new)
        if float(((v - new) * (new - w)).sum(dtype=np.float64)) > 0:
            t = 1.0
        t, m = _momentum(t)
        factor = y.dtype.type(m)
        v, Av = new + factor * (new - w), Anew + factor * (Anew - Aw)
        w, Aw = new, Anew
        if monitor.done(problem.objective(w, Aw, 1.0), dual):
            return w, step, True
    return w, limit, False


def _half_quadratic(problem: Problem, betas: tuple[float, ...], cg: int, limit: int) -> tuple[Array, int, bool]:
    """``min lam/2 norm(A z - y)^2 + beta/2 norm(z - w)^2 + sum |w|`` for growing beta, by turns in z and w.

    Minimised over z, the first two terms are a smooth function of w with the gradient ``beta (w - z)``, and the turn in w is
    a proximal gradient step of length 1/beta: with momentum it is FISTA.
    """
    A, y = problem.A, problem.y
    w = problem.zeros
    systems = _Systems(problem, np.zeros_like(y), betas[0], cg)
    taken = 0
    for beta in betas:
        systems.set(beta)
        v, Av, Aw, t = w, A(w), A(w), 1.0
        for _ in range(_STAGE_STEPS):
            if taken == limit:
                return w, taken, False
            systems.solve(y - Av)
            new = shrunk(v + A.adjoint(systems.s), beta, 1.0)
            Anew = A(new)
            taken += 1
            if float(((v - new) * (new - w)).sum(dtype=np.float64)) > 0:
                t = 1.0
            t, m = _momentum(t)
            factor = y.dtype.type(m)
            change, size = _norm(new - w), _norm(new)
            v, Av = new + factor * (new - w), Anew + factor * (Anew - Aw)
            w, Aw = new, Anew
            if change <= _STAGE_CHANGE * size:
                break
    return w, taken, True
