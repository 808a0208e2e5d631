"""Blocks are read and written by tables: the example of `kernels.records`, and halos of two axes by hand."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from convop import ConvSpec
from convop.engines.cpu.components import read_only
from convop.engines.cpu.planes import Geometry, Result
from convop.engines.kernels.planes import add_halo, block_of, gather, scatter, with_halo
from convop.engines.kernels.records import Block, Layout, Reading, Target, Tiling, Writing

UNTOUCHED = -99.0


def integer_array(*values):
    return np.array(values, np.int64)


def reading_of(**changes):
    """Returns how a row of 4 elements is read with a copy of element 3 before it and zeros after it."""
    record = Reading(
        channels=1,
        components=1,
        space=4,
        rows=integer_array([0]),
        start=integer_array(-1),
        step=1,
        first=integer_array(1),
        stop=integer_array(5),
        edges=integer_array([3, -1, -1]),
    )
    return record._replace(**changes)


def gathered(source, reading, block, layout, size):
    planes = np.full(size, UNTOUCHED)
    gather(read_only(np.asarray(source, float)), reading, block, planes, layout)
    return planes.tolist()


def test_block_of_numbers_blocks_by_batch_group_row_and_column():
    """5 rows by 7 columns in blocks of 2 by 3 are 3 x 3 blocks, for each of two groups."""
    tiling = Tiling(2, 5, 1, 7, 2, 2, 3)
    assert block_of(0, tiling) == Block(0, 0, 0, 2, 0, 3)
    assert block_of(2, tiling) == Block(0, 0, 0, 2, 6, 1)
    assert block_of(3, tiling) == Block(0, 0, 2, 2, 0, 3)
    assert block_of(8, tiling) == Block(0, 0, 4, 1, 6, 1)
    assert block_of(9, tiling) == Block(1, 1, 0, 2, 0, 3)
    assert block_of(22, tiling) == Block(2, 0, 2, 2, 3, 3)
    covered = np.zeros((2, 5, 7), int)
    for item in range(18):
        block = block_of(item, tiling)
        rows, columns = (
            slice(at, at + n) for at, n in ((block.outer, block.outer_count), (block.column, block.column_count))
        )
        covered[block.stack, rows, columns] += 1
    assert (covered == 1).all()


def test_with_halo_widens_both_axes_and_moves_nothing():
    assert with_halo(Block(3, 1, 4, 2, 6, 5), Tiling(2, 9, 1, 20, 2, 2, 5)) == Block(3, 1, 4, 3, 6, 7)


@pytest.mark.parametrize(
    ("column", "count", "expected"),
    [
        (0, 7, [13, 10, 11, 12, 13, 0, 0]),  # the copy, the interior, zeros
        (0, 1, [13]),
        (1, 3, [10, 11, 12]),
        (4, 3, [13, 0, 0]),
        (5, 2, [0, 0]),
    ],
)
def test_gather_reads_edges_and_interior_of_any_block(column, count, expected):
    block = Block(0, 0, 0, 1, column, count)
    got = gathered([10, 11, 12, 13], reading_of(), block, Layout(8, 8, 1, integer_array(0)), 8)
    assert got == expected + [UNTOUCHED] * (8 - count)


def test_gather_puts_a_component_and_a_phase_of_each_channel_into_a_plane_of_its_own():
    """Complex elements k + 100k i of two channels of the second item; stride 2: phases 0, 2 and 1, 3."""
    reading = reading_of(
        channels=2,
        components=2,
        start=integer_array(0, 1),
        step=2,
        first=integer_array(0, 0),
        stop=integer_array(2, 2),
        edges=integer_array([-1], [-1]),
    )
    elements = np.arange(16.0)
    source = np.stack([elements, 100 * elements], axis=1).ravel()
    got = gathered(source, reading, Block(1, 0, 0, 1, 0, 2), Layout(3, 3, 1, integer_array(0)), 24)
    expected = [[8, 10], [9, 11], [800, 1000], [900, 1100], [12, 14], [13, 15], [1200, 1400], [1300, 1500]]
    assert_array_equal(np.reshape(got, (8, 3))[:, :2], expected)
    assert_array_equal(np.reshape(got, (8, 3))[:, 2], [UNTOUCHED] * 8)


def test_gather_fills_rows_that_do_not_exist_with_zeros():
    """Rows of 4: a row of zeros, row 1, row 0; the block begins with index 1 of the first axis."""
    reading = reading_of(space=8, rows=integer_array([9, -1, 4, 0]))
    got = gathered(np.arange(8), reading, Block(0, 0, 1, 3, 0, 3), Layout(12, 4, 1, integer_array(0)), 12)
    assert np.reshape(got, (3, 4)).tolist() == [[0, 0, 0, UNTOUCHED], [7, 4, 5, UNTOUCHED], [3, 0, 1, UNTOUCHED]]


def test_gather_reads_all_rows_of_an_index_of_the_first_axis():
    """Two rows an index: index 1 is rows 2 and 3."""
    reading = reading_of(space=16, rows=integer_array([0, 4, 8, 12]))
    got = gathered(np.arange(16), reading, Block(0, 0, 1, 1, 1, 4), Layout(8, 4, 2, integer_array(0)), 8)
    assert got == [8, 9, 10, 11, 12, 13, 14, 15]


def test_scatter_writes_both_phases_of_the_example():
    """x_0 = (q0 ... q4) has a copy of element 1, elements 1, 3, 5, and a copy of element 5; x_1 elements 0, 2, 4, 6."""
    geometry = Geometry(ConvSpec(7, 3, stride=2, padding=1, padding_mode="reflect"), True, np.dtype(float))
    result = Result(geometry, 1, np.dtype(float))
    layout = Layout(5, 5, 1, integer_array(0))
    block = Block(0, 0, 0, 1, 0, 5)
    scatter(np.array([10.0, 11, 12, 13, 14]), layout, 0, geometry.writing, result.target, block)
    scatter(np.array([20.0, 21, 22, 23, 24]), layout, 1, geometry.writing, result.target, block)
    assert result.columns.tolist() == [[20, 11, 21, 12, 22, 13, 23]]
    assert result.target.halo_columns.tolist() == [[10, 14]]
    assert result.finish().tolist() == [[20, 21, 21, 12, 22, 27, 23]]


def test_scatter_of_a_block_in_the_middle_writes_its_columns_only():
    geometry = Geometry(ConvSpec(7, 3, stride=2, padding=1, padding_mode="reflect"), True, np.dtype(float))
    result = Result(geometry, 1, np.dtype(float))
    result.columns[:] = UNTOUCHED
    layout = Layout(5, 5, 1, integer_array(0))
    scatter(np.array([12.0, 13, 14]), layout, 0, geometry.writing, result.target, Block(0, 0, 0, 1, 2, 3))
    assert result.columns.tolist() == [[UNTOUCHED, UNTOUCHED, UNTOUCHED, 12, UNTOUCHED, 13, UNTOUCHED]]
    assert result.target.halo_columns.tolist() == [[0, 14]]


def writing_of(**changes):
    """Returns how 2 rows of 2 elements are written, with a halo row at either end and a halo column at either end."""
    record = Writing(
        channels=1,
        components=1,
        space=4,
        row_size=2,
        row_count=2,
        halo_row_count=2,
        rows=integer_array([2, 0, 1, 3]),
        start=integer_array(-1),
        step=1,
        first=integer_array(1),
        stop=integer_array(3),
        slots=integer_array([0, 1]),
    )
    return record._replace(**changes)


def target_of(channels=1, components=1):
    return Target(
        values=np.zeros(4 * channels * components),
        halo_rows=np.zeros(4 * channels * components),
        halo_columns=np.zeros((4 * channels * components, 2)),
    )


def test_scatter_writes_beyond_both_ends_of_both_axes_to_the_halo():
    target = target_of()
    planes = np.arange(16.0)
    scatter(planes, Layout(16, 4, 1, integer_array(0)), 0, writing_of(), target, Block(0, 0, 0, 4, 0, 4))
    assert target.values.tolist() == [5, 6, 9, 10]
    assert target.halo_rows.tolist() == [1, 2, 13, 14]
    # Rows 0 and 1 of the result, then the halo rows: their first and last element.
    assert target.halo_columns.tolist() == [[4, 7], [8, 11], [0, 3], [12, 15]]


def test_scatter_keeps_components_and_channels_apart():
    """Two complex channels: planes of real and imaginary components in turn, 16 apart."""
    target = target_of(channels=2, components=2)
    planes = np.arange(64.0)
    writing = writing_of(channels=2, components=2)
    scatter(planes, Layout(16, 4, 1, integer_array(0)), 0, writing, target, Block(0, 0, 0, 4, 0, 4))
    assert target.values.tolist() == [5, 21, 6, 22, 9, 25, 10, 26, 37, 53, 38, 54, 41, 57, 42, 58]
    assert target.halo_rows.tolist() == [1, 17, 2, 18, 13, 29, 14, 30, 33, 49, 34, 50, 45, 61, 46, 62]
    rows = [[4, 7], [20, 23], [8, 11], [24, 27], [0, 3], [16, 19], [12, 15], [28, 31]]
    assert target.halo_columns.tolist() == rows + [[a + 32, b + 32] for a, b in rows]


def test_scatter_skips_rows_and_columns_that_exist_nowhere():
    target = target_of()
    writing = writing_of(rows=integer_array([-1, 0, -1, 1]), slots=integer_array([-1, 1]))
    scatter(np.arange(16.0), Layout(16, 4, 1, integer_array(0)), 0, writing, target, Block(0, 0, 0, 4, 0, 4))
    assert target.values.tolist() == [5, 6, 13, 14]
    assert target.halo_columns.tolist() == [[0, 7], [0, 15], [0, 0], [0, 0]]


def test_scatter_reads_rows_of_results_among_rows_without():
    """Three rows an index of the first axis, of which the first and the last hold results."""
    target = target_of()
    writing = writing_of(
        rows=integer_array([0, 1]), first=integer_array(0), start=integer_array(0), stop=integer_array(2)
    )
    scatter(np.arange(12.0), Layout(12, 4, 3, integer_array(0, 2)), 0, writing, target, Block(0, 0, 0, 1, 0, 2))
    assert target.values.tolist() == [0, 1, 8, 9]


def test_add_halo_adds_rows_and_columns_and_corners():
    """Rows -1 and 2 are copies of row 1 and 0, columns -1 and 2 of column 1 and 0: a circular axis of two each."""
    target = target_of()
    target.values[:] = [1, 2, 3, 4]
    target.halo_rows[:] = [10, 20, 30, 40]
    target.halo_columns[:] = [[100, 200], [300, 400], [1000, 2000], [3000, 4000]]
    add_halo(target, writing_of(), 1, integer_array(1, 0), integer_array(1, 0))
    assert target.values.tolist() == [
        1 + 30 + 200 + 4000,
        2 + 40 + 100 + 3000,
        3 + 10 + 400 + 2000,
        4 + 20 + 300 + 1000,
    ]


def test_add_halo_of_complex_channels():
    """The second channel alone has a halo, in its imaginary components."""
    target = target_of(channels=2, components=2)
    target.halo_rows[8 + 1] = 5  # of its first halo row the imaginary component of element 0
    target.halo_columns[8 + 1] = [7, 9]  # of its first row
    add_halo(target, writing_of(components=2), 2, integer_array(1, 0), integer_array(1, 0))
    expected = np.zeros((2, 2, 2, 2))  # channel, row, column, component
    expected[1, 1, 0, 1] = 5
    expected[1, 0, 1, 1], expected[1, 0, 0, 1] = 7, 9
    assert target.values.tolist() == expected.ravel().tolist()
