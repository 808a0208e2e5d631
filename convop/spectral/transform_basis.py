"""Orthogonal transforms of vectors to and from the bases in which a convolution is block diagonal."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import scipy.fft

from ..arrays.backend import Array, gpu_module, namespace, on_gpu
from ..geometry.spec import ConvSpec
from ..threads.sizes import transform_workers
from .axis_bases import AxisBasis, Cosine, Eigenvectors, Fourier, Identity


@dataclass(frozen=True)
class TransformBasis:
    """The basis of the inputs or outputs of a convolution, one basis per axis, with its forward and inverse transform.

    Attributes
    ----------
    shape : tuple of int
        ``(channels, *space)`` of the vectors.
    groups : int
        Groups of channels.
    axes : tuple of AxisBasis
        One per axis. Samples outside of the subdomain of an `Identity` or of `Eigenvectors` are left out, and are zero
        after the inverse.
    outputs : bool
        Whether the vectors are outputs of the convolution, which have no polyphase components.
    dtype : dtype
        The vectors' dtype: real vectors have half of their frequencies.
    """

    shape: tuple[int, ...]
    groups: int
    axes: tuple[AxisBasis | Eigenvectors, ...]
    outputs: bool
    dtype: np.dtype[Any]

    @classmethod
    def of(
        cls, spec: ConvSpec, axes: Sequence[AxisBasis | Eigenvectors], dtype: np.dtype[Any], *, outputs: bool
    ) -> TransformBasis:
        """Returns the basis of the inputs or the outputs of a convolution.

        Parameters
        ----------
        spec : ConvSpec
            Geometry.
        axes : sequence of AxisBasis or Eigenvectors
            One per axis.
        dtype : dtype
            The vectors' dtype.
        outputs : bool
            Whether the vectors are outputs.

        Returns
        -------
        TransformBasis
        """
        channels = spec.c_out if outputs else spec.c_in
        space = (spec.output_shape if outputs else spec.input_shape)[-spec.ndim :]
        return cls((channels, *space), spec.groups, tuple(axes), outputs, dtype)

    @cached_property
    def subdomain(self) -> tuple[slice, ...]:
        """The samples of each axis that the transform reads."""
        return tuple(
            slice(basis.start, basis.stop) if isinstance(basis, Identity | Eigenvectors) else slice(0, n)
            for basis, n in zip(self.axes, self.shape[1:], strict=True)
        )

    @cached_property
    def _lengths(self) -> list[tuple[int, int]]:
        """Of each axis the length of its transform, 1 for none, and the number of polyphase components or samples."""
        lengths = []
        for basis, n in zip(self.axes, self.shape[1:], strict=True):
            if isinstance(basis, Fourier):
                lengths.append((basis.count, 1 if self.outputs else basis.stride))
            elif isinstance(basis, Cosine):
                lengths.append((n, 1))
            elif isinstance(basis, Eigenvectors):
                lengths.append((basis.count, 1))
            else:
                lengths.append((1, basis.stop - basis.start))
        return lengths

    @cached_property
    def _order(self) -> list[int]:
        """The axes of ``(P, groups, channels, *(frequency, component))`` in the order of the blocks.

        That order is: frequencies, groups, channels, the axes of length 1 that `Identity` has in place of frequencies,
        components, P.
        """
        ndim = len(self.axes)
        frequency, component = [3 + 2 * a for a in range(ndim)], [4 + 2 * a for a in range(ndim)]
        transformed = [a for a, basis in enumerate(self.axes) if not isinstance(basis, Identity)]
        sampled = [a for a in range(ndim) if a not in transformed]
        return [*(frequency[a] for a in transformed), 1, 2, *(frequency[a] for a in sampled), *component, 0]

    @cached_property
    def _transformed(self) -> tuple[list[int], list[int]]:
        """The axes that are transformed, by Fourier transforms and by cosine transforms."""
        fourier = [3 + 2 * a for a, basis in enumerate(self.axes) if isinstance(basis, Fourier)]
        cosine = [3 + 2 * a for a, basis in enumerate(self.axes) if isinstance(basis, Cosine)]
        return fourier, cosine

    @cached_property
    def _multiplied(self) -> list[tuple[int, Array]]:
        """The axes that are multiplied by eigenvectors, and these."""
        return [(3 + 2 * a, basis.vectors) for a, basis in enumerate(self.axes) if isinstance(basis, Eigenvectors)]

    def to_device(self, move: Callable[[Array], Array]) -> TransformBasis:
        """Returns the basis with its arrays moved by a function."""
        axes = (replace(b, vectors=move(b.vectors)) if isinstance(b, Eigenvectors) else b for b in self.axes)
        return replace(self, axes=tuple(axes))

    def forward(self, planes: Array) -> Array:
        """Returns the coefficients of vectors in this basis.

        Parameters
        ----------
        planes : ndarray of shape ``(P, channels, *subdomain)``
            Vectors, restricted to the subdomain.

        Returns
        -------
        ndarray of shape ``(*frequencies, groups, size of a block, P)``
        """
        xp, fft, options = _libraries(planes)
        batch, channels = planes.shape[:2]
        padded = tuple(frequencies * components for frequencies, components in self._lengths)
        if planes.shape[2:] != padded:
            larger = xp.zeros((batch, channels, *padded), planes.dtype)
            larger[(slice(None), slice(None), *(slice(n) for n in planes.shape[2:]))] = planes
            planes = larger
        split = [n for pair in self._lengths for n in pair]
        values = planes.reshape(batch, self.groups, channels // self.groups, *split)
        fourier, cosine = self._transformed
        if cosine:
            values = fft.dctn(values, axes=cosine, norm="ortho", **options)
        if fourier:
            transform = fft.fftn if self.dtype.kind == "c" else fft.rfftn
            values = transform(values, axes=fourier, norm="ortho", **options)
        for axis, vectors in self._multiplied:
            values = _multiplied_along(values, vectors.conj().T, axis)
        values = values.transpose(self._order)
        frequencies = len(fourier) + len(cosine) + len(self._multiplied)
        return values.reshape(*values.shape[: frequencies + 1], -1, batch)

    def inverse(self, values: Array) -> Array:
        """Returns the vectors of coefficients: the conjugate transpose of `forward`, and its inverse on the subdomain.

        Parameters
        ----------
        values : ndarray of shape ``(*frequencies, groups, size of a block, P)``
            Coefficients.

        Returns
        -------
        ndarray of shape ``(P, channels, *subdomain)``
        """
        _, fft, options = _libraries(values)
        fourier, cosine = self._transformed
        transformed = len(fourier) + len(cosine) + len(self._multiplied)
        frequencies, batch = values.shape[:transformed], values.shape[-1]
        sampled = [1 for basis in self.axes if isinstance(basis, Identity)]
        components = [components for _, components in self._lengths]
        values = values.reshape(*frequencies, self.groups, self.shape[0] // self.groups, *sampled, *components, batch)
        values = values.transpose(np.argsort(self._order).tolist())
        for axis, vectors in self._multiplied:
            values = _multiplied_along(values, vectors, axis)
        if fourier:
            lengths = [self._lengths[(a - 3) // 2][0] for a in fourier]
            transform = fft.ifftn if self.dtype.kind == "c" else fft.irfftn
            values = transform(values, s=lengths, axes=fourier, norm="ortho", **options)
        if cosine:
            values = fft.idctn(values, axes=cosine, norm="ortho", **options)
        padded = [frequencies * components for frequencies, components in self._lengths]
        planes: Array = values.reshape(batch, self.shape[0], *padded)
        kept = (slice(samples.stop - samples.start) for samples in self.subdomain)
        return planes[(slice(None), slice(None), *kept)]


def _multiplied_along(values: Array, matrix: Array, axis: int) -> Array:
    """Returns the product of a matrix and every vector along an axis, as matrix products."""
    shape = values.shape
    leading, n, trailing = math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])
    if trailing == 1:
        product: Array = values.reshape(leading, n) @ matrix.T
    else:
        product = matrix @ values.reshape(leading, n, trailing)
    return product.reshape(shape)


def _libraries(array: Array) -> tuple[Any, Any, dict[str, Any]]:
    """Returns the array functions and transforms of an array's library, and the options of the transforms."""
    if on_gpu(array):
        return namespace(array), gpu_module("fft"), {}
    return np, scipy.fft, {"workers": transform_workers(array.size)}
