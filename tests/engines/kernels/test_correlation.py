"""Loops over runs of results: every run length, every number of planes, pairs, and all kinds of runs."""

import numpy as np
import pytest
from numba import njit
from numpy.testing import assert_array_equal

from convop.engines.cpu.components import read_only
from convop.engines.kernels.correlation import _next_tile, correlate_block, sum_taps
from convop.engines.kernels.records import Block, Correlation, Layout, PairTaps, Results, RunKind, Taps
from convop.engines.kernels.tiles import lanes, plane_counts, plane_runs, tile_vectors

GUARD = 0.5  # no sum of integers
NO_PAIRS = PairTaps(np.zeros(0, np.int64), 0, np.zeros(0), 0, 0, 0)


@njit
def compiled_next_tile(j, length, wide, narrow):
    return _next_tile(j, length, wide, narrow)


@njit
def compiled_sum_taps(x, x_at, y, y_at, y_stride, length, taps, weight_at, planes):
    sum_taps(x, x_at, y, y_at, y_stride, length, taps, weight_at, planes)


@njit
def compiled_correlate_block(planes, planes_at, results, block, layout, job):
    correlate_block(planes, planes_at, results, block, layout, job)


def tiles_of(length, wide, narrow):
    """Returns where the tiles of a run begin and their sizes."""
    found, j = [], 0
    while j < length:
        at, is_wide = compiled_next_tile(j, length, wide, narrow)
        found.append((at, wide if is_wide else narrow))
        j = sum(found[-1])
    return found


@pytest.mark.parametrize(
    ("length", "tiles"),
    [
        (16, [(0, 8), (8, 8)]),
        (21, [(0, 8), (8, 8), (13, 8)]),  # 5 are left, more than half of a wide tile: it begins earlier
        (20, [(0, 8), (8, 8), (16, 2), (18, 2)]),
        (17, [(0, 8), (8, 8), (15, 2)]),  # the narrow tile begins one earlier, too
        (7, [(0, 2), (2, 2), (4, 2), (5, 2)]),  # shorter than a wide tile
        (1, [(0, 2)]),  # shorter than a narrow tile, which writes beyond the run
    ],
)
def test_next_tile_cuts_a_run_into_wide_tiles_of_eight_and_narrow_tiles_of_two(length, tiles):
    assert tiles_of(length, 8, 2) == tiles


@pytest.mark.parametrize("length", range(1, 70))
def test_tiles_cover_every_run_and_stay_inside_it(length):
    covered = np.zeros(80, bool)
    for at, size in tiles_of(length, 16, 4):
        assert at >= 0
        covered[at : at + size] = True
    assert covered[:length].all()
    assert not covered[max(length, 4) :].any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("planes", plane_counts())
def test_sum_taps_computes_runs_of_every_length(planes, dtype):
    rng = np.random.default_rng(planes)
    offsets = np.array([3, 0, 90])
    weights = rng.integers(-9, 10, (3, planes)).astype(dtype)
    taps = Taps(offsets, 0, weights.reshape(-1), 3)
    x = rng.integers(-9, 10, 300).astype(dtype)
    for length in (*range(1, 20), 31, 33, 64, 100, 129):
        stride = max(length, tile_vectors(planes).narrow * lanes(dtype)) + 5
        y = np.full(2 + planes * stride, GUARD, dtype)
        compiled_sum_taps(read_only(x), 1, y, 2, stride, length, taps, 0, planes)
        got = y[2:].reshape(planes, stride)
        for r in range(planes):
            expected = sum(w * x[1 + o : 1 + o + length] for w, o in zip(weights[:, r], offsets, strict=True))
            assert_array_equal(got[r, :length], expected)
        narrowest = tile_vectors(planes).narrow * lanes(dtype)
        assert_array_equal(got[:, max(length, narrowest) :], GUARD)
        assert_array_equal(y[:2], GUARD)


# A block of 3 indices of the first axis, 2 rows with results of 3 for each, 20 columns in rows of 24.
LAYOUT = Layout(plane_stride=500, row_stride=24, rows_per_index=3, row_offsets=np.array([0, 2]))
BLOCK = Block(stack=0, group=0, outer=4, outer_count=3, column=8, column_count=20)
OFFSETS = np.array([0, 1, 24 * 3, 24 * 3 + 2, 500])


