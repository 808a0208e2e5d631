"""The dot-product test: is an operator linear, and is its adjoint its adjoint? Public in `convop.testing`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from ..arrays.backend import Array, from_cpu
from ..arrays.dtypes import kept_dtype

__all__ = ["DotTest", "Maps", "as_maps", "assert_adjoint", "dottest"]

# Rounding errors that are no one's fault: so many units in the last place of the quantities compared, and so
# many standard deviations of the noise that the operator itself shows.
_ULPS = 16
_SIGMAS = 16
# So many units may be the noise of a right operator, whose value may be a difference of larger parts.
_NOISE_ULPS = 1024
# Rows and columns are compared in so many blocks each; in small operators every entry by itself.
_BLOCKS = 32
_ENTRYWISE = 160


@dataclass(frozen=True)
class DotTest:
    """What `dottest` found: its tightest comparison.

    Attributes
    ----------
    passed : bool
        Whether every comparison was within its tolerance. The object itself is true if so.
    error : float
        Error relative to the norms of what was compared; NaN if the operator gave NaN.
    tolerance : float
        What `error` may be at most.
    comparison : str
        What was compared.
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


def dottest(
    op: Any,
    *,
    rng: int | np.random.Generator = 0,
    trials: int = 3,
    rtol: float | None = None,
    raise_error: bool = True,
) -> DotTest:
    """Test that an operator is linear and that its adjoint is its adjoint, ``<A x, y> == <x, A^H y>``.

    Parameters
    ----------
    op : LinearOperator of SciPy or PyLops, sparse matrix, array
        Anything with ``shape``, ``matvec`` and ``rmatvec``, or a matrix.
    rng : int or numpy.random.Generator
        Seed of the random vectors, or what to draw them from.
    trials : int
        How often the dense comparisons are made, with new vectors.
    rtol : float, optional
        Allowed relative error, for operators that are right only to so much (an inverse by iterations).
        By default what the rounding of the operator's dtype explains.
    raise_error : bool
        Raise on failure, instead of only saying so.

    Returns
    -------
    DotTest
        With ``.passed``, ``.error`` and ``.tolerance``; true if passed.

    Raises
    ------
    AssertionError
        If the test fails, with the figures; not with ``raise_error=False``.
    TypeError
        If `op` is no operator.

    Notes
    -----
    Compared are: superposition and ``A 0 == 0``, in both directions, so that an affine map fails; ``<A x, y>`` with
    ``<x, A^H y>`` on dense vectors, whose entries have moduli between 1/2 and 3/2 and random signs, so that one
    wrong entry shows wherever it is and none hides behind another; and the same on sparse ones, each pair out
    of 32 random parts of `x` and 32 of `y`. In a small operator every part is one entry.

    Rounding errors add up at random, so an inner product of n terms is compared to within a multiple of
    ``eps*norm(A x)*norm(y)/sqrt(n)`` and of the operator's own noise, which the superposition shows, and not to
    a fixed fraction. Sparse vectors have less of it, which is what makes a single small entry count. All
    comparisons are relative: the scale of the operator does not matter.

    The precision is that of what the operator returns: one that claims float64 and returns float32 is tested as
    float32. An operator whose values are differences of parts a thousand times larger is noisier than the
    test allows for: give it an `rtol`.

    Operators that are linear over the reals only (PyLops' ``clinear=False``) are compared by the real parts of
    the products.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.sparse.linalg import LinearOperator
    >>> A = np.array([[1.0, 2.0], [3.0, 4.0]])
    >>> dottest(A).passed
    True
    >>> wrong = LinearOperator(A.shape, matvec=lambda x: A @ x, rmatvec=lambda y: A @ y, dtype=float)
    >>> dottest(wrong, raise_error=False).passed
    False
    """
    if trials < 1:
        raise ValueError(f"trials must be at least 1, got {trials}")
    result = _tested(as_maps(op), rng, trials, rtol)
    if raise_error and not result.passed:
        raise AssertionError(f"{_describe(op)}: {result}")
    return result


