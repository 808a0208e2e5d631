import numpy as np
import pytest
from numpy.testing import assert_array_equal
from strategies import MODES

from convop.geometry.axis import extend
from convop.geometry.folding import extend_axis, fold_axis, positions_by_rank


def test_extend_axis_reads_source_and_zeros():
    source = np.array([1, 0, 1, -1, 2])
    x = np.array([[10, 20, 30], [40, 50, 60]])
    assert_array_equal(extend_axis(x, 1, source, np.asarray), [[20, 10, 20, 0, 30], [50, 40, 50, 0, 60]])
    assert_array_equal(extend_axis(x, 0, np.array([1, -1, 0, 0]), np.asarray), [[40, 50, 60], [0, 0, 0], x[0], x[0]])


def test_fold_axis_sums_positions_of_each_element():
    """Element 0 is read at position 1; element 1 at positions 0, 2 and 4; element 2 nowhere."""
    source = np.array([1, 0, 1, -1, 1])
    extended = np.array([[1, 2, 4, 8, 16]])
    assert_array_equal(fold_axis(extended, np.zeros((1, 3), int), 1, source, np.asarray), [[2, 21, 0]])


def test_fold_axis_adds_in_ascending_order():
    """Sums of floats depend on the order: ((1 + 2^53) - 2^53) is 0, (1 + (2^53 - 2^53)) is 1."""
    extended = np.array([1.0, 2.0**53, -(2.0**53)])
    assert fold_axis(extended, np.zeros(1), 0, np.zeros(3, int), np.asarray).tolist() == [0.0]
    assert fold_axis(extended[[1, 2, 0]], np.zeros(1), 0, np.zeros(3, int), np.asarray).tolist() == [1.0]


def test_positions_by_rank_yield_distinct_elements():
    steps = [(e.tolist(), p.tolist()) for e, p in positions_by_rank(np.array([2, 2, -1, 0, 2]), 3)]
    assert steps == [([0, 2], [3, 0]), ([2], [1]), ([2], [4])]


@pytest.mark.parametrize("mode", MODES)
def test_fold_axis_is_transpose_of_extend_axis(mode):
    source = extend(np.arange(-7, 12), 4, mode)
    extension = extend_axis(np.eye(4), 0, source, np.asarray)
    assert extension.shape == (19, 4)
    assert_array_equal(fold_axis(np.eye(19), np.zeros((4, 19)), 0, source, np.asarray), extension.T)
