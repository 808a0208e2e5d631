"""All singular values of an operator from dense decompositions of its diagonal blocks, and the largest alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator as ScipyLinearOperator
from scipy.sparse.linalg import aslinearoperator

from ..arrays import memory
from ..arrays.backend import Array
from ..arrays.scaling import scale_by_power_of_two
from ..geometry.spec import ConvSpec
from ..threads.blocks import run_items
from .axis_bases import AxisBasis, Fourier, Identity, exact_bases
from .blocks import block_multiplicities, block_shape, scaled_diagonal_blocks
from .lanczos import largest_by_lanczos

# All singular values of a matrix, or of one of its diagonal blocks, are computed if the smaller side is at most this,
# which takes a few seconds and half a GiB.
DENSE_SIDE = 4096
# Up to this many multiplications, about a second, a decomposition is preferred to iterations for a few values.
_DENSE_WORK = 4 * 10**9
# Matrices up to this smaller side are decomposed in parallel by the package's threads. LAPACK uses its own threads for
# larger matrices, and two thread pools would compete for the cores.
_ONE_THREAD_EACH = 80


def rounding_bound(largest: float, shape: tuple[int, int]) -> float:
    """Returns the size up to which a computed singular value may be zero: the bound of NumPy's `matrix_rank`.

    Parameters
    ----------
    largest : float
        The largest singular value.
    shape : (int, int)
        Shape of the matrix that was decomposed in double precision.

    Returns
    -------
    float
    """
    return largest * max(shape) * float(np.finfo(np.float64).eps)


def all_values(A: Any) -> Array:
    """Returns all singular values of an operator on the CPU, largest first.

    Parameters
    ----------
    A : LinearOperator, sparse matrix or array
        A convolution is decomposed by its diagonal blocks, any other operator as a dense matrix.

    Returns
    -------
    ndarray of float64, of length ``min(A.shape)``
        All NaN if an entry is not finite.

    Raises
    ------
    ValueError
        If the smaller side of a block, or of the dense matrix, exceeds 4096.
    MemoryError
        If the blocks or the dense matrix do not fit the free memory.
    """
    convolution = convolution_of(A)
    if convolution is None:
        _require_side(min(A.shape), tuple(A.shape), has_blocks=False)
        matrix = to_dense(A)
        return batched_singular_values(matrix) if np.isfinite(matrix).all() else np.full(min(A.shape), np.nan)
    spec, taps = convolution
    bases = exact_bases(spec, taps)
    _require_side(min(block_shape(spec, bases)), tuple(A.shape), has_blocks=True)
    if not np.isfinite(taps).all():
        return np.full(min(spec.shape), np.nan)
    found = _values_of_blocks(spec, taps, bases)
    # The blocks leave out rows and columns that no tap meets.
    values = np.zeros(min(spec.shape))
    values[: len(found)] = found
    return values


def log_determinant(spec: ConvSpec, taps: Array) -> float:
    """Returns the logarithm of the determinant's modulus of a square convolution, from the LU factors of its blocks."""
    if not np.isfinite(taps).all():
        return math.nan
    bases = exact_bases(spec, taps)
    _require_side(min(block_shape(spec, bases)), spec.shape, has_blocks=True)
    blocks, power = scaled_diagonal_blocks(spec, taps, bases, f"the diagonal blocks of {spec}")
    if blocks.shape[-1] != blocks.shape[-2]:  # some rows or columns meet no tap
        return -math.inf
    sampled = [isinstance(basis, Identity) for basis in bases]
    if not all(sampled):
        # The transform of zero is not exactly zero. A block with an axis in the identity basis may be triangular.
        values = batched_singular_values(blocks)
        least = values.max(axis=-1) if any(sampled) else values
        if least.min() <= rounding_bound(float(values.max()), spec.shape):
            return -math.inf
    logarithms = np.linalg.slogdet(blocks).logabsdet
    log_scale = spec.shape[0] * power * math.log(2)
    return float((logarithms * block_multiplicities(bases, taps.dtype)[..., None]).sum()) + log_scale


def _require_side(side: int, shape: tuple[int, ...], *, has_blocks: bool) -> None:
    """Raises ValueError if a matrix is too large to be decomposed."""
    if side > DENSE_SIDE:
        in_blocks = f" in blocks of {side}" if has_blocks else ""
        raise ValueError(
            f"all singular values are computed of matrices, or diagonal blocks of them, up to {DENSE_SIDE} rows or "
            f"columns; this operator's shape is {shape}{in_blocks}: use a smaller input_shape, or ask "
            f"convop.spectrum.singular_values for the k largest or smallest"
        )


def _values_of_blocks(spec: ConvSpec, taps: Array, bases: Sequence[AxisBasis]) -> Array:
    """Returns the singular values of all diagonal blocks in given bases, largest first."""
    blocks, power = scaled_diagonal_blocks(spec, taps, bases, f"the diagonal blocks of {spec}")
    values = scale_by_power_of_two(batched_singular_values(blocks), power)
    counts = np.broadcast_to(block_multiplicities(bases, taps.dtype)[..., None, None], values.shape)
    repeated = np.repeat(values.ravel(), counts.ravel())
    repeated.sort()
    return repeated[::-1]