def assert_adjoint(
    forward: Callable[[Any], Any],
    adjoint: Callable[[Any], Any],
    input_shape: int | Sequence[int],
    output_shape: int | Sequence[int],
    *,
    dtype: npt.DTypeLike = float,
    rng: int | np.random.Generator = 0,
) -> DotTest:
    """Test that two plain functions are linear and each other's adjoint.

    Parameters
    ----------
    forward : callable
        Takes an array of shape `input_shape` to one of shape `output_shape`.
    adjoint : callable
        Takes an array of shape `output_shape` to one of shape `input_shape`.
    input_shape, output_shape : int or sequence of int
        The shapes.
    dtype : dtype_like
        Type of the arrays; a complex one for functions that are linear over complex numbers.
    rng : int or numpy.random.Generator
        As in `dottest`.

    Returns
    -------
    DotTest
        Of the tightest comparison.

    Raises
    ------
    AssertionError
        If they are not, with the figures.

    Examples
    --------
    >>> import numpy as np
    >>> assert_adjoint(np.diff, lambda y: -np.diff(y, prepend=0, append=0), 5, 4).passed
    True
    """
    inputs, outputs = (tuple(np.atleast_1d(np.asarray(s)).tolist()) for s in (input_shape, output_shape))

    def flat(function: Callable[[Any], Any], from_shape: Any, to_shape: Any, name: str) -> Callable[[Array], Array]:
        def applied(x: Array) -> Array:
            y = np.asarray(function(x.reshape(from_shape)))
            if y.shape != to_shape:
                raise AssertionError(f"{name} must return shape {to_shape}, got {y.shape}")
            return y.ravel()

        return applied

    maps = Maps(
        flat(forward, inputs, outputs, "forward"),
        flat(adjoint, outputs, inputs, "adjoint"),
        (math.prod(outputs), math.prod(inputs)),
        kept_dtype(np.dtype(dtype), "dtype"),
    )
    result = _tested(maps, rng, 3, None)
    if not result.passed:
        raise AssertionError(f"forward and adjoint: {result}")
    return result


@dataclass(frozen=True)
class Maps:
    """A map and its adjoint on vectors."""

    forward: Callable[[Array], Array]
    adjoint: Callable[[Array], Array]
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    complex_linear: bool = True

    def reversed(self) -> Maps:
        return Maps(self.adjoint, self.forward, self.shape[::-1], self.dtype, self.complex_linear)


def as_maps(op: Any) -> Maps:
    """The map of an operator of any maker, and its adjoint.

    Parameters
    ----------
    op : LinearOperator of SciPy or PyLops, sparse matrix, array
        The operator.

    Returns
    -------
    Maps

    Raises
    ------
    TypeError
        If it is none.
    """
    op = from_cpu(op)
    if sp.issparse(op) or isinstance(op, np.ndarray) or not hasattr(op, "matvec"):
        matrix = op if sp.issparse(op) else np.asarray(op)
        if matrix.ndim != 2 or matrix.dtype.kind not in "biufc":
            raise TypeError(
                f"op must be a matrix, or an operator with shape, matvec and rmatvec; got {type(op).__name__}"
            )
        kept = _probe_dtype(matrix.dtype)
        matrix = matrix.astype(kept) if matrix.dtype.kind in "biu" else matrix
        return Maps(lambda x: matrix @ x, lambda y: matrix.conj().T @ y, matrix.shape, kept)
    shape = tuple(int(n) for n in op.shape)
    dtype = np.dtype(np.float64 if op.dtype is None else op.dtype)
    return Maps(op.matvec, op.rmatvec, (shape[0], shape[1]), _probe_dtype(dtype), getattr(op, "clinear", True))


def _probe_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """dtype of the random vectors: the operator's, or double for one of extended precision."""
    double = np.dtype(np.complex128 if dtype.kind == "c" else np.float64)
    return double if dtype.kind in "fc" and dtype.itemsize > double.itemsize else kept_dtype(dtype, "op")


def _describe(op: Any) -> str:
    return f"{type(op).__name__} of shape {tuple(op.shape)}" if hasattr(op, "shape") else type(op).__name__


