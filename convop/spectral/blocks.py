r"""A convolution as a block-diagonal matrix, axis by axis: frequencies where it has them, elements where it has none.

Each axis gets a *part*, which says in which basis the matrix is written along it:

- `Fourier`, exact where the axis is periodic. With stride ``s``, ``n = s*m`` inputs are ``s`` phases of ``m``, and tap
  ``t`` reads phase ``p = q mod s`` shifted by ``r = (q - p)/s``, where ``q = t*d - lo``. Transformed,

      Y[k] = sum_p (sum_{t of phase p} K[t] exp(2 pi i k r/m)) X_p[k]

- `Cosine`, exact where the extension is symmetric and so are the taps: the DCT-II, in which taps at ``q`` and ``-q``
  multiply frequency ``k`` by ``cos(pi k q/n)``.
- `Window`, the elements themselves: all of an axis, or a stretch of it.

The blocks of the whole are an outer product of these over the axes, summed over the taps: one block, of channels, phases
and elements, for each frequency. All of it for any number of axes; the source of the Fourier part is any text on
polyphase filter banks (Vaidyanathan, Multirate Systems and Filter Banks, 1993).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import scipy.fft

from ..arrays import memory
from ..arrays.backend import Array, gpu_module, namespace, on_gpu
from ..geometry.axis import Axis
from ..geometry.spec import ConvSpec
from ..threads.sizes import transform_workers

__all__ = ["Cosine", "Fourier", "Part", "Place", "Window", "blocks", "exact_parts", "mirrored", "periodic", "weights"]

# Taps are symmetric if they are so to this many units in the last place of the largest, in double precision.
_SYMMETRY_ULPS = 8


@dataclass(frozen=True)
class Fourier:
    """An axis of ``count*stride`` inputs and `count` outputs that is periodic, or taken for it."""

    count: int
    stride: int

    def table(self, axis: Axis, half: bool) -> Array:
        """Coefficients, (taps, frequencies, phases); of the first half of the frequencies or of all."""
        q = np.arange(axis.taps) * axis.dilation - axis.lo
        phase, shift = q % self.stride, q // self.stride
        k = np.arange(self.count // 2 + 1 if half else self.count)
        # The angle by integers first: they do not lose digits where shifts are large.
        turns = np.outer(shift % self.count, k) % self.count
        waves = np.exp(2j * np.pi / self.count * turns)
        table = np.zeros((axis.taps, len(k), self.stride), dtype=np.complex128)
        table[np.arange(axis.taps), :, phase] = waves
        return table


@dataclass(frozen=True)
class Cosine:
    """An axis of `count` inputs and outputs, symmetrically extended, with symmetric taps or taken to have them.

    Attributes
    ----------
    sign : {0, 1, -1}
        0 for the cosines of symmetric taps. Otherwise the coefficients are those of a Fourier transform at the same
        frequencies, with this sign in the exponent.
    """

    count: int
    sign: int = 0

    def table(self, axis: Axis, half: bool) -> Array:  # noqa: ARG002 - cosines have no second half
        """Coefficients, (taps, frequencies, 1)."""
        q = np.arange(axis.taps) * axis.dilation - axis.lo
        turns = np.outer(q, np.arange(self.count)) % (2 * self.count)
        angle = np.pi / self.count * turns
        return np.asarray(np.exp(self.sign * 1j * angle) if self.sign else np.cos(angle))[:, :, None]


@dataclass(frozen=True)
class Window:
    """Elements ``start <= i < stop`` of an axis' inputs, with all outputs that read any of them; or the reverse."""

    start: int
    stop: int
    outputs: bool = False

    def table(self, axis: Axis, half: bool) -> Array:  # noqa: ARG002 - elements have no second half
        """1 where a tap of an output reads an input, (taps, outputs, inputs)."""
        if self.outputs:
            source = axis.source(np.arange(self.start, self.stop))
            read = np.unique(source[source >= 0])
            column = np.searchsorted(read, source) if len(read) else source
            inside, columns = source >= 0, max(1, len(read))
        else:
            # Outputs that may read any of it: those of the boundary, and those whose taps reach there.
            a, b = axis.interior
            first = max(a, (self.start + axis.lo - axis.extent) // axis.stride)
            last = min(b, (self.stop + axis.lo) // axis.stride + 1)
            source = axis.source(np.union1d(axis.boundary, np.arange(first, last)))
            inside = (source >= self.start) & (source < self.stop)
            rows = np.flatnonzero(inside.any(axis=1))
            if not len(rows):  # a stride may drop the last inputs
                rows = np.zeros(1, dtype=np.int64)
            inside, column, columns = inside[rows], source[rows] - self.start, self.stop - self.start
        row, tap = np.nonzero(inside)
        table = np.zeros((axis.taps, len(inside), columns))
        table[tap, row, column[row, tap]] = 1
        return table


Part: TypeAlias = Fourier | Cosine | Window


def periodic(axis: Axis) -> bool:
    """Whether an axis is periodic: a whole number of strides long, and either circular or with no tap beyond its ends."""
    return axis.outputs * axis.stride == axis.inputs and (axis.mode == "circular" or axis.interior == (0, axis.outputs))


def exact_parts(spec: ConvSpec, kernel: Array) -> list[Part]:
    """The parts that make the matrix exactly block diagonal, with as small blocks as can be.

    Parameters
    ----------
    spec : ConvSpec
        The geometry.
    kernel : ndarray
        The taps, not flipped.

    Returns
    -------
    list of Part
        One per axis. If all are windows, there is one block, the matrix itself.
    """
    ndim = spec.ndim
    return [_exact_part(axis, kernel, number - ndim) for number, axis in enumerate(spec.axes)]


def _exact_part(axis: Axis, kernel: Array, number: int) -> Part:
    if periodic(axis):
        return Fourier(axis.outputs, axis.stride)
    if mirrored(axis) and 2 * axis.lo == axis.extent - 1:
        asymmetry = np.abs(kernel - np.flip(kernel, number)).max()
        if asymmetry <= _SYMMETRY_ULPS * float(np.finfo(np.float64).eps) * np.abs(kernel).max():
            return Cosine(axis.inputs)
    # by outputs, as a stride may leave most of the inputs unread
    return Window(0, axis.outputs, outputs=True)


def mirrored(axis: Axis) -> bool:
    """Whether the cosines of the DCT-II are those of the axis' extension, and outputs lie on the same grid."""
    return axis.mode == "symmetric" and axis.stride == 1 and axis.outputs == axis.inputs


def blocks(spec: ConvSpec, kernel: Array, parts: Sequence[Part], what: str) -> Array:
    """The diagonal blocks of the matrix in the bases of its parts, in double precision.

    Parameters
    ----------
    spec : ConvSpec
        The geometry.
    kernel : ndarray
        The taps, not flipped, on the CPU.
    parts : sequence of Part
        One per axis.
    what : str
        What the blocks are for, with which a message about memory begins.

    Returns
    -------
    ndarray of shape ``(*frequencies, groups, rows, columns)``
        Rows are channels and elements of windows, columns are channels, phases and elements. Of a real kernel, the last
        `Fourier` part has its first half of frequencies.

    Raises
    ------
    MemoryError
        If they do not fit the free memory.
    """
    halved = _halved(parts, kernel.dtype)
    tables = [part.table(axis, a == halved) for a, (part, axis) in enumerate(zip(parts, spec.axes, strict=True))]
    groups, ndim = spec.groups, spec.ndim
    size = kernel.size * math.prod(t[0].size for t in tables) // math.prod(len(t) for t in tables)
    memory.require(2 * 16 * size, what)
    double = np.complex128 if kernel.dtype.kind == "c" else np.float64
    product: Array = kernel.astype(double, copy=False).reshape(
        groups, spec.c_out // groups, spec.c_in // groups, *kernel.shape[-ndim:]
    )
    for table in tables:
        # The first axis of taps that is left; its rows and columns come last.
        product = np.tensordot(product, table, axes=(3, 0))
    row = [3 + 2 * a for a in range(ndim)]
    column = [4 + 2 * a for a in range(ndim)]
    transformed = [a for a, part in enumerate(parts) if not isinstance(part, Window)]
    kept = [a for a in range(ndim) if a not in transformed]
    order = [*(row[a] for a in transformed), 0, 1, *(row[a] for a in kept), 2, *column]
    product = product.transpose(order)
    shape = product.shape
    rows = len(transformed) + 2 + len(kept)  # axes before those of the columns
    return product.reshape(
        *shape[: len(transformed) + 1], math.prod(shape[len(transformed) + 1 : rows]), math.prod(shape[rows:])
    )


def weights(parts: Sequence[Part], dtype: np.dtype[Any]) -> Array:
    """How many blocks of the matrix each of `blocks` stands for: 2 where its conjugate is left out, or 1.

    Parameters
    ----------
    parts : sequence of Part
        As in `blocks`.
    dtype : dtype
        Of the kernel.

    Returns
    -------
    ndarray of int, of the shape of the frequencies
    """
    counts: Array = np.ones((), dtype=np.int64)
    halved = _halved(parts, dtype)
    for a, part in enumerate(parts):
        if isinstance(part, Window):
            continue
        of_axis = np.ones(part.count // 2 + 1 if a == halved else part.count, dtype=np.int64)
        if a == halved:
            of_axis[1 : (part.count + 1) // 2] = 2
        counts = np.multiply.outer(counts, of_axis)
    return counts


def _halved(parts: Sequence[Part], dtype: np.dtype[Any]) -> int | None:
    """Number of the axis whose frequencies come by halves: the last `Fourier` part, if the kernel is real."""
    if dtype.kind == "c":
        return None
    return max((a for a, part in enumerate(parts) if isinstance(part, Fourier)), default=None)


@dataclass(frozen=True)
class Place:
    """Vectors in the bases of parts, and back: orthogonal transforms between ``(size, P)`` and blocks.

    Attributes
    ----------
    shape : tuple of int
        ``(channels, *space)`` of the vectors.
    groups : int
        Groups of channels.
    parts : tuple of Part
        One per axis. Elements outside of a window are left out, and are zero on the way back.
    outputs : bool
        Whether the vectors are outputs of the convolution, which have no phases.
    dtype : dtype
        Of the vectors: real ones have half of their frequencies.
    """

    shape: tuple[int, ...]
    groups: int
    parts: tuple[Part, ...]
    outputs: bool
    dtype: np.dtype[Any]

    @cached_property
    def windows(self) -> tuple[slice, ...]:
        """The elements of each axis that are seen."""
        return tuple(
            slice(part.start, part.stop) if isinstance(part, Window) else slice(0, n)
            for part, n in zip(self.parts, self.shape[1:], strict=True)
        )

    @cached_property
    def _lengths(self) -> list[tuple[int, int]]:
        """Of each axis: what is transformed or kept whole, and phases or elements."""
        lengths = []
        for part, n in zip(self.parts, self.shape[1:], strict=True):
            if isinstance(part, Fourier):
                lengths.append((part.count, 1 if self.outputs else part.stride))
            elif isinstance(part, Cosine):
                lengths.append((n, 1))
            else:
                lengths.append((1, part.stop - part.start))
        return lengths

    @cached_property
    def _order(self) -> list[int]:
        """Axes of ``(P, groups, channels, *(whole, phase))``: frequencies, groups, channels, windows, phases, P."""
        ndim = len(self.parts)
        whole, phase = [3 + 2 * a for a in range(ndim)], [4 + 2 * a for a in range(ndim)]
        there = [a for a, part in enumerate(self.parts) if not isinstance(part, Window)]
        kept = [a for a in range(ndim) if a not in there]
        return [*(whole[a] for a in there), 1, 2, *(whole[a] for a in kept), *phase, 0]

    @cached_property
    def _axes(self) -> tuple[list[int], list[int]]:
        """Axes that are transformed, by Fourier and by cosines."""
        fourier = [3 + 2 * a for a, part in enumerate(self.parts) if isinstance(part, Fourier)]
        cosine = [3 + 2 * a for a, part in enumerate(self.parts) if isinstance(part, Cosine)]
        return fourier, cosine

    def there(self, planes: Array) -> Array:
        """To the bases.

        Parameters
        ----------
        planes : ndarray of shape ``(P, channels, *window)``
            Vectors, cut to the windows.

        Returns
        -------
        ndarray of shape ``(*frequencies, groups, size of a block, P)``
        """
        xp, fft, more = _libraries(planes)
        batch, channels = planes.shape[:2]
        padded = tuple(whole * phase for whole, phase in self._lengths)
        if planes.shape[2:] != padded:
            larger = xp.zeros((batch, channels, *padded), planes.dtype)
            larger[(slice(None), slice(None), *(slice(n) for n in planes.shape[2:]))] = planes
            planes = larger
        both = [n for pair in self._lengths for n in pair]
        values = planes.reshape(batch, self.groups, channels // self.groups, *both)
        fourier, cosine = self._axes
        if cosine:
            values = fft.dctn(values, axes=cosine, norm="ortho", **more)
        if fourier:
            transform = fft.fftn if self.dtype.kind == "c" else fft.rfftn
            values = transform(values, axes=fourier, norm="ortho", **more)
        values = values.transpose(self._order)
        frequencies = len(fourier) + len(cosine)
        return values.reshape(*values.shape[: frequencies + 1], -1, batch)

    def back(self, values: Array) -> Array:
        """From the bases: the transpose of `there`, and its inverse but for what is outside of the windows.

        Parameters
        ----------
        values : ndarray of shape ``(*frequencies, groups, size of a block, P)``
            Blocks.

        Returns
        -------
        ndarray of shape ``(P, channels, *window)``
        """
        _, fft, more = _libraries(values)
        fourier, cosine = self._axes
        frequencies, batch = values.shape[: len(fourier) + len(cosine)], values.shape[-1]
        kept = [1 for part in self.parts if isinstance(part, Window)]
        phases = [phase for _, phase in self._lengths]
        values = values.reshape(*frequencies, self.groups, self.shape[0] // self.groups, *kept, *phases, batch)
        values = values.transpose(np.argsort(self._order).tolist())
        if fourier:
            lengths = [self._lengths[(a - 3) // 2][0] for a in fourier]
            transform = fft.ifftn if self.dtype.kind == "c" else fft.irfftn
            values = transform(values, s=lengths, axes=fourier, norm="ortho", **more)
        if cosine:
            values = fft.idctn(values, axes=cosine, norm="ortho", **more)
        padded = [whole * phase for whole, phase in self._lengths]
        planes: Array = values.reshape(batch, self.shape[0], *padded)
        seen = (slice(window.stop - window.start) for window in self.windows)
        return planes[(slice(None), slice(None), *seen)]


def _libraries(array: Array) -> tuple[Any, Any, dict[str, Any]]:
    """Array functions, Fourier transforms, and what the latter are told besides."""
    if on_gpu(array):
        return namespace(array), gpu_module("fft"), {}
    return np, scipy.fft, {"workers": transform_workers(array.size)}
