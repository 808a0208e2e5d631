"""The engine for large kernels: products of Fourier transforms, along all axes or along the first one only."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...geometry.spec import ConvSpec
from .columns import ColumnGeometry, Cut, cut
from .planes import Geometry, PlaneEngine
from .polyphase import written_back
from .transforms import BlockGeometry, Lengths, block_lengths

__all__ = ["FftEngine", "best_transforms"]


def best_transforms(spec: ConvSpec, adjoint: bool, itemsize: int, parts: int) -> Cut | Lengths:
    """The transforms that cost least for a direction.

    Parameters
    ----------
    spec : ConvSpec
        Geometry.
    adjoint : bool
        From output to input.
    itemsize : int
        Bytes of a real number.
    parts : int
        Two for complex numbers.

    Returns
    -------
    Cut or Lengths
        Along the first axis, or along all of them.
    """
    axes = spec.axes
    reach = [(axis.extent - 1) // axis.stride for axis in axes]
    places = [written_back(axis)[1] if adjoint else axis.outputs for axis in axes]
    phases = [min(axis.taps, axis.stride // math.gcd(axis.stride, axis.dilation)) for axis in axes]
    forward, backward = spec.c_in // spec.groups * math.prod(phases), spec.c_out // spec.groups
    planes = (backward, forward) if adjoint else (forward, backward)
    whole = block_lengths(places, reach, (planes[0] * parts, planes[1] * parts), itemsize)
    if len(axes) == 1:
        return whole
    read = math.prod(p + r for p, r in zip(places[1:-1], reach[1:-1], strict=True))
    entries = backward * spec.c_in // spec.groups * phases[0] * math.prod(axis.taps for axis in axes[1:])
    first = cut(
        (places[0], places[-1]), (reach[0], reach[-1]), (read, math.prod(places[1:-1])), planes, entries, itemsize,
        3 - parts,
    )  # fmt: skip
    return whole if first is None or whole.nanoseconds <= first.nanoseconds else first


def _geometry(spec: ConvSpec, adjoint: bool, real: np.dtype[Any], parts: int) -> Geometry:
    found = best_transforms(spec, adjoint, real.itemsize, parts)
    if isinstance(found, Cut):
        return ColumnGeometry(spec, adjoint, real, parts, found)
    return BlockGeometry(spec, adjoint, real, parts)


class FftEngine(PlaneEngine):
    """Fourier transforms of blocks, with the transform of the kernel kept.

    A NaN or an infinity spreads over its whole block. Errors are of the size of rounding relative to the largest
    results, not to each single one; sums that leave the range of the dtype, or fall below it, take all results along.
    """

    name = "fft"
    _geometry = staticmethod(_geometry)
