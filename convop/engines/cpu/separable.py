"""The engine for separable kernels, those of low rank: one sweep along each axis.

A kernel that is a sum of ``r`` outer products is applied by one-dimensional convolutions with ``r`` channels between
them. In any number of dimensions, and with the channels of a group at the two ends, that is a tensor train,

    K[o, c, t1, ..., tN] = sum_ab... G1[o, t1, a] G2[a, t2, b] ... GN[z, tN, c]

found by a singular value decomposition of one unfolding after another (Oseledets, Tensor-train decomposition, SIAM
Journal on Scientific Computing 33, 2011). A product of ``k`` taps an axis costs the sum of them instead.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.linalg import lapack

from ...arrays.backend import Array
from ...geometry.spec import ConvSpec
from ...threads.locks import BuiltOnce
from .planes import CompiledDirection, PlaneEngine
from .sweeps import SweepGeometry, sweep_direction
from .tuning import Tuning

# A kernel has low rank if the remainder is at most so many units of rounding of its norm: rounding the kernel itself
# leaves about a third of a unit, computing it as a sum of products some more. The factors leave out up to twice that,
# because the decompositions round too.
_ULPS = 8


class SeparableEngine(PlaneEngine):
    """One-dimensional convolutions along the axes, with factors of the kernel that are computed when first needed.

    The factors equal the kernel to some units of rounding of its norm. A kernel of full rank is applied too, at a
    multiple of the cost. NaN and infinities spread along the axes as far as the kernel reaches.

    Parameters
    ----------
    spec : ConvSpec
        Geometry.
    kernel : ndarray
        Taps in the dtype of the map, not flipped.

    Raises
    ------
    ValueError
        If the kernel is not finite.
    """

    name = "separable"

    def __init__(self, spec: ConvSpec, kernel: Array, tuning: Tuning | None = None) -> None:
        if not np.isfinite(kernel).all():
            raise ValueError("kernel must be finite for engine='separable', which factorises it; use engine='direct'")
        super().__init__(spec, kernel, tuning)
        self._factors: BuiltOnce[list[Array]] = BuiltOnce()

    def factors(self, dtype: np.dtype[Any]) -> list[Array]:
        """Returns the factors of the kernel for results of a dtype: more precise ones for wider inputs.

        Parameters
        ----------
        dtype : dtype
            Of the results.

        Returns
        -------
        list of ndarray
            For each axis, (groups, channels written, channels read, taps).
        """

        def factorise() -> list[Array]:
            factors = _factors(self._spec, self._kernel, float(np.finfo(dtype).eps))
            return [factor.astype(dtype) for factor in factors]

        return self._factors.get(dtype.char, factorise)

    def _build_direction(self, adjoint: bool, dtype: np.dtype[Any]) -> CompiledDirection:
        factors = self.factors(dtype)
        ranks = tuple(factor.shape[2] for factor in factors[:-1])
        geometry = self._geometries.get(
            (adjoint, dtype.char, ranks), lambda: SweepGeometry(self._spec, adjoint, dtype, ranks, self._tuning)
        )
        return sweep_direction(geometry, factors)


def _grouped(spec: ConvSpec, kernel: Array) -> Array:
    """Returns the kernel as (groups, outputs, inputs, taps of axis 1, ..., taps of axis N) in double precision."""
    taps = [axis.taps for axis in spec.axes]
    shape = (spec.groups, spec.c_out // spec.groups, spec.c_in // spec.groups, *taps)
    return kernel.reshape(shape).astype(np.complex128 if kernel.dtype.kind == "c" else np.float64)


def _factors(spec: ConvSpec, kernel: Array, eps: float) -> list[Array]:
    """Returns a factor for each axis, (groups, written, read, taps), the first axis first."""
    # (groups, written, taps of axis 1, ..., taps of axis N, read)
    rest = np.moveaxis(_grouped(spec, kernel), 2, -1)
    # Divided by the largest entry, which the factors share in the end, so no square and no factor leaves the range.
    largest = max(float(np.abs(component).max()) for component in (rest.real, rest.imag)) or 1.0
    rest = rest / largest
    tolerance = 2 * _ULPS * eps * np.linalg.norm(rest.reshape(len(rest), -1), axis=1)
    factors = []
    for axis in spec.axes[:-1]:
        written = rest.shape[1]
        u, s, vh = np.linalg.svd(rest.reshape(len(rest), written * axis.taps, -1), full_matrices=False)
        left_out = np.sqrt(np.cumsum((s * s)[:, ::-1], axis=1)[:, ::-1])
        rank = max(1, int((left_out > tolerance[:, None]).sum(axis=1).max()))
        root = np.sqrt(s[:, :rank])
        factor = (u[:, :, :rank] * root[:, None]).reshape(len(rest), written, axis.taps, rank)
        factors.append(factor.swapaxes(2, 3))
        rest = (root[:, :, None] * vh[:, :rank]).reshape(len(rest), rank, *rest.shape[3:])
    factors.append(rest.swapaxes(2, 3))
    share = largest ** (1 / spec.ndim)
    return [factor * share for factor in factors]


def is_low_rank(spec: ConvSpec, kernel: Array, rank: int) -> bool:
    """Returns whether every unfolding of a kernel has at most rank `rank`, to rounding.

    A QR decomposition with column pivoting takes a small part of the time of a singular value decomposition: the norm
    below its first `rank` rows bounds the remainder of the matrix.

    Parameters
    ----------
    spec : ConvSpec
        Geometry.
    kernel : ndarray
        Taps.
    rank : int
        The highest rank.

    Returns
    -------
    bool
    """
    if _clearly_full(spec, kernel, rank):
        return False
    groups = np.moveaxis(_grouped(spec, kernel), 2, -1)
    largest = float(np.abs(groups).max())
    if not 0 < largest < math.inf:
        return False  # sweeps would spread an infinity, and a zero kernel needs none
    groups = groups / largest
    tolerance = _ULPS * float(np.finfo(kernel.dtype).eps)
    rows = groups.shape[1]
    for axis in spec.axes[:-1]:
        rows *= axis.taps
        for group in groups:
            matrix = group.reshape(rows, -1)
            if _remainder(matrix, rank) > tolerance * float(np.linalg.norm(matrix)):
                return False
    return True


def _clearly_full(spec: ConvSpec, kernel: Array, rank: int) -> bool:
    """Returns whether a few rows and columns of the first unfolding show a higher rank, as they do for most kernels."""
    taps = [axis.taps for axis in spec.axes]
    written, read = spec.c_out // spec.groups, spec.c_in // spec.groups
    group = np.moveaxis(kernel.reshape(spec.groups, written, read, *taps)[0], 1, -1)
    places = []
    for shape in ((written, taps[0]), (*taps[1:], read)):
        size = math.prod(shape)
        count = min(size, 2 * (rank + 1))
        places.append(np.unravel_index(np.linspace(0, size - 1, count).astype(int), shape))
    rows, columns = ([index.reshape(s) for index in p] for p, s in zip(places, ((-1, 1), (1, -1)), strict=True))
    sample = group[(*rows, *columns)].astype(np.complex128 if kernel.dtype.kind == "c" else np.float64)
    largest = float(np.abs(sample).max())
    if not 0 < largest < math.inf:
        return False
    sample = sample / largest
    # Far above the remainder that rounding leaves, because other entries of the kernel may be larger.
    return _remainder(sample, rank) > math.sqrt(np.finfo(kernel.dtype).eps) * float(np.linalg.norm(sample))


def _remainder(matrix: Array, rank: int) -> float:
    """Returns the norm of a pivoted QR decomposition beyond its first `rank` rows."""
    decompose = lapack.zgeqp3 if matrix.dtype.kind == "c" else lapack.dgeqp3
    return float(np.linalg.norm(np.triu(decompose(matrix)[0])[rank:]))
