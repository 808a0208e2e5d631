import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from strategies import MODES

from convop.geometry.axis import PADDING_MODES, Axis
from convop.geometry.gather_table import GatherTable


def rows(table):
    """The (column, taps) pairs of every row, as lists."""
    return [
        [
            (base + int(table.offset[e]), table.taps[table.first[e] : table.first[e + 1]].tolist())
            for e in range(start, stop)
        ]
        for base, start, stop in zip(*(array.tolist() for array in table.full()), strict=True)
    ]


def test_forward_table_of_zeros_lists_consecutive_taps():
    """Outputs of [0 x0 x1 x2 x3 0] with 3 taps: the two at the ends read two inputs."""
    table = GatherTable.forward(Axis(inputs=4, taps=3, stride=1, dilation=1, lo=1, hi=1, mode="zeros"))
    assert rows(table) == [
        [(0, [1]), (1, [2])],
        [(0, [0]), (1, [1]), (2, [2])],
        [(1, [0]), (2, [1]), (3, [2])],
        [(2, [0]), (3, [1])],
    ]
    assert (table.interior, table.longest, table.period) == ((1, 3), 3, 1)
    assert_array_equal(table.base, [-1, 2])
    assert_array_equal(table.start, [1, 0])
    assert_array_equal(table.stop, [3, 2])


def test_forward_table_of_reflection_merges_taps():
    """Outputs of [x1 x0 x1 x2 x1] with 3 taps: the first reads x1 twice, the last reads x1 twice."""
    table = GatherTable.forward(Axis(inputs=3, taps=3, stride=1, dilation=1, lo=1, hi=1, mode="reflect"))
    assert rows(table) == [[(0, [1]), (1, [0, 2])], [(0, [0]), (1, [1]), (2, [2])], [(1, [0, 2]), (2, [1])]]


def test_forward_table_of_one_wrap_rotates_the_taps():
    """Outputs of [x0 x1 x2 x0] with 2 taps: the last reads x0 through its second tap."""
    table = GatherTable.forward(Axis(inputs=3, taps=2, stride=1, dilation=1, lo=0, hi=1, mode="circular"))
    assert rows(table) == [[(0, [0]), (1, [1])], [(1, [0]), (2, [1])], [(0, [1]), (2, [0])]]
    assert_array_equal(table.taps, [0, 1, 0, 1])


def test_transposed_table_has_one_phase_per_stride():
    """With stride 2 and 3 taps, even inputs are read through taps 0 and 2, odd inputs through tap 1."""
    table = GatherTable.transposed(Axis(inputs=7, taps=3, stride=2, dilation=1, lo=0, hi=0, mode="zeros"))
    assert rows(table) == [
        [(0, [0])],
        [(0, [1])],
        [(0, [2]), (1, [0])],
        [(1, [1])],
        [(1, [2]), (2, [0])],
        [(2, [1])],
        [(2, [2])],
    ]
    assert (table.period, table.step, table.n_read, table.n_written) == (2, 1, 3, 7)
    assert_array_equal(table.phases, [[0, 2], [2, 3]])
    assert_array_equal(table.taps[: table.first[3]], [2, 0, 1])


@given(
    st.integers(1, 12),
    st.integers(1, 9),
    st.integers(1, 5),
    st.integers(1, 4),
    st.integers(-3, 60),
    st.integers(-3, 60),
    st.sampled_from(MODES),
)
def test_forward_table_expands_to_source_table(n, k, s, d, lo, hi, mode):
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


@st.composite
def axes(draw):
    taps, dilation, inputs = draw(st.integers(1, 6)), draw(st.integers(1, 4)), draw(st.integers(1, 20))
    lo = draw(st.integers(-3, inputs + 3))
    missing = max(dilation * (taps - 1) + 1 - inputs - lo, -3)
    hi = draw(st.integers(missing, max(missing, 0) + 5))
    return Axis(inputs, taps, draw(st.integers(1, 5)), dilation, lo, hi, draw(st.sampled_from(PADDING_MODES)))


@given(axis=axes(), adjoint=st.booleans())
def test_table_is_matrix_of_axis_or_its_transpose(axis, adjoint):
    weights = 3.0 ** np.arange(axis.taps)
    expected = np.zeros((axis.outputs, axis.inputs))
    for output in range(axis.outputs):
        for tap in range(axis.taps):
            source = oracle.extended_index(output * axis.stride + tap * axis.dilation - axis.lo, axis.inputs, axis.mode)
            if source is not None:
                expected[output, source] += weights[tap]
    gathered = GatherTable.of(axis, adjoint=adjoint)
    got = np.zeros((gathered.n_written, gathered.n_read))
    for element, (base, start, stop) in enumerate(zip(*gathered.full(), strict=True)):
        columns = base + gathered.offset[start:stop]
        assert (np.diff(columns) > 0).all()
        for column, entry in zip(columns, range(start, stop), strict=True):
            assert column >= 0
            got[element, column] = weights[gathered.taps[gathered.first[entry] : gathered.first[entry + 1]]].sum()
    assert_array_equal(got, expected.T if adjoint else expected)


@pytest.mark.parametrize("mode", PADDING_MODES)
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (4, 1), (1, 3), (2, 3), (3, 2)])
def test_boundary_lists_stay_as_small_as_kernel(mode, stride, dilation):
    """Lists are for the ends of an axis, and stay as small as the kernel."""
    axis = Axis(100_000, 8, stride, dilation, 4, 4, mode)
    for adjoint in (False, True):
        gathered = GatherTable.of(axis, adjoint=adjoint)
        assert len(gathered.base) <= 4 * axis.extent
        assert len(gathered.offset) <= 8 * (4 * axis.extent + 1)
