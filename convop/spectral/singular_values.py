"""Singular values of operators: all of them from small blocks, the largest by Lanczos' method, and bounds of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.linalg import eigvalsh_tridiagonal
from scipy.sparse.linalg import LinearOperator as ScipyLinearOperator
from scipy.sparse.linalg import aslinearoperator

from ..arrays import memory
from ..arrays.backend import Array
from ..arrays.scaling import exponent, times_two_to
from ..geometry.spec import ConvSpec
from ..threads.blocks import run_items
from .blocks import Fourier, Part, Window, blocks, exact_parts, weights

__all__ = [
    "DENSE_SIDE",
    "affordable",
    "all_values",
    "certified",
    "condition",
    "double",
    "largest",
    "rounding_bound",
    "symbol_values",
]

# All singular values of a matrix, or of one of its diagonal blocks, are computed up to this smaller side: some seconds
# and half a GiB.
DENSE_SIDE = 4096
# Multiplications for which decomposing everything is preferred to iterations for a few values: about a second.
_DENSE_WORK = 4 * 10**9
# Matrices up to this smaller side are decomposed side by side; LAPACK has threads of its own for larger ones, and two
# crowds of threads stand in each other's way.
_ONE_THREAD_EACH = 80
# Lanczos steps are taken until so many do not change the largest value.
_LANCZOS_CHECK = 20
_LANCZOS_STEPS = 4000
# Remainders below this share of the largest entry so far are rounding errors.
_BREAKDOWN = 1e-14
# Power iterations of the Schur test, and points of the symbol's grid for each tap of an axis.
_POWER_STEPS = 200
_GRID_POINTS_PER_TAP = 16


def rounding_bound(largest: float, shape: tuple[int, int]) -> float:
    """What rounding in double precision may make of a singular value that is zero: NumPy's bound in `matrix_rank`.

    Parameters
    ----------
    largest : float
        The largest singular value.
    shape : (int, int)
        Of the matrix that was decomposed.

    Returns
    -------
    float
    """
    return largest * max(shape) * float(np.finfo(np.float64).eps)


def all_values(A: Any) -> Array:
    """All singular values of an operator on the CPU, largest first.

    Parameters
    ----------
    A : LinearOperator, sparse matrix or array
        Convolutions are broken into blocks, everything else is made dense.

    Returns
    -------
    ndarray of float64, of length ``min(A.shape)``
        NaN all over if an entry is not finite.

    Raises
    ------
    ValueError
        If the smaller side of a block, or of the dense matrix, exceeds 4096.
    MemoryError
        If it does not fit the free memory.
    """
    convolution = _convolution(A)
    parts = None if convolution is None else exact_parts(*convolution)
    side = min(A.shape) if convolution is None or parts is None else min(_block_sides(convolution[0], parts))
    _require_side(side, tuple(A.shape), blocks=parts is not None)
    if convolution is None or parts is None:
        matrix = _dense(A)
        if not np.isfinite(matrix).all():
            return np.full(min(A.shape), np.nan)
        return _block_values(matrix)
    spec, taps = convolution
    if not np.isfinite(taps).all():
        return np.full(min(spec.shape), np.nan)
    repeated = _values_in(spec, taps, parts)
    # Rows and columns that no tap meets are not in the blocks.
    filled = np.zeros(min(spec.shape))
    filled[: len(repeated)] = repeated
    return filled


def log_determinant(spec: ConvSpec, taps: Array) -> float:
    """Logarithm of the determinant's absolute value of a square convolution, by the LU factors of its blocks."""
    if not np.isfinite(taps).all():
        return math.nan
    parts = exact_parts(spec, taps)
    _require_side(min(_block_sides(spec, parts)), spec.shape, blocks=True)
    power = exponent(taps)
    matrices = blocks(spec, times_two_to(taps, -power), parts, f"the diagonal blocks of {spec}")
    if matrices.shape[-1] != matrices.shape[-2]:  # rows or columns that no tap meets
        return -math.inf
    if not all(isinstance(part, Window) for part in parts):
        # What a transform makes of zero is not exactly zero. A block that is one in a window, too, may be triangular.
        values = _block_values(matrices)
        least = values if not any(isinstance(part, Window) for part in parts) else values.max(axis=-1)
        if least.min() <= rounding_bound(float(values.max()), spec.shape):
            return -math.inf
    logarithms = np.linalg.slogdet(matrices).logabsdet
    of_power = spec.shape[0] * power * math.log(2)
    return float((logarithms * weights(parts, taps.dtype)[..., None]).sum()) + of_power


