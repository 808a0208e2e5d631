import dataclasses
import pickle

import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from strategies import MODES, cases

from convop import ConvSpec
from convop.geometry.axis import Axis, extend
from convop.geometry.gather_table import GatherTable
from convop.geometry.transposed import transposed_spec


@given(cases())
def test_axis_tables_are_the_oracles(case):
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


@given(
    st.integers(1, 12), st.integers(1, 9), st.integers(1, 5), st.integers(1, 4), st.integers(-3, 60),
    st.integers(-3, 60), st.sampled_from(MODES),
)  # fmt: skip
def test_compressed_rows_expand_to_the_table(n, k, s, d, lo, hi, mode):
    axis = Axis(n, k, s, d, lo, hi, mode)
    if n + lo + hi < axis.extent:
        return
    table, rows = axis.source(), GatherTable.forward(axis)
    base, start, stop = rows.full()
    assert rows.n_written == axis.outputs == len(base)
    assert axis.nnz == (stop - start).sum()
    for o in range(axis.outputs):
        entries = range(start[o], stop[o])
        sources = [base[o] + rows.offset[e] for e in entries]
        assert sources == sorted({i for i in table[o].tolist() if i >= 0})
        for source, e in zip(sources, entries, strict=True):
            taps = rows.taps[rows.first[e] : rows.first[e + 1]]
            assert_array_equal(taps, np.flatnonzero(table[o] == source))


def test_counts_do_not_need_the_padding_to_be_small():
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
def test_counts_over_many_periods(mode, padding):
    spec = ConvSpec((5,), (4,), padding=padding, dilation=2, stride=3, padding_mode=mode)
    assert spec.nnz == oracle.structure((5,), (4,), padding=padding, dilation=2, stride=3, padding_mode=mode).sum()


def test_extend_of_an_axis_of_one():
    for mode in MODES[1:]:
        assert extend(range(-3, 4), 1, mode).tolist() == [0] * 7


def test_equal_maps_are_equal_and_hashable():
    named = ConvSpec((9, 8), (3, 4), stride=2, padding="same")
    written_out = ConvSpec([9, 8], np.array([3, 4]), stride=[2, 2], padding=((1, 1), (1, 1)), dilation=(1, 1))
    assert named == written_out
    assert hash(named) == hash(written_out)
    assert named != ConvSpec((9, 8), (3, 4), stride=2, padding="same", padding_mode="circular")
    assert pickle.loads(pickle.dumps(named)) == named
    assert pickle.loads(pickle.dumps(named)).nnz == named.nnz


def test_arrays_without_axes_are_numbers():
    one = np.array(1)
    assert ConvSpec(np.array(9), np.array(3), stride=np.array(2), padding=one, dilation=one) == ConvSpec(
        9, 3, stride=2, padding=1
    )
    assert ConvSpec((9, 9), (3, 3), padding=(one, (one, 2))).padding == ((1, 1), (1, 2))


def test_fields_can_be_replaced():
    spec = ConvSpec((9, 8), (3, 4), padding="same")
    assert dataclasses.replace(spec, stride=2) == ConvSpec((9, 8), (3, 4), padding=spec.padding, stride=2)


def test_circular_counts_take_no_time():
    assert ConvSpec((10**9,), (3,), padding=10**9, padding_mode="circular").nnz == 3 * (3 * 10**9 - 2)


def test_memory_is_of_matrices_that_exist():
    with pytest.raises(TypeError, match="dtype must be one of float32"):
        ConvSpec((3,), (2,)).matrix_nbytes("int8")


def test_frozen():
    with pytest.raises(AttributeError):
        ConvSpec((3, 3), (2, 2)).stride = (2, 2)


@given(cases())
def test_repr_makes_the_same_spec(case):
    spec = ConvSpec(case.input_shape, case.kernel.shape, **case.parameters)
    assert eval(repr(spec)) == spec
    assert ConvSpec(spec.input_shape, spec.kernel_shape, **spec.parameters()) == spec


