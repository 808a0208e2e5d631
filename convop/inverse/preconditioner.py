"""A preconditioner that knows the boundary: transforms in the interior, windows of the matrix itself at the ends."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.fft import next_fast_len
from scipy.linalg import lapack

from ..arrays.backend import Array, to_gpu
from ..geometry.axis import Axis
from ..geometry.spec import ConvSpec
from ..operators.block_diagonal import BlockOperator, Piece, narrowed, place
from ..operators.conv import Conv, ConvTranspose
from ..spectral.blocks import Cosine, Fourier, Part, Window, blocks, exact_parts, mirrored

__all__ = ["checked_damp", "determined", "preconditioner"]

# Elements of a window at an end, along an axis: at least, and at most so many reaches of the kernel. Correlations of
# the inverse die out over some of them.
_LEAST_WINDOW, _REACHES = 24, 2
# Numbers that the inverses of the corners' windows may take for each unknown, and in all at least and at most.
_NUMBERS_PER_UNKNOWN, _LEAST_NUMBERS, _MOST_NUMBERS = 8, 2**20, 2**23
# Windows shorter than this share of the kernel's reach are of no use.
_USEFUL_SHARE = 1 / 2
# Cosines are taken where their model of `A^H A + damp^2` differs from the true one by at most these factors, in the
# interior and at the ends: the iterations grow with the roots of them, and windows at the ends need some 10 to 60.
_INTERIOR_SPREAD, _END_SPREAD = 100.0, 30.0
# The ends are compared over so many elements, at so many frequencies of the other axes.
_COMPARED_ELEMENTS, _COMPARED_FREQUENCIES = 24, 12
# The damping is no less than this share of the largest gain, in single and in double precision: inverses are no more
# precise than that, and have to stay positive definite.
_LEAST_DAMP = {4: 1e-3, 8: 1e-4}
# Blocks up to this size are inverted all at once.
_SMALL_BLOCK = 32


@dataclass(frozen=True)
class _Zone:
    """A stretch of an axis, the part that stands for it, and the amplitude with which it takes part."""

    part: Part
    amplitude: Array | None


def preconditioner(A: Conv | ConvTranspose, damp: float) -> BlockOperator:
    r"""A symmetric positive definite operator close to ``(A^H A + damp^2 I)^-1``, by fast transforms.

    Parameters
    ----------
    A : Conv or ConvTranspose
        The operator, on the CPU or the GPU.
    damp : float
        Damping, at least 0, in units of what `A` multiplies by. Below 1e-4 of the largest gain of `A`, that is taken
        instead; in single precision below 1e-3.

    Returns
    -------
    BlockOperator of shape ``(A.shape[1], A.shape[1])``
        Of the dtype of `A`, and where `A` is. Hermitian and positive definite, whatever the boundary.

    Raises
    ------
    TypeError
        If `A` is neither a `Conv` nor a `ConvTranspose`.
    ValueError
        If `damp` is negative or not finite, or a tap is not finite.
    MemoryError
        If the blocks do not fit the free memory.

    See Also
    --------
    tikhonov : Uses it.

    Notes
    -----
    It is exact where the boundary allows: for circular axes that are a whole number of strides long, by the FFT, with a
    small matrix for each frequency (of channels and of the phases of a stride); for symmetric axes and kernels by the
    DCT-II. Kernels that are nearly symmetric, in a symmetric boundary, use the DCT-II of ``A^H A`` averaged over all
    reflections.

    Elsewhere the boundary is what makes a circulant useless: every end has singular vectors of its own. So the
    domain is cut into overlapping stretches, along each axis one at either end and one between them, and the
    operator is

        P = sum_z  W_z  T_z^-1 (B_z^H B_z + damp^2 I)^-1 T_z  W_z,      sum_z W_z^2 = I

    over all combinations z of them. Between the ends T is the FFT and B what `A` is far from any end; at an end T
    is the identity along that axis, and B the columns of `A` itself. A corner is exact in all axes at once, an edge
    in one, with the FFT along the others. Each term is positive definite, and so is the sum. This is an additive
    Schwarz method with a smooth partition of unity, whose interior is solved by one FFT.

    Where the windows would cost more than the unknowns (many channels), the FFT on a domain that is zero beyond the
    ends takes their place.

    Examples
    --------
    >>> import numpy as np
    >>> from convop import Conv, preconditioner
    >>> A = Conv([[0.0, 0.2], [0.3, 0.5]], (6, 8), padding="same", padding_mode="circular")
    >>> P = preconditioner(A, 0.1)
    >>> np.allclose(P.todense() @ ((A.H @ A).todense() + 0.01 * np.eye(48)), np.eye(48))
    True
    """
    if not isinstance(A, Conv | ConvTranspose):
        raise TypeError(f"A must be a Conv or a ConvTranspose, got {type(A).__name__}")
    damp = checked_damp(damp)
    # What the engine of either has: A is the matrix of these taps, or its conjugate transpose.
    (spec, taps), outputs = A.convolution(), isinstance(A, ConvTranspose)
    if not np.isfinite(taps).all():
        raise ValueError("A must have finite taps to have a preconditioner")
    most = max(damp, float(np.abs(taps).max(initial=0.0)))
    if most and abs(math.log2(most)) > np.finfo(taps.dtype).maxexp / 2 - 2:
        raise ValueError(
            f"A and damp must have squares within the range of {taps.dtype.name}, but the larger of them is {most:.3g}: "
            f"multiply the kernel, and damp, by a power of two"
        )
    floor = max(damp, _least_damp(spec, taps)) ** 2 or 1.0
    pieces = [_piece(spec, taps, zones, floor, outputs) for zones in product(*_zones(spec, taps, floor, outputs))]
    operator = BlockOperator(pieces, dims=A.dims, dimsd=A.dims, dtype=A.dtype, name="P", hermitian=True)
    return operator._moved(to_gpu) if A.on_gpu else operator


def checked_damp(damp: float) -> float:
    """A damping that is a number, finite and not negative."""
    try:
        value = float(damp)
    except (TypeError, ValueError):
        raise TypeError(f"damp must be a number, got {damp!r}") from None
    if not 0 <= value < math.inf:
        raise ValueError(f"damp must be finite and at least 0, got {damp!r}")
    return value


def determined(A: Conv | ConvTranspose, damp: float) -> bool:
    """Whether a damping is large enough for a preconditioner with no other one in its place."""
    return damp > 0 and damp >= _least_damp(*A.convolution())


def _least_damp(spec: ConvSpec, taps: Array) -> float:
    return _LEAST_DAMP[taps.real.itemsize] * _gain(spec, taps)


def _gain(spec: ConvSpec, taps: Array) -> float:
    """About the largest singular value: at most the root of largest row sum times largest column sum of channels."""
    sizes = np.abs(taps).astype(np.float64)
    if not spec.channels:
        return float(sizes.sum())
    pairs = sizes.sum(axis=tuple(range(2, taps.ndim))).reshape(spec.groups, -1, sizes.shape[1])
    return float(np.sqrt(pairs.sum(axis=1).max() * pairs.sum(axis=2).max()))


def _zones(spec: ConvSpec, taps: Array, floor: float, outputs: bool) -> list[list[_Zone]]:
    """Of each axis: one zone where it is exact as a whole, or three."""
    exact = exact_parts(spec, taps)
    rough = [a for a, part in enumerate(exact) if isinstance(part, Window)]
    zones = [[_Zone(part, None)] for part in exact]
    if not rough:
        return zones
    if all(mirrored(spec.axes[a]) for a in rough) and taps.dtype.kind != "c":
        averaged = [
            [_Zone(Cosine(axis.inputs, 1) if a in rough else exact[a], None)] for a, axis in enumerate(spec.axes)
        ]
        if _cosines_fit(spec, taps, [zone.part for (zone,) in averaged], floor):
            return averaged
    lengths = _window_lengths(spec, exact, rough, outputs)
    for a in rough:
        axis, length = spec.axes[a], lengths.get(a)
        zones[a] = _extended(axis, outputs) if length is None else _cut(axis, length, outputs)
    return zones


def _size(axis: Axis, outputs: bool) -> int:
    return axis.outputs if outputs else axis.inputs


def _window_lengths(spec: ConvSpec, exact: Sequence[Part], rough: Sequence[int], outputs: bool) -> dict[int, int]:
    """Lengths of the windows at the ends of the axes that are not exact; none where they would not be worth it."""
    channels = (spec.c_out if outputs else spec.c_in) // spec.groups
    unknowns = spec.shape[0] if outputs else spec.shape[1]
    # A corner is exact in all rough axes, and has a block for every frequency of the others.
    frequencies, phases = spec.groups, channels
    for part in exact:
        if isinstance(part, Fourier):
            frequencies, phases = frequencies * part.count, phases * (1 if outputs else part.stride)
        elif isinstance(part, Cosine):
            frequencies *= part.count
    numbers = min(max(_NUMBERS_PER_UNKNOWN * unknowns, _LEAST_NUMBERS), _MOST_NUMBERS) / (frequencies * phases**2)
    lengths: dict[int, int] = {}
    # Short axes first: they are taken whole where that is cheap, and leave more to the others.
    for done, a in enumerate(sorted(rough, key=lambda a: _size(spec.axes[a], outputs))):
        axis = spec.axes[a]
        n, step = _size(axis, outputs), axis.stride if outputs else 1
        share = numbers ** (1 / (len(rough) - done))
        if n * n <= share:
            lengths[a] = n
            numbers /= n * n
            continue
        wanted = max(_LEAST_WINDOW, _REACHES * axis.extent) // step + 1
        lengths[a] = max(1, min(wanted, n // 2, int(math.sqrt(share / 2))))
        if lengths[a] < min(n // 2, _USEFUL_SHARE * axis.extent / step):
            return {}
        numbers /= 2 * lengths[a] ** 2
    return lengths


def _extended(axis: Axis, outputs: bool) -> list[_Zone]:
    """The axis with zeros beyond its end, so that nothing wraps round."""
    length = axis.inputs + axis.extent
    count = -(-length // axis.stride) if not outputs else axis.outputs + -(-axis.extent // axis.stride)
    return [_Zone(Fourier(next_fast_len(count, real=True), axis.stride), None)]


def _cut(axis: Axis, length: int, outputs: bool) -> list[_Zone]:
    """A window at either end and the Fourier transform between them, or one window for all of a short axis."""
    n = _size(axis, outputs)
    if length == n:
        return [_Zone(Window(0, n, outputs), None)]
    # Amplitudes whose squares add up to one, with no jump in their first two derivatives.
    t = np.minimum((np.arange(n) + 0.5) / length, 1)
    low = np.cos(np.pi / 2 * t * t * (3 - 2 * t))
    high = low[::-1]
    middle = np.sqrt(np.maximum(0, 1 - low**2 - high**2))
    count = n if outputs else -(-n // axis.stride)
    return [
        _Zone(Fourier(count, axis.stride), middle),
        _Zone(Window(0, length, outputs), low[:length]),
        _Zone(Window(n - length, n, outputs), high[n - length :]),
    ]


def _piece(spec: ConvSpec, taps: Array, zones: Sequence[_Zone], floor: float, outputs: bool) -> Piece:
    """The term of one combination of zones."""
    parts = [zone.part for zone in zones]
    there = place(spec, parts, taps.dtype, outputs=outputs)
    inverse = _inverse(_damped(_gram(spec, taps, parts, outputs), floor))
    weight: Array | None = None
    if any(zone.amplitude is not None for zone in zones):
        weight = np.ones(1)
        for zone, window in zip(zones, there.windows, strict=True):
            amplitude = np.ones(window.stop - window.start) if zone.amplitude is None else zone.amplitude
            weight = np.multiply.outer(weight, amplitude)
        weight = weight.astype(taps.real.dtype)
    return Piece(there, there, narrowed(inverse, taps.dtype), weight)


def _gram(spec: ConvSpec, taps: Array, parts: Sequence[Part], outputs: bool) -> Array:
    """``B^H B``, or ``B B^H`` for the outputs, averaged over reflections along axes of signed cosines."""
    grams = list(_reflected_grams(spec, taps, parts, outputs))
    return np.asarray(sum(grams[1:], grams[0]) / len(grams))


def _reflected_grams(spec: ConvSpec, taps: Array, parts: Sequence[Part], outputs: bool) -> Iterator[Array]:
    """One for each combination of signs along the axes of signed cosines.

    With nothing but cosines the reflection of all axes at once gives the conjugate, and their average the real part.
    """
    signed = [a for a, part in enumerate(parts) if isinstance(part, Cosine) and part.sign]
    paired = bool(signed) and not any(isinstance(part, Fourier) for part in parts)
    for signs in product((1, -1), repeat=len(signed) - paired):
        turned = list(parts)
        for a, sign in zip(signed[paired:], signs, strict=True):
            turned[a] = Cosine(spec.axes[a].inputs, sign)
        B = blocks(spec, taps, turned, f"a preconditioner of {spec}")
        gram = _product(B.swapaxes(-1, -2).conj() if outputs else B)
        yield gram.real if paired else gram


def _product(B: Array) -> Array:
    """``B^H B`` of many matrices."""
    BH = B.conj().swapaxes(-1, -2)
    if B.shape[-1] <= _SMALL_BLOCK:
        return np.asarray(BH @ B)
    gram = np.empty((*B.shape[:-2], B.shape[-1], B.shape[-1]), B.dtype)
    for index in np.ndindex(B.shape[:-2]):
        gram[index] = BH[index] @ B[index]  # of a matrix and its own transpose, half is computed
    return gram


def _cosines_fit(spec: ConvSpec, taps: Array, parts: Sequence[Part], floor: float) -> bool:
    """Whether the average over reflections is close to ``A^H A + damp^2``, in the interior and at the ends."""
    mean = _damped(_gram(spec, taps, parts, False), floor)
    interior = [_spread(_damped(gram, floor), mean) for gram in _reflected_grams(spec, taps, parts, False)]
    least, most = min(low for low, _ in interior), max(high for _, high in interior)
    if not most <= _INTERIOR_SPREAD * least:
        return False
    for a, part in enumerate(parts):
        if not isinstance(part, Cosine) or not part.sign:
            continue
        n = part.count
        length = min(n, _COMPARED_ELEMENTS)
        # What the cosines make of the first or last elements, at frequencies of the other axes spread over all.
        along = np.moveaxis(mean, a, 0)
        along = along.reshape(n, -1, *mean.shape[-2:])
        chosen = np.unique(np.linspace(0, along.shape[1] - 1, _COMPARED_FREQUENCIES).astype(int))
        angle = np.pi / n * np.outer(np.arange(n) + 0.5, np.arange(n))
        cosines = np.cos(angle) * np.sqrt(np.where(np.arange(n) == 0, 1, 2) / n)
        for window in (Window(0, length), Window(n - length, n)):
            seen = cosines[window.start : window.stop]
            model = np.einsum("ik,kfcd,jk->fcidj", seen, along[:, chosen], seen, optimize=True)
            side = model.shape[1] * length
            true = _gram(spec, taps, [window if b == a else other for b, other in enumerate(parts)], False)
            true = _damped(true.reshape(-1, side, side)[chosen], floor)
            low, high = _spread(true, model.reshape(-1, side, side))
            if not high <= _END_SPREAD * low:
                return False
    return True


def _damped(gram: Array, floor: float) -> Array:
    """Matrices with the damping on their diagonals, which are written to."""
    diagonal = np.arange(gram.shape[-1])
    gram[..., diagonal, diagonal] += floor
    return gram


def _spread(true: Array, model: Array) -> tuple[float, float]:
    """Least and largest of ``<x, true x>/<x, model x>`` for many pairs of Hermitian positive definite matrices."""
    if true.shape[-1] == 1:
        ratios = true.real / model.real
    else:
        half = np.linalg.inv(np.linalg.cholesky(model))
        ratios = np.linalg.eigvalsh(half @ true @ half.conj().swapaxes(-1, -2))
    return float(ratios.min()), float(ratios.max())


def _inverse(gram: Array) -> Array:
    """Inverses of Hermitian positive definite matrices, Hermitian to the last bit."""
    size = gram.shape[-1]
    if size == 1:
        return np.asarray(1 / gram.real)
    if size <= _SMALL_BLOCK:
        inverse = np.linalg.inv(gram)
        return np.asarray((inverse + inverse.conj().swapaxes(-1, -2)) / 2)
    factor, invert = (lapack.zpotrf, lapack.zpotri) if gram.dtype.kind == "c" else (lapack.dpotrf, lapack.dpotri)
    inverse = np.empty_like(gram)
    for index in np.ndindex(gram.shape[:-2]):
        triangle, failed = factor(gram[index].T, lower=False, clean=False, overwrite_a=False)
        if not failed:
            triangle, failed = invert(triangle, lower=False, overwrite_c=True)
        if failed:  # not reached with a damping of 1e-4 of the gain
            raise np.linalg.LinAlgError(f"a block of the preconditioner is not positive definite (LAPACK: {failed})")
        # In the order of Fortran, the upper triangle is the lower one.
        upper = np.triu(triangle, 1)
        inverse[index] = (upper + upper.conj().T).T
        diagonal = np.arange(size)
        inverse[index][diagonal, diagonal] = triangle[diagonal, diagonal].real
    return inverse
