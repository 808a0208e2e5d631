"""Tables and results of a direction, on the example of `kernels.records`; and blocks that are taken from Python."""

import numba
import numpy as np
import pytest
import strategies
from hypothesis import given
from numpy.testing import assert_array_equal

from convop import ConvSpec
from convop.engines import make
from convop.engines.cpu.direct import DirectEngine
from convop.engines.cpu.planes import BlockGeometry, Geometry, Result
from convop.engines.kernels.records import Block
from convop.threads import compiled

EXAMPLE = ConvSpec(7, 3, stride=2, padding=1, padding_mode="reflect")
DOUBLE = np.dtype(float)


def as_lists(record):
    """Returns the fields of a record, with arrays as lists."""
    return {name: value.tolist() if hasattr(value, "tolist") else value for name, value in record._asdict().items()}


def test_geometry_tables_of_the_example_forward():
    geometry = Geometry(EXAMPLE, False, DOUBLE)
    reading = as_lists(geometry.reading)
    edges = reading.pop("edges")
    assert reading == {
        "channels": 1,
        "components": 1,
        "space": 7,
        "rows": [[0]],
        "start": [-1, 0],
        "step": 2,
        "first": [1, 0],
        "stop": [4, 4],
    }
    assert edges[0] == [1, 5]
    assert as_lists(geometry.writing) == {
        "channels": 1,
        "components": 1,
        "space": 4,
        "row_size": 4,
        "row_count": 1,
        "halo_row_count": 0,
        "rows": [[0]],
        "start": [0],
        "step": 1,
        "first": [0],
        "stop": [4],
        "slots": [[-1]],
    }
    assert (geometry.read_planes, geometry.written_planes) == (2, 1)


def test_geometry_tables_of_the_example_adjoint():
    """Both phases of 7 elements are written, with halo columns 0 and 1 for the copies of elements 1 and 5."""
    geometry = Geometry(EXAMPLE, True, DOUBLE)
    reading = as_lists(geometry.reading)
    assert (reading["space"], reading["start"], reading["step"]) == (4, [-1], 1)
    assert (reading["first"], reading["stop"], reading["edges"]) == ([1], [5], [[-1, -1]])
    writing = as_lists(geometry.writing)
    assert (writing["space"], writing["row_size"], writing["start"], writing["step"]) == (7, 7, [-1, 0], 2)
    assert (writing["first"], writing["stop"], writing["slots"]) == ([1, 0], [4, 4], [[0, 1], [-1, -1]])
    assert (geometry.read_planes, geometry.written_planes) == (1, 1)


def test_geometry_counts_planes_of_groups_components_and_phases():
    """Complex, two groups of 3 channels to 2, stride 2 along both axes of 2 x 2 taps: four phases."""
    spec = ConvSpec((6, 8, 8), (4, 3, 2, 2), stride=2, groups=2)
    forward, adjoint = (Geometry(spec, direction, np.dtype(complex)) for direction in (False, True))
    assert (forward.read, forward.written, forward.read_planes, forward.written_planes) == (3, 2, 3 * 2 * 4, 2 * 2)
    assert (adjoint.read, adjoint.written, adjoint.read_planes, adjoint.written_planes) == (2, 3, 2 * 2, 3 * 2)
    assert (len(forward.phases), len(adjoint.phases)) == (1, 4)


def test_result_allocates_halo_rows_and_columns():
    """3 x 3 elements, reflected by one row and one column at either end, in a batch of two."""
    spec = ConvSpec((3, 3), (3, 3), padding=1, padding_mode="reflect")
    result = Result(Geometry(spec, True, np.dtype(complex)), 2, np.dtype(complex))
    assert result.columns.shape == (2, 9)
    assert np.shares_memory(result.columns, result.target.values)
    assert result.target.values.shape == (2 * 9 * 2,)
    assert result.target.halo_rows.tolist() == [0] * (2 * 2 * 3 * 2)  # inputs, rows, columns, components
    assert_array_equal(result.target.halo_columns, np.zeros((2 * (3 + 2) * 2, 2)))  # a row for each component
    plain = Result(Geometry(ConvSpec((3, 3), (3, 3), padding=1), True, DOUBLE), 2, DOUBLE)
    assert plain.target.halo_rows.shape == (0,)
    assert plain.target.halo_columns.shape == (1, 0)


def test_result_is_zero_where_nothing_is_written():
    """5 elements, stride 3 and one tap: elements 1, 2 and 4 are read by no tap."""
    engine = DirectEngine(ConvSpec(5, 1, stride=3), np.array([2.0]))
    for _ in range(3):  # memory of earlier results is not zero
        assert engine.adjoint(np.array([10.0, 20.0])).tolist() == [20, 0, 0, 40, 0]


