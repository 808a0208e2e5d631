"""Register tiles against NumPy twins: results are exact, nothing else is written, and unrelated elements do not leak in."""

from functools import cache

import numpy as np
import pytest
from numba import njit
from numpy.testing import assert_array_equal

from convop.engines.cpu.components import read_only
from convop.engines.kernels.microkernels import (
    DOT_TILES,
    dot_tile_1,
    dot_tile_2,
    dot_tile_4,
    narrow_pair_tile,
    pair_tile,
    tile,
)
from convop.engines.kernels.records import PairTaps, Rows, Taps
from convop.engines.kernels.tiles import PAIR_VECTORS, lanes, plane_counts, tile_vectors

GUARD = 0.5  # no sum of integers
REAL = pytest.mark.parametrize("dtype", ["float32", "float64"])
DOTS = {1: dot_tile_1, 2: dot_tile_2, 4: dot_tile_4}


@njit
def compiled_tile(planes, is_wide, y, y_at, y_stride, x, x_at, taps, weight_at):
    tile(planes, is_wide, y, y_at, y_stride, x, x_at, taps, weight_at)


@cache
def compiled_pair_tile(is_wide):
    tile = pair_tile if is_wide else narrow_pair_tile

    @njit
    def call(y, y_at, y_stride, x, x_at, pair):
        tile(y, y_at, y_stride, x, x_at, pair)

    return call


@cache
def compiled_dot_tile(outputs):
    tile = DOTS[outputs]

    @njit
    def call(sums, y, x, x_at, offsets, offset_at, count):
        tile(sums, y, x, x_at, offsets, offset_at, count)

    return call


def integers(rng, size, dtype):
    return rng.integers(-9, 10, size).astype(dtype)


def guarded(size, dtype):
    return np.full(size, GUARD, dtype)


def with_nan_elsewhere(x, read):
    """Returns a copy of `x` that is NaN or infinite in every element that is not among `read`."""
    poisoned = np.where(np.arange(len(x)) % 2, np.nan, np.inf).astype(x.dtype)
    poisoned[read] = x[read]
    return read_only(poisoned)


def twin_of_tile(y, y_at, y_stride, x, x_at, taps, weight_at, outputs, count):
    """Y[r, j] = sum_i W[i, r] * X[offset[i] + j] for 0 <= j < count."""
    for r in range(outputs):
        for j in range(count):
            total = 0
            for i in range(taps.tap_count):
                w = taps.weights[weight_at + i * outputs + r]
                total += w * x[x_at + taps.offsets[taps.offset_at + i] + j]
            y[y_at + r * y_stride + j] = total


@REAL
@pytest.mark.parametrize("is_wide", [True, False])
@pytest.mark.parametrize("outputs", plane_counts())
def test_tile_sums_taps(outputs, is_wide, dtype):
    rng = np.random.default_rng(outputs)
    count = tile_vectors(outputs)[not is_wide] * lanes(dtype)
    offsets = np.array([999, 999, 3, 0, 250, 251, 40])  # two of another phase before them; not sorted
    weights = integers(rng, 5 + 5 * outputs, dtype)
    taps = Taps(offsets, 2, weights, 5)
    x_at, y_at, stride = 7, 11, count + 13
    read = np.unique(x_at + np.add.outer(offsets[2:], np.arange(count)))
    x = with_nan_elsewhere(integers(rng, 400, dtype), read)
    got, expected = (guarded(y_at + outputs * stride, dtype) for _ in range(2))
    compiled_tile(outputs, is_wide, got, y_at, stride, x, x_at, taps, 5)
    twin_of_tile(expected, y_at, stride, x, x_at, taps, 5, outputs, count)
    assert_array_equal(got, expected)
    assert (got == GUARD).sum() == len(got) - outputs * count


@pytest.mark.parametrize("planes", [0, 5, max(plane_counts()) + 1])
def test_tile_of_a_number_of_planes_that_no_tile_has_writes_nothing(planes):
    y = guarded(8 * 128, "float64")
    taps = Taps(np.zeros(1, np.int64), 0, np.ones(9), 1)
    compiled_tile(planes, True, y, 0, 128, read_only(np.ones(200)), 0, taps, 0)
    assert_array_equal(y, GUARD)


@REAL
@pytest.mark.parametrize("is_wide", [True, False])
def test_tile_of_no_taps_writes_zeros(is_wide, dtype):
    count = tile_vectors(3)[not is_wide] * lanes(dtype)
    nothing = Taps(np.zeros(1, np.int64), 0, np.zeros(1, dtype), 0)
    y = guarded(3 * count, dtype)
    compiled_tile(3, is_wide, y, 0, count, read_only(np.full(count, np.nan, dtype)), 0, nothing, 0)
    assert_array_equal(y, 0)


@REAL
def test_tile_adds_taps_in_their_order(dtype):
    """1e8 + 1 - 1e8 is 0 in float32; for float64 the numbers are larger."""
    large = 1e8 if dtype == "float32" else 1e17
    count = tile_vectors(1).narrow * lanes(dtype)
    taps = Taps(np.zeros(3, np.int64), 0, np.array([large, 1, -large], dtype), 3)
    y = guarded(count, dtype)
    compiled_tile(1, False, y, 0, count, read_only(np.ones(count, dtype)), 0, taps, 0)
    assert_array_equal(y, 0)


