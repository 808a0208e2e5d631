"""Sizes of blocks and their layout in a workspace, worked by hand."""

from dataclasses import replace

import numpy as np
import pytest

from convop import ConvSpec
from convop.engines.cpu.planes import Geometry
from convop.engines.cpu.polyphase import Plan
from convop.engines.cpu.tiling import DirectTiling, Tile, tap_offsets, tiled, whole_run_tiling
from convop.engines.cpu.tuning import Tuning
from convop.engines.kernels.records import RunKind

TILE = Tile(16, 4)
TUNING = Tuning.packaged()


def tiling(spec, dtype="float64", *, adjoint=False, paired=False, tuning=TUNING):
    return DirectTiling.of(Geometry(spec, adjoint, np.dtype(dtype)), TILE, tuning, paired=paired)


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (0, 0),
        (8, 8),  # one wide tile
        (13, 16),  # 5 results are left, more than half of a wide tile: a second one
        (12, 20),  # 4 are left: two narrow tiles, each of 3/4 of the time of a wide one
        (9, 14),  # one narrow tile
        (3, 12),  # two narrow tiles
    ],
)
def test_tiled_counts_wide_tiles_of_eight_and_narrow_tiles_of_two(length, expected):
    assert tiled(length, Tile(8, 2), 0.75) == expected


def test_tap_offsets_are_plane_row_and_shift():
    """2 x 2 x 2 taps on (2, 3, 4) elements: 3 rows of 10 for each index of the first axis, planes 100 apart."""
    plan = Plan(ConvSpec((2, 3, 4), (2, 2, 2)), adjoint=False)
    (taps,) = plan.output_phases()
    one = [0, 1, 10, 11, 30, 31, 40, 41]
    assert tap_offsets(plan, taps, 2, 100, 10).tolist() == one + [100 + at for at in one]


def test_tap_offsets_count_phases_as_planes():
    """Stride 2 along both axes: tap (i, j) reads phase 2i + j, and a second channel begins four planes on."""
    plan = Plan(ConvSpec((4, 6), (2, 2), stride=2), adjoint=False)
    (taps,) = plan.output_phases()
    assert tap_offsets(plan, taps, 2, 100, 10).tolist() == [0, 100, 200, 300, 400, 500, 600, 700]


def test_direct_tiling_reads_and_writes_in_place():
    """(8, 64) and 3 x 3 taps: rows of 64 are read, and rows of 62 written, where they lie."""
    found = tiling(ConvSpec((8, 64), (3, 3)))
    assert (found.outer, found.columns) == (3, 62)  # 4 rows would suffice; 6 rows are two blocks of 3
    assert found.run_kind == RunKind.ROW
    assert found.reads_in_place
    assert found.writes_in_place
    assert (found.row_stride, found.plane_stride, found.out_plane_stride) == (64, 8 * 64, 0)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_direct_tiling_of_padded_planes_reads_through_a_workspace(dtype):
    """Rows of 64 + 2 elements are 9 cache lines of 8 numbers, or 5 of 16."""
    found = tiling(ConvSpec((8, 64), (3, 3), padding=1), dtype)
    assert (found.outer, found.columns, found.run_kind) == (4, 64, RunKind.ROW)
    assert not found.reads_in_place
    assert found.writes_in_place
    row = 9 * 8 if dtype == "float64" else 5 * 16
    assert found.row_stride == row
    # 6 rows and a tile: 56 lines of 8, or 31 of 16, and an odd number of them.
    assert found.plane_stride == (57 * 8 if dtype == "float64" else 31 * 16)
    assert found.out_plane_stride == 0


def test_direct_tiling_of_complex_numbers_and_strided_adjoints_writes_through_a_workspace():
    found = tiling(ConvSpec((8, 64), (3, 3)), "complex128")
    assert not found.reads_in_place
    assert not found.writes_in_place
    # 3 rows of 62 + 2 elements, 8 lines, and a tile of 2: 27 lines.
    assert (found.outer, found.row_stride, found.out_plane_stride) == (3, 64, 27 * 8)
    assert not tiling(ConvSpec((8, 64), (3, 3), stride=2), adjoint=True).writes_in_place