def _tested(maps: Maps, rng: int | np.random.Generator, trials: int, rtol: float | None) -> DotTest:
    if 0 in maps.shape:
        return DotTest(True, 0.0, 0.0, "an operator without entries")
    with np.errstate(all="ignore"):  # NaN, infinities and overflow are findings here, not accidents
        return _worst(_comparisons(maps, np.random.default_rng(rng), trials, rtol))


def _worst(comparisons: Iterable[DotTest]) -> DotTest:
    """The first failure, or else the comparison that came closest to one."""
    worst = None
    for c in comparisons:
        if not c.passed:
            return c
        if worst is None or c.error * worst.tolerance > worst.error * c.tolerance:
            worst = c
    assert worst is not None
    return worst


def _compared(error: float, allowed: float, scale: float, comparison: str, rtol: float | None) -> DotTest:
    """A comparison of absolute figures, made relative to a scale; zero compares equal to zero."""
    if not math.isfinite(scale):
        return DotTest(False, math.nan, 0.0, f"{comparison} (the operator gave NaN or infinity)")
    if scale == 0:
        return DotTest(error == 0, error, 0.0, comparison)
    relative, tolerance = error / scale, allowed / scale if rtol is None else rtol
    return DotTest(bool(relative <= tolerance), relative, tolerance, comparison)  # NaN compares false


class _Probe:
    """Applies a map to random vectors, checks what comes back, and knows the map's noise."""

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
        """The image of `x` in double precision, by a power of two nearer to one."""
        try:
            y = np.asarray(self.maps.forward(x))
        except NotImplementedError as error:
            raise AssertionError(f"the operator has no {self.name}: {error!r}") from error
        if y.shape != (self.rows,):
            raise AssertionError(f"the {self.name} of a vector must have shape ({self.rows},), got {y.shape}")
        if y.dtype.kind in "fc":
            self.eps = max(self.eps, float(np.finfo(y.dtype).eps))
        return y.astype(np.complex128 if y.dtype.kind == "c" else np.float64) * self.gauge


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
    yield _inner_products(A, AH, (A.draw(), AH.draw()), blocks, "<A x, y> == <x, A^H y> on parts of x and y", rtol)


def _superposition(P: _Probe, rtol: float | None) -> Iterator[DotTest]:
    """``A(a x + b z) == a A x + b A z``, whose error is the noise of the map, and ``A 0 == 0``."""
    x, z = P.draw(), P.draw()
    a, b = P.rng.uniform(0.5, 1.0, 2) * P.rng.choice([-1, 1], 2)
    if P.maps.dtype.kind == "c" and P.maps.complex_linear:
        a, b = np.array([a, b]) * np.exp(2j * np.pi * P.rng.random(2))
    both = (a * x + b * z).astype(P.maps.dtype)
    u, w, uw = P(x), P(z), P(both)
    P.noise = np.maximum(P.noise, np.abs(uw - (a * u + b * w)))
    # Rounding goes by what is summed. A sum may vanish by chance, so the largest of all images is the scale.
    P.size = max(P.size, _norm(u), _norm(w), _norm(uw))
    scale = 3 * P.size
    # Sums of n terms lose up to sqrt(n) units where they are added one after the other.
    allowed = P.eps * (_NOISE_ULPS + math.sqrt(P.columns)) * scale
    yield _compared(_norm(uw - (a * u + b * w)), allowed, scale, f"superposition of the {P.name}", rtol)
    zero = P(np.zeros(P.columns, dtype=P.maps.dtype))
    yield _compared(_norm(zero), 0.0, scale, f"the {P.name} of zero", rtol)