def _require_side(side: int, shape: tuple[int, ...], *, blocks: bool) -> None:
    """Before anything is decomposed."""
    if side > DENSE_SIDE:
        of_blocks = f" in blocks of {side}" if blocks else ""
        raise ValueError(
            f"all singular values are computed of matrices, or diagonal blocks of them, up to {DENSE_SIDE} rows or "
            f"columns; this operator's shape is {shape}{of_blocks}: use a smaller input_shape, or ask "
            f"convop.spectrum.singular_values for the k largest or smallest"
        )


def _values_in(spec: ConvSpec, taps: Array, parts: Sequence[Part]) -> Array:
    """Singular values of all diagonal blocks in the bases of parts, largest first."""
    power = exponent(taps)
    values = _block_values(blocks(spec, times_two_to(taps, -power), parts, f"the diagonal blocks of {spec}"))
    values = times_two_to(values, power)
    counts = np.broadcast_to(weights(parts, taps.dtype)[..., None, None], values.shape)
    repeated = np.repeat(values.ravel(), counts.ravel())
    repeated.sort()
    return repeated[::-1]


def symbol_values(spec: ConvSpec, taps: Array) -> Array:
    """Singular values of the symbol on a grid with as many angles in each axis as there are whole strides in it."""
    return _values_in(spec, taps, [Fourier(-(-axis.inputs // axis.stride), axis.stride) for axis in spec.axes])


def affordable(A: Any) -> bool:
    """Whether decomposing everything takes about a second at most."""
    convolution = _convolution(A)
    if convolution is None:
        rows, columns = A.shape
        count = 1
    else:
        spec, taps = convolution
        parts = exact_parts(spec, taps)
        rows, columns = _block_sides(spec, parts)
        count = spec.groups * int(np.prod([part.count for part in parts if not isinstance(part, Window)]))
    side = min(rows, columns)
    return bool(side == 1 or (side <= DENSE_SIDE and 4 * count * rows * columns * side <= _DENSE_WORK))


def largest(A: Any, rtol: float) -> tuple[float, int]:
    """The largest singular value of an operator on the CPU, and the iterations it took: 0 if it is exact to rounding.

    Parameters
    ----------
    A : LinearOperator, sparse matrix or array
        The operator.
    rtol : float
        Where iterations end.

    Returns
    -------
    (float, int)
        NaN for entries that are not finite.
    """
    convolution = _convolution(A)
    if convolution is not None and not np.isfinite(convolution[1]).all():
        return math.nan, 0
    if affordable(A):
        return float(all_values(A).max(initial=0.0)), 0
    return _lanczos(double(A), rtol)


def condition(values: Array, shape: tuple[int, int]) -> float:
    """Largest over smallest of the singular values of a matrix, ``inf`` if it is singular to rounding.

    Parameters
    ----------
    values : ndarray of float64
        Largest first; the first and the last are looked at.
    shape : (int, int)
        Of the matrix.

    Returns
    -------
    float
        NaN if the values are.
    """
    most, least = float(values[0]), float(values[-1])
    if math.isnan(most):
        return math.nan
    return most / least if least > rounding_bound(most, shape) else math.inf


def double(A: Any) -> ScipyLinearOperator:
    """An operator in double precision, for SciPy."""
    operator = A if hasattr(A, "rmatvec") else aslinearoperator(A)
    dtype = np.dtype(np.complex128 if np.dtype(operator.dtype).kind == "c" else np.float64)

    def wide(function: Any) -> Any:
        return lambda x: np.asarray(function(np.asarray(x, dtype=np.result_type(np.asarray(x).dtype, dtype))))

    return ScipyLinearOperator(
        tuple(operator.shape),
        matvec=wide(operator.matvec),
        rmatvec=wide(operator.rmatvec),
        matmat=wide(operator.matmat),
        rmatmat=wide(operator.rmatmat),
        dtype=dtype,
    )


def _convolution(A: Any) -> tuple[ConvSpec, Array] | None:
    """Geometry and taps of the convolution that an operator is, up to transposition and conjugation."""
    found = getattr(A, "convolution", None)
    return None if found is None else found()


def _dense(A: Any) -> Array:
    """An operator as a dense matrix in double precision."""
    memory.require(3 * 16 * A.shape[0] * A.shape[1], f"the dense matrix of shape {tuple(A.shape)}")
    if hasattr(A, "tosparse"):
        A = A.tosparse()
    if hasattr(A, "toarray"):
        A = A.toarray()
    if not isinstance(A, np.ndarray):
        A = double(A).matmat(np.eye(A.shape[1]))
    return np.asarray(A, dtype=np.complex128 if A.dtype.kind == "c" else np.float64)


def _block_sides(spec: ConvSpec, parts: Sequence[Part]) -> tuple[int, int]:
    """Rows and columns of the diagonal blocks of a convolution in the bases of parts, at most."""
    rows, columns = spec.c_out // spec.groups, spec.c_in // spec.groups
    for axis, part in zip(spec.axes, parts, strict=True):
        if isinstance(part, Window):
            rows, columns = rows * axis.outputs, columns * min(axis.inputs, axis.outputs * axis.taps)
        elif isinstance(part, Fourier):
            columns *= part.stride
    return rows, columns


def _block_values(matrices: Array) -> Array:
    """Singular values of many small matrices, with all threads.

    Parameters
    ----------
    matrices : ndarray of shape ``(..., rows, columns)``
        In double precision.

    Returns
    -------
    ndarray of shape ``(..., min(rows, columns))``
        Largest first.
    """
    *many, rows, columns = matrices.shape
    side = min(rows, columns)
    flat = matrices.reshape(-1, rows, columns)
    if side == 1:
        return np.asarray(np.linalg.norm(flat, axis=(1, 2))).reshape(*many, 1)
    values = np.empty((len(flat), side))
    # what the decomposition of a block works in
    memory.require(flat.itemsize * rows * columns + values.nbytes, f"decomposing a matrix of shape {(rows, columns)}")

    def some(start: int, stop: int) -> None:
        values[start:stop] = np.linalg.svd(flat[start:stop], compute_uv=False)

    if side <= _ONE_THREAD_EACH:
        run_items(some, len(flat), work=4 * len(flat) * rows * columns * side)
    else:
        some(0, len(flat))
    return values.reshape(*many, side)


def _lanczos(operator: Any, rtol: float) -> tuple[float, int]:
    """The largest singular value, by Lanczos' method on ``A A^H`` without restarts.

    Orthogonality gets lost as the largest Ritz value converges, which costs repeated steps and no digits of that
    value (Paige, 1976). Restarted methods do not end where the largest values lie close together.

    Parameters
    ----------
    operator : LinearOperator or matrix
        With ``shape``, ``dtype``, ``matvec`` and ``rmatvec``, of double precision.
    rtol : float
        Steps end when 20 of them change the value by less than this, relative to itself.

    Returns
    -------
    (float, int)
        The value, which is a lower bound but for rounding, and the steps taken.
    """
    short = operator.shape[0] <= operator.shape[1]
    first, second = (operator.rmatvec, operator.matvec) if short else (operator.matvec, operator.rmatvec)
    side = min(operator.shape)
    # A seeded start makes the last digits the same from run to run.
    rng = np.random.default_rng(0)
    q: Array = rng.standard_normal(side)
    if operator.dtype.kind == "c":
        q = q + 1j * rng.standard_normal(side)
    q /= np.linalg.norm(q)
    # The operator over its own size, as it gets squared.
    gauge = float(np.abs(first(q)).max(initial=0.0))
    if not 0 < gauge < math.inf:
        return (0.0 if gauge == 0 else math.nan), 0
    steps = min(_LANCZOS_STEPS, 4 * side)
    before, diagonal, off_diagonal, largest, step = np.zeros_like(q), [], [0.0], 0.0, 0
    for step in range(1, steps + 1):
        w = second(first(q) / gauge) / gauge - off_diagonal[-1] * before
        diagonal.append(float(np.vdot(q, w).real))
        w -= diagonal[-1] * q
        off_diagonal.append(float(np.linalg.norm(w)))
        if not math.isfinite(off_diagonal[-1]):
            return math.nan, step
        # A remainder of rounding errors alone is no new direction: all that the start is made of has been seen.
        ended = off_diagonal[-1] <= _BREAKDOWN * max(diagonal) or step == steps
        if step % _LANCZOS_CHECK == 0 or ended:
            previous = largest
            (largest,) = eigvalsh_tridiagonal(
                diagonal, off_diagonal[1:-1], select="i", select_range=(step - 1, step - 1), lapack_driver="stemr"
            )
            # Of squares: the value itself changes by half as much.
            if ended or largest - previous <= 2 * rtol * largest:
                break
        before, q = q, w / off_diagonal[-1]
    return math.sqrt(max(0.0, largest)) * gauge, step


def certified(A: Any, value: float, steps: int) -> tuple[float, float]:
    """A lower and an upper bound of the norm of an operator, from what `largest` gave.

    Parameters
    ----------
    A : LinearOperator, sparse matrix or array
        The operator, on the CPU.
    value : float
        The largest singular value as computed.
    steps : int
        Iterations it took.

    Returns
    -------
    (float, float)
    """
    if not math.isfinite(value) or 0 in A.shape:
        return value, value
    # Errors of the products and of the recurrence, of a few units in the last place each.
    margin = 64 * float(np.finfo(np.float64).eps) * (math.sqrt(max(A.shape)) + steps)
    if steps == 0:
        return value * (1 - margin), value * (1 + margin)
    convolution = _convolution(A)
    bounds = [_schur_bound(A)]
    if convolution is not None and convolution[0].padding_mode == "zeros":
        bounds.append(_symbol_bound(*convolution))
    return value * (1 - margin), max(value, min(bounds)) * (1 + margin)


def _schur_bound(A: Any) -> float:
    """``norm(A)^2 <= max_i (|A|^T |A| x)_i / x_i`` for any ``x > 0`` (Schur); x by power iterations, the best of all."""
    convolution, power = _convolution(A), 0
    if convolution is not None and hasattr(A, "with_kernel"):
        # Moduli of complex numbers, and sums, in double precision: rounded down they would be no bound.
        moduli = np.abs(A.kernel.astype(np.complex128 if A.kernel.dtype.kind == "c" else np.float64))
        power = exponent(moduli)
        sizes = double(A.with_kernel(times_two_to(moduli, -power)))
    elif hasattr(A, "tosparse") or sp.issparse(A):
        sizes = double(abs(sp.csr_array(A.tosparse() if hasattr(A, "tosparse") else A)))
    else:
        sizes = double(np.abs(_dense(A)))
    x = np.ones(sizes.shape[1])
    best = math.inf
    for _ in range(_POWER_STEPS):
        image = sizes.rmatvec(sizes.matvec(x))
        best = min(best, float((image / x).max()))
        if best == 0:
            break
        # What has shrunk to nothing is kept above it: any positive vector gives a bound.
        x = np.maximum(image / image.max(), 1e-8)
    return math.ldexp(math.sqrt(best), power)


def _symbol_bound(spec: ConvSpec, taps: Array) -> float:
    """The supremum of the symbol's norm over all angles, from above.

    Along an axis the symbol is a trigonometric polynomial of degree d, as many whole strides as the kernel reaches. On
    N > d equidistant points one finds at least ``cos(pi d/(2 N))`` of its largest modulus (from M. Riesz's comparison of
    a trigonometric polynomial near its maximum with a cosine).
    """
    parts, factor = [], 1.0
    for axis in spec.axes:
        degree = (axis.extent - 1) // axis.stride + 1
        count = _GRID_POINTS_PER_TAP * degree
        parts.append(Fourier(count, axis.stride))
        factor /= math.cos(math.pi * degree / (2 * count))
    power = exponent(taps)
    values = _block_values(blocks(spec, times_two_to(taps, -power), parts, f"the symbol of {spec}"))
    return math.ldexp(float(values.max()) * factor, power)
