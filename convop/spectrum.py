"""Spectra of convolutions: singular values, norm, condition number, symbol, determinant and pseudo-inverse."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.sparse.linalg import ArpackError, lobpcg, splu, svds
from scipy.sparse.linalg import LinearOperator as ScipyLinearOperator

from .arrays.backend import Array, from_cpu, to_cpu
from .geometry.arguments import boolean, integer, one_of
from .inverse.preconditioner import preconditioner
from .inverse.tikhonov import exact_inverse
from .operators.base import MatrixOperator
from .operators.block_diagonal import BlockOperator
from .operators.conv import Conv, ConvTranspose
from .spectral import singular_values as singular
from .spectral.blocks import Window, exact_parts

__all__ = ["cond", "logabsdet", "norm", "pinv", "singular_values", "symbol", "symbol_values"]

_NORM_RTOL = 1e-12
# The smallest values of a square matrix come from its inverse, if its LU factors may have so many entries.
_FACTOR_ENTRIES = 6 * 10**7
# Others by LOBPCG: with a preconditioner of this damping, to residuals of `A^H A` of this size, both relative to the
# norm; with so many vectors besides those asked for.
_SMALLEST_DAMP, _SMALLEST_TOL, _GUARDS, _LOBPCG_STEPS = 1e-3, 1e-10, 4, 500


def singular_values(A: Any, k: int | None = None, which: str = "LM") -> Array:
    r"""Singular values of an operator, all of them or some.

    Parameters
    ----------
    A : Conv, ConvTranspose, or any linear operator or matrix
        On the CPU or the GPU; computed on the CPU.
    k : int, optional
        How many; by default all ``min(A.shape)``.
    which : {"LM", "SM"}
        The k largest or the k smallest.

    Returns
    -------
    ndarray of float64, of length `k` or ``min(A.shape)``
        Largest first. NaN if the operator has entries that are not finite.

    Raises
    ------
    ValueError, TypeError
        For arguments that make no sense, and if all are asked for of a matrix that is too large for it: where no
        transform breaks it into blocks, of more than 4096 rows and columns. Ask for some of them then.
    MemoryError
        If blocks or the dense matrix do not fit the free memory.
    RuntimeError
        If an iteration for some of them does not converge.

    See Also
    --------
    norm, cond : The largest, and its ratio to the smallest.
    symbol : What they are distributed like.

    Notes
    -----
    *All of them.* On every axis where the operator is periodic (circular boundary, or no tap beyond the ends, and a whole
    number ``m`` of strides ``s`` long) the matrix is block diagonal after a Fourier transform of its polyphase components,
    with one block of size ``c_out x c_in*s`` for each of ``m`` frequencies. On symmetric axes, taps that are
    symmetric too give the same by the DCT-II. Other axes stay as they are. The values are those of all blocks, each by a
    dense SVD, for real kernels of half of the frequencies. They are exact to rounding, also the small ones: nothing is
    squared. For channels and circular boundary this is the method of Sedghi, Gupta and Long (ICLR 2019), extended
    to strides, groups and mixed boundaries.

    *Some of them*, where blocks would be large: the largest by ARPACK on the operator. The smallest of a square
    convolution by ARPACK on its inverse, from the LU factors of the sparse matrix, as long as those are small enough.
    Otherwise by LOBPCG on ``A^H A`` with `preconditioner`, to residuals of 1e-10 of its norm: values below 1e-5 of the
    largest come out as anything below that.

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
    A = _operator(A)
    smaller = min(A.shape)
    which = one_of("which", which, ("LM", "SM"))
    if k is not None:
        k = integer("k", k)
        if not 1 <= k <= smaller:
            raise ValueError(f"k must be from 1 to {smaller}, the smaller side of the operator; got {k}")
    if k is None or k == smaller or singular.affordable(A) or (2 * k > smaller and smaller <= singular.DENSE_SIDE):
        values = singular.all_values(A)
        return values if k is None else values[:k] if which == "LM" else values[smaller - k :]
    return _some_values(A, k, which)[0]