def _inner_products(
    A: _Probe, AH: _Probe, x_y: tuple[Array, Array], blocks: tuple[int, int], name: str, rtol: float | None
) -> DotTest:
    """``<A x_b, y_c> == <x_b, A^H y_c>`` for all pairs of parts of x and of y.

    So many applications as there are parts give the products of all pairs: `A x_b` is multiplied by the whole of
    y, and summed by parts. Of all pairs the worst is returned.
    """
    x, y = x_y
    of_x, of_y = (_Parts(A.rng, len(z), count) for z, count in zip(x_y, blocks, strict=True))

    def images(P: _Probe, z: Array, of_z: _Parts, w: Array, of_w: _Parts) -> tuple[Array, Array]:
        """Products of the images of all parts of z with all parts of w, and the norms of the images."""
        products, norms = [], []
        rest = P(z)
        for part in of_z:
            u = P(_only(z, part))
            rest -= u
            products.append(of_w.sums(u.conj() * w))
            # A whole image may vanish by chance; its rounding errors do not.
            norms.append(max(_norm(u), P.size) if len(part) == len(z) else _norm(u))
        # The images of the parts add up to the image of the whole, but for their noise.
        P.noise = np.maximum(P.noise, np.abs(rest))
        return np.stack(products), np.array(norms)

    left, u_norms = images(A, x, of_x, y, of_y)
    right, v_norms = images(AH, y, of_y, x, of_x)
    right = right.conj().T
    error = np.abs(left - right) if A.maps.complex_linear else np.abs(left.real - right.real)
    x_norms, y_norms = of_x.norms(x), of_y.norms(y)
    size = np.outer(u_norms, y_norms) / math.sqrt(A.rows) + np.outer(x_norms, v_norms) / math.sqrt(A.columns)
    # The noise of the whole may sit in a few rows or be spread over all. A part of x makes a share of it: that of
    # its image, or what random signs leave.
    forward = np.maximum(of_y.norms(A.noise * y), _norm(A.noise) * y_norms / math.sqrt(A.rows))
    backward = np.maximum(of_x.norms(AH.noise * x), _norm(AH.noise) * x_norms / math.sqrt(A.columns))
    noise = forward[None, :] * _shares(u_norms, A)[:, None] + backward[:, None] * _shares(v_norms, AH)[None, :]
    allowed = _ULPS * max(A.eps, AH.eps) * (size + np.abs(left)) + _SIGMAS * noise
    scale = np.outer(u_norms, y_norms) + np.outer(x_norms, v_norms)
    limit = allowed if rtol is None else rtol * scale
    excess = np.where(error == 0, 0.0, error / limit)  # 0/0 is no error, x/0 is infinite, NaN the worst of all
    worst = np.unravel_index(np.argmax(np.where(np.isnan(excess), np.inf, excess)), excess.shape)
    return _compared(float(error[worst]), float(allowed[worst]), float(scale[worst]), name, rtol)


class _Parts:
    """The elements of a vector in so many random parts of about equal size."""

    def __init__(self, rng: np.random.Generator, length: int, count: int) -> None:
        self._order = rng.permutation(length)
        self._starts = np.arange(count) * length // count

    def __iter__(self) -> Iterator[Array]:
        return iter(np.split(self._order, self._starts[1:]))

    def sums(self, values: Array) -> Array:
        """Sum of each part, added pairwise: one after the other would lose digits in long vectors."""
        totals: Array = np.add.reduceat(values[self._order], self._starts)
        return totals

    def norms(self, values: Array) -> Array:
        """Norm of each part; over its largest element, as the squares of very small ones vanish."""
        sizes = np.abs(values)
        largest = np.maximum.reduceat(sizes[self._order], self._starts)
        scale = np.ones_like(sizes)
        scale[self._order] = np.repeat(
            np.where(largest > 0, largest, 1.0), np.diff(self._starts, append=len(self._order))
        )
        norms: Array = largest * np.sqrt(self.sums((sizes / scale) ** 2))
        return norms


def _shares(norms: Array, P: _Probe) -> Array:
    return np.maximum(norms / P.size if P.size else norms, 1 / math.sqrt(len(norms)))


def _only(z: Array, part: Array) -> Array:
    """A vector with all elements zero but those of one part."""
    alone = np.zeros_like(z)
    alone[part] = z[part]
    return alone


def _norm(a: Array) -> float:
    largest = _largest(a)  # squares of very small numbers vanish
    return largest * float(np.linalg.norm(a / largest)) if largest else 0.0


def _largest(a: Array) -> float:
    return float(np.max(np.abs(a), initial=0.0))