@pytest.mark.parametrize(
    ("n", "k", "s", "d"), [(7, 3, 2, 1), (8, 3, 2, 1), (5, 2, 1, 1), (5, 4, 3, 2), (4, 1, 3, 1), (10, 9, 1, 3)]
)
def test_same_is_ceil_with_the_odd_element_at_the_end(n, k, s, d):
    spec = ConvSpec((n,), (k,), stride=s, dilation=d, padding="same")
    assert spec.output_shape == (-(-n // s),)
    ((lo, hi),) = spec.padding
    assert 0 <= hi - lo <= 1


def test_full_reads_every_position_once_per_tap():
    assert ConvSpec((5,), (3,), dilation=2, padding="full").output_shape == (9,)
    assert ConvSpec((5, 6), (3, 2), padding="full").nnz == 5 * 3 * 6 * 2


@pytest.mark.parametrize(
    ("arguments", "parameters", "error", "message"),
    [
        (((), (2,)), {}, ValueError, "input_shape must have at least one axis"),
        (((0, 3), (1, 1)), {}, ValueError, r"input_shape must .* sizes of at least 1, got \(0, 3\)"),
        (((3, 3), (2, 0)), {}, ValueError, r"kernel_shape must .* got \(2, 0\)"),
        (((3.0, 3), (2, 2)), {}, TypeError, "input_shape must be an integer, got 3.0 of type float"),
        (((True, 3), (2, 2)), {}, TypeError, "input_shape must be an integer, got the bool True"),
        (("33", (2, 2)), {}, TypeError, "input_shape must be an integer, got '33'"),
        (((3, 3), (2,)), {}, ValueError, r"kernel_shape \(2,\) does not go with input_shape \(3, 3\)"),
        (((3,), (2, 2)), {}, ValueError, r"kernel_shape \(2, 2\) does not go with input_shape \(3,\)"),
        (((3, 3), (1, 1, 1, 1)), {}, ValueError, "does not go with"),
        (((2, 9), (4, 3, 3)), {}, ValueError, r"takes 3 input channels, but input_shape \(2, 9\) has 2"),
        (((4, 9), (4, 4, 3)), {"groups": 2}, ValueError, r"takes 8 input channels.*expected kernel_shape\[1\] == 4/2"),
        (((4, 9), (3, 2, 3)), {"groups": 2}, ValueError, "groups=2 must divide the input's 4 and the kernel's 3"),
        (((3, 9), (2, 1, 3)), {"groups": 2}, ValueError, "groups=2 must divide the input's 3"),
        (((9,), (3,)), {"groups": 2}, ValueError, "groups=2 needs channel axes"),
        (((9,), (3,)), {"groups": 0}, ValueError, "groups must be at least 1, got 0"),
        (((9,), (3,)), {"groups": 1.5}, TypeError, "groups must be an integer"),
        (((9,), (3,)), {"stride": 0}, ValueError, "stride must be at least 1, got 0"),
        (((9, 9), (3, 3)), {"stride": (1, -2)}, ValueError, "stride must be at least 1"),
        (((9, 9), (3, 3)), {"stride": (1, 2, 3)}, ValueError, r"stride must be one integer or 2 .* got \(1, 2, 3\)"),
        (((9, 9), (3, 3)), {"dilation": (1,)}, ValueError, "dilation must be one integer or 2"),
        (((9, 9), (3, 3)), {"dilation": 1.0}, TypeError, "dilation must be an integer"),
        (((9, 9), (3, 3)), {"padding": "SAME"}, ValueError, "padding must be numbers or one of valid, same, full; got 'SAME'"),
        (((9, 9), (3, 3)), {"padding": (1, 2, 3)}, ValueError, "padding must be one integer, 2 integers or 2"),
        (((9,), (3,)), {"padding": (1, 2)}, ValueError, r"for one axis with two ends write \(\(1, 2\),\)"),
        (((9, 9), (3, 3)), {"padding": ((1, 2, 3), 0)}, ValueError, "padding of one axis must be an integer or a pair"),
        (((9, 9), (3, 3)), {"padding": 0.5}, TypeError, "padding must be an integer, got 0.5"),
        (((9, 9), (3, 3)), {"padding": None}, TypeError, "padding must be an integer, got None"),
        (((9, 9), (3, 3)), {"padding_mode": "wrap"}, ValueError, "padding_mode must be one of zeros, circular, reflect"),
        (((9, 9), (3, 3)), {"padding_mode": ["zeros"]}, ValueError, "padding_mode must be one of"),
        (((9, 2), (3, 3)), {}, ValueError, r"does not fit spatial axis 1: it reaches over 3 elements .* the axis has 2"),
        (((9, 9), (3, 3)), {"dilation": 5}, ValueError, "reaches over 11 elements"),
        (((9,), (3,)), {"padding": ((-4, -3),)}, ValueError, r"the axis has 2 \(9 inputs, padding \(-4, -3\)\)"),
        (((2**62,), (3,)), {}, ValueError, "axis 0 is too large"),
    ],
)  # fmt: skip
def test_bad_geometry_is_named(arguments, parameters, error, message):
    with pytest.raises(error, match=message):
        ConvSpec(*arguments, **parameters)


@given(cases())
def test_transposed_spec_undoes_the_output_shape(case):
    """Every convolution's output leads back to it by its input's shape, and by the output padding."""
    spec = ConvSpec(case.input_shape, case.kernel.shape, **case.parameters)
    back = transposed_spec(spec.output_shape, case.kernel.shape, output_shape=spec.input_shape, **case.parameters)
    assert back == spec


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"output_shape": (4, 11), "stride": 2}, r"output_shape must be one of \(4, 9\), \(4, 10\) \(stride \(2,\)\), got \(4, 11\)"),
        ({"output_shape": (3, 9), "stride": 2}, r"output_shape must be one of \(4, 9\)"),
        ({"output_shape": (9,), "stride": 2}, "output_shape must be one of"),
        ({"output_shape": (4, 9), "output_padding": 1, "stride": 2}, "not both"),
        ({"output_shape": (4, 62), "stride": 101}, r"4 channels, \[303..402\]|4 channels, \[\d+..\d+\]"),
        ({"output_padding": 2, "stride": 2}, r"output_padding must be smaller than the stride or the dilation.* \(4, 9\), \(4, 10\)"),
        ({"output_padding": 1, "padding": "same"}, "output_padding must be smaller than the stride, got"),
        ({"output_padding": -1}, "output_padding must be at least 0"),
        ({"padding": 4}, r"would have the output \(4, -2\): padding 4 crops it away"),
        ({"groups": 3}, "divisible by groups=3"),
    ],
)  # fmt: skip
def test_bad_transposes_are_named(parameters, message):
    with pytest.raises(ValueError, match=message):
        transposed_spec((2, 4), (2, 4, 3), **parameters)


def test_transposed_errors_speak_of_the_transpose():
    with pytest.raises(ValueError, match=r"\(c_in, c_out/groups, \*taps\): expected c_in = 5"):
        transposed_spec((5, 4), (2, 4, 3))
