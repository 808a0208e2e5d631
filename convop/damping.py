"""Choice of the Tikhonov parameter: generalised cross-validation, the discrepancy principle, and noise levels."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .arrays.backend import Array, as_array, namespace, to_cpu
from .arrays.progress import convergence_bar
from .geometry.arguments import boolean, positive
from .inverse.golub_kahan import GolubKahan
from .inverse.scaled_problem import ScaledProblem
from .inverse.spectral_measure import ExactMeasures, SpectralMeasure
from .inverse.trace_measure import trace_measure
from .operators.conv import Conv, ConvTranspose

__all__ = ["discrepancy", "gcv", "noise_level"]

# Bidiagonalisations end when the two dampings found from their lower and their upper quadrature differ by a factor with
# this logarithm, or after so many steps. The residual's logarithm grows at most twice as fast as the damping's.
_GCV_AGREEMENT, _DISCREPANCY_AGREEMENT, _MOST_STEPS = 0.05, 0.01, 900
# Bounds are computed after this number of steps, and again after so many more, relative to the steps so far.
_FIRST_STEPS, _MORE_STEPS = 10, 0.25
# Candidates, relative to the norm of the operator.
_LEAST, _MOST, _CANDIDATES = 1e-7, 1e2, 500
# The mean of a normal variable's modulus below its median 0.6745: 4 (phi(0) - phi(0.6745)), with the normal density phi.
_MEAN_OF_SMALLER_HALF = 0.3247
# Random signs that estimate a trace: as many vectors as give so many numbers.
_PROBED_NUMBERS = 20_000


# Called with the steps of bidiagonalisation so far and the current estimate of the damping.
DampingCallback: TypeAlias = Callable[[int, float], object]


def gcv(
    A: Any,
    y: npt.ArrayLike,
    *,
    rng: int | np.random.Generator = 0,
    progress: bool = False,
    callback: DampingCallback | None = None,
) -> float:
    r"""Chooses the damping of `tikhonov` by generalised cross-validation, without knowing the noise level.

    Parameters
    ----------
    A : LinearOperator
        As in `tikhonov`.
    y : array_like
        Data, as in `tikhonov`; several data get one common damping.
    rng : int or numpy.random.Generator
        Seed of the random signs.
    progress : bool
        Whether to show a progress bar on standard error; needs rich (``pip install 'convop[cli]'``).
    callback : callable, optional
        Called as ``callback(steps, damp)`` with the steps of bidiagonalisation so far and the current estimate of the
        damping, each time that it is computed anew; with 0 steps and the result where no steps are needed. An exception
        that it raises ends the search.

    Returns
    -------
    float
        The minimiser of ``norm(A x - y)^2/trace(I - A A_damp)^2`` over the damping, where ``x = A_damp y`` is Tikhonov's
        solution.

    Raises
    ------
    ValueError
        If the data are zero, or the function has no minimum but the smallest damping, which happens without noise, and
        with fewer data than unknowns, or none but the largest, which happens with data that are noise alone.
    ModuleNotFoundError
        If `progress` is set and rich is not installed.

    Notes
    -----
    Golub, Heath and Wahba (1979, doi:10.1080/00401706.1979.10489751) give the function, Golub and von Matt (1997,
    doi:10.1080/10618600.1997.10474725) its computation for large problems. Numerator and trace hold for all dampings at once.
    Both are exact where fast transforms diagonalise `A`, and for kernels that are outer products over the axes (Gaussian,
    box), by the eigenvectors of each axis.

    Otherwise the numerator comes from Golub and Kahan's bidiagonalisation of `A` that starts with the data. Traces of
    convolutions on domains 16 times as large as the kernel come from its frequencies, and from a short domain at the ends of
    each axis; only corners are left out. For smaller domains, several output channels in a group and other operators, they
    come from a bidiagonalisation that starts with random signs (Hutchinson's estimate). The steps end when lower and upper
    bounds of the function have a minimum at the same damping to 5 percent, twice, with a quarter more steps between. Where
    the function has several minima, it need not be the least. After at most 900 steps the larger of the
    two dampings is returned: with little noise, the smallest singular values decide, and take many steps to appear.

    The noise has to be white. The minimum gives the best prediction of the data, not the best solution: photographs
    usually need more damping than this, as `discrepancy` gives.

    Examples
    --------
    >>> import numpy as np
    >>> from convop import Conv, damping
    >>> rng = np.random.default_rng(0)
    >>> A = Conv(np.ones((5, 5)) / 25, (64, 64), padding="same", padding_mode="symmetric")
    >>> x = np.cumsum(rng.standard_normal((64, 64)), axis=0)
    >>> 0.01 < damping.gcv(A, A @ x + rng.standard_normal((64, 64))) < 1
    True
    """
    problem, generator = _validated_problem(A, y), np.random.default_rng(rng)
    shows_progress = _validate_reporting(progress, callback)

    exact = ExactMeasures.of(problem)
    if exact is not None:
        norm, damps = exact.norm, _candidates(exact.norm)
        scores = exact.data.residual_squares(damps) / exact.trace.residual_products(damps) ** 2
        damp = float(damps[int(np.argmin(scores))])
        if callback is not None:
            callback(0, problem.unscale_damp(damp))
    else:
        data = GolubKahan(problem.A, problem.y)
        trace = None
        if isinstance(problem.A, Conv | ConvTranspose):
            trace = trace_measure(*problem.A.convolution(), problem.A.shape[0])
        processes: tuple[GolubKahan, ...]
        bound_products: Callable[[Array], tuple[Array, Array]]
        if trace is not None:
            processes, bound_products = (data,), partial(_exact_bounds, trace)
        else:
            rows = problem.y.shape[0]
            probes = generator.choice([-1.0, 1.0], (rows, -(-_PROBED_NUMBERS // rows)))
            signs = GolubKahan(problem.A, namespace(problem.y).asarray(probes, dtype=problem.y.dtype))
            processes, bound_products = (data, signs), signs.residual_products

        def find_damps() -> tuple[float, float]:
            damps = _candidates(data.norm)
            squares, products = data.residual_squares(damps), bound_products(damps)
            return _minimisers(squares[0] / products[1] ** 2, squares[1] / products[0] ** 2, damps)

        damp = _extend_until_agreement(problem, processes, find_damps, _GCV_AGREEMENT, 2, shows_progress, callback)
        norm = data.norm
    if damp <= _candidates(norm)[1]:
        raise ValueError(
            "generalised cross-validation finds no damping: without noise, or with fewer data than unknowns, the "
            "smallest looks best; use convop.damping.discrepancy, or a damping of your own"
        )
    if damp >= _candidates(norm)[-2]:
        raise ValueError(
            "generalised cross-validation finds nothing but noise in y: the largest damping looks best, whose solution is "
            "zero; use a damping of your own"
        )
    return problem.unscale_damp(damp)


def noise_level(y: npt.ArrayLike) -> float:
    """Estimates the standard deviation of white noise in an array that is smooth otherwise, such as a blurred image.

    Parameters
    ----------
    y : array_like
        Two or more elements along each axis.

    Returns
    -------
    float
        From the smaller half of the moduli of the finest diagonal Haar wavelet coefficients. Donoho and Johnstone
        (1994, doi:10.1093/biomet/81.3.425) use their median.

    Raises
    ------
    ValueError
        If an axis has fewer than two elements.

    Examples
    --------
    >>> import numpy as np
    >>> from convop import damping
    >>> y = np.linspace(0, 1, 256) + 0.1 * np.random.default_rng(0).standard_normal((256, 256))
    >>> 0.095 < damping.noise_level(y) < 0.105
    True
    """
    details = to_cpu(as_array(y, "y")).astype(np.complex128 if np.iscomplexobj(y) else np.float64)
    if details.ndim == 0 or min(details.shape) < 2:
        raise ValueError(f"y must have two or more elements along each axis, got shape {details.shape}")
    for axis, n in enumerate(details.shape):
        pairs = np.moveaxis(details, axis, 0)[: n // 2 * 2]
        details = np.moveaxis((pairs[::2] - pairs[1::2]) / math.sqrt(2), 0, axis)
    is_complex = details.dtype.kind == "c"
    components = np.concatenate([details.real.ravel(), details.imag.ravel()]) if is_complex else details
    moduli = np.sort(np.abs(components), axis=None)
    # Unlike the median, the mean of the smaller half does not stick to the steps of values rounded to 8 bits.
    deviation = float(moduli[: (moduli.size + 1) // 2].mean()) / _MEAN_OF_SMALLER_HALF
    return deviation * math.sqrt(2) if is_complex else deviation


def discrepancy(
    A: Any,
    y: npt.ArrayLike,
    noise: float,
    *,
    progress: bool = False,
    callback: DampingCallback | None = None,
) -> float:
    """Chooses the damping of `tikhonov` whose residual is as large as the noise: Morozov's discrepancy principle.

    Parameters
    ----------
    A : LinearOperator
        As in `tikhonov`.
    y : array_like
        Data, as in `tikhonov`; several data get one common damping.
    noise : float
        Standard deviation of the noise in each element of `y`.
    progress : bool
        Whether to show a progress bar on standard error; needs rich (``pip install 'convop[cli]'``).
    callback : callable, optional
        Called as ``callback(steps, damp)`` with the steps of bidiagonalisation so far and the current estimate of the
        damping, each time that it is computed anew; with 0 steps and the result where no steps are needed. An exception
        that it raises ends the search.

    Returns
    -------
    float
        The damping with ``norm(A x - y) = noise*sqrt(size of y)`` for Tikhonov's solution ``x``.

    Raises
    ------
    ValueError
        If no damping of 1e-7 of the norm of `A` or more has such a residual: the noise is larger than the data, or smaller
        than the part of the data that no ``A x`` explains.
    ModuleNotFoundError
        If `progress` is set and rich is not installed.

    Notes
    -----
    The residual for all dampings at once comes from Golub and Kahan's bidiagonalisation, which bounds it from below and
    from above, or exactly from fast transforms or the eigenvectors of each axis, as in `gcv`. Steps end when the bounds give
    the same damping to 1 percent. If they do not in 900 steps, as with very little noise, the result is the larger of two
    dampings between which the right one lies.

    Examples
    --------
    >>> import numpy as np
    >>> from convop import Conv, damping, tikhonov
    >>> rng = np.random.default_rng(0)
    >>> A = Conv(np.ones((5, 5)) / 25, (64, 64), padding="same", padding_mode="symmetric")
    >>> y = A @ np.cumsum(rng.standard_normal((64, 64)), axis=0) + 0.5 * rng.standard_normal((64, 64))
    >>> damp = damping.discrepancy(A, y, 0.5)
    >>> bool(np.isclose(tikhonov(A, y, damp).residual_norm, 0.5 * 64, rtol=0.01))
    True
    """
    problem, shows_progress = _validated_problem(A, y), _validate_reporting(progress, callback)
    noise = positive("noise", noise)
    size, rms = problem.y.size, _root_mean_square(problem)
    if noise >= rms:
        raise ValueError(
            f"noise {noise:g} is as large as the data, whose root mean square is {rms:g}: there is nothing to recover"
        )
    wanted = problem.scale_data(noise) ** 2 * size

    def fit(squares: Array, damps: Array) -> float:
        # The residual grows with the damping.
        return float(np.exp(np.interp(wanted, squares, np.log(damps))))

    exact = ExactMeasures.of(problem)
    if exact is not None:
        squares = exact.data.residual_squares(_candidates(exact.norm))
        damp, least = fit(squares, _candidates(exact.norm)), float(squares[0])
        if callback is not None:
            callback(0, problem.unscale_damp(damp))
    else:
        data = GolubKahan(problem.A, problem.y)

        def find_damps() -> tuple[float, float]:
            damps = _candidates(data.norm)
            low, high = (fit(squares, damps) for squares in data.residual_squares(damps))
            return low, high

        damp = _extend_until_agreement(
            problem, (data,), find_damps, _DISCREPANCY_AGREEMENT, 1, shows_progress, callback
        )
        least = float(data.residual_squares(_candidates(data.norm)[:1])[0][0])
    if least > wanted:
        raise ValueError(
            f"noise {noise:g} is less than what no solution explains: the residual is at least "
            f"{problem.unscale_data(math.sqrt(least / size)):g} an element; use a larger noise"
        )
    return problem.unscale_damp(damp)


def _validated_problem(A: Any, y: npt.ArrayLike) -> ScaledProblem:
    """Returns the scaled problem without damping, for data that determine a damping."""
    problem = ScaledProblem.of(A, y, 0.0)
    if problem.has_zero_data:
        raise ValueError("y must not be zero everywhere: any damping gives the same solution")
    if not problem.A.rmatmat(problem.y).any():
        raise ValueError("y must not be orthogonal to all that A gives: any damping gives the solution zero")
    return problem


def _root_mean_square(problem: ScaledProblem) -> float:
    """Returns the root mean square of the caller's data."""
    y = namespace(problem.y).abs(problem.y).astype(np.float64)
    return problem.unscale_data(math.sqrt(float((y**2).mean())))


def _candidates(norm: float) -> Array:
    """Returns the dampings that are compared, for an operator of this norm."""
    return np.asarray(norm * np.geomspace(_LEAST, _MOST, _CANDIDATES))


def _validate_reporting(progress: bool, callback: DampingCallback | None) -> bool:
    """Returns whether to show a progress bar, for arguments that are valid."""
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be callable, got {callback!r}")
    return boolean("progress", progress)


def _minimisers(lower: Array, upper: Array, damps: Array) -> tuple[float, float]:
    """Returns the dampings of least lower and upper bound, of a function that has a minimum between both.

    Lower bounds at small dampings are far too small before the bidiagonalisation has found small singular values. So only
    dampings from the next smaller one on whose lower bound is above the least upper one count: the function has a minimum
    between them. Without such a damping on both sides there is none yet: the function may fall on towards the least or the
    largest candidate.
    """
    best = int(np.argmin(upper))
    above = np.flatnonzero(lower[:best] >= upper[best])
    if not len(above) or not (lower[best + 1 :] >= upper[best]).any():
        return float(damps[0]), float(damps[best])
    first = int(above[-1])
    return float(damps[first + int(np.argmin(lower[first:]))]), float(damps[best])


def _exact_bounds(trace: SpectralMeasure, damps: Array) -> tuple[Array, Array]:
    """Returns ``trace(I - A A_damp)`` for each damping as its lower and its upper bound."""
    products = trace.residual_products(damps)
    return products, products


def _extend_until_agreement(
    problem: ScaledProblem,
    processes: tuple[GolubKahan, ...],
    find_damps: Callable[[], tuple[float, float]],
    agreement: float,
    checks: int,
    shows_progress: bool,
    callback: DampingCallback | None,
) -> float:
    """Extends bidiagonalisations until the lower and the upper quadrature give the same damping.

    Parameters
    ----------
    problem : ScaledProblem
        The problem, which converts dampings to the caller's units.
    processes : tuple of GolubKahan
        The bidiagonalisations.
    find_damps : callable
        Returns the two dampings.
    agreement : float
        Largest difference of their logarithms.
    checks : int
        Number of checks one after another at which they agree.
    shows_progress, callback
        As in `gcv`.

    Returns
    -------
    float
        The geometric mean of the two; if they do not agree in 900 steps, the larger.
    """
    difference, check, agreed = 1.0, _FIRST_STEPS, 0
    with convergence_bar("uncertainty", agreement) if shows_progress else nullcontext() as update:
        for steps in range(1, _MOST_STEPS + 1):
            for process in processes:
                process.step()
            if steps in (check, _MOST_STEPS):
                check = steps + max(_FIRST_STEPS, math.ceil(_MORE_STEPS * steps))
                low, high = sorted(find_damps())
                difference = math.log(high / low)
                agreed = agreed + 1 if difference <= agreement else 0
                damp = math.sqrt(low * high) if difference <= agreement else high
                if callback is not None:
                    callback(steps, problem.unscale_damp(damp))
            if update is not None:
                update(min(1.0, difference))
            if agreed == checks:
                break
    return damp
