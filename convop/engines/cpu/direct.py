"""The engine for few channels and small kernels: microkernels over planes laid flat, in compiled loops on all cores."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...arrays.backend import Array
from ...geometry.spec import ConvSpec
from ..kernels.records import DirectPlan
from ..kernels.tiles import PAIR_VECTORS, plane_runs, slack, tile_elements, tile_vectors
from .components import grouped_kernel, real_weights
from .packing import CorrelationPhases, pair_distance, pair_table, tap_table
from .planes import CompiledGeometry, PlaneEngine
from .tiling import DirectTiling, tap_offsets
from .tuning import Tuning


class DirectGeometry(CompiledGeometry):
    """The tiling and the tap offsets of a direction.

    Parameters
    ----------
    spec, adjoint, dtype
        As in `Geometry`.
    tuning : Tuning
        Sizes of caches.
    """

    def __init__(self, spec: ConvSpec, adjoint: bool, dtype: np.dtype[Any], tuning: Tuning) -> None:
        super().__init__(spec, adjoint, dtype)
        plan, read, written = self.plan, self.read * self.components, self.written_planes
        single = written == 1 and spec.ndim > 1
        distance = pair_distance(spec.axes[0], plan.axes[0].output_size, self.phases) if single else 0
        tiles = [tile_vectors(planes) for planes in plane_runs(written)] + [PAIR_VECTORS] * bool(distance)
        tile = tile_elements(tiles, self.real)
        self.cut = cut = DirectTiling.of(self, tile, tuning, paired=bool(distance))
        offsets = [tap_offsets(plan, taps, read, cut.plane_stride, cut.row_stride) for taps in self.phases]
        stride = plan.rows_per_index * cut.row_stride
        self.correlations = CorrelationPhases(self.phases, offsets, (read, written), distance=distance, stride=stride)
        self.blocks = math.ceil(plan.axes[0].output_size / cut.outer) * math.ceil(
            plan.axes[-1].output_size / cut.columns
        )
        self.work = sum(len(o) for o in offsets) * written * spec.groups * plan.plane_size
        self.workspace = (
            (0 if cut.reads_in_place else self.read_planes * cut.plane_stride) + slack(self.real),
            written * cut.out_plane_stride + slack(self.real),
        )

    def loop(self) -> Any:
        from ..kernels.direct import correlate, correlate_in_place

        return correlate_in_place if self.cut.writes_in_place else correlate

    def record(self, kernel: Array) -> DirectPlan:
        weights = real_weights(grouped_kernel(self.plan.spec, kernel, self.plan.adjoint))
        return DirectPlan(
            tiling=self.tiling(self.cut.outer, self.cut.columns),
            reading=self.reading,
            writing=self.writing,
            layout=self.layout(self.cut.plane_stride, self.cut.row_stride),
            out_plane_stride=self.cut.out_plane_stride,
            run_kind=int(self.cut.run_kind),
            reads_in_place=self.cut.reads_in_place,
            taps=tap_table([self.correlations], [weights], self.real),
            pairs=pair_table([self.correlations], [weights], self.real),
            distance=self.correlations.distance,
        )


class DirectEngine(PlaneEngine):
    """Compiled loops over the planes of the extended input. No matrix, and no extended copy of the input: each thread
    has a workspace for one block.

    NaN and infinities stay where the kernel reads them.
    """

    name = "direct"

    def _build_geometry(self, adjoint: bool, dtype: np.dtype[Any]) -> DirectGeometry:
        return DirectGeometry(self._spec, adjoint, dtype, self._tuning)
