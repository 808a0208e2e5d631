"""Lengths and blocks of transforms along all axes, worked by hand."""

from dataclasses import replace

import numpy as np
import pytest

from convop import ConvSpec
from convop.engines.cpu.transforms import TransformGeometry, transform_lengths
from convop.engines.cpu.tuning import Tuning

TUNING = Tuning.packaged()
DOUBLE = np.dtype(float)


def only_cuts(*cuts, least_points=1):
    return replace(TUNING, transforms=replace(TUNING.transforms, cuts=cuts, least_points=least_points))


@pytest.mark.parametrize(
    ("axes", "expected"),
    [
        ([(100, 4)], (108,)),  # 104 = 8 * 13 has a factor of 13
        ([(30, 2), (41, 4)], (32, 45)),
        ([(30, 2), (18, 7), (41, 4)], (32, 25, 45)),
    ],
)
def test_transform_lengths_of_whole_planes_have_small_factors(axes, expected):
    assert transform_lengths(axes, (1, 1), 8, only_cuts(1)).lengths == expected


def test_transform_lengths_cut_the_first_and_the_last_axis():
    """Two blocks of 15 and of 21 results: the middle axis stays whole."""
    found = transform_lengths(
        [(30, 3), (18, 7), (41, 4)],
        (1, 1),
        8,
        replace(only_cuts(1, 2), transforms=replace(TUNING.transforms, cuts=(1, 2), least_points=1, block=-1e9)),
    )
    assert found.lengths == (18, 25, 25)


def test_transform_lengths_are_not_cut_below_the_halo_or_the_least_number_of_points():
    cheap = replace(TUNING.transforms, block=-1e9, cuts=(1, 2, 4), least_points=1)
    tuning = replace(TUNING, transforms=cheap)
    assert transform_lengths([(100, 30)], (1, 1), 8, tuning).lengths == (80,)  # 2 blocks; 4 would be of 25 results
    tuning = replace(TUNING, transforms=replace(cheap, least_points=81))
    assert transform_lengths([(100, 30)], (1, 1), 8, tuning).lengths == (135,)


def test_transform_lengths_predict_even_numbers_of_blocks():
    """A transform and an inverse transform of 32 * 45 doubles, and one product: 11520 bytes, of two blocks."""
    costs = TUNING.transforms
    found = transform_lengths([(30, 2), (41, 4)], (1, 1), 8, only_cuts(1))
    assert found.nanoseconds == pytest.approx(2 * (costs.block + 11520 * (2 * costs.byte + costs.product)))


def test_transform_geometry_lays_out_a_block():
    """31 results of 3 taps along 33, in blocks of 16 with a halo of 2: transforms of 18."""
    tuning = replace(TUNING, transforms=replace(TUNING.transforms, block=-1e9, cuts=(2,), least_points=1))
    geometry = TransformGeometry(ConvSpec((33, 6, 43), (3, 2, 3)), False, DOUBLE, tuning)
    assert geometry.lengths == (18, 6, 24)
    assert geometry.spectrum == (18, 6, 13)
    assert (geometry.blocks.block_outer, geometry.blocks.block_columns) == (16, 21)
    assert geometry.block_count() == 4
    assert (geometry.planes.plane_stride, geometry.planes.row_stride) == (18 * 6 * 24, 24)
    assert (geometry.results.rows_per_index, geometry.results.row_offsets.tolist()) == (6, [0, 1, 2, 3, 4])


@pytest.mark.parametrize("middle", [6, 7])
def test_padded_block_has_zeros_beyond_what_is_read(middle):
    """A middle axis of 7 is padded to 8 or more, so its rows are read apart from the block."""
    geometry = TransformGeometry(ConvSpec((4, middle, 5), (2, 2, 2)), False, DOUBLE, only_cuts(1))
    x = np.arange(1.0, 1 + 4 * middle * 5)
    for _ in range(2):  # the workspace is reused
        planes = geometry.padded_block(geometry.block(0), x)
        assert planes.shape == (1, *geometry.lengths)
        np.testing.assert_array_equal(planes[0, :4, :middle, :5], x.reshape(4, middle, 5))
        assert planes.sum() == x.sum()
        planes[:] = np.nan