def test_direct_tiling_runs_over_whole_blocks_where_rows_are_short():
    """Rows of 5 without halo: two narrow tiles for each, or one wide tile for 3 rows, which lie without gaps."""
    found = tiling(ConvSpec((8, 5), (3, 1)))
    assert (found.outer, found.columns, found.run_kind, found.row_stride) == (3, 5, RunKind.BLOCK, 5)
    assert found.reads_in_place
    assert found.writes_in_place
    # With a halo there are gaps: results go through a workspace.
    gaps = tiling(ConvSpec((8, 7), (3, 3)))
    assert gaps.run_kind == RunKind.BLOCK
    assert gaps.reads_in_place
    assert not gaps.writes_in_place


def test_direct_tiling_of_pairs_runs_over_one_index_of_the_first_axis():
    """6 rows of 5 are one run of 30, which two wide tiles cover; pairs do not write it where it belongs."""
    spec = ConvSpec((8, 6, 5), (3, 1, 1))
    found = tiling(spec, paired=True)
    assert found.run_kind == RunKind.INDEX
    assert not found.writes_in_place
    assert tiling(spec).run_kind == RunKind.BLOCK
    assert tiling(ConvSpec((8, 5), (3, 1)), paired=True).run_kind == RunKind.ROW  # an index is a row here


def test_direct_tiling_is_not_in_place_where_the_last_block_is_narrower_than_a_tile():
    """4 results are a narrow tile, and 3 are less."""
    assert tiling(ConvSpec((8, 6), (3, 3))).reads_in_place
    assert not tiling(ConvSpec((8, 5), (3, 3))).reads_in_place


def test_direct_tiling_cuts_a_signal_into_enough_blocks():
    """99998 results, halved until there are 16 blocks."""
    assert TUNING.direct.least_blocks == 16
    found = tiling(ConvSpec(100000, 3))
    assert (found.outer, found.columns) == (1, 6250)
    # Two planes of 391 + 2 numbers are 6288 bytes, and of 782 + 2 numbers 12544.
    small = replace(TUNING, direct=replace(TUNING.direct, streamed_bytes=2**13))
    assert tiling(ConvSpec(100000, 3), tuning=small).columns == 391


def test_direct_tiling_shrinks_with_the_cache():
    """Blocks of planes that are read again fit the smaller cache, and blocks of few planes the larger one."""
    spec, many = ConvSpec((1000, 1000), (3, 3)), ConvSpec((1, 1000, 1000), (8, 1, 3, 3))
    for some, read, written, nbytes in ((spec, 1, 1, 2**22), (many, 1, 8, 2**19)):
        found = tiling(some)
        held = 8 * (read * (found.outer + 2) + written * found.outer) * (found.columns + 2)
        assert nbytes / 8 < held <= nbytes
    tiny = replace(TUNING, direct=replace(TUNING.direct, streamed_bytes=2**14))
    found = tiling(spec, tuning=tiny)
    # 16 rows of 63 + 2 are read, and 14 written: 1950 of 2048 numbers. Rows of 125 + 2 would be read more often.
    assert (found.outer, found.columns) == (14, 63)


@pytest.mark.parametrize(
    ("spec", "run", "expected"),
    [
        # Rows of 18 + 2: 5 of them are 100 elements, 7 with the halo 140, which are 18 cache lines and 19 an odd number.
        (ConvSpec((10, 20), (3, 3)), 100, (5, 18, 19 * 8, 20)),
        # All 8 rows; with the halo 200 elements are 25 lines.
        (ConvSpec((10, 20), (3, 3)), 1000, (8, 18, 25 * 8, 20)),
        # Half a row is cut, but not to fewer than 64 columns.
        (ConvSpec((10, 20), (3, 3)), 10, (1, 18, 9 * 8, 20)),
        # 298 results in runs of 150 - 2: three blocks of 100; 3 rows of 102 are 39 lines.
        (ConvSpec((10, 300), (3, 3)), 150, (1, 100, 39 * 8, 102)),
    ],
)
def test_whole_run_tiling_by_hand(spec, run, expected):
    assert whole_run_tiling(Plan(spec, adjoint=False), 8, run) == expected