def correlation_case(planes):
    rng = np.random.default_rng(7)
    x = rng.integers(-9, 10, 1200).astype(float)
    runs = plane_runs(planes)
    weights = rng.integers(-9, 10, (planes, len(OFFSETS))).astype(float)
    ends = np.cumsum(runs)[:-1]
    packed = np.concatenate([rows.T.ravel() for rows in np.split(weights, ends)])
    return x, Taps(OFFSETS, 0, packed, len(OFFSETS)), np.array(runs), weights


def expected_results(x, weights, x_at=10):
    """Returns (planes, indices, rows, columns) by the definition."""
    expected = np.zeros((len(weights), 3, 2, 20))
    for index, (row, number) in ((i, pair) for i in range(3) for pair in enumerate((0, 2))):
        at = x_at + (index * 3 + number) * 24
        for w, offset in zip(weights.T, OFFSETS, strict=True):
            expected[:, index, row] += w[:, None] * x[at + offset : at + offset + 20]
    return expected


@pytest.mark.parametrize("run_kind", RunKind)
@pytest.mark.parametrize("planes", [1, 5])
def test_correlate_block_writes_results_to_a_workspace(planes, run_kind):
    x, taps, runs, weights = correlation_case(planes)
    y = np.full(planes * 400, GUARD)
    results = Results(y, 0, 400, False, np.zeros(1, np.int64), 0)
    job = Correlation(runs, int(run_kind), taps, 0, NO_PAIRS, 0)
    compiled_correlate_block(read_only(x), 10, results, BLOCK, LAYOUT, job)
    got = y[: planes * 400].reshape(planes, 400)[:, : 9 * 24].reshape(planes, 3, 3, 24)
    assert_array_equal(got[:, :, [0, 2], :20], expected_results(x, weights))
    if run_kind == RunKind.ROW:
        assert_array_equal(got[:, :, 1], GUARD)
        assert_array_equal(got[:, :, :, 20:], GUARD)
    run = 8 * 24 + 20  # to the last result of the block
    assert_array_equal(y.reshape(planes, 400)[:, run:], GUARD)


@pytest.mark.parametrize("planes", [1, 5])
def test_correlate_block_writes_rows_to_the_target(planes):
    """Rows 8, 9, ... 13 of the table, because the block begins with index 4; they are written to rows 13, 12, ... 8."""
    x, taps, runs, weights = correlation_case(planes)
    rows = np.concatenate([np.full(8, 99), np.arange(13, 7, -1)])
    y = np.full(planes * 600, GUARD)
    results = Results(y, 3, 600, True, rows, 30)
    job = Correlation(runs, int(RunKind.ROW), taps, 0, NO_PAIRS, 0)
    compiled_correlate_block(read_only(x), 10, results, BLOCK, LAYOUT, job)
    expected = np.full((planes, 600), GUARD)
    for n, plane in enumerate(expected_results(x, weights)):
        for row, values in zip(range(13, 7, -1), plane.reshape(6, 20), strict=True):
            expected[n, 3 + row * 30 : 3 + row * 30 + 20] = values
    assert_array_equal(y, expected.ravel())


@pytest.mark.parametrize("is_target", [False, True])
@pytest.mark.parametrize(("distance", "outer_count"), [(1, 2), (1, 5), (2, 3), (2, 7), (3, 2)])
def test_correlate_block_computes_pairs_and_what_has_no_partner(distance, outer_count, is_target):
    """Two taps `distance` indices apart: w0 and w1 for the first result, and w0 and w1 an index of the pair on."""
    rng = np.random.default_rng(1)
    layout = Layout(0, 24, 1, np.zeros(1, np.int64))
    block = Block(0, 0, 0, outer_count, 0, 20)
    x = rng.integers(-9, 10, 24 * (outer_count + 2 * distance)).astype(float)
    w0, w1 = 2.0, 5.0
    step = 24 * distance
    taps = Taps(np.array([0, step]), 0, np.array([w0, w1]), 2)
    pair = PairTaps(np.array([0, step, 2 * step]), 0, np.array([w0, w1, w0, w1]), 0, 1, 1)
    rows = np.arange(outer_count)[::-1].copy()
    y = np.full(24 * outer_count, GUARD)
    results = Results(y, 0, 0, is_target, rows, 24)
    job = Correlation(np.array([1]), int(RunKind.ROW), taps, 0, pair, distance)
    compiled_correlate_block(read_only(x), 0, results, block, layout, job)
    got = y.reshape(outer_count, 24)
    planes = x.reshape(-1, 24)
    expected = w0 * planes[:outer_count, :20] + w1 * planes[distance : outer_count + distance, :20]
    assert_array_equal(got[:, :20], expected[::-1] if is_target else expected)
    assert_array_equal(got[:, 20:], GUARD)