def norm(A: Any, *, rtol: float = 1e-9, bounds: bool = False) -> Any:
    """The spectral norm: the largest singular value.

    Parameters
    ----------
    A : Conv, ConvTranspose, or any linear operator or matrix
        On the CPU or the GPU.
    rtol : float
        Where it takes iterations, they end when 20 steps change the value by less than this, relative to itself.
    bounds : bool
        Return two numbers between which the norm certainly lies.

    Returns
    -------
    float or (float, float)
        The norm, or a lower and an upper bound of it.

    Notes
    -----
    To rounding where `singular_values` has small blocks. Otherwise by Lanczos' method without restarts, whose value is a
    lower bound (Paige, 1976).

    The upper bound is the least of three, each of them proven. The Schur test with positive vectors,
    ``norm(A)^2 <= max_i (|A|^T |A| x)_i / x_i`` for all ``x > 0``, with x from power iterations, which is close for
    kernels without negative taps. For zeros beyond the ends, the supremum of the symbol, of which the operator is a
    compression; from a grid of N points in an axis, on which a trigonometric polynomial of degree d loses at most
    the factor ``1/cos(pi d/(2 N))``. And ``sqrt(norm_1 norm_inf)``. They are for `Conv` and `ConvTranspose`;
    others have the last, of their matrix.

    Examples
    --------
    >>> from convop import Conv
    >>> from convop.spectrum import norm
    >>> A = Conv([[0.1, 0.2, 0.1], [0.2, 0.4, 0.2], [0.1, 0.2, 0.1]], (64, 64), padding="same")
    >>> lower, upper = norm(A, bounds=True)
    >>> bool(lower <= norm(A) <= upper), upper / lower < 1.01
    (True, True)
    """
    A = _operator(A)
    if not 0 < rtol < 1:
        raise ValueError(f"rtol must be between 0 and 1, got {rtol!r}")
    wanted = boolean("bounds", bounds)
    value, steps = singular.largest(A, rtol)
    if not wanted:
        return value
    return singular.certified(A, value, steps)


def cond(A: Any) -> float:
    """The condition number: the largest singular value over the smallest.

    Parameters
    ----------
    A : Conv, ConvTranspose, or any linear operator or matrix
        On the CPU or the GPU.

    Returns
    -------
    float
        ``inf`` for a matrix that is singular to rounding, NaN for one with entries that are not finite.

    Raises
    ------
    RuntimeError
        If the smallest is found by iterations, as of large operators without small blocks and factors, and they do not
        converge, or it is less than 1e-5 of the largest: they see no further.
    MemoryError
        If blocks or the dense matrix do not fit the free memory.

    Examples
    --------
    >>> from convop import Conv
    >>> from convop.spectrum import cond
    >>> round(cond(Conv([2.0, 1.0], 6, padding="same", padding_mode="circular")), 6)
    3.0
    """
    A = _operator(A)
    if singular.affordable(A) or min(A.shape) <= singular.DENSE_SIDE:
        return singular.condition(singular.all_values(A), A.shape)
    most, (least, resolved) = singular.largest(A, _NORM_RTOL)[0], _least_value(A)
    if least <= resolved and not math.isnan(most):
        if resolved > singular.rounding_bound(most, A.shape):
            raise RuntimeError(
                f"the condition number of this operator of shape {tuple(A.shape)} is more than {most / resolved:.1g}, "
                f"beyond what iterations tell from infinity: use a smaller input_shape"
            )
        return math.inf
    return singular.condition(np.array([most, least]), A.shape)


def logabsdet(A: Conv | ConvTranspose) -> float:
    """Logarithm of the absolute value of the determinant of a square operator.

    Parameters
    ----------
    A : Conv or ConvTranspose
        Square, and with all singular values within reach of `singular_values`: circular of any size, others up
        to 4096 rows.

    Returns
    -------
    float
        ``-inf`` for a matrix that is singular; NaN for one with entries that are not finite.

    Raises
    ------
    ValueError
        If the operator is not square, or too large.

    Notes
    -----
    From the LU factors of the diagonal blocks of `singular_values`. A matrix that is badly conditioned may well have a
    determinant of 1, as triangular ones do. Zeros of a transform are not exact, though, so that blocks of frequencies
    whose smallest singular value is zero to rounding count as singular.

    Examples
    --------
    >>> import math
    >>> from convop import Conv
    >>> from convop.spectrum import logabsdet
    >>> A = Conv([2.0, 1.0], 6, padding="same", padding_mode="circular")
    >>> math.isclose(logabsdet(A), math.log(2**6 - 1))
    True
    """
    if not isinstance(A, Conv | ConvTranspose):
        raise TypeError(f"A must be a Conv or a ConvTranspose, got {type(A).__name__}")
    if A.shape[0] != A.shape[1]:
        raise ValueError(f"A must be square to have a determinant, got shape {A.shape}")
    return singular.log_determinant(*A.convolution())


