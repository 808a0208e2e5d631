"""What the filters share: how residuals are read, and sums over threads."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from convop import ConvSpec
from convop.engines.cpu.components import read_only
from convop.engines.cpu.fft_filter import FftFilter
from convop.engines.cpu.filters import (
    CsrFilter,
    DirectFilter,
    GemmFilter,
    SeparableFilter,
    read_residual,
    residual_reading,
    sum_over_threads,
)
from convop.engines.cpu.planes import Geometry
from convop.engines.kernels.records import Block
from convop.threads import sizes

FILTERS = [CsrFilter, DirectFilter, FftFilter, GemmFilter, SeparableFilter]


def test_residual_reading_leaves_out_rows_without_results():
    """Middle axes of 2 and 3 results among 3 x 5 rows: residuals of 6 rows of 2."""
    reading = residual_reading(Geometry(ConvSpec((1, 3, 5, 2), (1, 2, 3, 1)), False, np.dtype(float)))
    assert reading.rows.tolist() == [[0, 2, 4, -1, -1, 6, 8, 10, -1, -1, -1, -1, -1, -1, -1]]
    assert (reading.space, reading.stop.tolist()) == (12, [2])


def test_read_residual_takes_the_channels_of_a_stack():
    geometry = Geometry(ConvSpec((2, 5), (4, 1, 2), groups=2), False, np.dtype(float))
    planes = np.zeros(8)
    source = read_only(np.arange(32.0))  # 4 stacks of 2 channels of 4 results
    read_residual(residual_reading(geometry), Block(0, 0, 0, 1, 1, 3), 3, source, planes, geometry.layout(4, 4))
    assert planes.tolist() == [25, 26, 27, 0, 29, 30, 31, 0]


@pytest.mark.parametrize("threads", [1, 3])
def test_sum_over_threads_adds_one_array_per_thread(threads, monkeypatch):
    monkeypatch.setattr(sizes, "_SMALL_WORK", 0)
    monkeypatch.setattr(sizes, "thread_count", lambda: threads)
    calls = []

    def work(first, stop):
        calls.append((first, stop))
        return np.array([stop - first, sum(range(first, stop))])

    assert sum_over_threads(work, 10, 1).tolist() == [10, 45]
    assert len(calls) == threads


@pytest.mark.parametrize("kind", FILTERS)
def test_filter_forward_and_adjoint_by_hand(kind):
    """x = 1, 2, 3, 4 and k = (5, 7): y[o] = 5 x[o] + 7 x[o + 1]; K[t] = sum_o x[o + t] y[o]."""
    one = kind(ConvSpec(4, 2), np.array([1.0, 2, 3, 4]))
    assert np.rint(one.forward(np.array([5.0, 7]))).tolist() == [19, 31, 43]
    assert np.rint(one.adjoint(np.array([1.0, 10, 100]))).tolist() == [321, 432]
    batch = one.forward(np.array([[5.0, 1, 0], [7, 0, 1]]))
    assert np.rint(batch).tolist() == [[19, 1, 2], [31, 2, 3], [43, 3, 4]]


@pytest.mark.parametrize("kind", FILTERS)
def test_filter_adjoint_is_conjugate_in_the_input(kind):
    """conj(3 + 4i)(5 + 6i) = 39 - 2i."""
    one = kind(ConvSpec(1, 1), np.array([3 + 4j]))
    assert_array_equal(np.rint(one.adjoint(np.array([5 + 6j]))), [39 - 2j])
    assert_array_equal(np.rint(one.forward(np.array([5 + 6j]))), [-9 + 38j])


@pytest.mark.parametrize("kind", FILTERS)
def test_filter_of_empty_batches(kind):
    one = kind(ConvSpec(4, 2), np.ones(4))
    assert one.forward(np.zeros((2, 0))).shape == (3, 0)
    assert one.adjoint(np.zeros((3, 0))).shape == (2, 0)


@pytest.mark.parametrize("kind", [DirectFilter, GemmFilter, FftFilter])
def test_filter_keeps_the_engine_of_the_last_batch_size(kind):
    one = kind(ConvSpec(4, 2), np.ones(4))
    one.forward(np.ones(2))
    (engine,) = one._engines.values()
    one.forward(np.ones((2, 1)))
    assert list(one._engines.values()) == [engine]
    one.forward(np.ones((2, 3)))
    assert list(one._engines) == [3]