def symbol_values(spec: ConvSpec, taps: Array) -> Array:
    """Returns the singular values of the symbol on a grid with one angle per axis for each whole stride."""
    return _values_of_blocks(spec, taps, [Fourier(-(-axis.inputs // axis.stride), axis.stride) for axis in spec.axes])


def dense_is_cheap(A: Any) -> bool:
    """Returns whether dense decompositions of all blocks take about a second at most."""
    convolution = convolution_of(A)
    if convolution is None:
        rows, columns = A.shape
        count = 1
    else:
        spec, taps = convolution
        bases = exact_bases(spec, taps)
        rows, columns = block_shape(spec, bases)
        count = spec.groups * int(np.prod([basis.count for basis in bases if not isinstance(basis, Identity)]))
    side = min(rows, columns)
    return bool(side == 1 or (side <= DENSE_SIDE and 4 * count * rows * columns * side <= _DENSE_WORK))


def largest_value(A: Any, rtol: float) -> tuple[float, int]:
    """Returns the largest singular value of an operator on the CPU, and the number of iterations.

    Parameters
    ----------
    A : LinearOperator, sparse matrix or array
        The operator.
    rtol : float
        Relative change at which iterations stop.

    Returns
    -------
    (float, int)
        NaN for entries that are not finite. No iterations if the value is exact to rounding.
    """
    convolution = convolution_of(A)
    if convolution is not None and not np.isfinite(convolution[1]).all():
        return math.nan, 0
    if dense_is_cheap(A):
        return float(all_values(A).max(initial=0.0)), 0
    return largest_by_lanczos(as_double(A), rtol)


def condition_number(values: Array, shape: tuple[int, int]) -> float:
    """Returns the ratio of the first and the last singular value of a matrix, ``inf`` if it is singular to rounding.

    Parameters
    ----------
    values : ndarray of float64
        Singular values, largest first.
    shape : (int, int)
        Shape of the matrix.

    Returns
    -------
    float
        NaN if the values are NaN.
    """
    most, least = float(values[0]), float(values[-1])
    if math.isnan(most):
        return math.nan
    return most / least if least > rounding_bound(most, shape) else math.inf


def as_double(A: Any) -> ScipyLinearOperator:
    """Returns an operator as SciPy's `LinearOperator` in double precision."""
    operator = A if hasattr(A, "rmatvec") else aslinearoperator(A)
    dtype = np.dtype(np.complex128 if np.dtype(operator.dtype).kind == "c" else np.float64)

    def in_double(function: Any) -> Any:
        return lambda x: np.asarray(function(np.asarray(x, dtype=np.result_type(np.asarray(x).dtype, dtype))))

    return ScipyLinearOperator(
        tuple(operator.shape),
        matvec=in_double(operator.matvec),
        rmatvec=in_double(operator.rmatvec),
        matmat=in_double(operator.matmat),
        rmatmat=in_double(operator.rmatmat),
        dtype=dtype,
    )


def convolution_of(A: Any) -> tuple[ConvSpec, Array] | None:
    """Returns geometry and taps of a convolution, up to transposition and conjugation; None for other operators."""
    convolution = getattr(A, "convolution", None)
    return None if convolution is None else convolution()


def to_dense(A: Any) -> Array:
    """Returns an operator as a dense matrix in double precision."""
    memory.require(3 * 16 * A.shape[0] * A.shape[1], f"the dense matrix of shape {tuple(A.shape)}")
    if hasattr(A, "tosparse"):
        A = A.tosparse()
    if hasattr(A, "toarray"):
        A = A.toarray()
    if not isinstance(A, np.ndarray):
        A = as_double(A).matmat(np.eye(A.shape[1]))
    return np.asarray(A, dtype=np.complex128 if A.dtype.kind == "c" else np.float64)


def batched_singular_values(matrices: Array) -> Array:
    """Returns the singular values of many small matrices, with all threads.

    Parameters
    ----------
    matrices : ndarray of shape ``(..., rows, columns)``
        In double precision.

    Returns
    -------
    ndarray of shape ``(..., min(rows, columns))``
        Largest first.
    """
    *batch, rows, columns = matrices.shape
    side = min(rows, columns)
    flat = matrices.reshape(-1, rows, columns)
    if side == 1:
        return np.asarray(np.linalg.norm(flat, axis=(1, 2))).reshape(*batch, 1)
    values = np.empty((len(flat), side))
    # Includes the workspace of one decomposition.
    memory.require(flat.itemsize * rows * columns + values.nbytes, f"decomposing a matrix of shape {(rows, columns)}")

    def decompose(start: int, stop: int) -> None:
        values[start:stop] = np.linalg.svd(flat[start:stop], compute_uv=False)

    if side <= _ONE_THREAD_EACH:
        run_items(decompose, len(flat), work=4 * len(flat) * rows * columns * side)
    else:
        decompose(0, len(flat))
    return values.reshape(*batch, side)
