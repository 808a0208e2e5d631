"""The records that compiled loops take, each field with its meaning and unit, and a picture of the planes.

Numba reads a `typing.NamedTuple` by attribute inside compiled code, so a loop takes a few records, built by keyword in one
place, instead of dozens of positional integers and arrays. Sizes, strides and offsets are in elements of the real dtype
unless the comment says rows. Integers are int64.

A *phase* is a polyphase component: position ``p = q*stride + phase`` of the extended axis is index ``q`` of its phase.
A *plane* is one phase of one component (real or imaginary) of one channel. A *row* runs along the last axis. The first
axis is divided into blocks; the axes between are flattened, together with the first, into a row number. A *stack* is the
planes of one channel group of one input of a batch: ``stack = batch*groups + group``. An *output phase* is one combination
of the phases that a direction writes along all axes; forward there is one. The *halo* of a block is what it reads beyond
its results.

For a signal of 7 elements, 3 taps, stride 2, padding 1 and mode "reflect" (``A = Conv([a, b, c], 7, stride=2, padding=1,
padding_mode="reflect")``), forward::

    input              x0 x1 x2 x3 x4 x5 x6
    extended        x1 x0 x1 x2 x3 x4 x5 x6 x5 x4      positions p = 0 ... 9
    phase 0         x1    x1    x3    x5    x5         even positions, read by taps a (shift 0) and c (shift 1)
    phase 1            x0    x2    x4    x6    x4      odd positions, read by tap b (shift 0); no tap reads position 9

    block of 4 outputs with a halo of 1, drawn with plane_stride 5 (in a workspace strides are padded to cache lines):

        offset      0  1  2  3  4 | 5  6  7  8  9
                   x1 x1 x3 x5 x5 |x0 x2 x4 x6 x4
        taps       a at 0, b at 5, c at 1              a tap is one offset into the flat block

    output         y[o] = a*flat[o + 0] + b*flat[o + 5] + c*flat[o + 1]      for the whole run o = 0 ... 3

In phase 0, indices 1 to 3 are the *interior* (``element = start + q*step`` with ``start = -1``, ``step = 2``); index 0 and
index 4 are *edges*, whose elements a table lists. The adjoint runs the same loops: it reads ``y`` extended by zeros, and
writes each phase to where the forward direction reads it. What it writes to an edge goes to a *halo row* or *halo column*
beside the result, and is finally added to the element that the extension copied from (`planes.add_halo`).

A loop takes a plan and operands: ``DirectPlan(Tiling, Reading, Writing, Layout, TapTable, PairTable)`` is built once for a
kernel and a direction, ``Operands(source, Target, Workspace)`` for each call. The way of a product is
``MatrixOperator.dot`` -> ``PlaneEngine._apply`` -> ``CompiledDirection.apply`` -> ``direct.correlate`` -> ``fork_join`` ->
the loop of `driver` in every thread -> ``gather``, ``correlate_block`` with its microkernels, ``scatter`` for each block
-> ``Result.finish``.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from ...arrays.backend import Array


class RunKind(IntEnum):
    """The stretch of a plane that a microkernel covers in one loop."""

    ROW = 0
    INDEX = 1  # all rows of one index of the first axis, and what lies between them
    BLOCK = 2


class Reading(NamedTuple):
    """Where the planes of one channel group are read from: made by `Geometry` for inputs, by `residual_reading` for residuals.

    An edge is a copy of an element, never a multiple of it.
    """

    channels: int  # channels that are read per group
    components: int  # real numbers of an element: 2 for complex dtypes
    space: int  # elements of a channel
    rows: Array  # (phases of the leading axes, rows): element at which a row begins, -1 for a row of zeros
    start: Array  # (phases of the last axis,): element at index 0
    step: int  # elements from index to index: the stride forward, always 1 in the adjoint
    first: Array  # (phases,): first index of the interior
    stop: Array  # (phases,): first index after the interior
    edges: Array  # (phases, edges): element of each index before and after the interior, -1 for zero


class Writing(NamedTuple):
    """Where the planes of one channel group are written to."""

    channels: int  # channels that are written per group
    components: int  # real numbers of an element
    space: int  # elements of a channel
    row_size: int  # elements of a row
    row_count: int  # rows of a channel
    halo_row_count: int  # halo rows of a channel
    rows: Array  # (phases of the leading axes, rows): number of the row, -1 for none; halo rows follow `row_count`
    start: Array  # (phases of the last axis,): element of index 0
    step: int  # elements from index to index
    first: Array  # (phases,): first index of the interior
    stop: Array  # (phases,): first index after the interior
    slots: Array  # (phases, edges): halo column of each index outside the interior, -1 for none


class Target(NamedTuple):
    """The arrays that results are written to."""

    values: Array  # flat: the result itself
    halo_rows: Array  # flat: rows beyond the ends of the leading axes
    halo_columns: Array  # (rows, halo columns): elements beyond the ends of the last axis; one empty row if none


class Tiling(NamedTuple):
    """How the planes of all channel groups are cut into blocks."""

    groups: int
    outer_size: int  # results along the first axis
    outer_halo: int  # indices of the first axis that a block reads beyond its results
    row_size: int  # results along the last axis
    row_halo: int  # indices of the last axis that a block reads beyond its results
    block_outer: int  # results of a block along the first axis
    block_columns: int  # results of a block along the last axis


class Block(NamedTuple):
    """One item of work: a rectangle of the planes of one group."""

    stack: int  # number of the stack of planes
    group: int
    outer: int  # first index along the first axis
    outer_count: int
    column: int  # first index along the last axis
    column_count: int


class Layout(NamedTuple):
    """How the planes of a block lie in a workspace."""

    plane_stride: int  # elements from plane to plane
    row_stride: int  # elements from row to row
    rows_per_index: int  # rows of one index of the first axis, halo rows of the axes between included
    row_offsets: Array  # numbers of the rows among them that hold results


class Taps(NamedTuple):
    """The taps of one output phase: where they read, and their weights in the order of the microkernels."""

    offsets: Array
    offset_at: int  # of the first tap
    weights: Array
    tap_count: int  # of all planes that are read


class PairTaps(NamedTuple):
    """The taps of two results that are computed together, `distance` indices of the first axis apart.

    Offsets and weights lie in three runs: `ends` taps that only the first result reads, `shared` taps that both read, with
    a weight for each, and `ends` taps that only the second result reads. Of three taps along the first axis and distance 1,
    the first result reads rows 0 to 2 and the second rows 1 to 3: rows 1 and 2 are shared, rows 0 and 3 are the ends.
    """

    offsets: Array
    offset_at: int
    weights: Array
    weight_at: int
    ends: int
    shared: int


class TapTable(NamedTuple):
    """The taps of all output phases, one after another."""

    runs: Array  # planes of results that a microkernel computes together, such as [4, 3]
    offsets: Array
    offset_at: Array  # (output phases + 1,)
    weights: Array
    weight_at: Array  # (groups, output phases)


class PairTable(NamedTuple):
    """The taps of pairs of results, for all output phases."""

    offsets: Array
    offset_at: Array  # (output phases + 1,)
    weights: Array
    weight_at: Array  # (groups, output phases)
    ends: Array  # (output phases,)


class Correlation(NamedTuple):
    """The planes of results of one output phase: which taps make them."""

    runs: Array  # planes that a microkernel computes together
    run_kind: int  # a `RunKind`
    taps: Taps
    weight_at: int
    pair: PairTaps
    distance: int  # indices of the first axis from one result of a pair to the other, 0 for no pairs


class Results(NamedTuple):
    """Where a correlation writes: a workspace that is laid out as its input, or the target itself."""

    values: Array
    origin: int  # element of the first plane's first result
    plane_stride: int  # elements from plane to plane
    is_target: bool
    rows: Array  # numbers of the target's rows
    row_size: int  # elements of a row of the target


class Rows(NamedTuple):
    """Rows of a flat array."""

    values: Array
    at: int  # element at which the first row begins
    stride: int  # elements from row to row


class DirectPlan(NamedTuple):
    """What `direct.correlate` and `direct.correlate_in_place` do to one direction of a convolution."""

    tiling: Tiling
    reading: Reading
    writing: Writing
    layout: Layout
    out_plane_stride: int  # elements from plane to plane of results, which have the rows of `layout`
    run_kind: int  # a `RunKind`
    reads_in_place: bool  # planes lie in the source as they would in a workspace
    taps: TapTable
    pairs: PairTable
    distance: int  # as in `Correlation`


class ColumnPlan(NamedTuple):
    """What `columns.convolve` does: transforms along the first axis, correlations along the others."""

    tiling: Tiling
    reading: Reading
    writing: Writing
    layout: Layout
    length: int  # rows of a transform
    twiddles: Array  # factors of all steps, real and imaginary components in turn
    taps: TapTable  # weights by frequency, run of planes and tap


class PointTransform(NamedTuple):
    """A product of one matrix and the rows of planes, as a correlation whose taps are rows."""

    runs: Array  # rows of results that a microkernel computes together
    taps: Taps


class WinogradPlan(NamedTuple):
    """What `winograd.correlate` does: values at points along the first axis, correlations along the others, results.

    Channels are read and written one by one. A row of tiles has `results` indices of the first axis.
    """

    tiling: Tiling
    reading: Reading  # of one channel
    writing: Writing  # of one channel
    read_channels: int
    written_channels: int
    read_layout: Layout  # of the planes of one channel that is read
    written_layout: Layout  # of the planes of one channel that is written
    layout: Layout  # of values at one point, a row of tiles where others have an index of the first axis
    results: int
    points: int
    point_stride: int  # elements from point to point of values that are read
    sum_stride: int  # and of sums of products
    values_at: int  # first element of the values in their workspace
    more_tiles: int  # rows of tiles that are read beyond those of the results
    joins_rows: bool  # a microkernel runs along all rows of a block, and what lies between them
    to_points: PointTransform
    to_results: PointTransform
    taps: TapTable  # weights by point


class Stages(NamedTuple):
    """The sweeps of a separable kernel, one after another. Output phases are numbered through all stages."""

    phase_at: Array  # (stages + 1,): output phases of a stage
    run_at: Array  # (stages + 1,): its runs of planes, in `TapTable.runs`
    row_at: Array  # (stages + 1,): its row offsets
    row_offsets: Array  # as in `Layout`
    outer_halo: Array  # (stages,): indices of the first axis beyond those of the block that later stages read
    row_halo: Array  # (stages,): the same of the last axis
    plane_stride: Array  # (stages,): elements from plane to plane of one output phase
    distance: Array  # (stages,): as in `Correlation`
    origins: Array  # (output phases,): element of the first plane


class SweepPlan(NamedTuple):
    """What `sweeps.sweep` does: one correlation along each axis, from workspace to workspace."""

    tiling: Tiling
    reading: Reading
    writing: Writing
    layout: Layout
    writes_in_place: bool
    stages: Stages
    taps: TapTable
    pairs: PairTable


class GradientPlan(NamedTuple):
    """What `gradient.gradient` does: products of the planes of an input and of residuals, for every tap."""

    tiling: Tiling
    reading: Reading
    residual: Reading
    layout: Layout  # of the input's and of the residuals' planes
    offsets: Array  # of all taps of all planes, repeated at the end to fill the last tile
    tap_count: int  # offsets that count


class Workspace(NamedTuple):
    """Two workspaces, each with a read-only view: loops are compiled only for read-only planes.

    As an operand of a call, arrays have a row for each thread; inside the loop they are the thread's own row.
    """

    x: Array
    x_read: Array
    y: Array
    y_read: Array


class Operands(NamedTuple):
    """The arrays of one call."""

    source: Array  # flat, read-only
    target: Target
    workspace: Workspace
