"""Stages of a separable kernel, worked by hand."""

import numpy as np
import pytest

from convop import ConvSpec
from convop.engines.cpu.sweeps import SweepGeometry, sweep_direction
from convop.engines.cpu.tuning import Tuning

TUNING = Tuning.packaged()
DOUBLE = np.dtype(float)


def geometry_of(spec, adjoint, ranks, dtype=DOUBLE):
    return SweepGeometry(spec, adjoint, dtype, ranks, TUNING)


def test_stages_sweep_the_last_axis_first_forward_and_last_in_the_adjoint():
    """3 channels, ranks 4 and 5, 2 channels: the factors follow one another from either end."""
    spec = ConvSpec((2, 9, 9, 9), (3, 2, 3, 3, 3))
    forward, adjoint = (geometry_of(spec, direction, (4, 5)).stages for direction in (False, True))
    assert [(s.axis, s.read, s.written) for s in forward] == [(2, 2, 5), (1, 5, 4), (0, 4, 3)]
    assert [(s.axis, s.read, s.written) for s in adjoint] == [(0, 3, 4), (1, 4, 5), (2, 5, 2)]
    assert [s.needs_halo for s in forward] == [(True, True, False), (True, False, False), (False, False, False)]
    assert [s.needs_halo for s in adjoint] == [(False, True, True), (False, False, True), (False, False, False)]


def test_stages_of_complex_numbers_have_twice_the_planes():
    stages = geometry_of(ConvSpec((9, 9), (3, 3)), False, (2,), np.dtype(complex)).stages
    assert [(s.read, s.written) for s in stages] == [(2, 4), (4, 2)]


def test_stages_turn_phases_that_are_read_into_phases_that_are_written():
    """Stride 2 along both axes: four phases are read, then two, then one; in the adjoint one, two, four."""
    spec = ConvSpec((9, 9), (3, 3), stride=2)
    forward, adjoint = (geometry_of(spec, direction, (1,)).stages for direction in (False, True))
    assert [(s.before, s.after) for s in forward] == [((2, 2), (2, 1)), ((2, 1), (1, 1))]
    assert [(s.before, s.after) for s in adjoint] == [((1, 1), (2, 1)), ((2, 1), (2, 2))]
    first = forward[0].output_phases(geometry_of(spec, False, (1,)).plan)
    # Of rows of phase 0, then of phase 1: taps 0, 1, 2 read column phases 0, 1, 0 with shifts 0, 0, 1.
    assert [t.number.tolist() for t in first] == [[0, 1, 2], [0, 1, 2]]
    assert [t.phase.tolist() for t in first] == [[0, 1, 0], [2, 3, 2]]
    assert [t.shift.tolist() for t in first] == [[[0, 0], [0, 0], [0, 1]]] * 2


def test_extents_of_a_stage_include_the_halo_of_sweeps_to_come():
    geometry = geometry_of(ConvSpec((9, 8), (3, 2)), False, (1,))
    assert [stage.extents(geometry.plan) for stage in geometry.stages] == [[9, 7], [7, 7]]


def test_only_the_sweep_along_the_first_axis_to_one_plane_computes_pairs():
    spec = ConvSpec((20, 20), (3, 3))
    assert [c.distance for c in geometry_of(spec, False, (1,)).correlations] == [0, 1]
    assert [c.distance for c in geometry_of(spec, True, (1,)).correlations] == [1, 0]
    assert [c.distance for c in geometry_of(spec, True, (2,)).correlations] == [0, 0]


@pytest.mark.parametrize("adjoint", [False, True])
def test_sweep_of_an_outer_product_by_hand(adjoint):
    """(2, 3) along the first axis and (5, 7) along the second: K = [[10, 14], [15, 21]]."""
    spec = ConvSpec((3, 3), (2, 2))
    factors = [np.array(f, float).reshape(1, 1, 1, 2) for f in ([2, 3], [5, 7])]
    direction = sweep_direction(geometry_of(spec, adjoint, (1,)), factors)
    if adjoint:
        y = np.array([[1.0, 0, 0, 100]])
        expected = [10, 14, 0, 15, 21 + 1000, 1400, 0, 1500, 2100]
        assert direction.apply(y, DOUBLE).tolist() == [expected]
    else:
        x = np.array([[1.0, 0, 0, 0, 10, 0, 0, 0, 100]])
        assert direction.apply(x, DOUBLE).tolist() == [[10 + 210, 150, 140, 100 + 2100]]
