"""Spectra of convolutions: singular values, norm, condition number, symbol, determinant and pseudo-inverse."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from .arrays.backend import Array, as_cpu_operator
from .geometry.arguments import boolean, integer, one_of
from .inverse.exact_inverse import exact_inverse
from .inverse.preconditioner import preconditioner
from .operators.base import MatrixOperator
from .operators.block_diagonal import BlockOperator
from .operators.conv import Conv, ConvTranspose, require_convolution, split_groups
from .spectral import singular_values as dense
from .spectral.axis_bases import Identity, exact_bases
from .spectral.extreme_values import largest_by_arpack, smallest_values
from .spectral.norm_bounds import norm_bounds
from .spectral.symbol import evaluate_symbol

__all__ = ["cond", "logabsdet", "norm", "pinv", "singular_values", "symbol", "symbol_values"]

_NORM_RTOL = 1e-12


def singular_values(A: Any, k: int | None = None, which: str = "LM") -> Array:
    r"""Returns the singular values of an operator: all of them, or the k largest or smallest.

    Parameters
    ----------
    A : Conv, ConvTranspose, or any linear operator or matrix
        On the CPU or the GPU; the values are computed on the CPU.
    k : int, optional
        Number of values; by default all ``min(A.shape)``.
    which : {"LM", "SM"}
        The k largest or the k smallest.

    Returns
    -------
    ndarray of float64, of length `k` or ``min(A.shape)``
        Largest first. NaN if the operator has entries that are not finite.

    Raises
    ------
    ValueError, TypeError
        For invalid arguments, and if all values are asked for of a matrix that is too large: of more than 4096 rows
        and columns, where no transform makes it block diagonal. Ask for some of them then.
    MemoryError
        If the blocks or the dense matrix do not fit the free memory.
    RuntimeError
        If an iteration for some of them does not converge.

    See Also
    --------
    norm, cond : The largest value, and its ratio to the smallest.
    symbol : The function that describes their distribution.

    Notes
    -----
    *All values.* On every axis where the operator is periodic (circular boundary, or no tap beyond the ends, and a whole
    number ``m`` of strides ``s`` long) the matrix is block diagonal after a Fourier transform of its polyphase components,
    with one block of size ``c_out x c_in*s`` for each of ``m`` frequencies. On symmetric axes with symmetric taps the
    DCT-II does the same. Other axes are not transformed. The values are those of all blocks, each from a dense SVD; for
    real kernels half of the frequencies suffice. They are exact to rounding, the small ones too: nothing is squared. For
    channels and circular boundary this is the method of Sedghi, Gupta and Long (ICLR 2019), extended to strides, groups
    and mixed boundaries.

    *Some values*, where the blocks would be large: the largest come from ARPACK on the operator. The smallest of a square
    convolution come from ARPACK on its inverse, by LU factors of the sparse matrix, if those are small enough. Otherwise
    they come from LOBPCG on ``A^H A`` with `preconditioner`, to residuals of 1e-10 of its norm: values below 1e-5 of the
    largest are not resolved.

    Examples
    --------
    >>> import numpy as np
    >>> from convop import Conv
    >>> from convop.spectrum import singular_values
    >>> A = Conv([1.0, 1.0], 4, padding="same", padding_mode="circular")
    >>> singular_values(A).round(6).tolist()
    [2.0, 1.414214, 1.414214, 0.0]
    >>> bool(np.allclose(singular_values(A), np.linalg.svd(A.todense(), compute_uv=False)))
    True
    """
    A = _to_operator(A)
    smaller = min(A.shape)
    which = one_of("which", which, ("LM", "SM"))
    if k is not None:
        k = integer("k", k)
        if not 1 <= k <= smaller:
            raise ValueError(f"k must be from 1 to {smaller}, the smaller side of the operator; got {k}")
    if k is None or (2 * k > smaller and smaller <= dense.DENSE_SIDE):
        return _select(dense.all_values(A), smaller if k is None else k, which)
    return _some_values(A, k, which)[0]


def norm(A: Any, *, rtol: float = 1e-9, bounds: bool = False) -> Any:
    """Returns the spectral norm, the largest singular value, or bounds of it.

    Parameters
    ----------
    A : Conv, ConvTranspose, or any linear operator or matrix
        On the CPU or the GPU.
    rtol : float
        Iterations, where they are needed, stop when 20 steps change the value by less than this, relative to itself.
    bounds : bool
        Whether to return two numbers between which the norm certainly lies.

    Returns
    -------
    float or (float, float)
        The norm, or a lower and an upper bound of it.

    Notes
    -----
    The norm is exact to rounding where `singular_values` has small blocks. Otherwise it comes from Lanczos' method
    without restarts, whose value is a lower bound (Paige, 1976).

    The upper bound is the least of two bounds, each of them proven. The Schur test,
    ``norm(A)^2 <= max_i (|A|^T |A| x)_i / x_i`` for all ``x > 0``, with x from power iterations that begin at ones (which
    gives ``sqrt(norm_1 norm_inf)`` or less), is close for kernels without negative taps. With zeros beyond the ends,
    `Conv` and `ConvTranspose` are compressions of the convolution on all integers, whose norm is the supremum of the
    symbol. Its maximum on a grid of N points in an axis, where the symbol is a trigonometric polynomial of degree d, is
    too small by at most the factor ``1/cos(pi d/(2 N))``.

    Examples
    --------
    >>> from convop import Conv
    >>> from convop.spectrum import norm
    >>> A = Conv([[0.1, 0.2, 0.1], [0.2, 0.4, 0.2], [0.1, 0.2, 0.1]], (64, 64), padding="same")
    >>> lower, upper = norm(A, bounds=True)
    >>> bool(lower <= norm(A) <= upper), upper / lower < 1.01
    (True, True)
    """
    A = _to_operator(A)
    if not 0 < rtol < 1:
        raise ValueError(f"rtol must be between 0 and 1, got {rtol!r}")
    has_bounds = boolean("bounds", bounds)
    value, steps = dense.largest_value(A, rtol)
    return norm_bounds(A, value, steps) if has_bounds else value


def cond(A: Any) -> float:
    """Returns the condition number: the largest singular value over the smallest.

    Parameters
    ----------
    A : Conv, ConvTranspose, or any linear operator or matrix
        On the CPU or the GPU.

    Returns
    -------
    float
        ``inf`` for a matrix that is singular to rounding, NaN for a matrix with entries that are not finite.

    Raises
    ------
    RuntimeError
        If the smallest value comes from iterations, as for large operators without small blocks and factors, and they do
        not converge, or the value is less than 1e-5 of the largest, which they do not resolve.
    MemoryError
        If the blocks or the dense matrix do not fit the free memory.

    Examples
    --------
    >>> from convop import Conv
    >>> from convop.spectrum import cond
    >>> round(cond(Conv([2.0, 1.0], 6, padding="same", padding_mode="circular")), 6)
    3.0
    """
    A = _to_operator(A)
    if dense.dense_is_cheap(A) or min(A.shape) <= dense.DENSE_SIDE:
        return dense.condition_number(dense.all_values(A), A.shape)
    most, (smallest, resolution) = dense.largest_value(A, _NORM_RTOL)[0], _some_values(A, 1, "SM")
    least = float(smallest[0])
    if least <= resolution and not math.isnan(most):
        if resolution > dense.rounding_bound(most, A.shape):
            raise RuntimeError(
                f"the condition number of this operator of shape {tuple(A.shape)} is more than {most / resolution:.1g}, "
                f"which iterations cannot distinguish from infinity: use a smaller input_shape"
            )
        return math.inf
    return dense.condition_number(np.array([most, least]), A.shape)


def logabsdet(A: Conv | ConvTranspose) -> float:
    """Returns the logarithm of the absolute value of the determinant of a square operator.

    Parameters
    ----------
    A : Conv or ConvTranspose
        Square, with blocks that `singular_values` decomposes: circular operators of any size, others up to 4096 rows.

    Returns
    -------
    float
        ``-inf`` for a singular matrix; NaN for a matrix with entries that are not finite.

    Raises
    ------
    ValueError
        If the operator is not square, or too large.

    Notes
    -----
    The determinant comes from LU factors of the diagonal blocks of `singular_values`. A badly conditioned matrix may have
    a determinant of 1, as triangular matrices do. The transform of zero, however, is not exactly zero: a block of a
    frequency counts as singular if its smallest singular value is zero to rounding.

    Examples
    --------
    >>> import math
    >>> from convop import Conv
    >>> from convop.spectrum import logabsdet
    >>> A = Conv([2.0, 1.0], 6, padding="same", padding_mode="circular")
    >>> math.isclose(logabsdet(A), math.log(2**6 - 1))
    True
    """
    require_convolution(A)
    if A.shape[0] != A.shape[1]:
        raise ValueError(f"A must be square to have a determinant, got shape {A.shape}")
    return dense.log_determinant(*A.convolution())


def pinv(A: Conv | ConvTranspose) -> BlockOperator:
    """Returns the exact pseudo-inverse as an operator, where fast transforms diagonalise the convolution.

    Parameters
    ----------
    A : Conv or ConvTranspose
        Each axis is circular and a whole number of strides long, or symmetric with symmetric taps, or has no tap
        beyond its ends.

    Returns
    -------
    BlockOperator of shape ``A.shape[::-1]``
        On the device of `A` and of its dtype. Singular values that are zero to rounding are not inverted.

    Raises
    ------
    TypeError, ValueError
        If `A` is not such an operator.

    See Also
    --------
    convop.tikhonov : For all operators, and for data with noise.

    Examples
    --------
    >>> import numpy as np
    >>> from convop import Conv
    >>> from convop.spectrum import pinv
    >>> A = Conv([[2.0, 1.0], [0.5, 0.2]], (8, 8), padding="same", padding_mode="circular")
    >>> x = np.random.default_rng(0).random((8, 8))
    >>> np.allclose(pinv(A) @ (A @ x), x)
    True
    """
    require_convolution(A)
    inverse = exact_inverse(A, 0.0)
    if inverse is None:
        axis = next(a for a, basis in enumerate(exact_bases(*A.convolution())) if isinstance(basis, Identity))
        raise ValueError(
            f"A must be diagonalised by fast transforms to have its pseudo-inverse as an operator, but spatial axis "
            f"{axis} ({A.spec.padding_mode}, {A.spec.axes[axis].inputs} inputs, {A.spec.axes[axis].outputs} outputs, "
            f"stride {A.spec.stride[axis]}) is not: use tikhonov with a small damp"
        )
    return inverse


def symbol(A: Conv | ConvTranspose, theta: npt.ArrayLike) -> Array:
    r"""Returns the symbol, or generating function, of a convolution: the factor of plane waves far from all ends.

    Parameters
    ----------
    A : Conv or ConvTranspose
        The operator.
    theta : array_like of shape ``(..., ndim)``
        Angles in radians, one for each spatial axis. For one axis, an array whose last axis is not of length 1 holds
        one angle per element.

    Returns
    -------
    ndarray of complex128, of shape ``(...)`` or ``(..., c_out, c_in)``
        For a `ConvTranspose` ``(..., c_in, c_out)``, with the channels of its convolution.

    Raises
    ------
    TypeError, ValueError
        If `A` has no symbol, or `theta` has another number of angles.

    Notes
    -----
    For the taps K of the cross-correlation, reversed where ``flip=True``, counted from 0 and ``dilation`` apart,

        symbol(theta) = sum_t K[t] exp(+i theta . (t*dilation)).

    Padding shifts the output and a stride subsamples it; neither is in the symbol. A wave ``exp(i theta . j)``
    becomes ``symbol(theta) exp(i theta . (o*stride - lo))``. The transpose has the symbol ``symbol(-theta)`` with its
    channels swapped.

    The singular values of a stride-1 operator on ever larger inputs are distributed like the moduli of the symbol on a
    uniform grid of angles (for channels: its singular values), for any boundary: the theorem of Avram and Parter,
    Tyrtyshnikov, Tilli and others on block Toeplitz matrices. For circular boundaries both are equal, at
    ``theta = 2 pi k/n``. `convop.plot.spectrum` draws both.

    Examples
    --------
    >>> from math import pi
    >>> from convop import Conv
    >>> from convop.spectrum import symbol
    >>> A = Conv([[1, 2], [3, 4]], (8, 8))
    >>> complex(symbol(A, [0, 0])), bool(abs(symbol(A, [pi, 0])) > 3)
    ((10+0j), True)
    """
    require_convolution(A)
    spec, taps = A.convolution()
    angles = np.asarray(theta, dtype=np.float64)
    if spec.ndim == 1 and (angles.ndim == 0 or angles.shape[-1] != 1):
        angles = angles[..., None]
    if angles.ndim == 0 or angles.shape[-1] != spec.ndim:
        raise ValueError(
            f"theta must have {spec.ndim} angles in its last axis, one for each spatial axis; got {angles.shape}"
        )
    values = evaluate_symbol(spec, taps, angles.reshape(-1, spec.ndim))
    if isinstance(A, ConvTranspose):  # the conjugate transpose of the convolution
        values = values.conj().swapaxes(-1, -2)
    return cast(Array, values.reshape((*angles.shape[:-1], *(values.shape[1:] if spec.channels else ()))))


def symbol_values(A: Conv | ConvTranspose) -> Array:
    """Returns the singular values of the symbol on a uniform grid of angles: those of the operator far from all ends.

    Parameters
    ----------
    A : Conv or ConvTranspose
        The operator. With a stride, the symbol is that of the polyphase components: a matrix with a column for each.

    Returns
    -------
    ndarray of float64
        Largest first: one value for each row of the symbol at each angle. There are as many angles as `A` has outputs,
        or some more.

    Examples
    --------
    >>> from convop import Conv
    >>> from convop.spectrum import symbol_values
    >>> symbol_values(Conv([1.0, 1.0], 4, padding="same")).round(6).tolist()
    [2.0, 1.414214, 1.414214, 0.0]
    """
    return dense.symbol_values(*require_convolution(A).convolution())


def _to_operator(A: Any) -> Any:
    """Returns a matrix or linear operator on the CPU."""
    if isinstance(A, MatrixOperator):
        return A.to_cpu() if A.on_gpu else A
    A = as_cpu_operator(A)
    if sp.issparse(A) or isinstance(A, np.ndarray):
        if A.ndim != 2:
            raise ValueError(f"A must be a matrix or a linear operator, got an array of shape {A.shape}")
        return A
    if not hasattr(A, "matvec"):
        raise TypeError(f"A must be a linear operator or a matrix, got {type(A).__name__}")
    return A


def _select(values: Array, k: int, which: str) -> Array:
    """Returns the k largest or smallest of values that are sorted, largest first."""
    return values[:k] if which == "LM" else values[max(0, len(values) - k) :]


def _some_values(A: Any, k: int, which: str) -> tuple[Array, float]:
    """Returns the k largest or smallest values, and the size below which they are not resolved.

    Iterations that start from one vector find a multiple value once. Groups of channels may have equal values, so each
    group is decomposed by itself.
    """
    if k >= min(A.shape) or dense.dense_is_cheap(A):
        return _select(dense.all_values(A), k, which), 0.0
    if isinstance(A, Conv | ConvTranspose) and A.spec.groups > 1:
        found = [_some_values(group, k, which) for group in split_groups(A)]
        values = np.sort(np.concatenate([values for values, _ in found]))[::-1]
        return _select(values, k, which), max(resolution for _, resolution in found)
    if which == "LM":
        return largest_by_arpack(dense.as_double(A), k), 0.0
    return smallest_values(A, k, preconditioner)
