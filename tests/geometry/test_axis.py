import numpy as np
import oracle
import pytest
from hypothesis import given
from numpy.testing import assert_array_equal
from strategies import MODES, cases

from convop import ConvSpec
from convop.geometry.axis import PADDING_MODES, Axis, extend


@given(cases())
def test_source_and_counts_agree_with_oracle(case):
    spec = ConvSpec(case.input_shape, case.kernel.shape, **case.parameters)
    for axis in spec.axes:
        expected = [
            [
                oracle.extended_index(o * axis.stride + t * axis.dilation - axis.lo, axis.inputs, axis.mode)
                for t in range(axis.taps)
            ]
            for o in range(axis.outputs)
        ]
        expected = np.array([[-1 if i is None else i for i in row] for row in expected])
        assert_array_equal(axis.source(), expected)
        assert_array_equal(axis.source([axis.outputs - 1]), expected[-1:])
        distinct = [len({i for i in row if i >= 0}) for row in expected.tolist()]
        assert_array_equal(axis.counts(np.arange(axis.outputs)), distinct)
        assert axis.nnz == sum(distinct)


def test_extension_is_the_source_of_one_tap_at_every_position():
    axis = Axis(inputs=3, taps=2, stride=2, dilation=1, lo=2, hi=1, mode="circular")
    assert (axis.outputs, axis.positions) == (3, 6)
    assert_array_equal(axis.extension(), [1, 2, 0, 1, 2, 0])
    assert_array_equal(axis.source(), axis.extension()[[[0, 1], [2, 3], [4, 5]]])


def test_nnz_of_huge_padding_is_counted_in_one_period():
    """A padding of 2**50 has 2**50 rows; their entries are counted in the time of one period."""
    rows = 2**51 + 3
    # zeros: each of 5 inputs meets 3 taps; replicate: one entry a row, but 3 in three rows and 2 in two
    for mode, expected in (("zeros", 15), ("replicate", rows + 8), ("circular", 3 * rows)):
        assert ConvSpec((5,), (3,), padding=2**50, padding_mode=mode).nnz == expected
    wide = ConvSpec((5,), (3,), padding=2**50, padding_mode="reflect").nnz
    # 8 rows a period: six of them read 3 inputs, the two at the mirrors read 2
    assert wide == pytest.approx((2**51) * (6 * 3 + 2 * 2) / 8, rel=1e-12)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("padding", [40, 41, 47])
def test_nnz_over_many_periods_agrees_with_oracle(mode, padding):
    spec = ConvSpec((5,), (4,), padding=padding, dilation=2, stride=3, padding_mode=mode)
    assert spec.nnz == oracle.structure((5,), (4,), padding=padding, dilation=2, stride=3, padding_mode=mode).sum()


def test_extend_of_axis_of_one_reads_its_element():
    for mode in MODES[1:]:
        assert extend(range(-3, 4), 1, mode).tolist() == [0] * 7


def test_circular_nnz_takes_no_time():
    assert ConvSpec((10**9,), (3,), padding=10**9, padding_mode="circular").nnz == 3 * (3 * 10**9 - 2)


def test_strategies_draw_every_padding_mode():
    assert set(MODES) == set(PADDING_MODES)
