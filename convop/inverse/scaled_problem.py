"""Least-squares problems whose operator and data are divided by powers of two, so that squares stay within range."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse.linalg import aslinearoperator

from ..arrays.backend import Array, as_array, dense, namespace, on_gpu, to_cpu
from ..arrays.dtypes import kept_dtype
from ..arrays.scaling import power_of_two_scale, scale_by_power_of_two, to_unit_scale
from ..operators.conv import Conv, ConvTranspose
from .conjugate_gradients import divide_or_zero

# A damping beyond 2 to this power, in single and in double precision, makes the solution zero to all digits.
_LARGEST_DAMP = {4: 60, 8: 500}


@dataclass(frozen=True)
class Solution:
    """The result of `tikhonov`.

    Attributes
    ----------
    x : ndarray
        The solution, of shape ``A.dims`` or flat, as the data are; with a last axis for several data.
    iterations : int
        Iterations of conjugate gradients; 0 where the system was solved directly.
    converged : bool
        Whether the gradient is as small as `rtol` asks, for all data; by iterations or by a direct solution.
    reason : str
        Why the solver stopped, in words.
    residual_norm : float or ndarray
        ``norm(y - A x)``, for each of several data.
    gradient_norm : float or ndarray
        ``norm(A^H (y - A x) - damp^2 x)``, which is zero at the solution, relative to ``norm(A^H y)`` unless
        ``A^H y`` is zero, too.
    """

    x: Array
    iterations: int
    converged: bool
    reason: str
    residual_norm: Any
    gradient_norm: Any


@dataclass(frozen=True)
class ScaledProblem:
    """``min norm(A x - y)^2 + damp^2 norm(x)^2`` with vectors as columns and with A and y of moduli near one.

    The caller's operator is ``2^a A`` and the caller's data are ``2^b y``. Then the caller's damping is ``2^a damp``, the
    solution ``2^(b - a) x`` and the residual ``2^b (y - A x)``. The solvers see scaled numbers only; the methods
    ``scale_...`` and ``unscale_...`` convert them.

    Attributes
    ----------
    A : LinearOperator
        The caller's operator, divided by ``2^a`` if it is a convolution with extremely large or small taps.
    y : ndarray of shape ``(M, P)``
        P right-hand sides.
    damp : float
        At least 0.
    shape : tuple of int
        The shape in which the caller gets the solution of one right-hand side.
    is_batch : bool
        Whether the caller's data have an axis of right-hand sides.
    operator_power, data_power : int
        a and b.
    """

    A: Any
    y: Array
    damp: float
    shape: tuple[int, ...]
    is_batch: bool
    operator_power: int
    data_power: int

    @classmethod
    def of(cls, A: Any, y: npt.ArrayLike, damp: float) -> ScaledProblem:
        """Checks operator and data, and scales them.

        Parameters
        ----------
        A : LinearOperator, sparse or dense matrix
            The operator.
        y : array_like of shape ``A.dimsd``, ``(*A.dimsd, P)``, ``(M,)`` or ``(M, P)``
            The data.
        damp : float
            At least 0.

        Raises
        ------
        TypeError
            If `A` is not a linear operator.
        ValueError
            If `y` does not have a shape of the operator's outputs, or is not finite.
        """
        data = as_array(dense(y), "y")
        operator, operator_power = _scale_operator(_as_operator(A))
        rows, columns = (int(n) for n in operator.shape)
        dims, dimsd = tuple(getattr(A, "dims", (columns,))), tuple(getattr(A, "dimsd", (rows,)))
        shapes = ((dimsd, dims), ((rows,), (columns,)))
        fits = [(shape, data.shape != whole) for whole, shape in shapes if whole in (data.shape, data.shape[:-1])]
        if data.ndim == 0 or not fits:
            raise ValueError(
                f"y must have the shape {dimsd} or ({rows},), or several of them in a last axis; got {data.shape}"
            )
        shape, is_batch = fits[0]
        xp = namespace(data)
        if not bool(xp.isfinite(data).all()):
            raise ValueError("y must be finite, got NaN or infinity among its values")
        dtype = np.result_type(kept_dtype(data.dtype, "y"), kept_dtype(np.dtype(operator.dtype), "A"))
        values = xp.ascontiguousarray(data.reshape(rows, -1), dtype=dtype)
        # Data are always scaled: the energies of their gradients fall by many orders of magnitude before they converge.
        values, data_power = to_unit_scale(values, always=True)
        damp = scale_damp(damp, operator_power, dtype)
        return cls(operator, values, damp, shape, is_batch, operator_power, data_power)

    @property
    def has_zero_data(self) -> bool:
        """Whether all data are zero."""
        return not bool(self.y.any())

    def scale_start(self, x0: npt.ArrayLike) -> Array:
        """Returns a copy of a start vector of the caller's, checked, as scaled columns."""
        start = as_array(dense(x0), "x0")
        expected = (*self.shape, self.y.shape[1]) if self.is_batch else self.shape
        if start.shape != expected:
            raise ValueError(f"x0 must have the shape {expected} of the solution, got {start.shape}")
        if on_gpu(start) != on_gpu(self.y):
            libraries = ["CuPy" if on_gpu(array) else "NumPy" for array in (self.y, start)]
            raise TypeError(f"x0 must be an array of the same library as y, {libraries[0]}; got one of {libraries[1]}")
        xp = namespace(start)
        if not bool(xp.isfinite(start).all()):
            raise ValueError("x0 must be finite, got NaN or infinity among its values")
        dtype = np.result_type(kept_dtype(start.dtype, "x0"), self.y.dtype)
        columns: Array = xp.array(start.reshape(-1, self.y.shape[1]), dtype=dtype)
        return scale_by_power_of_two(columns, self.operator_power - self.data_power)

    def unscale_solution(self, x: Array) -> Array:
        """Returns the solution in the caller's units and shape."""
        shape = (*self.shape, x.shape[1]) if self.is_batch else self.shape
        return scale_by_power_of_two(x, self.data_power - self.operator_power).reshape(shape)

    def solution(self, x: Array, iterations: int, converged: bool, reason: str) -> Solution:
        """Returns the result of `tikhonov` for scaled columns x, with norms computed from x."""
        residual = self.y - self.A.matmat(x)
        lengths, first = (
            column_norms(gradient) for gradient in (self.A.rmatmat(residual) - self.damp**2 * x, self.A.rmatmat(self.y))
        )
        with np.errstate(over="ignore"):
            residuals, absolute = (
                scale_by_power_of_two(norms, self.data_power) for norms in (column_norms(residual), lengths)
            )
        gradients = np.where(first > 0, divide_or_zero(lengths, first), absolute)
        norms = (residuals, gradients) if self.is_batch else (float(residuals[0]), float(gradients[0]))
        return Solution(self.unscale_solution(x), iterations, converged, reason, *norms)

    def scale_data(self, value: float) -> float:
        """Returns a number in the units of the caller's data in the units of `y`."""
        return math.ldexp(value, -self.data_power)

    def unscale_data(self, value: float) -> float:
        """Returns a number in the units of `y` in the units of the caller's data."""
        return math.ldexp(value, self.data_power)

    def unscale_damp(self, damp: float) -> float:
        """Returns a damping in the units of the caller's operator."""
        return math.ldexp(damp, self.operator_power)


