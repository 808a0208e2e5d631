"""Benchmarks beside the table of workloads."""

import pytest

from convop import bench


@pytest.mark.slow
def test_measure_extras_yields_every_comparison():
    lines = list(bench.measure_extras(quick=True, repeats=1))
    names = " ".join(line.name for line in lines)
    for word in ("image 3^2", "Gaussian", "full rank", "two threads", "peak memory of A @ x", "a pixel"):
        assert word in names
    assert all(line.ratio > 0 and line.limit > 0 for line in lines)
