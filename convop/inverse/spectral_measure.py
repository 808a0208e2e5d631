"""Exact spectral measures of data under ``A A^H``: by fast transforms, and by the eigenvectors of each axis.

For vectors y and the left singular vectors u_i of A, the measure puts the mass ``sum |<u_i, y>|^2`` at the square of each
singular value. Then ``<y, f(A A^H) y>`` is the integral of f, for Tikhonov's residuals at all dampings at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..arrays.backend import Array, to_cpu
from ..geometry.axis import Axis
from ..geometry.spec import ConvSpec
from ..operators.conv import Conv, ConvTranspose
from ..spectral.axis_bases import AxisBasis, Eigenvectors, Identity, exact_bases
from ..spectral.blocks import block_multiplicities, diagonal_blocks, halved_axis
from ..spectral.transform_basis import TransformBasis
from ..threads.sizes import one_blas_thread
from .preconditioner import gain_estimate
from .scaled_problem import ScaledProblem
from .separable import SeparableKernel, diagonalised, is_without_components

# Squares of singular values are collected in so many classes of equal ratios, 2 percent wide, between the largest and this
# share of it, which is below the square of every damping that matters. Their means stand for them: the error is of the
# second order in the width.
_CLASSES, _LEAST_SQUARE = 2000, 1e-17
# A kernel counts as an outer product if it differs from one by this share of the norm: rounding in single precision.
_SEPARABLE_ERROR = 1e-6
# Eigenvectors of axes are computed where their number of multiplications, the cubes of the sizes of the axes, is at most this,
# or so many for each element of the data. Up to images of 4096^2 they take less time than a few solutions by `tikhonov`.
_LEAST_CUBES, _CUBES_PER_ELEMENT = 2**25, 2**13


@dataclass(frozen=True)
class SpectralMeasure:
    """A discrete measure: squares of singular values, and the mass of some vectors at each.

    Attributes
    ----------
    values : ndarray of shape ``(n,)``
        Squares of singular values.
    masses : ndarray of shape ``(n,)``
        Squared moduli of the components of the vectors along the left singular vectors, summed over the vectors.
    """

    values: Array
    masses: Array

    @classmethod
    def collect(cls, values: Array, masses: Array) -> SpectralMeasure:
        """Returns a measure of a few thousand values that stands for one of many, with masses that are not negative."""
        values, masses = values.ravel(), masses.ravel()
        if values.size <= _CLASSES:
            return cls(values, masses)
        least = float(values.max()) * _LEAST_SQUARE or 1.0
        logarithms = np.log(np.maximum(values, least) / least)
        classes = (logarithms * ((_CLASSES - 1) / -np.log(_LEAST_SQUARE))).astype(int).clip(0, _CLASSES - 1)
        sums = np.bincount(classes, masses, _CLASSES)
        kept = sums > 0
        return cls(np.bincount(classes, masses * values, _CLASSES)[kept] / sums[kept], sums[kept])

    def residual_squares(self, damps: Array) -> Array:
        """Returns ``norm((I - A A_damp) y)^2`` for each damping, summed over the vectors."""
        return self._residual_forms(damps, 2)

    def residual_products(self, damps: Array) -> Array:
        """Returns ``<y, (I - A A_damp) y>`` for each damping, summed over the vectors."""
        return self._residual_forms(damps, 1)

    def _residual_forms(self, damps: Array, power: int) -> Array:
        """Integrates ``(damp^2/(s^2 + damp^2))^power`` for each damping."""
        return np.array([((d2 / (self.values + d2)) ** power) @ self.masses for d2 in damps**2])


@dataclass(frozen=True)
class ExactMeasures:
    """The spectral measures of a convolution that fast transforms or the eigenvectors of its axes diagonalise.

    Attributes
    ----------
    data : SpectralMeasure
        The measure of the data.
    trace : SpectralMeasure
        The measure of all unit vectors together, which gives traces.
    norm : float
        The largest singular value.
    """

    data: SpectralMeasure
    trace: SpectralMeasure
    norm: float

    @classmethod
    def of(cls, problem: ScaledProblem) -> ExactMeasures | None:
        """Returns the measures of a problem, or None where its operator is not diagonalised, or only at too high a cost."""
        A = problem.A
        if not isinstance(A, Conv | ConvTranspose):
            return None
        spec, taps = A.convolution()
        if not np.isfinite(taps).all():
            return None
        is_transpose = isinstance(A, ConvTranspose)
        axes = exact_bases(spec, taps)
        if any(isinstance(basis, Identity) for basis in axes):
            # Beside other processes, eigenvalue problems by several threads can take twenty times as long.
            with one_blas_thread():
                return cls._of_separable(problem, spec, taps, axes)
        B = diagonal_blocks(spec, taps, axes, f"the spectrum of {spec}")
        B = B.conj().swapaxes(-1, -2) if is_transpose else B
        coefficients = _coefficients(problem, TransformBasis.of(spec, axes, taps.dtype, outputs=not is_transpose))
        counts = block_multiplicities(axes, taps.dtype)[..., None, None]
        values, squares_along = _singular_components(B, coefficients)
        masses = counts * squares_along
        # Components of the data outside the range of A have the singular value zero.
        outside = max(0.0, float((counts * (np.abs(coefficients) ** 2).sum(axis=-1)).sum() - masses.sum()))
        return cls._collected(values**2, masses, np.broadcast_to(counts, values.shape), outside, A.shape[0])

    @classmethod
    def _of_separable(
        cls, problem: ScaledProblem, spec: ConvSpec, taps: Array, axes: Sequence[AxisBasis]
    ) -> ExactMeasures | None:
        """Returns the measures by the eigenvectors of each axis, or None for a kernel that is not an outer product."""
        outputs = not isinstance(problem.A, ConvTranspose)
        sizes = [axis.outputs if outputs else axis.inputs for axis in spec.axes]
        inexact = [isinstance(basis, Identity) for basis in axes]
        cubes = sum(n**3 for n, is_inexact in zip(sizes, inexact, strict=True) if is_inexact)
        if cubes > max(_LEAST_CUBES, _CUBES_PER_ELEMENT * problem.A.shape[0]):
            return None
        if not all(map(is_without_components, (b for b in axes if not isinstance(b, Identity)))):
            return None
        kernel = SeparableKernel.of(spec, taps)
        if kernel is None or kernel.error > _SEPARABLE_ERROR * gain_estimate(spec, taps):
            return None
        bases: list[AxisBasis | Eigenvectors] = []
        squares = []
        known: list[tuple[Axis, Array, AxisBasis | Eigenvectors, Array]] = []
        for axis, factor, n, basis in zip(spec.axes, kernel.factors, sizes, axes, strict=True):
            same = [(b, v) for a, f, b, v in known if a == axis and np.array_equal(f, factor)]
            whole = Identity(0, n, outputs) if isinstance(basis, Identity) else basis
            of_axis, values = same[0] if same else diagonalised(axis, factor, whole)
            known.append((axis, factor, of_axis, values))
            bases.append(of_axis)
            squares.append(values)
        coefficients = _coefficients(problem, TransformBasis.of(spec, bases, taps.dtype, outputs=outputs))
        counts = block_multiplicities(bases, taps.dtype)[..., None, None]
        halved = halved_axis(bases, taps.dtype)
        products = np.ones(())
        for a, values in enumerate(squares):
            products = np.multiply.outer(products, values[: len(values) // 2 + 1] if a == halved else values)
        products = np.multiply.outer(products, np.abs(kernel.scales) ** 2)[..., None]
        masses = counts * (np.abs(coefficients) ** 2).sum(axis=-1)
        return cls._collected(products, masses, np.broadcast_to(counts, products.shape), 0.0, problem.A.shape[0])

    @classmethod
    def _collected(cls, squares: Array, masses: Array, counts: Array, outside: float, rows: int) -> ExactMeasures:
        """Returns the measures of squares of singular values, with a mass and the rows at zero besides."""
        data, trace = (SpectralMeasure.collect(squares, m) for m in (masses, counts.astype(np.float64)))
        return cls(
            SpectralMeasure(np.append(data.values, 0.0), np.append(data.masses, outside)),
            SpectralMeasure(np.append(trace.values, 0.0), np.append(trace.masses, rows - counts.sum())),
            float(np.sqrt(squares.max(initial=0.0))),
        )


def _coefficients(problem: ScaledProblem, basis: TransformBasis) -> Array:
    """Returns the coefficients of the data in a basis; complex data of a real operator are split in two."""
    y = to_cpu(problem.y)
    if y.dtype.kind == "c" and basis.dtype.kind != "c":
        y = np.hstack([y.real, y.imag])
    return basis.forward(np.ascontiguousarray(y.T).reshape(-1, *basis.shape))


def _singular_components(B: Array, vectors: Array) -> tuple[Array, Array]:
    """Returns the singular values of many matrices, and the squares of vectors along their left singular vectors.

    Parameters
    ----------
    B : ndarray of shape ``(..., rows, columns)``
        The matrices.
    vectors : ndarray of shape ``(..., rows, P)``
        P vectors for each.

    Returns
    -------
    (ndarray, ndarray) of shape ``(..., min(rows, columns))``
        The squares are summed over the P vectors.
    """
    if B.shape[-2] == 1:
        return np.linalg.norm(B, axis=-1), (np.abs(vectors) ** 2).sum(axis=-1)
    U, values, _ = np.linalg.svd(B, full_matrices=False)
    return values, (np.abs(U.conj().swapaxes(-1, -2) @ vectors) ** 2).sum(axis=-1)
