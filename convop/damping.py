"""Choice of the Tikhonov parameter: generalised cross-validation, the discrepancy principle, and noise levels."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from .arrays.backend import Array, as_array, namespace, to_cpu
from .inverse.scaled_problem import ScaledProblem
from .inverse.spectral_measure import ExactMeasures, GolubKahan, SpectralMeasure

__all__ = ["discrepancy", "gcv", "noise_level"]

# Bidiagonalisations end when the two dampings found from their lower and their upper quadrature differ by a factor with
# this logarithm, or after so many steps.
_AGREEMENT, _MOST_STEPS = 0.05, 900
# Candidates, relative to the norm of the operator.
_LEAST, _MOST, _CANDIDATES = 1e-7, 1e2, 500
# The mean of a normal variable's modulus below its median 0.6745: 4 (phi(0) - phi(0.6745)), with the normal density phi.
_MEAN_OF_SMALLER_HALF = 0.3247
# Random signs that estimate a trace: as many vectors as give so many numbers.
_PROBED_NUMBERS = 20_000


def gcv(A: Any, y: npt.ArrayLike, *, rng: int | np.random.Generator = 0) -> float:
    r"""Chooses the damping of `tikhonov` by generalised cross-validation, without knowing the noise level.

    Parameters
    ----------
    A : LinearOperator
        As in `tikhonov`.
    y : array_like
        Data, as in `tikhonov`; several data get one common damping.
    rng : int or numpy.random.Generator
        Seed of the random signs.

    Returns
    -------
    float
        The minimiser of ``norm(A x - y)^2/trace(I - A A_damp)^2`` over the damping, where ``x = A_damp y`` is Tikhonov's
        solution.

    Raises
    ------
    ValueError
        If the data are zero, or the function has no minimum but the smallest damping, which happens without noise, and
        with fewer data than unknowns.

    Notes
    -----
    Golub, Heath and Wahba (1979, doi:10.1080/00401706.1979.10489751) give the function, Golub and von Matt (1997,
    doi:10.1080/10618600.1997.10474725) its computation for large problems. The numerator comes from Golub and Kahan's
    bidiagonalisation of `A` that starts with the data, the trace from one that starts with random signs (Hutchinson's
    estimate); both hold for all dampings at once. The steps end when the lower and the upper bounds of both have their
    minimum at the same damping to 5 percent. After at most 900 steps the larger of the two dampings is returned: with
    little noise, the smallest singular values decide, and take many steps to appear. Where fast transforms diagonalise
    `A`, both are computed exactly.

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
    exact = ExactMeasures.of(problem)

    def minimiser(data: SpectralMeasure, trace: SpectralMeasure, norm: float) -> float:
        damps = _candidates(norm)
        return float(damps[int(np.argmin(data.residual_squares(damps) / trace.residual_products(damps) ** 2))])

    if exact is not None:
        damp, norm = minimiser(exact.data, exact.trace, exact.norm), exact.norm
    else:
        rows = problem.y.shape[0]
        probes = generator.choice([-1.0, 1.0], (rows, -(-_PROBED_NUMBERS // rows)))
        data = GolubKahan(problem.A, problem.y)
        signs = GolubKahan(problem.A, namespace(problem.y).asarray(probes, dtype=problem.y.dtype))
        damp = _extend_until_agreement(
            (data, signs),
            lambda: (
                minimiser(data.lower, signs.lower, data.norm),
                minimiser(data.upper, signs.upper, data.norm),
            ),
        )
        norm = data.norm
    if damp <= _candidates(norm)[1]:
        raise ValueError(
            "generalised cross-validation finds no damping: without noise, or with fewer data than unknowns, the "
            "smallest looks best; use convop.damping.discrepancy, or a damping of your own"
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


def discrepancy(A: Any, y: npt.ArrayLike, noise: float) -> float:
    """Chooses the damping of `tikhonov` whose residual is as large as the noise: Morozov's discrepancy principle.

    Parameters
    ----------
    A : LinearOperator
        As in `tikhonov`.
    y : array_like
        Data, as in `tikhonov`; several data get one common damping.
    noise : float
        Standard deviation of the noise in each element of `y`.

    Returns
    -------
    float
        The damping with ``norm(A x - y) = noise*sqrt(size of y)`` for Tikhonov's solution ``x``.

    Raises
    ------
    ValueError
        If no damping has such a residual: the noise is larger than the data, or smaller than the part of the data that
        no ``A x`` explains.

    Notes
    -----
    The residual for all dampings at once comes from Golub and Kahan's bidiagonalisation, which bounds it from below and
    from above, or exactly from fast transforms, as in `gcv`. If the bounds do not meet in 900 steps, as with very little
    noise, the result is the larger of two dampings between which the right one lies.

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
    problem = _validated_problem(A, y)
    if not 0 < noise < math.inf:
        raise ValueError(f"noise must be a positive standard deviation, got {noise!r}")
    size, rms = problem.y.size, _root_mean_square(problem)
    if noise >= rms:
        raise ValueError(
            f"noise {noise:g} is as large as the data, whose root mean square is {rms:g}: there is nothing to recover"
        )
    wanted = problem.scale_data(noise) ** 2 * size

    def fit(data: SpectralMeasure, norm: float) -> float:
        # The residual grows with the damping.
        damps = _candidates(norm)
        return float(np.exp(np.interp(wanted, data.residual_squares(damps), np.log(damps))))

    exact = ExactMeasures.of(problem)
    if exact is not None:
        damp, least = fit(exact.data, exact.norm), exact.data.residual_squares(_candidates(exact.norm)[:1])
    else:
        data = GolubKahan(problem.A, problem.y)
        damp = _extend_until_agreement((data,), lambda: (fit(data.lower, data.norm), fit(data.upper, data.norm)))
        least = data.lower.residual_squares(_candidates(data.norm)[:1])
    if least[0] > wanted:
        raise ValueError(
            f"noise {noise:g} is less than what no solution explains: the residual is at least "
            f"{problem.unscale_data(math.sqrt(least[0] / size)):g} an element; use a larger noise"
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


def _extend_until_agreement(processes: tuple[GolubKahan, ...], find_damps: Callable[[], tuple[float, float]]) -> float:
    """Extends bidiagonalisations until the lower and the upper quadrature give the same damping.

    Parameters
    ----------
    processes : tuple of GolubKahan
        The bidiagonalisations.
    find_damps : callable
        Returns the two dampings.

    Returns
    -------
    float
        The geometric mean of the two; if they do not agree in 900 steps, the larger.
    """
    while True:
        for process in processes:
            process.extend()
        low, high = sorted(find_damps())
        if math.log(high / low) <= _AGREEMENT:
            return math.sqrt(low * high)
        if processes[0].steps >= _MOST_STEPS:
            return high
