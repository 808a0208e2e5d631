"""The tables of a polyphase decomposition, with small examples worked by hand."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import convop
from convop import ConvSpec
from convop.engines.cpu.polyphase import AxisPlan, Phase, PhaseTaps, Plan, adjoint_range
from convop.geometry.axis import Axis

# The example of `kernels.records`: 7 elements, 3 taps, stride 2, padding 1, reflected; 4 results.
EXAMPLE = ConvSpec(7, 3, stride=2, padding=1, padding_mode="reflect")


def fields(phase):
    return phase.count, phase.start, phase.step, phase.first, phase.stop, phase.edges.tolist()


@pytest.mark.parametrize(
    ("mode", "before", "after"),
    [
        ("zeros", [-1, -1, -1], [-1, -1, -1]),
        ("circular", [1, 2, 3], [0, 1, 2]),
        ("reflect", [3, 2, 1], [2, 1, 0]),
        ("symmetric", [2, 1, 0], [3, 2, 1]),
        ("replicate", [0, 0, 0], [3, 3, 3]),
    ],
)
def test_phase_lists_the_extension_of_four_elements_by_three(mode, before, after):
    phase = Phase.of((4, mode), 10, -3, 1)
    assert fields(phase) == (10, -3, 1, 3, 7, before + after)
    assert phase.elements().tolist() == [*before, 0, 1, 2, 3, *after]
    assert phase.is_interior().tolist() == [False] * 3 + [True] * 4 + [False] * 3


def test_phase_has_zeros_from_the_end_on():
    """Positions -1, 1, 3, 5, 7 of a circular axis of 5, where nothing is read from position 3 on."""
    phase = Phase.of((5, "circular"), 5, -1, 2, 3)
    assert phase.elements().tolist() == [4, 1, -1, -1, -1]
    assert (phase.first, phase.stop) == (1, 2)


def test_phase_may_lie_beyond_its_axis():
    assert Phase.of((3, "zeros"), 4, 5, 1).elements().tolist() == [-1] * 4
    assert Phase.of((3, "replicate"), 2, -9, 1).elements().tolist() == [0, 0]
    assert Phase.whole(3).elements().tolist() == [0, 1, 2]


def test_axis_plan_of_the_example_forward():
    """The extension is x1 x0 x1 x2 x3 x4 x5 x6 x5: even positions are phase 0, odd ones phase 1."""
    plan = AxisPlan.of(EXAMPLE.axes[0], adjoint=False)
    assert (plan.read_size, plan.written_size, plan.output_size, plan.halo) == (7, 4, 4, 1)
    even, odd = plan.read
    assert fields(even) == (5, -1, 2, 1, 4, [1, 5])
    assert even.elements().tolist() == [1, 1, 3, 5, 5]
    assert (odd.start, odd.step, odd.first, odd.stop) == (0, 2, 0, 4)
    assert odd.elements().tolist()[:4] == [0, 2, 4, 6]
    assert [fields(p) for p in plan.write] == [(4, 0, 1, 0, 4, [])]
    assert plan.taps == ((0, 0, 0), (1, 0, 0), (0, 0, 1))  # a, b, c: the phase read, the phase written, the shift
    assert plan.covers


def test_axis_plan_of_the_example_adjoint():
    """y is extended by a zero at either end; the edges 1 and 5 of phase 0 are copies, and position 9 is read by no tap."""
    plan = AxisPlan.of(EXAMPLE.axes[0], adjoint=True)
    assert (plan.read_size, plan.written_size, plan.output_size, plan.halo) == (4, 7, 5, 1)
    (residual,) = plan.read
    assert residual.elements().tolist() == [-1, 0, 1, 2, 3, -1]
    even, odd = plan.write
    assert fields(even) == (5, -1, 2, 1, 4, [1, 5])
    assert fields(odd) == (5, 0, 2, 0, 4, [-1])
    assert plan.taps == ((0, 0, 1), (0, 1, 1), (0, 0, 0))
    assert plan.covers  # elements 1, 3, 5 and 0, 2, 4, 6


def test_axis_plan_splits_strided_dilated_taps():
    """Taps at 0, 3, 6 and stride 2: y[o] = K0 x[2o] + K1 x[2o + 3] + K2 x[2o + 6] for o = 0, 1."""
    (axis,) = ConvSpec(10, 3, stride=2, dilation=3).axes
    plan = AxisPlan.of(axis, adjoint=False)
    assert (plan.output_size, plan.halo) == (2, 3)
    assert plan.taps == ((0, 0, 0), (1, 0, 1), (0, 0, 3))
    assert [p.elements().tolist() for p in plan.read] == [[0, 2, 4, 6, 8], [1, 3, 5, 7, 9]]
    adjoint = AxisPlan.of(axis, adjoint=True)
    assert adjoint.taps == ((0, 0, 3), (0, 1, 2), (0, 0, 0))
    # The last position that is read is 8, so position 9 of phase 1 is not written.
    assert [p.elements().tolist() for p in adjoint.write] == [[0, 2, 4, 6, 8], [1, 3, 5, 7, -1]]
    assert not adjoint.covers  # element 9 is zero


def test_axis_plan_leaves_out_phases_without_taps():
    """Taps at 0, 2, 4 and stride 4: positions 0 and 4 are phase 0, position 2 is phase 2."""
    (axis,) = ConvSpec(9, 3, stride=4, dilation=2).axes
    plan = AxisPlan.of(axis, adjoint=False)
    assert plan.taps == ((0, 0, 0), (1, 0, 0), (0, 0, 1))
    assert [p.start for p in plan.read] == [0, 2]


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        (Axis(7, 3, 2, 1, 1, 1, "reflect"), (0, 5)),  # positions 0 ... 8, copies too
        (Axis(7, 3, 2, 1, 1, 1, "zeros"), (0, 4)),  # positions 1 ... 7
        (Axis(7, 3, 2, 1, 4, 4, "zeros"), (2, 4)),  # positions 4 ... 10
        (Axis(7, 1, 3, 1, 0, 0, "zeros"), (0, 3)),  # positions 0, 3, 6
    ],
)
def test_adjoint_range_by_hand(axis, expected):
    assert adjoint_range(axis) == expected


def test_plan_of_the_example_has_a_leading_axis_of_one_element():
    plan = Plan(EXAMPLE, adjoint=True)
    assert len(plan.axes) == 2
    assert plan.read_rows.tolist() == [[0]]
    assert plan.write_rows.tolist() == [[0]]
    assert (plan.row_count, plan.halo_rows.tolist()) == (1, [])
    assert plan.halo_columns.tolist() == [1, 5]
    assert [slots.tolist() for slots in plan.halo_slots] == [[0, 1], [-1]]
    assert (plan.read_phases, plan.read_space, plan.written_space, plan.plane_size) == (1, 4, 7, 5)
    even, odd = plan.output_phases()
    assert (even.number.tolist(), even.shift.tolist(), even.phase.tolist()) == ([0, 2], [[0, 1], [0, 0]], [0, 0])
    assert (odd.number.tolist(), odd.shift.tolist(), odd.phase.tolist()) == ([1], [[0, 1]], [0])


def test_plan_numbers_halo_rows_after_the_rows_of_the_result():
    """Rows -1 and 3 of 3 reflected rows are copies of row 1."""
    plan = Plan(ConvSpec((3, 2), (3, 1), padding=(1, 0), padding_mode="reflect"), adjoint=True)
    assert plan.write_rows.tolist() == [[3, 0, 1, 2, 4]]
    assert (plan.row_count, plan.halo_rows.tolist(), plan.halo_columns.tolist()) == (3, [1, 1], [])
    assert plan.read_rows.tolist() == [[-1, -1, 0, 2, 4, -1, -1]]  # y has 2 elements a row, and zeros around it


@pytest.mark.parametrize("axis", [0, 1])
def test_plan_numbers_halos_through_all_phases(axis):
    """7 elements, 4 taps, stride 2, padding 2: phase 0 is -2, 0, 2, 4, 6, and phase 1 is -1, 1, 3, 5, 7.

    Positions -2, -1 and 7 are copies of elements 2, 1 and 5.
    """
    shape, taps, stride, padding = ((v, w)[:: -1 if axis else 1] for v, w in ((7, 1), (4, 1), (2, 1), (2, 0)))
    spec = ConvSpec(tuple(shape), tuple(taps), stride=tuple(stride), padding=tuple(padding), padding_mode="reflect")
    plan = Plan(spec, adjoint=True)
    if axis == 0:
        assert plan.write_rows.tolist() == [[7, 0, 2, 4, 6], [8, 1, 3, 5, 9]]
        assert plan.halo_rows.tolist() == [2, 1, 5]
        assert plan.halo_columns.tolist() == []
    else:
        assert plan.halo_columns.tolist() == [2, 1, 5]
        assert [slots.tolist() for slots in plan.halo_slots] == [[0], [1, 2]]
        assert plan.halo_rows.tolist() == []


def test_plan_of_a_volume_by_hand():
    """(2, 3, 4) elements and 2 x 2 x 2 taps: (1, 2, 3) results, and 3 rows of 4 for each index of the first axis."""
    plan = Plan(ConvSpec((2, 3, 4), (2, 2, 2)), adjoint=False)
    assert plan.rows_per_index == 3
    assert plan.row_offsets.tolist() == [0, 1]
    assert plan.read_rows.tolist() == [[0, 4, 8, 12, 16, 20]]
    assert plan.write_rows.tolist() == [[0, 1]]
    (taps,) = plan.output_phases()
    assert taps.number.tolist() == list(range(8))
    assert taps.shift.tolist() == [[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]
    assert plan.row_numbers(taps.shift).tolist() == [0, 0, 1, 1, 3, 3, 4, 4]
    assert plan.row_numbers(taps.shift, first_axis=False).tolist() == [0, 0, 1, 1, 0, 0, 1, 1]
    assert plan.reads_whole_rows
    assert plan.writes_whole_rows


def test_plan_skips_rows_without_results_between_two_middle_axes():
    """Middle axes of 2 and 3 results with halos 1 and 2: rows 0, 1, 2 and 5, 6, 7 of 3 x 5."""
    plan = Plan(ConvSpec((1, 3, 5, 2), (1, 2, 3, 1)), adjoint=False)
    assert plan.rows_per_index == 15
    assert plan.row_offsets.tolist() == [0, 1, 2, 5, 6, 7]
    (taps,) = plan.output_phases()
    assert plan.row_numbers(taps.shift).tolist() == [0, 1, 2, 5, 6, 7]


def test_plan_orders_phases_of_the_last_axis_fastest():
    """2 x 2 taps and stride 2: each tap has a phase of its own, forward to read and adjoint to write."""
    spec = ConvSpec((4, 6), (2, 2), stride=2)
    (forward,) = Plan(spec, adjoint=False).output_phases()
    assert (forward.number.tolist(), forward.phase.tolist()) == ([0, 1, 2, 3], [0, 1, 2, 3])
    assert not forward.shift.any()
    plan = Plan(spec, adjoint=True)
    assert [taps.number.tolist() for taps in plan.output_phases()] == [[0], [1], [2], [3]]
    assert plan.write_rows.tolist() == [[0, 2], [1, 3]]
    assert [p.elements().tolist() for p in plan.axes[-1].write] == [[0, 2, 4], [1, 3, 5]]
    assert Plan(spec, adjoint=False).read_rows.tolist() == [[0, 12], [6, 18]]


@pytest.mark.parametrize(
    ("spec", "reads", "writes"),
    [
        (ConvSpec((5, 6), (3, 3)), True, True),
        (ConvSpec((5, 6), (3, 3), padding=1), False, True),
        (ConvSpec((5, 6), (3, 3), stride=2), False, True),
        (ConvSpec((5, 6), (3, 3), padding=((0, -1), (0, 0))), False, True),  # the last row is left out
    ],
)
def test_whole_rows_are_read_without_stride_extension_and_cropping(spec, reads, writes):
    plan = Plan(spec, adjoint=False)
    assert (plan.reads_whole_rows, plan.writes_whole_rows) == (reads, writes)


def test_whole_rows_are_written_by_adjoint_without_stride_and_extension():
    assert Plan(ConvSpec((5, 6), (3, 3), padding=1), adjoint=True).writes_whole_rows
    assert not Plan(ConvSpec((5, 6), (3, 3), stride=2), adjoint=True).writes_whole_rows
    assert not Plan(ConvSpec((5, 6), (3, 3), padding=1, padding_mode="circular"), adjoint=True).writes_whole_rows


def test_taps_of_lists_numbers_shifts_and_phases():
    taps = PhaseTaps.of([(4, (1, 2), 0), (7, (0, 3), 1)])
    assert_array_equal(taps.number, [4, 7])
    assert_array_equal(taps.shift, [[1, 2], [0, 3]])
    assert_array_equal(taps.phase, [0, 1])


def test_tables_that_do_not_fit_are_refused(monkeypatch):
    """Dilations of 50 make of 24 elements millions of rows."""
    k = np.ones((4, 4, 4, 2, 2))
    parameters = {"stride": (1, 1, 1, 2, 3), "dilation": (50, 11, 50, 11, 50), "padding": "same"}
    A = convop.Conv(k, (1, 3, 1, 2, 4), engine="direct", **parameters)
    monkeypatch.setattr(convop.arrays.memory, "available", lambda: 10**6)
    with pytest.raises(MemoryError, match=r"the tables of the rows of ConvSpec.*, extended takes .* only 976.6 KiB"):
        A @ np.ones(A.dims)
