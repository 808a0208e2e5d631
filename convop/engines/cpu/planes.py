"""What the engines over planes share: the tables of a direction, its results, and the engine class itself."""

from __future__ import annotations

from typing import Any, Protocol, Self

import numpy as np

from ...arrays.backend import Array
from ...geometry.spec import ConvSpec
from ...threads.locks import BuiltOnce
from ...threads.pool import awake_workers
from ..kernels.records import Block, Layout, Operands, Reading, Target, Tiling, Workspace, Writing
from .components import as_columns, component_count, read_only, real_dtype
from .polyphase import Plan
from .tuning import Tuning
from .workspace import per_thread


def call_kernel(kernel: Any, real: np.dtype[Any], *arguments: Any) -> Any:
    """Calls a kernel: all arrays of numbers are contiguous, aligned and of one real dtype, which names their types."""
    from ...threads.compiled import call_typed

    return call_typed(kernel, real.char, *arguments)


def _table(rows: list[Array]) -> Array:
    """Returns rows of different lengths as one array, filled up with -1."""
    table = np.full((len(rows), max(1, *(len(row) for row in rows))), -1, dtype=np.int64)
    for row, values in zip(table, rows, strict=True):
        row[: len(values)] = values
    return table


class Direction(Protocol):
    """The map in one direction, ready to be applied."""

    def apply(self, columns: Array, dtype: np.dtype[Any]) -> Array:
        """Returns the results of a batch ``(P, elements)``, ``(P, elements written)``."""


class Geometry:
    """The parts of a direction that do not depend on the kernel's values.

    Parameters
    ----------
    spec : ConvSpec
        Geometry.
    adjoint : bool
        From output to input.
    dtype : dtype
        Of the results.

    Attributes
    ----------
    read, written : int
        Channels of a group.
    read_planes, written_planes : int
        Planes of a group that are read, and planes of one output phase that are written.
    """

    def __init__(self, spec: ConvSpec, adjoint: bool, dtype: np.dtype[Any]) -> None:
        self.plan = plan = Plan(spec, adjoint)
        self.components, self.real, self.groups = component_count(dtype), real_dtype(dtype), spec.groups
        read, written = (spec.c_out, spec.c_in) if adjoint else (spec.c_in, spec.c_out)
        self.read, self.written = read // spec.groups, written // spec.groups
        self.read_planes = self.read * self.components * plan.read_phases
        self.written_planes = self.written * self.components
        self.phases = plan.output_phases()
        self.reading, self.writing = self._reading(), self._writing()

    def _reading(self) -> Reading:
        phases = self.plan.axes[-1].read
        return Reading(
            channels=self.read,
            components=self.components,
            space=self.plan.read_space,
            rows=self.plan.read_rows,
            start=np.array([p.start for p in phases]),
            step=phases[0].step,
            first=np.array([p.first for p in phases]),
            stop=np.array([p.stop for p in phases]),
            edges=_table([p.edges for p in phases]),
        )

    def _writing(self) -> Writing:
        plan, last = self.plan, self.plan.axes[-1]
        return Writing(
            channels=self.written,
            components=self.components,
            space=plan.written_space,
            row_size=last.written_size,
            row_count=plan.row_count,
            halo_row_count=len(plan.halo_rows),
            rows=plan.write_rows,
            start=np.array([p.start for p in last.write]),
            step=last.write[0].step,
            first=np.array([p.first for p in last.write]),
            stop=np.array([p.stop for p in last.write]),
            slots=_table(plan.halo_slots),
        )

    def tiling(self, outer: int, columns: int) -> Tiling:
        """Returns the tiling into blocks of `outer` indices of the first axis and `columns` of the last."""
        first, last = self.plan.axes[0], self.plan.axes[-1]
        return Tiling(
            groups=self.groups,
            outer_size=first.output_size,
            outer_halo=first.halo,
            row_size=last.output_size,
            row_halo=last.halo,
            block_outer=outer,
            block_columns=columns,
        )

    def layout(self, plane_stride: int, row_stride: int) -> Layout:
        """Returns the layout of planes in a workspace, whose rows are numbered as those that are read."""
        return Layout(plane_stride, row_stride, self.plan.rows_per_index, self.plan.row_offsets)

    def direction(self, kernel: Array) -> Direction:
        """Returns the map with a kernel, in this direction."""
        raise NotImplementedError


class Result:
    """The arrays that a direction writes, halo rows and columns included.

    Parameters
    ----------
    geometry : Geometry
        Of the direction.
    batch : int
        Inputs.
    dtype : dtype
        Of the results.
    """

    def __init__(self, geometry: Geometry, batch: int, dtype: np.dtype[Any]) -> None:
        self.plan, self.writing = plan, writing = geometry.plan, geometry.writing
        self.channels = batch * geometry.groups * geometry.written
        size = geometry.groups * geometry.written * plan.written_space
        self.columns = (np.empty if plan.covers else np.zeros)((batch, size), dtype)
        real, components = geometry.real, writing.components
        rows = self.channels * (plan.row_count + len(plan.halo_rows)) * components if len(plan.halo_columns) else 1
        self.target = Target(
            values=self.columns.view(real).reshape(-1),
            halo_rows=np.zeros(self.channels * len(plan.halo_rows) * writing.row_size * components, real),
            halo_columns=np.zeros((rows, len(plan.halo_columns)), real),
        )

    def finish(self) -> Array:
        """Adds the halo to the elements that the extension copies there.

        Returns
        -------
        ndarray of shape ``(P, elements)``
        """
        plan = self.plan
        if len(plan.halo_rows) or len(plan.halo_columns):
            from ..kernels.planes import add_halo

            halo = (plan.halo_rows, plan.halo_columns)
            call_kernel(add_halo, self.target.values.dtype, self.target, self.writing, self.channels, *halo)
        return self.columns


