"""The order of offsets and weights in the tables of the microkernels, worked by hand."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from convop import ConvSpec
from convop.engines.cpu.packing import (
    ColumnEntries,
    CorrelationPhases,
    concatenated,
    pair_distance,
    pair_table,
    tap_table,
)
from convop.engines.cpu.polyphase import PhaseTaps, Plan

DOUBLE = np.dtype(float)


def taps_of(*taps):
    """Returns taps from (number, shifts, phase)."""
    return PhaseTaps.of(list(taps))


# Three taps along the first axis, and two along the second of which one is missing: a column of three, and one of one.
COLUMNS = taps_of((0, (0, 0), 0), (1, (0, 1), 0), (2, (1, 0), 0), (4, (2, 0), 0))


def test_concatenated_begins_like_indptr():
    at, values = concatenated([np.array([[1, 2], [3, 4]]), np.array([], int), np.array([5])], np.float32)
    assert at.tolist() == [0, 4, 4, 5]
    assert values.tolist() == [1, 2, 3, 4, 5]
    assert values.dtype == np.float32


def test_weights_are_ordered_by_run_of_planes_then_tap_then_plane():
    """Five planes of results are runs of three and two; weight 10*o + t belongs to plane o and tap t."""
    group = 10.0 * np.arange(5)[:, None, None] + np.arange(2)
    correlation = CorrelationPhases([taps_of((0, (0, 0), 0), (1, (0, 1), 0))], [np.array([0, 1])], (1, 5))
    (weights,) = correlation.weights(group)
    assert weights.tolist() == [0, 10, 20, 1, 11, 21, 30, 40, 31, 41]
    assert correlation.runs == [3, 2]
    assert correlation.pair_weights(group)[0].size == 0


def test_weights_of_a_phase_are_those_of_its_taps_by_plane_that_is_read():
    """Taps 0 and 2 of three, two planes read: entries are (plane, tap) in the order of the offsets."""
    group = 10.0 * np.arange(2)[None, :, None] + np.arange(3)
    phases = [taps_of((0, (0, 0), 0), (2, (0, 1), 0)), taps_of((1, (0, 0), 0))]
    correlation = CorrelationPhases(phases, [np.array([0, 1, 100, 101]), np.array([0, 100])], (2, 1))
    assert [w.tolist() for w in correlation.weights(group)] == [[0, 2, 10, 12], [1, 11]]


def test_tap_table_lists_phases_of_each_group():
    phases = [taps_of((0, (0, 0), 0), (2, (0, 1), 0)), taps_of((1, (0, 0), 0))]
    correlation = CorrelationPhases(phases, [np.array([0, 1]), np.array([7])], (1, 1))
    weights = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).reshape(2, 1, 1, 3)
    table = tap_table([correlation], [weights], np.dtype("float32"))
    assert table.runs.tolist() == [1]
    assert (table.offset_at.tolist(), table.offsets.tolist()) == ([0, 2, 3], [0, 1, 7])
    assert table.weights.tolist() == [1, 3, 2, 4, 6, 5]
    assert table.weight_at.tolist() == [[0, 2], [3, 5]]
    assert table.weights.dtype == np.float32


def test_tap_table_joins_the_phases_of_several_correlations():
    first = CorrelationPhases([taps_of((0, (0, 0), 0))], [np.array([3])], (1, 1))
    second = CorrelationPhases(
        [taps_of((0, (0, 0), 0)), taps_of((1, (0, 0), 0))], [np.array([4]), np.array([5])], (1, 2)
    )
    weights = [np.full((1, 1, 1, 1), 9.0), np.arange(4.0).reshape(1, 2, 1, 2)]
    table = tap_table([first, second], weights, DOUBLE)
    assert table.runs.tolist() == [1, 2]
    assert (table.offset_at.tolist(), table.offsets.tolist()) == ([0, 1, 2, 3], [3, 4, 5])
    assert table.weights.tolist() == [9, 0, 2, 1, 3]
    assert table.weight_at.tolist() == [[0, 1, 3]]


def test_pairs_share_all_taps_but_the_ends():
    """Rows are 10 apart. The first result reads rows 0, 1, 2 of its column, and the second rows 1, 2, 3."""
    offsets = np.array([0, 1, 10, 20])
    correlation = CorrelationPhases([COLUMNS], [offsets], (1, 1), distance=1, stride=10)
    (entries,) = correlation.pair_offsets
    #                           first only | both    | second only
    assert entries.tolist() == [0, 1, 10, 20, 30, 11]
    assert correlation.pair_ends == [2]
    group = np.array([100.0, 101, 102, 103, 104]).reshape(1, 1, 5)
    (weights,) = correlation.pair_weights(group)
    # At row 1 the first result takes its second weight, and the second result its first; at row 2 alike.
    assert weights.tolist() == [100, 101, 102, 100, 104, 102, 104, 101]


def test_pairs_of_two_planes_keep_planes_apart():
    """Two taps along the first axis in each of two planes, 100 apart."""
    taps = taps_of((0, (0, 0), 0), (1, (1, 0), 0))
    correlation = CorrelationPhases([taps], [np.array([0, 10, 100, 110])], (2, 1), distance=1, stride=10)
    assert correlation.pair_offsets[0].tolist() == [0, 100, 10, 110, 20, 120]
    group = np.array([1.0, 2, 3, 4]).reshape(1, 2, 2)
    assert correlation.pair_weights(group)[0].tolist() == [1, 3, 2, 1, 4, 3, 2, 4]


def test_pairs_keep_phases_apart():
    """Taps of different phases read different planes, so they form columns of their own."""
    taps = taps_of((0, (0, 0), 0), (1, (0, 0), 1), (2, (1, 0), 0))
    correlation = CorrelationPhases([taps], [np.array([0, 50, 10])], (1, 1), distance=1, stride=10)
    assert correlation.pair_offsets[0].tolist() == [0, 50, 10, 20, 60]


def test_pair_table_has_the_ends_of_every_phase():
    paired = CorrelationPhases([COLUMNS], [np.array([0, 1, 10, 20])], (1, 1), distance=1, stride=10)
    single = CorrelationPhases([taps_of((0, (0, 0), 0))], [np.array([0])], (1, 1))
    weights = [np.arange(10.0).reshape(2, 1, 1, 5), np.zeros((2, 1, 1, 1))]
    table = pair_table([paired, single], weights, DOUBLE)
    assert table.ends.tolist() == [2, 0]
    assert table.offset_at.tolist() == [0, 6, 6]
    assert table.weight_at.tolist() == [[0, 8], [8, 16]]
    assert table.weights[8:].tolist() == [5, 6, 7, 5, 9, 7, 9, 6]


@pytest.mark.parametrize(
    ("parameters", "adjoint", "expected"),
    [
        ({}, False, 1),
        ({}, True, 1),
        ({"dilation": (3, 1)}, False, 3),
        ({"dilation": (4, 1), "stride": (2, 1)}, False, 2),
        ({"dilation": (3, 1), "stride": (2, 1)}, False, 3),
        ({"stride": (3, 1)}, False, 0),  # no phase has two taps
        ({"dilation": (9, 1)}, False, 0),  # 2 results, 9 apart
    ],
)
def test_pair_distance_is_the_step_from_tap_to_tap_of_a_phase(parameters, adjoint, expected):
    spec = ConvSpec((20, 5), (3, 1), **parameters)
    plan = Plan(spec, adjoint)
    size = plan.axes[0].output_size
    assert pair_distance(spec.axes[0], size, plan.output_phases()) == expected


def test_offsets_of_a_kernel_without_pairs_are_empty():
    correlation = CorrelationPhases([COLUMNS, COLUMNS], [np.arange(4)] * 2, (1, 1))
    assert_array_equal(correlation.pair_offsets, np.zeros((2, 0)))
    assert correlation.pair_ends == [0, 0]


def test_taps_of_a_transform_are_one_entry_for_each_phase_and_column():
    """2 x 2 taps: columns 0 and 1 of the kernel, for taps 0, 2 and 1, 3; and a tap of another phase."""
    shifts = [(0, 0), (0, 1), (1, 0), (1, 1), (1, 1)]
    taps = PhaseTaps.of([(n, shift, int(n == 4)) for n, shift in enumerate(shifts)])
    entries = ColumnEntries.of(taps, 2)
    assert entries.of_tap.tolist() == [0, 1, 0, 1, 2]
    assert entries.within.tolist() == [0, 0, 1, 1, 1]
    assert entries.taps.shift.tolist() == [[0, 0], [0, 1], [0, 1]]
    assert entries.taps.phase.tolist() == [0, 0, 1]


def test_entries_of_a_kernel_with_more_taps_than_a_transform_takes():
    """Taps at 0 to 4 along the first axis, two to a transform: the third transform has one."""
    taps = PhaseTaps.of([(n, (n, 7), 0) for n in range(5)])
    entries = ColumnEntries.of(taps, 2)
    assert entries.of_tap.tolist() == [0, 0, 1, 1, 2]
    assert entries.within.tolist() == [0, 1, 0, 1, 0]
    assert entries.taps.shift.tolist() == [[0, 7], [1, 7], [2, 7]]