def pinv(A: Conv | ConvTranspose) -> BlockOperator:
    """The exact pseudo-inverse as an operator, where fast transforms diagonalise the convolution.

    Parameters
    ----------
    A : Conv or ConvTranspose
        Each axis circular and a whole number of strides long, or symmetric with taps that are symmetric, or with no
        tap beyond its ends.

    Returns
    -------
    BlockOperator of shape ``A.shape[::-1]``
        Singular values that are zero to rounding stay zero. Where `A` is, and of its dtype.

    Raises
    ------
    TypeError, ValueError
        If `A` is no such operator.

    See Also
    --------
    convop.tikhonov : For all operators, and data with noise.

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
    if not isinstance(A, Conv | ConvTranspose):
        raise TypeError(f"A must be a Conv or a ConvTranspose, got {type(A).__name__}")
    inverse = exact_inverse(A, 0.0)
    if inverse is None:
        parts = exact_parts(*A.convolution())
        axis = next(a for a, part in enumerate(parts) if isinstance(part, Window))
        raise ValueError(
            f"A must be diagonalised by fast transforms to have its pseudo-inverse as an operator, but spatial axis "
            f"{axis} ({A.spec.padding_mode}, {A.spec.axes[axis].inputs} inputs, {A.spec.axes[axis].outputs} outputs, "
            f"stride {A.spec.stride[axis]}) is not: use tikhonov with a small damp"
        )
    return inverse


def symbol(A: Conv | ConvTranspose, theta: npt.ArrayLike) -> Array:
    r"""The symbol, or generating function, of a convolution: what it multiplies waves by, far from all ends.

    Parameters
    ----------
    A : Conv or ConvTranspose
        The operator.
    theta : array_like of shape ``(..., ndim)``
        Angles in radians, one for each spatial axis. For one axis, angles of any shape whose last axis is not 1
        are angles themselves.

    Returns
    -------
    ndarray of complex128, of shape ``(...)`` or ``(..., c_out, c_in)``
        Of the transpose of a convolution ``(..., c_in, c_out)``.

    Raises
    ------
    TypeError, ValueError
        If `A` has no symbol, or `theta` has another number of angles.

    Notes
    -----
    With the taps of the cross-correlation, that is flipped where ``flip=True``, counted from 0 and ``dilation`` apart,

        symbol(theta) = sum_t K[t] exp(+i theta . (t*dilation)).

    Padding shifts the output and a stride keeps only part of it; neither is in the symbol. So a wave ``exp(i theta . j)``
    goes to ``symbol(theta) exp(i theta . (o*stride - lo))``. The transpose has the symbol
    ``symbol(-theta)`` with its channels swapped.

    The singular values of a stride-1 operator on ever larger inputs are distributed like the moduli of the symbol on a
    uniform grid of angles (its singular values, for channels), whatever the boundary: the theorem of Avram and Parter,
    Tyrtyshnikov, Tilli and others on block Toeplitz matrices. For circular boundaries they are these, at
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
    if not isinstance(A, Conv | ConvTranspose):
        raise TypeError(f"A must be a Conv or a ConvTranspose, got {type(A).__name__}")
    spec, ndim = A.spec, A.spec.ndim
    angles = np.asarray(theta, dtype=np.float64)
    if ndim == 1 and (angles.ndim == 0 or angles.shape[-1] != 1):
        angles = angles[..., None]
    if angles.ndim == 0 or angles.shape[-1] != ndim:
        raise ValueError(
            f"theta must have {ndim} angles in its last axis, one for each spatial axis; got {angles.shape}"
        )
    flat = angles.reshape(-1, ndim) * (-1 if isinstance(A, ConvTranspose) else 1)
    taps = to_cpu(A._unflipped()).astype(np.complex128)
    values = taps.reshape(1, -1, *taps.shape[-ndim:])
    for a in range(ndim):
        waves = np.exp(1j * np.outer(flat[:, a], np.arange(spec.axes[a].taps) * spec.dilation[a]))
        # the first axis of taps that is left
        values = np.einsum("zct...,zt->zc...", np.broadcast_to(values, (len(flat), *values.shape[1:])), waves)
    if not spec.channels:
        return cast(Array, values.reshape(angles.shape[:-1]))
    groups, rows, columns = spec.groups, spec.c_out // spec.groups, spec.c_in // spec.groups
    grouped = values.reshape(len(flat), groups, rows, columns)
    whole = np.zeros((len(flat), groups, rows, groups, columns), dtype=np.complex128)
    each = np.arange(groups)
    whole[:, each, :, each] = grouped.transpose(1, 0, 2, 3)
    matrices = whole.reshape(*angles.shape[:-1], spec.c_out, spec.c_in)
    return matrices.swapaxes(-1, -2) if isinstance(A, ConvTranspose) else matrices