def test_result_finish_adds_the_halo():
    """Halo columns of the example are added to elements 1 and 5."""
    result = Result(Geometry(EXAMPLE, True, DOUBLE), 1, DOUBLE)
    result.columns[:] = np.arange(7)
    result.target.halo_columns[:] = [[100, 200]]
    assert result.finish().tolist() == [[0, 101, 2, 3, 4, 205, 6]]


def test_block_geometry_counts_blocks_and_their_runs():
    """4 rows of 5 results, in blocks of 3 rows and 2 columns."""
    geometry = BlockGeometry(ConvSpec((2, 4, 5), (6, 1, 1, 1), groups=2), False, DOUBLE)
    geometry.blocks = geometry.tiling(3, 2)
    geometry.planes = geometry.layout(100, 10)
    assert geometry.block_count() == 2 * 2 * 3
    assert geometry.block_count(5) == 5 * 12
    assert geometry.block(11) == Block(1, 1, 3, 1, 4, 1)
    assert geometry.run_length(geometry.block(0)) == 2 * 10 + 2
    assert geometry.run_length(geometry.block(11)) == 1


def test_block_geometry_reads_a_block_with_its_halo():
    geometry = BlockGeometry(ConvSpec((4, 5), (2, 2), padding_mode="circular", padding=(0, 1)), False, DOUBLE)
    geometry.blocks = geometry.tiling(2, 6)
    planes = np.full(3 * 8, -7.0)
    geometry.read_block(geometry.block(1), np.arange(20.0), planes, geometry.layout(24, 8))
    expected = [[14, 10, 11, 12, 13, 14, 10, -7], [19, 15, 16, 17, 18, 19, 15, -7], [-7] * 8]
    assert_array_equal(planes.reshape(3, 8), expected)


def test_example_forward_and_adjoint_by_hand():
    """The extension is x1 x0 x1 x2 x3 x4 x5 x6 x5."""
    a, b, c = 2.0, 3.0, 5.0
    engine = DirectEngine(EXAMPLE, np.array([a, b, c]))
    x0, x1, x2, x3, x4, x5, x6 = x = np.array([1.0, 10, 100, 1000, 7, 70, 700])
    assert engine.forward(x).tolist() == [
        a * x1 + b * x0 + c * x1,
        a * x1 + b * x2 + c * x3,
        a * x3 + b * x4 + c * x5,
        a * x5 + b * x6 + c * x5,
    ]
    y0, y1, y2, y3 = y = np.array([1.0, 10, 100, 1000])
    assert engine.adjoint(y).tolist() == [
        b * y0,
        a * y0 + c * y0 + a * y1,
        b * y1,
        c * y1 + a * y2,
        b * y2,
        c * y2 + a * y3 + c * y3,
        b * y3,
    ]


def misaligned(x):
    """Returns a copy that begins one byte after a boundary of its elements."""
    memory = np.zeros(x.nbytes + 1, np.uint8)
    copy = memory[1:].view(x.dtype).reshape(x.shape)
    copy[...] = x
    assert not copy.flags.aligned
    return copy


INPUTS = {
    "contiguous": lambda x: x,
    "Fortran order": np.asfortranarray,
    "reversed": lambda x: x[::-1],
    "strided": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "misaligned": misaligned,
    "big endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "empty": lambda x: x[:, :0],
    "single input": lambda x: x[:, 0],
    "misaligned single input": lambda x: misaligned(x[:, 0]),
}


# What each kernel was first called with under each name of types, by all engines.
TYPES = {}


@pytest.mark.parametrize("name", ["direct", "gemm", "fft", "separable", "winograd"])
@given(case=strategies.cases())
def test_kernels_are_called_with_the_types_that_they_are_compiled_for(name, case):
    """`call_typed` checks no types: a kernel would misread an array of another memory order or dtype."""
    spec = ConvSpec(case.input_shape, case.kernel.shape, **case.parameters)

    def checked(dispatcher, types, *arguments):
        found = tuple(numba.typeof(argument) for argument in arguments)
        assert TYPES.setdefault((dispatcher, types), found) == found
        return dispatcher(*arguments)

    engine = make(name, spec, case.kernel)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "call_typed", checked)
        x, y = (np.ones((n, 3), case.kernel.dtype) for n in (spec.shape[1], spec.shape[0]))
        expected = engine.forward(x)[:, 0], engine.adjoint(y)[:, 0]
        for change in INPUTS.values():
            for got, one in zip((engine.forward(change(x)), engine.adjoint(change(y))), expected, strict=True):
                assert_array_equal(got, np.broadcast_to(one[:, None], got.shape) if got.ndim == 2 else one)
