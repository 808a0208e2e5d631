"""The engine for large kernels: products of Fourier transforms, along the first axis or along all axes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...geometry.spec import ConvSpec
from .columns import ColumnCut, ColumnGeometry, ColumnProblem, column_cut
from .components import component_count, real_dtype
from .planes import Geometry, PlaneEngine
from .polyphase import extents
from .transforms import TransformGeometry, TransformLengths, transform_lengths
from .tuning import Tuning


def cheapest_transforms(
    spec: ConvSpec, adjoint: bool, dtype: np.dtype[Any], tuning: Tuning
) -> ColumnCut | TransformLengths:
    """Returns the transforms that cost least for a direction.

    Parameters
    ----------
    spec : ConvSpec
        Geometry.
    adjoint : bool
        From output to input.
    dtype : dtype
        Of the results.
    tuning : Tuning
        Costs, and the kinds of transforms to choose from.

    Returns
    -------
    ColumnCut or TransformLengths
        Along the first axis, or along all of them.
    """
    axes, components, itemsize = spec.axes, component_count(dtype), real_dtype(dtype).itemsize
    sizes, halo, phases = extents(spec, adjoint)
    forward, backward = spec.c_in // spec.groups * math.prod(phases), spec.c_out // spec.groups
    read, written = (backward, forward) if adjoint else (forward, backward)
    whole = transform_lengths(
        list(zip(sizes, halo, strict=True)), (read * components, written * components), itemsize, tuning
    )
    if len(axes) == 1 or "first axis" not in tuning.transform_kinds:
        return whole
    problem = ColumnProblem(
        outer_size=sizes[0],
        outer_halo=halo[0],
        row_size=sizes[-1],
        row_halo=halo[-1],
        read_rows=math.prod(size + h for size, h in zip(sizes[1:-1], halo[1:-1], strict=True)),
        result_rows=math.prod(sizes[1:-1]),
        read=read,
        written=written,
        entries=backward * spec.c_in // spec.groups * phases[0] * math.prod(axis.taps for axis in axes[1:]),
        itemsize=itemsize,
        components=components,
    )
    first = column_cut(problem, tuning)
    if first is None or ("all axes" in tuning.transform_kinds and whole.nanoseconds <= first.nanoseconds):
        return whole
    return first


class FftEngine(PlaneEngine):
    """Fourier transforms of blocks, with the transform of the kernel kept.

    A NaN or an infinity spreads over its whole block. Errors are of the size of rounding relative to the largest
    results, not relative to each result; sums that leave the range of the dtype, or fall below it, affect all results.
    """

    name = "fft"

    def _build_geometry(self, adjoint: bool, dtype: np.dtype[Any]) -> Geometry:
        found = cheapest_transforms(self._spec, adjoint, dtype, self._tuning)
        if isinstance(found, ColumnCut):
            return ColumnGeometry(self._spec, adjoint, dtype, found)
        return TransformGeometry(self._spec, adjoint, dtype, self._tuning)
