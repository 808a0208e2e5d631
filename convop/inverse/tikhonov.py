"""Inverse problems: Tikhonov regularisation, directly where transforms allow it, and by conjugate gradients elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse.linalg import aslinearoperator

from ..arrays.backend import Array, as_array, dense, namespace, on_gpu, to_cpu, to_gpu
from ..arrays.dtypes import kept_dtype
from ..arrays.progress import falling
from ..arrays.scaling import exponent, times_two_to
from ..geometry.arguments import boolean, integer
from ..operators.block_diagonal import BlockOperator, Piece, narrowed, place
from ..operators.conv import Conv, ConvTranspose, tempered
from ..spectral.blocks import Window, blocks, exact_parts
from .conjugate_gradients import ConjugateGradients, column_products, divide_or_zero
from .preconditioner import checked_damp, determined, preconditioner

__all__ = ["Solution", "System", "exact_inverse", "tikhonov"]

# Gradients below so many units in the last place of what they are differences of are rounding errors.
_ROUNDING_ULPS = 2
# After so many iterations without a smaller gradient, the recurrences are begun anew.
_PATIENCE = 300
# Dampings beyond 2 to this power, in single and in double precision, make solutions zero to all digits.
_LARGEST_DAMP = {4: 60, 8: 500}
# Blocks are inverted as normal matrices unless their condition may exceed this, and by singular values then.
_NORMAL_CONDITION = 1e6


@dataclass(frozen=True)
class Solution:
    """What `tikhonov` found.

    Attributes
    ----------
    x : ndarray
        The solution, of shape ``A.dims`` or flat, as the data were; of several data in a last axis, several.
    iterations : int
        Iterations of the conjugate gradients; 0 where the system was solved directly.
    converged : bool
        Whether the gradient got as small as was asked for, for all data; by iterations or by a direct solution.
    reason : str
        Why it ended, in words.
    residual_norm : float or ndarray
        ``norm(y - A x)``, of each of several data.
    gradient_norm : float or ndarray
        ``norm(A^H (y - A x) - damp^2 x)``, which is zero at the solution, relative to ``norm(A^H y)`` unless that is
        zero, too.
    """

    x: Array
    iterations: int
    converged: bool
    reason: str
    residual_norm: Any
    gradient_norm: Any


def tikhonov(
    A: Any,
    y: npt.ArrayLike,
    damp: float,
    *,
    precondition: bool = True,
    x0: npt.ArrayLike | None = None,
    rtol: float = 1e-6,
    maxiter: int | None = None,
    progress: bool = False,
    callback: Callable[[Array], object] | None = None,
) -> Solution:
    r"""The minimiser of ``norm(A x - y)^2 + damp^2 norm(x)^2``.

    Parameters
    ----------
    A : LinearOperator
        A `Conv`, `ConvTranspose`, or any operator of PyLops or SciPy, which is solved without preconditioner.
    y : array_like of shape ``A.dimsd``, ``(*A.dimsd, P)``, ``(M,)`` or ``(M, P)``
        The data; P of them are solved together. Where `A` is: on the CPU or the GPU.
    damp : float
        Damping, at least 0. With 0, the least-squares solution of least norm, unless `x0` is given.
    precondition : bool
        Whether conjugate gradients are preconditioned, and systems that fast transforms diagonalise are solved directly.
    x0 : array_like, optional
        Where to begin, in the shape of the solution; by default zeros.
    rtol : float
        Ends when the gradient ``g = A^H (y - A x) - damp^2 x`` is at most this times ``A^H y``, in norm and by
        ``sqrt(<g, P g>)`` with the preconditioner P, which is about the norm of the error in `A` and `damp`.
    maxiter : int, optional
        Iterations at most; by default ten for each unknown.
    progress : bool
        Show a progress bar on standard error; it needs rich (``pip install 'convop[cli]'``).
    callback : callable, optional
        Called with the current solution after each iteration.

    Returns
    -------
    Solution
        With ``.x``, ``.iterations``, ``.converged``, ``.reason``, ``.residual_norm`` and ``.gradient_norm``.

    Raises
    ------
    ValueError, TypeError
        For arguments that do not fit together.
    ModuleNotFoundError
        If a progress bar is asked for and rich is not installed.

    See Also
    --------
    preconditioner : What makes it fast.

    Notes
    -----
    Where the transforms of `preconditioner` are exact (circular axes, symmetric axes with symmetric kernels, kernels
    no longer than their stride), this is one division for each frequency,

        X = (B^H B + damp^2)^-1 B^H Y.

    Otherwise conjugate gradients run on the normal equations in the form that keeps the residual of the data, as LSQR
    and CGLS do (Bjoerck, Numerical Methods for Least Squares Problems, 1996, section 7.4), with the gradient computed
    from it anew in each iteration, so that it is what it says. With fewer data than unknowns, as in super-resolution,
    they run on the dual equations ``(A A^H + damp^2) u = y``, and ``x = A^H u``. Dampings below 1e-4 of the largest gain
    leave so much undetermined in working precision that no preconditioner is used.

    Examples
    --------
    >>> import numpy as np
    >>> from convop import Conv, tikhonov
    >>> A = Conv(np.ones((3, 3)) / 9, (32, 32), padding="same", padding_mode="reflect")
    >>> x = np.random.default_rng(0).random((32, 32))
    >>> solution = tikhonov(A, A @ x, 1e-3)
    >>> solution.converged, solution.x.shape
    (True, (32, 32))
    """
    damp, rtol = checked_damp(damp), _checked_rtol(rtol)
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be callable, got {callback!r}")
    system = System.of(A, y, damp, dual=x0 is None)
    A, damp = system.A, system.damp
    limit = 10 * system.A.shape[1] if maxiter is None else integer("maxiter", maxiter)
    if limit < 0:
        raise ValueError(f"maxiter must be at least 0, got {maxiter}")
    start = None if x0 is None else system.unknowns(x0)
    P: BlockOperator | None = None
    if boolean("precondition", precondition) and isinstance(A, Conv | ConvTranspose) and not system.zero:
        inverse = exact_inverse(A, damp, np.result_type(A.dtype, system.y.dtype))
        if inverse is not None:
            return system.directly(inverse, start, rtol)
        if determined(A, damp):
            P = preconditioner(A.H if system.dual else A, damp)
    with falling("gradient", rtol) if boolean("progress", progress) else nullcontext() as show:
        return _conjugate_gradients(system, start, P, rtol, limit, _Observers(show, callback))


def exact_inverse(A: Conv | ConvTranspose, damp: float, dtype: np.dtype[Any] | None = None) -> BlockOperator | None:
    """``(A^H A + damp^2)^-1 A^H``, or the pseudo-inverse for no damping, where fast transforms diagonalise `A`.

    Parameters
    ----------
    A : Conv or ConvTranspose
        The operator.
    damp : float
        At least 0.
    dtype : dtype, optional
        Of the inverse; by default that of `A`.

    Returns
    -------
    BlockOperator of shape ``A.shape[::-1]``, or None
        None where an axis is neither periodic nor diagonalised by cosines.

    Raises
    ------
    ValueError
        If a tap is not finite.
    MemoryError
        If the blocks do not fit the free memory.
    """
    # A is the matrix of these taps, or its conjugate transpose.
    (spec, taps), turned = A.convolution(), isinstance(A, ConvTranspose)
    if not np.isfinite(taps).all():
        raise ValueError("A must have finite taps to be inverted")
    parts = exact_parts(spec, taps)
    if any(isinstance(part, Window) for part in parts):
        return None
    dtype, power = dtype or taps.dtype, exponent(taps)
    B = blocks(spec, times_two_to(taps, -power), parts, f"an inverse of {spec}")
    B = B.conj().swapaxes(-1, -2) if turned else B
    inverse = times_two_to(_damped_inverses(B, _over_two_to(damp, power, B.dtype), max(spec.shape)), -power)
    places = [place(spec, parts, taps.dtype, outputs=outputs) for outputs in (not turned, turned)]
    operator = BlockOperator(
        [Piece(places[0], places[1], narrowed(inverse, dtype))],
        dims=A.dimsd,
        dimsd=A.dims,
        dtype=dtype,
        name="inverse",
    )
    return operator._moved(to_gpu) if A.on_gpu else operator


def _damped_inverses(B: Array, damp: float, side: int) -> Array:
    """``(B^H B + damp^2)^-1 B^H`` of many matrices; without damping their pseudo-inverses, cut off where all are singular.

    Parameters
    ----------
    B : ndarray of shape ``(..., rows, columns)``
        In double precision.
    damp : float
        At least 0.
    side : int
        Longer side of the matrix that these are the blocks of: what is zero to rounding goes by it.

    Returns
    -------
    ndarray of shape ``(..., columns, rows)``
    """
    BH = B.conj().swapaxes(-1, -2)
    rows, columns = B.shape[-2:]
    largest = float(np.linalg.norm(B, axis=(-2, -1)).max(initial=0.0))
    cutoff = largest * side * float(np.finfo(np.float64).eps)
    if min(rows, columns) == 1:  # a vector v has the one singular value norm(v)
        squares = (B.real**2 + B.imag**2).sum(axis=(-2, -1), keepdims=True)
        squares[squares <= (0.0 if damp else cutoff) ** 2] = math.inf
        return np.asarray(BH / (squares + damp**2))
    if damp and (largest / damp) ** 2 <= _NORMAL_CONDITION:
        short = rows < columns
        gram = B @ BH if short else BH @ B
        diagonal = np.arange(min(rows, columns))
        gram[..., diagonal, diagonal] += damp**2
        # (B^H B + c)^-1 B^H = B^H (B B^H + c)^-1
        solved = np.linalg.solve(gram, B if short else BH)
        return np.asarray(solved.conj().swapaxes(-1, -2) if short else solved)
    U, values, VH = np.linalg.svd(B, full_matrices=False)
    divided = np.where(values > (0.0 if damp else cutoff), values, math.inf)
    factors = 1 / (divided + damp**2 / divided)
    return np.asarray((VH.conj().swapaxes(-1, -2) * factors[..., None, :]) @ U.conj().swapaxes(-1, -2))


def _foreign(A: Any) -> Any:
    """An operator of SciPy's, of whatever is one to it."""
    try:
        return aslinearoperator(A)
    except TypeError:
        raise TypeError(f"A must be a linear operator or a matrix, got {type(A).__name__}") from None


