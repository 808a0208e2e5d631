"""The comparisons of the dot-product test: superposition, and inner products of all pairs of subsets of two vectors.

Rounding errors add up at random, so an inner product of n terms is compared to within a multiple of
``eps*norm(A x)*norm(y)/sqrt(n)`` and of the noise that the operator itself shows in the superposition.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from ..arrays.backend import Array
from .maps import Maps

# Rounding errors of a right operator: so many units in the last place of the quantities compared, and so many
# standard deviations of the noise that the operator itself shows.
_ULPS = 16
_SIGMAS = 16
# The noise of a right operator in the superposition is at most so many units, as its value may be a difference of
# larger terms.
_NOISE_ULPS = 1024
# Rows and columns are compared in so many blocks each; in operators with at most so many rows and columns together,
# entry by entry.
_BLOCKS = 32
_ENTRYWISE = 160


@dataclass(frozen=True)
class DotTest:
    """Result of `dottest`: its tightest comparison.

    Attributes
    ----------
    passed : bool
        Whether every comparison was within its tolerance. The object itself is true if so.
    error : float
        Error relative to the norms of the quantities compared; NaN if the operator gave NaN.
    tolerance : float
        Largest allowed `error`.
    comparison : str
        Name of the comparison.
    """

    passed: bool
    error: float
    tolerance: float
    comparison: str

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        verdict = "passed" if self.passed else "failed"
        return f"{self.comparison} {verdict}: relative error {self.error:.3g}, tolerance {self.tolerance:.3g}"


def run_comparisons(maps: Maps, rng: int | np.random.Generator, trials: int, rtol: float | None) -> DotTest:
    """Compare a map with its adjoint.

    Parameters
    ----------
    maps : Maps
        The map and its adjoint.
    rng : int or numpy.random.Generator
        Seed of the random vectors, or the generator that draws them.
    trials : int
        Number of comparisons with new dense vectors.
    rtol : float or None
        Allowed relative error; None for the rounding that the dtype explains.

    Returns
    -------
    DotTest
        The first failure, or else the comparison that came closest to failing.
    """
    if 0 in maps.shape:
        return DotTest(True, 0.0, 0.0, "an operator without entries")
    with np.errstate(all="ignore"):  # NaN, infinities and overflow are findings here, not accidents
        return _tightest(_comparisons(maps, np.random.default_rng(rng), trials, rtol))


def _tightest(comparisons: Iterable[DotTest]) -> DotTest:
    """The first failure, or else the comparison that came closest to failing."""
    tightest = None
    for c in comparisons:
        if not c.passed:
            return c
        if tightest is None or c.error * tightest.tolerance > tightest.error * c.tolerance:
            tightest = c
    assert tightest is not None
    return tightest


def _compare(error: float, allowed: float, scale: float, comparison: str, rtol: float | None) -> DotTest:
    """A comparison of absolute figures, made relative to a scale; zero compares equal to zero."""
    if not math.isfinite(scale):
        return DotTest(False, math.nan, 0.0, f"{comparison} (the operator gave NaN or infinity)")
    if scale == 0:
        return DotTest(error == 0, error, 0.0, comparison)
    relative, tolerance = error / scale, allowed / scale if rtol is None else rtol
    return DotTest(bool(relative <= tolerance), relative, tolerance, comparison)  # NaN compares false


class _Probe:
    """Applies a map to random vectors, checks the shape of the results, and records the noise of the map.

    Attributes
    ----------
    eps : float
        Unit in the last place of the coarsest dtype that the map returned.
    noise : ndarray of shape ``(rows,)``
        Largest rounding error that each row has shown.
    size : float
        Largest norm of an image of a dense vector.
    gauge : float
        Power of two by which images are multiplied, so that their squares stay in range.
    """

    def __init__(self, maps: Maps, rng: np.random.Generator, name: str) -> None:
        self.maps, self.rng, self.name = maps, rng, name
        self.rows, self.columns = maps.shape
        self.eps = float(np.finfo(maps.dtype).eps)
        self.noise = np.zeros(self.rows)
        self.size = 0.0
        self.gauge = 1.0

    def draw(self) -> Array:
        """Entries of modulus 1/2 to 3/2 and random sign or phase: each of them counts, none dominates."""
        n, dtype = self.columns, self.maps.dtype
        signs: Array = self.rng.choice([-1.0, 1.0], n)
        if dtype.kind == "c":
            signs = np.exp(2j * np.pi * self.rng.random(n))
        return (self.rng.uniform(0.5, 1.5, n) * signs).astype(dtype)

    def __call__(self, x: Array) -> Array:
        """The image of `x` in double precision, times the gauge."""
        try:
            y = np.asarray(self.maps.forward(x))
        except NotImplementedError as error:
            raise AssertionError(f"the operator has no {self.name}: {error!r}") from error
        if y.shape != (self.rows,):
            raise AssertionError(f"the {self.name} of a vector must have shape ({self.rows},), got {y.shape}")
        if y.dtype.kind in "fc":
            self.eps = max(self.eps, float(np.finfo(y.dtype).eps))
        return y.astype(np.complex128 if y.dtype.kind == "c" else np.float64) * self.gauge

    def add_noise(self, error: Array) -> None:
        """Record rounding errors of the rows."""
        self.noise = np.maximum(self.noise, np.abs(error))

    def shares(self, norms: Array) -> Array:
        """Shares of the noise of the whole in the images of subsets: by their norms, at least as of random signs."""
        return np.maximum(norms / self.size if self.size else norms, 1 / math.sqrt(len(norms)))


class _Subsets:
    """The elements of a vector in random disjoint subsets of about equal size."""

    def __init__(self, rng: np.random.Generator, length: int, count: int) -> None:
        self._order = rng.permutation(length)
        self._starts = np.arange(count) * length // count

    def __iter__(self) -> Iterator[Array]:
        return iter(np.split(self._order, self._starts[1:]))

    def sums(self, values: Array) -> Array:
        """Sum over each subset, added pairwise: sequential sums would lose digits in long vectors."""
        totals: Array = np.add.reduceat(values[self._order], self._starts)
        return totals

    def norms(self, values: Array) -> Array:
        """Norm over each subset; relative to its largest element, as the squares of very small elements vanish."""
        sizes = np.abs(values)
        largest = np.maximum.reduceat(sizes[self._order], self._starts)
        scale = np.ones_like(sizes)
        scale[self._order] = np.repeat(
            np.where(largest > 0, largest, 1.0), np.diff(self._starts, append=len(self._order))
        )
        norms: Array = largest * np.sqrt(self.sums((sizes / scale) ** 2))
        return norms


def _comparisons(maps: Maps, rng: np.random.Generator, trials: int, rtol: float | None) -> Iterator[DotTest]:
    A, AH = _Probe(maps, rng, "forward map"), _Probe(maps.reversed(), rng, "adjoint")
    samples = [(P, P(P.draw())) for P in (A, AH, A, AH, A, AH)]
    largest = float(np.max([_largest(image) for _, image in samples]))  # unlike max(), keeps NaN
    if not math.isfinite(largest):
        yield DotTest(False, math.nan, 0.0, "a random vector (the operator gave NaN or infinity)")
        return
    A.gauge = AH.gauge = 2.0 ** -max(-1000, min(1000, math.frexp(largest)[1])) if largest else 1.0
    for P, image in samples:
        P.size = max(P.size, _norm(image * P.gauge))
    for _ in range(trials):
        yield from _superposition(A, rtol)
        yield from _superposition(AH, rtol)
        x, y = A.draw(), AH.draw()
        yield _inner_products(A, AH, (x, y), (1, 1), "<A x, y> == <x, A^H y>", rtol)
    blocks = (min(A.columns, _BLOCKS), min(A.rows, _BLOCKS))
    if A.rows + A.columns <= _ENTRYWISE:
        blocks = (A.columns, A.rows)
    name = "<A x, y> == <x, A^H y> on parts of x and y"
    yield _inner_products(A, AH, (A.draw(), AH.draw()), blocks, name, rtol)


def _superposition(P: _Probe, rtol: float | None) -> Iterator[DotTest]:
    """``A(a x + b z) == a A x + b A z``, whose error is the noise of the map, and ``A 0 == 0``."""
    x, z = P.draw(), P.draw()
    a, b = P.rng.uniform(0.5, 1.0, 2) * P.rng.choice([-1, 1], 2)
    if P.maps.dtype.kind == "c" and P.maps.complex_linear:
        a, b = np.array([a, b]) * np.exp(2j * np.pi * P.rng.random(2))
    both = (a * x + b * z).astype(P.maps.dtype)
    u, w, uw = P(x), P(z), P(both)
    error = uw - (a * u + b * w)
    P.add_noise(error)
    # Rounding is relative to the summands. A sum may vanish by chance, so the largest of all images is the scale.
    P.size = max(P.size, _norm(u), _norm(w), _norm(uw))
    scale = 3 * P.size
    # Sums of n terms lose up to sqrt(n) units where they are added sequentially.
    allowed = P.eps * (_NOISE_ULPS + math.sqrt(P.columns)) * scale
    yield _compare(_norm(error), allowed, scale, f"superposition of the {P.name}", rtol)
    zero = P(np.zeros(P.columns, dtype=P.maps.dtype))
    yield _compare(_norm(zero), 0.0, scale, f"the {P.name} of zero", rtol)


def _inner_products(
    A: _Probe, AH: _Probe, x_y: tuple[Array, Array], blocks: tuple[int, int], name: str, rtol: float | None
) -> DotTest:
    """``<A x_b, y_c> == <x_b, A^H y_c>`` for all pairs of a subset b of x and a subset c of y.

    One application per subset gives the products of all pairs: `A x_b` is multiplied by the whole of y, and summed
    over subsets. Returns the worst of all pairs.
    """
    x, y = x_y
    of_x, of_y = (_Subsets(A.rng, len(z), count) for z, count in zip(x_y, blocks, strict=True))
    left, u_norms = _subset_products(A, x, of_x, y, of_y)
    right, v_norms = _subset_products(AH, y, of_y, x, of_x)
    right = right.conj().T
    error = np.abs(left - right) if A.maps.complex_linear else np.abs(left.real - right.real)
    x_norms, y_norms = of_x.norms(x), of_y.norms(y)
    size = np.outer(u_norms, y_norms) / math.sqrt(A.rows) + np.outer(x_norms, v_norms) / math.sqrt(A.columns)
    # The noise of the whole may sit in a few rows or be spread over all. A subset of x makes a share of it.
    forward = np.maximum(of_y.norms(A.noise * y), _norm(A.noise) * y_norms / math.sqrt(A.rows))
    backward = np.maximum(of_x.norms(AH.noise * x), _norm(AH.noise) * x_norms / math.sqrt(A.columns))
    noise = forward[None, :] * A.shares(u_norms)[:, None] + backward[:, None] * AH.shares(v_norms)[None, :]
    allowed = _ULPS * max(A.eps, AH.eps) * (size + np.abs(left)) + _SIGMAS * noise
    scale = np.outer(u_norms, y_norms) + np.outer(x_norms, v_norms)
    limit = allowed if rtol is None else rtol * scale
    excess = np.where(error == 0, 0.0, error / limit)  # 0/0 is no error, x/0 is infinite, NaN the worst of all
    worst = np.unravel_index(np.argmax(np.where(np.isnan(excess), np.inf, excess)), excess.shape)
    return _compare(float(error[worst]), float(allowed[worst]), float(scale[worst]), name, rtol)


def _subset_products(P: _Probe, z: Array, of_z: _Subsets, w: Array, of_w: _Subsets) -> tuple[Array, Array]:
    """Products of the images of all subsets of z with all subsets of w, and the norms of the images."""
    products, norms = [], []
    rest = P(z)
    for subset in of_z:
        alone = np.zeros_like(z)
        alone[subset] = z[subset]
        u = P(alone)
        rest -= u
        products.append(of_w.sums(u.conj() * w))
        # A whole image may vanish by chance; its rounding errors do not.
        norms.append(max(_norm(u), P.size) if len(subset) == len(z) else _norm(u))
    # The images of the subsets add up to the image of the whole, but for their noise.
    P.add_noise(rest)
    return np.stack(products), np.array(norms)


def _norm(a: Array) -> float:
    largest = _largest(a)  # squares of very small numbers vanish
    return largest * float(np.linalg.norm(a / largest)) if largest else 0.0


def _largest(a: Array) -> float:
    return float(np.max(np.abs(a), initial=0.0))
