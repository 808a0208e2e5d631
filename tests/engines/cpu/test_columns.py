"""Cuts, frequencies and weights of transforms along the first axis, worked by hand."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from convop import ConvSpec
from convop.engines.cpu.columns import (
    ColumnCut,
    ColumnGeometry,
    ColumnProblem,
    _frequencies,
    _twiddles,
    column_cut,
)
from convop.engines.cpu.tuning import Tuning

TUNING = Tuning.packaged()
# One real plane of 100 rows and 90 columns, 9 x 5 taps.
PROBLEM = ColumnProblem(
    outer_size=100,
    outer_halo=8,
    row_size=90,
    row_halo=4,
    read_rows=1,
    result_rows=1,
    read=1,
    written=1,
    entries=5,
    itemsize=8,
    components=1,
)


def test_frequencies_are_in_digit_reversed_order():
    assert _frequencies(2).tolist() == [0, 1]
    assert _frequencies(4).tolist() == [0, 1, 2, 3]
    assert _frequencies(8).tolist() == [0, 4, 1, 5, 2, 6, 3, 7]
    assert _frequencies(16).tolist() == [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15]
    assert sorted(_frequencies(512)) == list(range(512))


def test_twiddles_are_three_factors_for_each_row_of_a_quarter():
    """Of length 8: exp(-2 pi i n / 8) to the powers 1, 2, 3 for n = 0 and 1. Two rows are left, which have no factors."""
    h = np.sqrt(0.5)
    assert_allclose(_twiddles(8), [1, 0, 1, 0, 1, 0, h, -h, 0, -1, -h, -h], rtol=0, atol=1e-15)
    assert len(_twiddles(16)) == 2 * 3 * (4 + 1)
    assert _twiddles(2).size == 0


def test_half_of_a_block_of_real_columns_is_one_component():
    assert PROBLEM.half(90) == 45
    assert PROBLEM.half(31) == 16
    assert replace(PROBLEM, components=2).half(31) == 31


def test_row_blocks_overlap_by_the_halo():
    """Transforms of 32 rows give 24 results: 100 results are 5 blocks."""
    assert PROBLEM.row_blocks(32) == 5
    assert PROBLEM.row_blocks(16) == 13
    assert PROBLEM.row_blocks(128) == 1


def test_column_cut_of_a_single_choice():
    tuning = replace(TUNING, columns=replace(TUNING.columns, lengths=(32,), cuts=(3,), least_width=15))
    cut = column_cut(PROBLEM, tuning)
    assert (cut.length, cut.outer, cut.columns) == (32, 20, 30)
    assert cut.nanoseconds == PROBLEM.nanoseconds(32, 20, 30, tuning)
    narrow = replace(tuning, columns=replace(tuning.columns, least_width=16))
    assert column_cut(PROBLEM, narrow) is None


def test_column_cut_needs_a_halo_and_transforms_longer_than_it():
    assert column_cut(replace(PROBLEM, outer_halo=0), TUNING) is None
    short = replace(TUNING, columns=replace(TUNING.columns, lengths=(4, 8)))
    assert column_cut(PROBLEM, short) is None
    short = replace(TUNING, columns=replace(TUNING.columns, lengths=(4, 8, 16)))
    assert column_cut(PROBLEM, short).length == 16


def test_column_cut_has_the_least_predicted_time():
    cut = column_cut(PROBLEM, TUNING)
    for length in TUNING.columns.lengths[1:]:
        outer = -(-100 // PROBLEM.row_blocks(length))
        assert cut.nanoseconds <= PROBLEM.nanoseconds(length, outer, 90, TUNING)


def test_weights_are_the_conjugate_transform_of_each_column_of_the_kernel():
    """W[f] = sum_s k[s] exp(2 pi i f s / 4) / 4 for k = (4, 8): 3, 1 + 2i, -1, 1 - 2i, each as [[re, -im], [im, re]]."""
    geometry = ColumnGeometry(ConvSpec((9, 9), (2, 1)), False, np.dtype(float), ColumnCut(4, 3, 8, 1e6))
    table = geometry.record(np.array([[4.0], [8.0]])).taps
    assert table.runs.tolist() == [2]
    blocks = table.weights.reshape(4, 2, 2)  # frequency, component that is read, component that is written
    assert_allclose(blocks[:, 0, 0] + 1j * blocks[:, 0, 1], [3, 1 + 2j, -1, 1 - 2j], rtol=0, atol=1e-15)
    assert_array_equal(blocks[:, 1, 0], -blocks[:, 0, 1])
    assert_array_equal(blocks[:, 1, 1], blocks[:, 0, 0])


@pytest.mark.parametrize(("dtype", "planes"), [(float, [0, 1, 2, 3]), (complex, [0, 2, 1, 3])])
def test_offsets_of_real_and_imaginary_components(dtype, planes):
    """Two phases along the last axis. Halves of a real block lie plane by plane, complex channels component by component."""
    spec = ConvSpec((9, 8), (2, 2), stride=(1, 2))
    geometry = ColumnGeometry(spec, False, np.dtype(dtype), ColumnCut(8, 4, 4, 1e6))
    (offsets,) = geometry.offsets
    assert offsets.tolist() == [plane * geometry.plane_stride for plane in planes]


def test_layout_of_a_block():
    """8 real columns are two halves of 4; with a halo of 1, 5 are one cache line; 4 rows and a spare line are 5 lines."""
    spec = ConvSpec((9, 9), (2, 2))
    geometry = ColumnGeometry(spec, False, np.dtype(float), ColumnCut(4, 3, 8, 1e6))
    assert geometry.row_stride == 8
    assert geometry.plane_stride % 8 == 0
    assert geometry.plane_stride >= 4 * 8 + 64
    assert geometry.blocks == 3
    assert geometry.workspace == (2 * geometry.plane_stride, 2 * geometry.plane_stride)