def _over_two_to(damp: float, power: int, dtype: np.dtype[Any]) -> float:
    """A damping over a power of two; no larger than what a dtype has the square of, in units of a gain near one."""
    most = 2.0 ** _LARGEST_DAMP[dtype.type(0).real.itemsize]
    within = damp == 0 or math.frexp(damp)[1] - power <= math.frexp(most)[1]
    return math.ldexp(damp, -power) if within else most


def _checked_rtol(rtol: float) -> float:
    try:
        value = float(rtol)
    except (TypeError, ValueError):
        raise TypeError(f"rtol must be a number, got {rtol!r}") from None
    if not 0 <= value < 1:
        raise ValueError(f"rtol must be at least 0 and less than 1, got {rtol!r}")
    return value


@dataclass(frozen=True)
class System:
    """``min norm(A x - y)^2 + damp^2 norm(x)^2`` on columns, by its normal equations.

    Of the primal system ``(A^H A + damp^2) x = A^H y`` the unknowns are x. With fewer data than unknowns the dual one,
    ``(A A^H + damp^2) u = y`` with ``x = A^H u``, is the smaller: what `A` does not see is not in it, and stays zero.
    """

    A: Any
    power: int
    y: Array
    scale: float
    damp: float
    shape: tuple[int, ...]
    batch: bool
    dual: bool

    @classmethod
    def of(cls, A: Any, y: npt.ArrayLike, damp: float, *, dual: bool = False) -> System:
        data = as_array(dense(y), "y")
        operator, power = tempered(A if hasattr(A, "matmat") and hasattr(A, "rmatmat") else _foreign(A))
        rows, columns = (int(n) for n in operator.shape)
        dims, dimsd = tuple(getattr(A, "dims", (columns,))), tuple(getattr(A, "dimsd", (rows,)))
        shapes = ((dimsd, dims), ((rows,), (columns,)))
        fits = [(shape, data.shape != whole) for whole, shape in shapes if whole in (data.shape, data.shape[:-1])]
        if data.ndim == 0 or not fits:
            raise ValueError(
                f"y must have the shape {dimsd} or ({rows},), or several of them in a last axis; got {data.shape}"
            )
        unknowns, batch = fits[0]
        xp = namespace(data)
        if not bool(xp.isfinite(data).all()):
            raise ValueError("y must be finite, got NaN or infinity among its values")
        dtype = np.result_type(kept_dtype(data.dtype, "y"), kept_dtype(np.dtype(operator.dtype), "A"))
        values = xp.ascontiguousarray(data.reshape(rows, -1), dtype=dtype)
        # By a power of two, so that squares of small data do not vanish. In double precision: 1e-320 has no inverse.
        largest = float(xp.abs(values).max()) if values.size else 0.0
        scale = 2.0 ** min(1023, max(-1000, math.frexp(largest)[1])) if largest else 1.0
        values = values * values.dtype.type(1 / scale) if scale != 1 else values
        damp = _over_two_to(damp, power, dtype)
        return cls(operator, power, values, scale, damp, unknowns, batch, dual and rows < columns)

    @property
    def zero(self) -> bool:
        """Whether there is nothing to solve."""
        return not bool(self.y.any())

    def unknowns(self, x0: npt.ArrayLike) -> Array:
        """A beginning, as columns of its own."""
        start = as_array(dense(x0), "x0")
        expected = (*self.shape, self.y.shape[1]) if self.batch else self.shape
        if start.shape != expected:
            raise ValueError(f"x0 must have the shape {expected} of the solution, got {start.shape}")
        if on_gpu(start) != on_gpu(self.y):
            raise TypeError("x0 must be an array of the library that y is of")
        xp = namespace(start)
        if not bool(xp.isfinite(start).all()):
            raise ValueError("x0 must be finite, got NaN or infinity among its values")
        dtype = np.result_type(kept_dtype(start.dtype, "x0"), self.y.dtype)
        columns: Array = xp.array(start.reshape(-1, self.y.shape[1]), dtype=dtype)
        columns /= dtype.type(self.scale)
        return times_two_to(columns, self.power)

    @cached_property
    def first(self) -> Array:
        """The gradient at zero."""
        first: Array = self.y if self.dual else self.A.rmatmat(self.y)
        return first

    def image(self, v: Array) -> Array:
        """``B v``: with B the operator, or its adjoint in the dual system."""
        image: Array = self.A.rmatmat(v) if self.dual else self.A.matmat(v)
        return image

    def gradient(self, v: Array, w: Array) -> Array:
        """``A^H (y - w) - damp^2 v``, or ``y - A w - damp^2 v`` in the dual system."""
        gradient: Array = self.y - self.A.matmat(w) if self.dual else self.A.rmatmat(self.y - w)
        return gradient - self.damp**2 * v if self.damp else gradient

    def solved(self, v: Array, w: Array) -> Array:
        """The solution of the primal system."""
        return w if self.dual else v

    def promised(self, gradient: Array) -> float:
        """How far the gradient of the primal system has fallen, from that of the dual one: ``A^H g``."""
        ratios = divide_or_zero(_norms(self.A.rmatmat(gradient)), _norms(self.A.rmatmat(self.y)))
        return float(ratios.max(initial=0.0))

    def shown(self, x: Array) -> Array:
        """Columns in the scale and the shape in which the caller has the solution."""
        shape = (*self.shape, x.shape[1]) if self.batch else self.shape
        shown: Array = times_two_to(x * x.dtype.type(self.scale), -self.power).reshape(shape)
        return shown

    def directly(self, inverse: BlockOperator, start: Array | None, rtol: float) -> Solution:
        """The solution by an inverse; without damping the one next to a beginning."""
        if start is None or self.damp:
            x = inverse.matmat(self.y)
        else:
            x = start + inverse.matmat(self.y - self.A.matmat(start))
        found = self.solution(x, 0, "solved directly, by fast transforms")
        reached = float(np.max(found.gradient_norm, initial=0.0))
        if reached <= rtol:
            return found
        reason = f"solved directly, by fast transforms, to the precision of {x.dtype.name}: gradient {reached:.2g}"
        return replace(found, converged=False, reason=reason)

    def solution(self, x: Array, iterations: int, reason: str, *, converged: bool = True) -> Solution:
        """What was found, with figures computed from it."""
        residual = self.y - self.A.matmat(x)
        lengths = _norms(self.A.rmatmat(residual) - self.damp**2 * x)
        first = _norms(self.A.rmatmat(self.y))
        gradients = np.where(first > 0, divide_or_zero(lengths, first), lengths * self.scale)
        with np.errstate(over="ignore"):
            residuals = _norms(residual) * self.scale
        figures = (residuals, gradients) if self.batch else (float(residuals[0]), float(gradients[0]))
        return Solution(self.shown(x), iterations, converged, reason, *figures)