def _as_operator(A: Any) -> Any:
    """Returns `A` itself if it applies to columns and has an adjoint that does, and SciPy's linear operator otherwise."""
    if hasattr(A, "matmat") and hasattr(A, "rmatmat"):
        return A
    try:
        return aslinearoperator(A)
    except TypeError:
        raise TypeError(f"A must be a linear operator or a matrix, got {type(A).__name__}") from None


def _scale_operator(A: Any) -> tuple[Any, int]:
    """Returns a convolution with its taps over a power of two, and the power; 0 for other operators and ordinary taps."""
    if not isinstance(A, Conv | ConvTranspose):
        return A, 0
    power = power_of_two_scale(A.kernel)
    return (A.with_kernel(scale_by_power_of_two(A.kernel, -power)), power) if power else (A, 0)


def scale_damp(damp: float, power: int, dtype: np.dtype[Any]) -> float:
    """Returns ``damp/2**power``, limited so that its square is within the range of a dtype.

    Parameters
    ----------
    damp : float
        At least 0, in the units of an operator.
    power : int
        The power of two by which the operator is divided, after which its norm is near one.
    dtype : dtype
        The dtype of the computation.

    Returns
    -------
    float
    """
    most = 2.0 ** _LARGEST_DAMP[dtype.type(0).real.itemsize]
    within = damp == 0 or math.frexp(damp)[1] - power <= math.frexp(most)[1]
    return math.ldexp(damp, -power) if within else most


def column_norms(columns: Array) -> Array:
    """Returns the Euclidean norms of columns, on the CPU, in double precision.

    Where squares could leave the range, columns are divided by their largest element first.

    Parameters
    ----------
    columns : ndarray of shape ``(n, P)``
        Vectors.

    Returns
    -------
    ndarray of float64 of shape ``(P,)``
    """
    xp = namespace(columns)
    if columns.shape[1] == 1:
        square = float(xp.vdot(columns, columns).real)  # one pass, where the elements below take five
        limits = xp.finfo(columns.dtype)
        if columns.size * float(limits.tiny) / float(limits.eps) ** 2 < square < math.inf:
            return np.array([math.sqrt(square)])
    largest = xp.abs(columns).max(axis=0)
    scale = xp.where(largest > 0, largest, 1)
    return np.asarray(to_cpu(scale * xp.linalg.norm(columns / scale, axis=0)), dtype=np.float64)
