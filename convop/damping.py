"""How much to damp an inverse problem: generalised cross-validation and the discrepancy principle."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh_tridiagonal

from .arrays.backend import Array, as_array, namespace, to_cpu
from .inverse.tikhonov import System
from .operators.block_diagonal import place
from .operators.conv import Conv, ConvTranspose, tempered
from .spectral.blocks import Window, blocks, exact_parts, weights

__all__ = ["discrepancy", "gcv", "noise_level"]

# Steps of a bidiagonalisation: at first, and at most; they end when the two dampings found from its lower and its upper
# quadrature differ by a factor with this logarithm.
_FIRST_STEPS, _STEPS, _AGREEMENT = 40, 900, 0.05
# Candidates, relative to the norm of the operator.
_LEAST, _MOST, _CANDIDATES = 1e-7, 1e2, 500
# Of a normal variable's modulus, below its median 0.6745: 4 (phi(0) - phi(0.6745)), with the normal density phi.
_MEAN_OF_SMALLER_HALF = 0.3247
# Random signs whose quadratic forms stand for a trace: as many vectors as make so many numbers.
_PROBED_NUMBERS = 20_000


def gcv(A: Any, y: npt.ArrayLike, *, rng: int | np.random.Generator = 0) -> float:
    r"""The damping of `tikhonov` that generalised cross-validation finds: no noise level need be known.

    Parameters
    ----------
    A : LinearOperator
        As in `tikhonov`.
    y : array_like
        Data, as in `tikhonov`; several of them get one damping together.
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
    Golub, Heath and Wahba (1979) give the function, Golub and von Matt (1997) the way to it for large problems: the
    numerator comes from Golub and Kahan's bidiagonalisation of `A` that begins with the data, the trace from one that
    begins with random signs (Hutchinson's estimate); both hold for all dampings at once. It takes steps until what
    bounds both from below and from above has its minimum at the same damping to 5 percent, and at most 900, after which
    the larger of the two is returned: with little noise, the smallest singular values matter, and take long to show.
    Where fast transforms diagonalise `A`, both are computed exactly.

    Noise has to be white. The minimum predicts the data best, and not the solution: photographs usually want more
    damping than this, as `discrepancy` gives.

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
    A, power = tempered(A)
    system, generator = _checked(A, y), np.random.default_rng(rng)
    exact = _Exact.of(A, system)

    def best(data: _Measure, trace: _Measure, norm: float) -> float:
        damps = _candidates(norm)
        return float(damps[int(np.argmin(data.residual_squares(damps) / trace.residual_products(damps) ** 2))])

    if exact is not None:
        damp, norm = best(exact.data, exact.trace, exact.norm), exact.norm
    else:
        rows = system.y.shape[0]
        probes = generator.choice([-1.0, 1.0], (rows, -(-_PROBED_NUMBERS // rows)))
        data = _Bidiagonal(system, system.y)
        signs = _Bidiagonal(system, namespace(system.y).asarray(probes, dtype=system.y.dtype))
        damp = _agreed(
            (data, signs),
            lambda: (best(data.lower, signs.lower, data.norm), best(data.upper, signs.upper, data.norm)),
        )
        norm = data.norm
    if damp <= _candidates(norm)[1]:
        raise ValueError(
            "generalised cross-validation finds no damping: without noise, or with fewer data than unknowns, the "
            "smallest looks best; use convop.damping.discrepancy, or a damping of your own"
        )
    return math.ldexp(damp, power)


def noise_level(y: npt.ArrayLike) -> float:
    """The standard deviation of white noise in what is otherwise smooth, as blurred images are.

    Parameters
    ----------
    y : array_like
        Two or more elements along each axis.

    Returns
    -------
    float
        From the smaller half of the moduli of the finest diagonal details of Haar's wavelets, much as Donoho and
        Johnstone (1994) do with their median.

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
    parts = np.concatenate([details.real.ravel(), details.imag.ravel()]) if details.dtype.kind == "c" else details
    sizes = np.sort(np.abs(parts), axis=None)
    # The mean of the smaller half, which unlike the median does not stick to the steps of values rounded to 8 bits.
    deviation = float(sizes[: (sizes.size + 1) // 2].mean()) / _MEAN_OF_SMALLER_HALF
    return deviation * math.sqrt(2) if details.dtype.kind == "c" else deviation


def discrepancy(A: Any, y: npt.ArrayLike, noise: float) -> float:
    """The damping of `tikhonov` whose residual is as large as the noise: Morozov's discrepancy principle.

    Parameters
    ----------
    A : LinearOperator
        As in `tikhonov`.
    y : array_like
        Data, as in `tikhonov`; several of them get one damping together.
    noise : float
        Standard deviation of the noise in each element of `y`.

    Returns
    -------
    float
        With ``norm(A x - y) = noise*sqrt(size of y)`` for Tikhonov's solution ``x``.

    Raises
    ------
    ValueError
        If no damping has such a residual: the noise is larger than the data, or smaller than what no ``A x`` explains.

    Notes
    -----
    The residual for all dampings at once comes from Golub and Kahan's bidiagonalisation, which bounds it from below and
    from above, or exactly from fast transforms, as in `gcv`. If the bounds do not meet in 900 steps, as with very little
    noise, the larger of two dampings between which the right one lies is returned.

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
    A, power = tempered(A)
    system = _checked(A, y)
    if not 0 < noise < math.inf:
        raise ValueError(f"noise must be a positive standard deviation, got {noise!r}")
    wanted, rms = (noise / system.scale) ** 2 * system.y.size, _root_mean_square(system)
    if noise >= rms:
        raise ValueError(
            f"noise {noise:g} is as large as the data, whose root mean square is {rms:g}: there is nothing to recover"
        )

    def fitting(data: _Measure, norm: float) -> float:
        # The residual grows with the damping.
        damps = _candidates(norm)
        return float(np.exp(np.interp(wanted, data.residual_squares(damps), np.log(damps))))

    exact = _Exact.of(A, system)
    if exact is not None:
        damp, least = fitting(exact.data, exact.norm), exact.data.residual_squares(_candidates(exact.norm)[:1])
    else:
        data = _Bidiagonal(system, system.y)
        damp = _agreed((data,), lambda: (fitting(data.lower, data.norm), fitting(data.upper, data.norm)))
        least = data.lower.residual_squares(_candidates(data.norm)[:1])
    if least[0] > wanted:
        raise ValueError(
            f"noise {noise:g} is less than what no solution explains: the residual is at least "
            f"{system.scale * math.sqrt(least[0] / system.y.size):g} an element; use a larger noise"
        )
    return math.ldexp(damp, power)


def _checked(A: Any, y: npt.ArrayLike) -> System:
    system = System.of(A, y, 0.0)
    if system.zero:
        raise ValueError("y must not be zero everywhere: any damping gives the same solution")
    if not system.A.rmatmat(system.y).any():
        raise ValueError("y must not be orthogonal to all that A gives: any damping gives the solution zero")
    return system


def _root_mean_square(system: System) -> float:
    y = namespace(system.y).abs(system.y).astype(np.float64)
    return system.scale * math.sqrt(float((y**2).mean()))


def _candidates(norm: float) -> Array:
    return np.asarray(norm * np.geomspace(_LEAST, _MOST, _CANDIDATES))


@dataclass(frozen=True)
class _Measure:
    """Where squares of singular values lie, and how much of some vectors' squares belongs to each.

    Every function of `A A^H` between these vectors is a sum over it.
    """

    values: Array
    masses: Array

    def residual_squares(self, damps: Array) -> Array:
        """``norm((I - A A_damp) y)^2`` for each damping, summed over the vectors."""
        return self._form(damps, 2)

    def residual_products(self, damps: Array) -> Array:
        """``<y, (I - A A_damp) y>`` for each damping, summed over the vectors."""
        return self._form(damps, 1)

    def _form(self, damps: Array, power: int) -> Array:
        """Quadratic forms of ``(damp^2/(s^2 + damp^2))^power``."""
        return np.array([((d2 / (self.values + d2)) ** power) @ self.masses for d2 in damps**2])


@dataclass(frozen=True)
class _Exact:
    """The measures of an operator that fast transforms diagonalise: of the data, and of all data alike for the trace."""

    data: _Measure
    trace: _Measure
    norm: float

    @classmethod
    def of(cls, A: Any, system: System) -> _Exact | None:
        """None where transforms do not diagonalise it."""
        if not isinstance(A, Conv | ConvTranspose):
            return None
        (spec, taps), turned = A.convolution(), isinstance(A, ConvTranspose)
        parts = exact_parts(spec, taps) if np.isfinite(taps).all() else [Window(0, 1)]
        if any(isinstance(part, Window) for part in parts):
            return None
        B = blocks(spec, taps, parts, f"the spectrum of {spec}")
        B = B.conj().swapaxes(-1, -2) if turned else B
        y = to_cpu(system.y)
        if y.dtype.kind == "c" and taps.dtype.kind != "c":
            y = np.hstack([y.real, y.imag])
        there = place(spec, parts, taps.dtype, outputs=not turned)
        seen = there.there(np.ascontiguousarray(y.T).reshape(-1, *there.shape))
        counts = weights(parts, taps.dtype)[..., None, None]
        values, along = _decomposed_along(B, seen)
        masses = counts * along
        ones = np.broadcast_to(counts, values.shape).astype(np.float64)
        # What no input reaches has the singular value zero.
        rest = max(0.0, float((counts * (np.abs(seen) ** 2).sum(axis=-1)).sum() - masses.sum()))
        squares = np.append(values.ravel() ** 2, 0.0)
        return cls(
            _Measure(squares, np.append(masses.ravel(), rest)),
            _Measure(squares, np.append(ones.ravel(), A.shape[0] - ones.sum())),
            float(values.max(initial=0.0)),
        )


def _decomposed_along(B: Array, seen: Array) -> tuple[Array, Array]:
    """Singular values of many matrices, and the squares of vectors along their left singular vectors.

    Parameters
    ----------
    B : ndarray of shape ``(..., rows, columns)``
        The matrices.
    seen : ndarray of shape ``(..., rows, P)``
        P vectors for each.

    Returns
    -------
    (ndarray, ndarray) of shape ``(..., min(rows, columns))``
    """
    if B.shape[-2] == 1:
        return np.linalg.norm(B, axis=-1), (np.abs(seen) ** 2).sum(axis=-1)
    U, values, _ = np.linalg.svd(B, full_matrices=False)
    return values, (np.abs(U.conj().swapaxes(-1, -2) @ seen) ** 2).sum(axis=-1)


def _agreed(processes: tuple[_Bidiagonal, ...], found: Callable[[], tuple[float, float]]) -> float:
    """A damping on which the quadratures from below and from above agree; the larger, if they do not for too long."""
    while True:
        for process in processes:
            process.extend()
        low, high = sorted(found())
        if math.log(high / low) <= _AGREEMENT:
            return math.sqrt(low * high)
        if processes[0].steps >= _STEPS:
            return high


class _Bidiagonal:
    """Golub and Kahan's lower bidiagonalisation, begun with several vectors side by side, each by itself.

    After k steps ``A V = U B`` with B of size (k + 1) x k. For a function of the singular values, the eigenvalues and the
    first components of the eigenvectors of ``B B^T`` are the nodes and weights of a quadrature for the starting vector:
    of Gauss and Radau's with a node at zero, and without its last row of Gauss' (Golub and Meurant, Matrices, Moments
    and Quadrature, 2010). For the functions of `_Measure`, whose derivatives alternate in sign, Gauss' is a
    lower bound, and the other an upper one.
    """

    def __init__(self, system: System, start: Array) -> None:
        self._system = system
        self._xp = namespace(start)
        lengths = self._lengths(start)
        self.squares = lengths**2
        self.steps = 0
        self._u = self._over(start, lengths)
        v = system.A.rmatmat(self._u)
        self._diagonal: list[Array] = [self._lengths(v)]
        self._below: list[Array] = []
        self._v = self._over(v, self._diagonal[-1])
        self.lower = self.upper = _Measure(np.zeros(1), self.squares.sum(keepdims=True))

    def _lengths(self, columns: Array) -> Array:
        return np.array([float(self._xp.linalg.norm(columns[:, c])) for c in range(columns.shape[1])])

    def _over(self, columns: Array, lengths: Array) -> Array:
        divided: Array = columns / self._xp.asarray(np.where(lengths > 0, lengths, 1).astype(columns.real.dtype))
        return divided

    def extend(self) -> None:
        """Take half as many steps again, and decompose what has come together."""
        A, xp = self._system.A, self._xp
        real = self._u.real.dtype
        for _ in range(max(_FIRST_STEPS, self.steps // 2)):
            u = A.matmat(self._v) - xp.asarray(self._diagonal[-1].astype(real)) * self._u
            self._below.append(self._lengths(u))
            self._u = self._over(u, self._below[-1])
            v = A.rmatmat(self._u) - xp.asarray(self._below[-1].astype(real)) * self._v
            self._diagonal.append(self._lengths(v))
            self._v = self._over(v, self._diagonal[-1])
            self.steps += 1
        diagonal, below = np.array(self._diagonal[: self.steps]), np.array(self._below)
        self.lower, self.upper = self._quadrature(diagonal, below[:-1]), self._quadrature(diagonal, below)

    def _quadrature(self, diagonal: Array, below: Array) -> _Measure:
        """From the eigenvalues of ``B B^T``, a tridiagonal matrix for each vector."""
        nodes, masses = [], []
        for column, square in enumerate(self.squares):
            d, b = diagonal[:, column], below[:, column]
            main = np.zeros(len(b) + 1)
            main[: len(d)] = d**2
            main[1:] += b**2
            values, vectors = eigh_tridiagonal(main, d[: len(b)] * b)
            nodes.append(np.maximum(values, 0))
            masses.append(square * vectors[0] ** 2)
        return _Measure(np.concatenate(nodes), np.concatenate(masses))

    @property
    def norm(self) -> float:
        """About the norm of the operator."""
        return math.sqrt(float(self.upper.values.max()))