@dataclass(frozen=True)
class _Observers:
    """Who is told of an iteration: a progress bar, and the caller."""

    show: Callable[[float], object] | None
    callback: Callable[[Array], object] | None

    def __call__(self, system: System, x: Array, worst: float) -> None:
        if self.show is not None:
            self.show(worst)
        if self.callback is not None:
            self.callback(system.shown(x))


def _norms(columns: Array) -> Array:
    """Norms of columns, on the CPU, in double precision. Over their largest elements, as squares of small ones vanish."""
    xp = namespace(columns)
    largest = xp.abs(columns).max(axis=0)
    scale = xp.where(largest > 0, largest, 1)
    return np.asarray(to_cpu(scale * xp.linalg.norm(columns / scale, axis=0)), dtype=np.float64)


def _scales(system: System, start: Array | None, P: BlockOperator | None) -> _Sizes:
    """What gradients are relative to: the one at zero, or where zero is the solution, the one at the beginning."""

    def sizes(gradient: Array) -> _Sizes:
        return _Sizes.of(gradient, column_products(gradient, gradient if P is None else P.matmat(gradient)))

    at_zero = sizes(system.first)
    return at_zero if start is None else at_zero.or_else(sizes(system.gradient(start, system.image(start))))


def _conjugate_gradients(
    system: System, start: Array | None, P: BlockOperator | None, rtol: float, limit: int, tell: _Observers
) -> Solution:
    """Conjugate gradients on the normal equations of a system, for several data at once.

    They keep ``w = B v`` beside the unknowns v, and compute the gradient from both anew in each iteration.
    """
    y, damp = system.y, system.damp
    eps = float(np.finfo(y.dtype).eps)
    scales = _scales(system, start, P)
    v = namespace(y).zeros_like(system.first) if start is None else start
    iterations, gain, reached, goal = 0, 0.0, math.inf, rtol
    while True:
        # From the definition: at the start, and where the recurrences say that the goal is reached.
        w = system.image(v)
        cg = ConjugateGradients(
            system.image,
            v,
            system.gradient(v, w),
            shift=damp**2,
            image=w,
            preconditioner=None if P is None else P.matmat,
            normal_residual=system.gradient,
        )
        sizes = _Sizes.of(cg.residual, cg.energy)
        fallen = sizes.over(scales)
        worst = float(fallen.max(initial=0.0))
        at = f"with the gradient at {worst:.2g} of its first size"
        x = system.solved(v, w)
        if not math.isfinite(worst):
            return system.solution(x, iterations, "stopped: the operator gave NaN or infinity", converged=False)
        # Of the dual system, the gradient of the primal one is what was promised.
        promised = system.promised(cg.residual) if system.dual else worst
        if promised <= rtol:
            reason = f"converged: the gradient fell to {promised:.2g} of its first size, rtol is {rtol:g}"
            return system.solution(x, iterations, reason)
        if worst <= goal:
            goal, reached = goal * rtol / (2 * promised), math.inf
        if iterations >= limit:
            return system.solution(x, iterations, f"stopped after maxiter={limit} iterations, {at}", converged=False)
        if worst > reached / 2:
            reason = f"stopped by rounding errors of {y.dtype.name}, {at}"
            return system.solution(x, iterations, reason, converged=False)
        reached, least, since = worst, worst, iterations
        while iterations < limit and iterations - since < _PATIENCE:
            cg.step(active=fallen > goal)  # columns that are done stay as they are
            iterations += 1
            sizes = _Sizes.of(cg.residual, cg.energy)
            fallen = sizes.over(scales)
            now = float(fallen.max())
            tell(system, system.solved(cg.x, cg.image), now)
            if now < least:
                least, since = now, iterations
            gain = max(gain, cg.gain)
            noise = _ROUNDING_ULPS * eps * (gain * _norms(cg.image) + damp**2 * _norms(cg.x))
            if not ((fallen > goal) & (sizes.length > noise)).any():  # also where they are NaN
                break
        v = cg.x


@dataclass(frozen=True)
class _Sizes:
    """Of the gradients g of several data: norms, and ``<g, P g>``, which is about the energy of the error."""

    length: Array
    energy: Array

    @classmethod
    def of(cls, gradient: Array, energy: Array) -> _Sizes:
        return cls(_norms(gradient), energy)

    def or_else(self, other: _Sizes) -> _Sizes:
        """Others in place of those that are zero."""
        zero = self.length == 0
        return _Sizes(np.where(zero, other.length, self.length), np.where(zero, other.energy, self.energy))

    def over(self, first: _Sizes) -> Array:
        """The larger of both, relative to the first."""
        energies = np.sqrt(np.maximum(0, divide_or_zero(self.energy, first.energy)))
        return np.asarray(np.maximum(divide_or_zero(self.length, first.length), energies))
