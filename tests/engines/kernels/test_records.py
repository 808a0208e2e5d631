"""The picture of the planes in the docstring of `kernels.records` is what the code makes of that example."""

import numpy as np
import pytest

from convop import ConvSpec
from convop.engines.cpu.components import read_only
from convop.engines.cpu.direct import DirectEngine
from convop.engines.cpu.planes import Geometry
from convop.engines.cpu.tiling import tap_offsets
from convop.engines.kernels import records
from convop.engines.kernels.planes import gather, with_halo
from convop.engines.kernels.records import Block, Layout, RunKind

SPEC = ConvSpec(7, 3, stride=2, padding=1, padding_mode="reflect")
X = np.array([10.0, 11, 12, 13, 14, 15, 16])  # x0 ... x6 are told apart by their last digit
# The picture's numbers, copied by hand.
PHASE_0, PHASE_1 = [11, 11, 13, 15, 15], [10, 12, 14, 16, 14]
OFFSETS = {"a": 0, "c": 1, "b": 5}


@pytest.fixture
def geometry():
    return Geometry(SPEC, False, np.dtype(float))


def flat_block(geometry):
    """Returns the block of 4 outputs as it lies in a workspace with a plane stride of 5."""
    block = with_halo(Block(0, 0, 0, 1, 0, 4), geometry.tiling(1, 4))
    assert block.column_count == 5  # 4 outputs and a halo of 1
    planes = np.zeros(10)
    gather(read_only(X), geometry.reading, block, planes, Layout(5, 5, 1, np.zeros(1, np.int64)))
    return planes


def test_planes_of_the_picture(geometry):
    """Position 9, at offset 9, is the copy of element 4, and no output reads it."""
    flat = flat_block(geometry).tolist()
    assert flat == PHASE_0 + PHASE_1
    assert max(at + o for at in OFFSETS.values() for o in range(4)) == 8


def test_interior_and_edges_of_the_picture(geometry):
    reading = geometry.reading
    assert (reading.first[0], reading.stop[0]) == (1, 4)
    assert (reading.start[0], reading.step) == (-1, 2)
    assert reading.edges[0].tolist() == [1, 5]
    assert (reading.first[1], reading.stop[1], reading.edges[1, 0]) == (0, 4, 4)


def test_tap_offsets_of_the_picture(geometry):
    (taps,) = geometry.phases
    offsets = tap_offsets(geometry.plan, taps, 1, 5, 5)
    assert dict(zip("abc", offsets.tolist(), strict=True)) == OFFSETS
    assert [taps.phase[n] for n in (0, 2)] == [0, 0]
    assert [taps.shift[n, 1] for n in (0, 2)] == [0, 1]
    assert (taps.phase[1], taps.shift[1, 1]) == (1, 0)


def test_output_of_the_picture(geometry):
    flat = flat_block(geometry)
    a, b, c = 2.0, 3.0, 5.0
    y = [a * flat[o + 0] + c * flat[o + 1] + b * flat[o + 5] for o in range(4)]
    assert DirectEngine(SPEC, np.array([a, b, c])).forward(X).tolist() == y


def test_numbers_of_these_tests_are_those_of_the_docstring():
    text = " ".join(records.__doc__.split())
    assert "phase 0 x1 x1 x3 x5 x5" in text
    assert "phase 1 x0 x2 x4 x6 x4" in text
    assert "x1 x1 x3 x5 x5 |x0 x2 x4 x6 x4" in text
    assert "taps a at 0, b at 5, c at 1" in text
    assert "y[o] = a*flat[o + 0] + b*flat[o + 5] + c*flat[o + 1]" in text


def test_run_kind_is_false_for_rows_only():
    """`correlate_block` takes every other kind for runs over several rows."""
    assert [bool(kind) for kind in (RunKind.ROW, RunKind.INDEX, RunKind.BLOCK)] == [False, True, True]