def pair_case(dtype, is_wide):
    """Returns a pair of results of 2 end taps and 3 shared taps: its record, input, and elements that each end reads."""
    rng = np.random.default_rng(3)
    count = PAIR_VECTORS[not is_wide] * lanes(dtype)
    offsets = np.array([999, 0, 80, 160, 241, 322, 403, 484])  # further apart than the widest tile
    weights = integers(rng, 3 + 2 + 6 + 2, dtype)
    pair = PairTaps(offsets, 1, weights, 3, 2, 3)
    return pair, integers(rng, 484 + count + 5, dtype), count


def twin_of_pair(y, y_at, y_stride, x, x_at, pair, count):
    """The first result sums 2 taps of its own and 3 shared ones; the second 3 shared ones and 2 of its own."""
    offsets, weights = pair.offsets[pair.offset_at :], pair.weights[pair.weight_at :]
    for j in range(count):
        first = sum(weights[i] * x[x_at + offsets[i] + j] for i in (0, 1))
        second = 0
        for n in range(3):
            first += weights[2 + 2 * n] * x[x_at + offsets[2 + n] + j]
            second += weights[3 + 2 * n] * x[x_at + offsets[2 + n] + j]
        second += sum(weights[8 + n] * x[x_at + offsets[5 + n] + j] for n in (0, 1))
        y[y_at + j], y[y_at + y_stride + j] = first, second


@REAL
@pytest.mark.parametrize("is_wide", [True, False])
def test_pair_tile_sums_taps_of_two_results(is_wide, dtype):
    pair, x, count = pair_case(dtype, is_wide)
    x_at, y_at, stride = 5, 9, count + 7
    x = with_nan_elsewhere(x, np.unique(x_at + np.add.outer(pair.offsets[1:], np.arange(count))))
    got, expected = (guarded(y_at + 2 * stride, dtype) for _ in range(2))
    compiled_pair_tile(is_wide)(got, y_at, stride, x, x_at, pair)
    twin_of_pair(expected, y_at, stride, x, x_at, pair, count)
    assert_array_equal(got, expected)
    assert (got == GUARD).sum() == len(got) - 2 * count


@REAL
@pytest.mark.parametrize("is_wide", [True, False])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pair_tile_keeps_what_only_one_result_reads_from_the_other(value, is_wide, dtype):
    pair, x, count = pair_case(dtype, is_wide)
    weights = np.where(pair.weights == 0, 1, pair.weights).astype(dtype)
    pair = pair._replace(weights=weights)
    for own, tap in ((0, 0), (0, 1), (1, 5), (1, 6)):
        changed = x.copy()
        at = pair.offsets[1 + tap]
        changed[at : at + count] = value
        y = guarded(2 * count, dtype)
        compiled_pair_tile(is_wide)(y, 0, count, read_only(changed), 0, pair)
        assert np.isfinite(y.reshape(2, count)).all(axis=1).tolist() == [own == 1, own == 0]


@REAL
@pytest.mark.parametrize("is_wide", [True, False])
def test_pair_tile_without_shared_taps(is_wide, dtype):
    """A single tap: the first result reads it, and the second reads it an index on."""
    count = PAIR_VECTORS[not is_wide] * lanes(dtype)
    pair = PairTaps(np.array([0, count]), 0, np.array([2, 2], dtype), 0, 1, 0)
    x = np.arange(2 * count).astype(dtype)
    y = guarded(2 * count, dtype)
    compiled_pair_tile(is_wide)(y, 0, count, read_only(x), 0, pair)
    assert_array_equal(y, 2 * x)


@REAL
@pytest.mark.parametrize("vectors", [0, 1, 5])
@pytest.mark.parametrize("outputs", DOT_TILES)
def test_dot_tile_adds_products(outputs, vectors, dtype):
    rng = np.random.default_rng(outputs)
    taps, count = DOT_TILES[outputs], vectors * lanes(dtype)
    offsets = np.concatenate([[999], 3 + 60 * np.arange(taps)])
    x_at, y_at, y_stride, at, stride = 4, 2, count + 9, 6, taps + 3
    x = with_nan_elsewhere(integers(rng, 600, dtype), np.unique(x_at + np.add.outer(offsets[1:], np.arange(count))))
    y = with_nan_elsewhere(
        integers(rng, y_at + 4 * y_stride, dtype),
        np.unique(y_at + np.add.outer(y_stride * np.arange(outputs), np.arange(count))),
    )
    sums = guarded(at + 4 * stride, dtype)
    expected = sums.copy()
    for r in range(outputs):
        for t in range(taps):
            values = y[y_at + r * y_stride : y_at + r * y_stride + count]
            run = x[x_at + offsets[1 + t] : x_at + offsets[1 + t] + count]
            expected[at + r * stride + t] += values @ run
    compiled_dot_tile(outputs)(Rows(sums, at, stride), Rows(y, y_at, y_stride), x, x_at, offsets, 1, count)
    assert_array_equal(sums, expected)


@REAL
@pytest.mark.parametrize("outputs", DOT_TILES)
def test_dot_tile_rounds_its_count_up_to_whole_vectors(outputs, dtype):
    """Beyond the count are zeros in `y`, as `gradient` leaves them there, so `x` may hold any finite numbers."""
    width, taps = lanes(dtype), DOT_TILES[outputs]
    y = np.zeros((outputs, 2 * width), dtype)
    y[:, : width + 1] = 3
    sums = np.zeros((outputs, taps), dtype)
    x = read_only(np.ones(2 * width + 8, dtype))
    rows = Rows(sums.reshape(-1), 0, taps), Rows(y.reshape(-1), 0, 2 * width)
    compiled_dot_tile(outputs)(*rows, x, 0, np.arange(taps), 0, width + 1)
    assert_array_equal(sums, 3 * (width + 1))
