"""Benchmarks of matrix building and of the package's start."""

import numpy as np
import pytest

from convop import ConvSpec, bench, kernel2matrix
from convop.bench import builds


@pytest.mark.slow
def test_measure_textbook_matrix_and_builds_return_comparisons():
    line = bench.measure_textbook_matrix(repeats=1)
    assert line.ratio == pytest.approx(line.seconds / line.against_seconds)
    assert line.as_dict()["entries"] == 16
    names = [line.name for line in bench.measure_builds(quick=True, repeats=1)]
    assert len(names) == len(set(names)) == 5 * 2 + 1


def test_fresh_arrays_have_sizes_and_dtypes_of_the_matrix():
    spec = ConvSpec((40, 41), (3, 4), padding="same")
    built = kernel2matrix(np.ones((3, 4), "float32"), (40, 41), padding="same")
    assert [(a.size, a.dtype) for a in builds._fill_fresh_arrays(spec, np.float32)] == [
        (a.size, a.dtype) for a in (built.data, built.indices, built.indptr)
    ]


def test_measure_builds_rejects_a_kron_sum_that_is_another_matrix(monkeypatch):
    monkeypatch.setattr(builds, "_kron_sum", lambda kernel, size: 2 * kernel2matrix(kernel, (size, size)))
    with pytest.raises(AssertionError, match="another matrix"):
        list(bench.measure_builds(quick=True, repeats=1))


def test_matrices_have_1e7_to_2e8_entries():
    entries = [workload.spec.nnz for workload in builds._BUILDS]
    assert min(entries) > 9e6
    assert max(entries) < 2.2e8
    assert max(entries) > 1.6e8
