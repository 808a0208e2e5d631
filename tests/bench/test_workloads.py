"""Workloads and their data."""

import numpy as np
import pytest

from convop import bench


def test_separable_kernel_has_rank_one():
    separable = bench.Workload("separable", (20, 21), (5, 4), is_separable=True)
    kernel = bench.Problem(separable, np.dtype("float32")).kernel
    assert kernel.dtype == np.float32
    assert kernel.shape == (5, 4)
    assert np.linalg.matrix_rank(kernel) == 1
    assert np.count_nonzero(kernel) == 20


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_problems_are_the_same_each_time(dtype):
    for workload in bench.WORKLOADS[:1]:
        first, second = (bench.Problem(workload, np.dtype(dtype)) for _ in range(2))
        for name in ("kernel", "x", "y"):
            assert np.array_equal(getattr(first, name), getattr(second, name))
            assert getattr(first, name).dtype == dtype