class BlockGeometry(Geometry):
    """A direction whose blocks are read and written from Python, for engines that call a library for each block.

    Subclasses set `blocks`, the tiling, and `planes`, the layout of the planes that are read.
    """

    blocks: Tiling
    planes: Layout

    def block(self, item: int) -> Block:
        """Returns a block by its number."""
        from ..kernels.planes import block_of

        block: Block = call_kernel(block_of, self.real, item, self.blocks)
        return block

    def block_count(self, batch: int = 1) -> int:
        """Returns the number of blocks of all groups of a batch."""
        tiling = self.blocks
        rows, columns = -(-tiling.outer_size // tiling.block_outer), -(-tiling.row_size // tiling.block_columns)
        return batch * self.groups * rows * columns

    def read_block(self, block: Block, source: Array, planes: Array, layout: Layout) -> None:
        """Reads what a block needs, its halo included, into planes of a layout."""
        from ..kernels.planes import gather, with_halo

        read = call_kernel(with_halo, self.real, block, self.blocks)
        call_kernel(gather, self.real, read_only(source), self.reading, read, planes, layout)

    def write_block(self, planes: Array, layout: Layout, phase: int, result: Result, block: Block) -> None:
        """Writes the planes of one output phase of a block."""
        from ..kernels.planes import scatter

        call_kernel(scatter, self.real, planes, layout, phase, self.writing, result.target, block)

    def run_length(self, block: Block) -> int:
        """Returns the length of the one run that all results of a block lie in."""
        rows = (block.outer_count - 1) * self.planes.rows_per_index + int(self.planes.row_offsets[-1])
        return rows * self.planes.row_stride + block.column_count


class CompiledGeometry(Geometry):
    """A direction whose loop over the blocks is compiled.

    Subclasses set the number of blocks of a group, the multiplications of one input, and the elements that a thread's two
    workspaces need.
    """

    blocks: int
    work: int
    workspace: tuple[int, int]

    def loop(self) -> Any:
        """Returns the compiled loop."""
        raise NotImplementedError

    def record(self, kernel: Any) -> Any:
        """Returns the plan that the loop takes, with the weights of a kernel or of its factors."""
        raise NotImplementedError

    def direction(self, kernel: Array) -> CompiledDirection:
        return CompiledDirection(self, self.record(kernel))


class CompiledDirection:
    """The map in one direction, with its weights in the order of the compiled loop.

    Parameters
    ----------
    geometry : CompiledGeometry
        Of the direction.
    record : NamedTuple
        The plan that the geometry's loop takes.
    """

    def __init__(self, geometry: CompiledGeometry, record: Any) -> None:
        self.geometry, self.record = geometry, record

    def apply(self, columns: Array, dtype: np.dtype[Any]) -> Array:
        geometry, batch = self.geometry, len(columns)
        result = Result(geometry, batch, dtype)
        items = batch * geometry.groups * geometry.blocks
        workers = awake_workers(items, batch * geometry.work)
        x, y = (
            per_thread(name, len(workers) + 1, size, geometry.real)
            for name, size in zip("xy", geometry.workspace, strict=True)
        )
        source = read_only(columns.view(geometry.real).reshape(-1))
        operands = Operands(source, result.target, Workspace(x, read_only(x), y, read_only(y)))
        call_kernel(geometry.loop(), geometry.real, workers, items, self.record, operands)
        return result.finish()


class PlaneEngine:
    """An engine with a geometry for each direction, which all engines of one spec share.

    Parameters
    ----------
    spec : ConvSpec
        Geometry.
    kernel : ndarray
        Taps in the dtype of the map, not flipped.
    tuning : Tuning, optional
        Costs and cache sizes by which blocks are chosen.
    """

    name: str

    def __init__(self, spec: ConvSpec, kernel: Array, tuning: Tuning | None = None) -> None:
        self._spec, self._kernel, self._tuning = spec, kernel, tuning or Tuning.packaged()
        self._geometries: BuiltOnce[Any] = BuiltOnce()
        self._directions: BuiltOnce[Direction] = BuiltOnce()

    def forward(self, x: Array) -> Array:
        return self._apply(x, adjoint=False)

    def adjoint(self, y: Array) -> Array:
        return self._apply(y, adjoint=True)

    def with_kernel(self, kernel: Array) -> Self:
        other = type(self)(self._spec, kernel, self._tuning)
        other._geometries = self._geometries
        return other

    def _apply(self, x: Array, *, adjoint: bool) -> Array:
        dtype = np.result_type(x.dtype, self._kernel.dtype)
        direction = self._directions.get((adjoint, dtype.char), lambda: self._build_direction(adjoint, dtype))
        result = direction.apply(as_columns(x, dtype), dtype)
        return result[0] if x.ndim == 1 else result.T

    def _build_direction(self, adjoint: bool, dtype: np.dtype[Any]) -> Direction:
        geometry = self._geometries.get((adjoint, dtype.char), lambda: self._build_geometry(adjoint, dtype))
        direction: Direction = geometry.direction(self._kernel.astype(dtype, copy=False))
        return direction

    def _build_geometry(self, adjoint: bool, dtype: np.dtype[Any]) -> Geometry:
        raise NotImplementedError