def symbol_values(A: Conv | ConvTranspose) -> Array:
    """Singular values of the symbol on a uniform grid of angles, those of the operator far from all ends.

    Parameters
    ----------
    A : Conv or ConvTranspose
        The operator. With a stride, the symbol is that of its phases: a matrix with a column for each of them.

    Returns
    -------
    ndarray of float64
        Largest first: one for each output of the grid, which has as many as `A` or some more, and each row of the symbol.

    Examples
    --------
    >>> from convop import Conv
    >>> from convop.spectrum import symbol_values
    >>> symbol_values(Conv([1.0, 1.0], 4, padding="same")).round(6).tolist()
    [2.0, 1.414214, 1.414214, 0.0]
    """
    if not isinstance(A, Conv | ConvTranspose):
        raise TypeError(f"A must be a Conv or a ConvTranspose, got {type(A).__name__}")
    return singular.symbol_values(*A.convolution())


def _operator(A: Any) -> Any:
    """An operator of anybody's, on the CPU."""
    if isinstance(A, MatrixOperator):
        return A.to_cpu() if A.on_gpu else A
    A = from_cpu(A)
    if sp.issparse(A) or isinstance(A, np.ndarray):
        if A.ndim != 2:
            raise ValueError(f"A must be a matrix or a linear operator, got an array of shape {A.shape}")
        return A
    if not hasattr(A, "matvec"):
        raise TypeError(f"A must be a linear operator or a matrix, got {type(A).__name__}")
    return A


def _some_values(A: Any, k: int, which: str) -> tuple[Array, float]:
    """The k largest or smallest by iterations, and what they cannot tell from zero.

    Iterations begun with one vector see a value that comes several times once. Groups of channels have values of their
    own, which may be alike: each is looked at by itself.
    """
    if isinstance(A, Conv | ConvTranspose) and A.spec.groups > 1:
        found = [_some_of_group(group, k, which) for group in _groups(A)]
        values = np.sort(np.concatenate([values for values, _ in found]))[::-1]
        chosen = values[:k] if which == "LM" else values[len(values) - k :]
        return chosen, max(resolved for _, resolved in found)
    operator = singular.double(A)
    return (_largest_values(operator, k), 0.0) if which == "LM" else _smallest_values(A, operator, k)


def _some_of_group(group: Conv, k: int, which: str) -> tuple[Array, float]:
    smaller = min(group.shape)
    if k >= smaller or singular.affordable(group):
        values = singular.all_values(group)
        return values[:k] if which == "LM" else values[max(0, smaller - k) :], 0.0
    return _some_values(group, k, which)


