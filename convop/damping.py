"""How much to damp an inverse problem: generalised cross-validation and the discrepancy principle."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from .backend import Array, as_array, namespace, to_cpu
from .inverse import System

__all__ = ["discrepancy", "gcv", "noise_level"]

# Steps of a bidiagonalisation: checked every so many, until the damping changes by less than a share of itself.
_CHECK, _STEPS, _CHANGE = 40, 400, 0.01
# Candidates, relative to the norm of the operator.
_LEAST, _MOST, _CANDIDATES = 1e-6, 1e2, 400
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
    begins with random signs (Hutchinson's estimate); both hold for all dampings at once. Some hundred products with `A`
    and its adjoint.

    Noise has to be white. The minimum predicts the data best, and not the solution: photographs usually want more
    damping than this, as `discrepancy` gives. It is found to 5 percent.

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
    system = _checked(A, y)
    generator = np.random.default_rng(rng)
    rows = system.y.shape[0]
    probes = generator.choice([-1.0, 1.0], (rows, -(-_PROBED_NUMBERS // rows)))
    xp = namespace(system.y)
    data, signs = _Bidiagonal(system, system.y), _Bidiagonal(system, xp.asarray(probes, dtype=system.y.dtype))

    def found() -> float:
        damps = _candidates(data)
        score = data.residual_squares(damps) / signs.residual_products(damps) ** 2
        return float(damps[int(np.argmin(score))])

    damp = _settled((data, signs), found)
    if damp <= _candidates(data)[1]:
        raise ValueError(
            "generalised cross-validation finds no damping: without noise, or with fewer data than unknowns, the "
            "smallest looks best; use convop.damping.discrepancy, or a damping of your own"
        )
    return damp


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
    The residual for all dampings at once comes from Golub and Kahan's bidiagonalisation, as in `gcv`.

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
    system = _checked(A, y)
    if not 0 < noise < math.inf:
        raise ValueError(f"noise must be a positive standard deviation, got {noise!r}")
    data = _Bidiagonal(system, system.y)
    wanted = (noise / system.scale) ** 2 * system.y.size
    if wanted >= data.squares.sum():
        raise ValueError(
            f"noise {noise:g} is as large as the data, whose root mean square is "
            f"{system.scale * math.sqrt(data.squares.sum() / system.y.size):g}: there is nothing to recover"
        )

    def found() -> float:
        damps = _candidates(data)
        squares = data.residual_squares(damps)
        if squares[-1] < wanted:
            return float(damps[-1])
        # The residual grows with the damping.
        return float(np.exp(np.interp(wanted, squares, np.log(damps))))

    damp = _settled((data,), found)
    least = float(data.residual_squares(np.array([data.norm() * _LEAST]))[0])
    if least > wanted:
        raise ValueError(
            f"noise {noise:g} is less than what no solution explains: the residual is at least "
            f"{system.scale * math.sqrt(least / system.y.size):g} an element"
        )
    return damp


def _checked(A: Any, y: npt.ArrayLike) -> System:
    system = System.of(A, y, 0.0)
    if system.zero:
        raise ValueError("y must not be zero everywhere: any damping gives the same solution")
    return system


def _candidates(data: _Bidiagonal) -> Array:
    return np.asarray(data.norm() * np.geomspace(_LEAST, _MOST, _CANDIDATES))


def _settled(processes: tuple[_Bidiagonal, ...], found: Callable[[], float]) -> float:
    """A damping that further steps of some bidiagonalisations change little."""
    previous = math.inf
    while True:
        for process in processes:
            process.extend(_CHECK)
        damp = found()
        if abs(damp - previous) <= _CHANGE * damp or processes[0].steps >= _STEPS:
            return damp
        previous = damp


class _Bidiagonal:
    """Golub and Kahan's lower bidiagonalisation, begun with several vectors side by side, each by itself.

    After k steps ``A V = U B`` with B of size (k + 1) x k. For a function of the singular values, ``e_1^T f(B B^T) e_1``
    is Gauss' quadrature for the starting vector (Golub and Meurant, 2010), whether U and V stay orthogonal or not.
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
        self._values: list[tuple[Array, Array]] = []

    def _lengths(self, columns: Array) -> Array:
        return np.array([float(self._xp.linalg.norm(columns[:, c])) for c in range(columns.shape[1])])

    def _over(self, columns: Array, lengths: Array) -> Array:
        divided: Array = columns / self._xp.asarray(np.where(lengths > 0, lengths, 1).astype(columns.real.dtype))
        return divided

    def extend(self, steps: int) -> None:
        """Take so many steps more, and decompose what has come together."""
        A, xp = self._system.A, self._xp
        real = self._u.real.dtype
        for _ in range(steps):
            u = A.matmat(self._v) - xp.asarray(self._diagonal[-1].astype(real)) * self._u
            self._below.append(self._lengths(u))
            self._u = self._over(u, self._below[-1])
            v = A.rmatmat(self._u) - xp.asarray(self._below[-1].astype(real)) * self._v
            self._diagonal.append(self._lengths(v))
            self._v = self._over(v, self._diagonal[-1])
        self.steps += steps
        self._values = [self._decomposed(c) for c in range(len(self.squares))]

    def _decomposed(self, column: int) -> tuple[Array, Array]:
        """Squares of the singular values of B, and of the first components of its left singular vectors."""
        k = len(self._below)
        B = np.zeros((k + 1, k))
        B[np.arange(k), np.arange(k)] = [d[column] for d in self._diagonal[:k]]
        B[np.arange(1, k + 1), np.arange(k)] = [b[column] for b in self._below]
        U, values, _ = np.linalg.svd(B)
        return np.append(values, 0.0) ** 2, U[0] ** 2

    def norm(self) -> float:
        """About the norm of the operator."""
        return math.sqrt(max(float(values.max()) for values, _ in self._values))

    def residual_squares(self, damps: Array) -> Array:
        """``norm((I - A A_damp) y)^2`` for each damping, summed over the vectors."""
        return self._form(damps, 2)

    def residual_products(self, damps: Array) -> Array:
        """``<y, (I - A A_damp) y>`` for each damping, summed over the vectors."""
        return self._form(damps, 1)

    def _form(self, damps: Array, power: int) -> Array:
        """Quadratic forms of ``(damp^2/(s^2 + damp^2))^power``."""
        d2 = damps[:, None] ** 2
        total = np.zeros(len(damps))
        for square, (values, parts) in zip(self.squares, self._values, strict=True):
            total += square * ((d2 / (values + d2)) ** power @ parts)
        return total
