"""Compiled loops, which check no bounds, write only to the arrays that they are given.

Workspaces and results lie between guard elements, which no loop may change.
"""

import itertools

import numpy as np
import pytest
import strategies
from engine_cases import with_results, with_transforms
from hypothesis import assume, given

from convop import ConvSpec
from convop.engines.cpu import filters, planes
from convop.engines.cpu.direct import DirectEngine
from convop.engines.cpu.fft import FftEngine
from convop.engines.cpu.filters import DirectFilter
from convop.engines.cpu.separable import SeparableEngine
from convop.engines.cpu.winograd import WinogradEngine

_GUARD = 1234.5
_SIZE = 256  # guard elements at either end: whole cache lines, so alignment stays
REAL = strategies.cases(dtypes=("float64", "float32", "complex64"))


class Guards:
    """Arrays between guard elements."""

    def __init__(self):
        self.arrays = []

    def array(self, shape, dtype, value):
        """Returns a contiguous array full of `value`, or with random contents if that is None."""
        size = int(np.prod(shape))
        memory = np.full(size + 2 * _SIZE, _GUARD, dtype)
        inside = memory[_SIZE : _SIZE + size]
        if value is not None:
            inside[:] = value
        self.arrays.append((memory, size))
        return inside.reshape(shape)

    def assert_unchanged(self):
        for memory, size in self.arrays:
            assert (memory[:_SIZE] == np.asarray(_GUARD, memory.dtype)).all()
            assert (memory[_SIZE + size :] == np.asarray(_GUARD, memory.dtype)).all()


def guarded_rows(guards):
    """Returns a `workspace.per_thread` with guard elements before and after every row.

    The rows are contiguous, so that the loops are compiled for the same types of arrays as without guards.
    """

    def per_thread(name, threads, size, dtype):
        memory = np.full(_SIZE + threads * (size + _SIZE), _GUARD, dtype)
        starts = range(0, threads * (size + _SIZE), size + _SIZE)
        guards.arrays.extend((memory[start : start + size + 2 * _SIZE], size) for start in starts)
        return memory[_SIZE:].reshape(threads, size + _SIZE)

    return per_thread


def guarded_result(guards):
    """Returns a `planes.Result` whose arrays are guarded: the results, halo rows and halo columns."""

    class GuardedResult(planes.Result):
        def __init__(self, plan, batch, dtype):
            super().__init__(plan, batch, dtype)
            values, rows, columns = (guards.array(a.shape, a.dtype, 0) for a in self.target)
            self.target = self.target._replace(values=values, halo_rows=rows, halo_columns=columns)
            self.columns = values.view(dtype).reshape(self.columns.shape)

    return GuardedResult


def assert_writes_stay_inside(engine, spec, dtype):
    guards = Guards()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planes, "per_thread", guarded_rows(guards))
        patch.setattr(planes, "Result", guarded_result(guards))
        engine.forward(np.ones(spec.shape[1], dtype))
        engine.adjoint(np.ones(spec.shape[0], dtype))
    assert len(guards.arrays) >= 10  # for each direction two workspaces and three arrays of results
    guards.assert_unchanged()


@given(case=REAL)
def test_direct_engine_writes_inside_its_arrays(case):
    spec = ConvSpec(case.input_shape, case.kernel.shape, **case.parameters)
    assert_writes_stay_inside(DirectEngine(spec, case.kernel), spec, case.kernel.dtype)


@given(case=REAL)
def test_transforms_along_first_axis_write_inside_their_arrays(case):
    spec = ConvSpec(case.input_shape, case.kernel.shape, **case.parameters)
    assume(spec.ndim > 1 and spec.axes[0].extent > spec.axes[0].stride)
    assert_writes_stay_inside(FftEngine(spec, case.kernel, with_transforms("first axis")), spec, case.kernel.dtype)


@pytest.mark.parametrize("results", [1, 2, 3, 4, 6])
@given(case=REAL)
def test_winograd_engine_writes_inside_its_arrays(results, case):
    spec = ConvSpec(case.input_shape, case.kernel.shape, **case.parameters)
    assert_writes_stay_inside(WinogradEngine(spec, case.kernel, with_results(results)), spec, case.kernel.dtype)


@given(case=REAL)
def test_separable_engine_writes_inside_its_arrays(case):
    spec = ConvSpec(case.input_shape, case.kernel.shape, **case.parameters)
    assert_writes_stay_inside(SeparableEngine(spec, case.kernel), spec, case.kernel.dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_direct_engine_writes_inside_its_arrays_for_every_tile_and_width(dtype):
    """Channels that fill register tiles of four, three, two and one planes, on rows shorter and longer than each."""
    for channels, width in itertools.product(range(1, 10), (1, 3, 5, 9, 17, 37)):
        for taps in (1, 2):
            shape = (channels, 2, taps, taps)
            spec = ConvSpec((2, 4, width), shape, padding=taps - 1)
            assert_writes_stay_inside(DirectEngine(spec, np.ones(shape, dtype)), spec, dtype)


@given(case=REAL)
def test_direct_filter_writes_inside_its_workspace(case):
    spec = ConvSpec(case.input_shape, case.kernel.shape, **case.parameters)
    guards = Guards()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(filters, "scratch", lambda name, size, dtype: guards.array((size,), dtype, None))
        DirectFilter(spec, np.ones(case.input_shape, case.kernel.dtype)).adjoint(
            np.ones(spec.shape[0], case.kernel.dtype)
        )
    assert len(guards.arrays) >= 2
    guards.assert_unchanged()