def _groups(A: Conv | ConvTranspose) -> Iterator[Conv]:
    """The convolutions of each group of channels, one after the other down the diagonal."""
    spec, taps = A.convolution()
    for number, kernel in enumerate(np.split(taps, spec.groups)):
        yield Conv(
            kernel,
            (spec.c_in // spec.groups, *spec.input_shape[1:]),
            stride=spec.stride,
            padding=spec.padding,
            dilation=spec.dilation,
            padding_mode=spec.padding_mode,
            name=f"{A.name}{number}",
        )


def _least_value(A: Any) -> tuple[float, float]:
    """The smallest singular value of a large operator, and what cannot be told from zero."""
    values, resolved = _some_values(A, 1, "SM")
    return float(values[0]), resolved


def _largest_values(operator: ScipyLinearOperator, k: int) -> Array:
    start = np.random.default_rng(0).standard_normal(min(operator.shape))  # the same digits from run to run
    try:
        found = svds(operator, k, which="LM", return_singular_vectors=False, v0=start)
    except ArpackError as error:
        raise RuntimeError(f"{k} singular values of {operator.shape} did not converge: {error}") from error
    return np.asarray(np.sort(found)[::-1])


def _smallest_values(A: Any, operator: Any, k: int) -> tuple[Array, float]:
    largest = singular.largest(A, 1e-3)[0]
    if not math.isfinite(largest):
        return np.full(k, np.nan), 0.0
    if largest == 0:
        return np.zeros(k), 0.0
    if isinstance(A, Conv | ConvTranspose):
        inverse, rounding = _factored_inverse(A), singular.rounding_bound(largest, A.shape)
        if inverse is not None:
            # As large as the inverse may be, unless the matrix is singular to rounding.
            image = inverse.matvec(np.ones(A.shape[0]))
            if not np.linalg.norm(image) * rounding <= math.sqrt(A.shape[0]):
                if k == 1:
                    return np.zeros(1), rounding
            else:
                return 1 / np.sort(_largest_values(inverse, k)), rounding
    return _smallest_by_lobpcg(A, operator, k, largest), math.sqrt(_SMALLEST_TOL) * largest


def _factored_inverse(A: Conv | ConvTranspose) -> ScipyLinearOperator | None:
    """The inverse of a square convolution from its LU factors, or None if they are too large or do not exist."""
    spec = A.spec
    # Eliminated row by row, the factors fill a band: as wide as the kernel reaches along the first axis.
    band = 2 * spec.axes[0].extent * math.prod(spec.input_shape[-spec.ndim :][1:]) * max(spec.c_in, spec.c_out)
    if spec.shape[0] != spec.shape[1] or 2 * spec.shape[0] * min(band, spec.shape[0]) > _FACTOR_ENTRIES:
        return None
    double = np.complex128 if A.dtype.kind == "c" else np.float64
    try:
        factors = splu(A.tosparse("csc").astype(double))
    except RuntimeError:  # exactly singular
        return None
    return ScipyLinearOperator(
        A.shape, matvec=factors.solve, rmatvec=lambda y: factors.solve(np.asarray(y), trans="H"), dtype=double
    )


def _smallest_by_lobpcg(A: Any, operator: Any, k: int, largest: float) -> Array:
    """On ``A^H A``, or ``A A^H`` if that is smaller."""
    wide = operator.shape[0] < operator.shape[1]
    first, second = (operator.rmatmat, operator.matmat) if wide else (operator.matmat, operator.rmatmat)
    size = min(operator.shape)

    def squared(x: Array) -> Array:
        return np.asarray(second(first(x.reshape(size, -1)))).reshape(x.shape)

    gram = ScipyLinearOperator((size, size), matvec=squared, matmat=squared, dtype=operator.dtype)
    P = None
    if isinstance(A, Conv | ConvTranspose):
        P = singular.double(preconditioner(A.H if wide else A, _SMALLEST_DAMP * largest))
    start = np.random.default_rng(0).standard_normal((size, k + _GUARDS)).astype(operator.dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it warns of is looked at below
        squares, vectors = lobpcg(
            gram, start, M=P, largest=False, tol=_SMALLEST_TOL * largest**2, maxiter=_LOBPCG_STEPS
        )
    order = np.argsort(squares)[:k]
    residuals = np.linalg.norm(gram.matmat(vectors[:, order]) - vectors[:, order] * squares[order], axis=0)
    if not (residuals <= 10 * _SMALLEST_TOL * largest**2).all():
        raise RuntimeError(
            f"the {k} smallest singular values did not converge in {_LOBPCG_STEPS} iterations: residuals up to "
            f"{residuals.max() / largest**2:.2g} of the norm squared; ask for fewer, or use a smaller input_shape"
        )
    return np.asarray(np.sqrt(np.maximum(0, squares[order]))[::-1])
