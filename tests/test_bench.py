import time

import numpy as np
import pytest

from convop import ConvSpec, bench, kernel2matrix


def test_lines_hold_what_was_measured():
    line = bench.textbook_line(repeats=1)
    assert line.ratio == pytest.approx(line.seconds / line.against_seconds)
    assert line.as_dict()["entries"] == 16
    names = [line.name for line in bench.build_lines(quick=True, repeats=1)]
    assert len(names) == len(set(names)) == 5 * 2 + 1


def test_functions_are_timed_in_turn_after_a_warm_up():
    calls = []

    def ours():
        calls.append("ours")
        time.sleep(0.02)

    def theirs():
        calls.append("theirs")
        time.sleep(0.01)

    seconds, against, ratio = bench._in_turn(ours, theirs, 3)
    assert calls == ["theirs", "ours"] * 4
    assert seconds > against
    assert ratio > 1


def test_filling_has_the_sizes_of_the_matrix():
    spec = ConvSpec((40, 41), (3, 4), padding="same")
    built = kernel2matrix(np.ones((3, 4), "float32"), (40, 41), padding="same")
    assert [(a.size, a.dtype) for a in bench._filled(spec, np.float32)] == [
        (a.size, a.dtype) for a in (built.data, built.indices, built.indptr)
    ]


def test_a_wrong_peer_is_found_before_it_is_timed(monkeypatch):
    monkeypatch.setattr(bench, "_kron_sum", lambda kernel, size: 2 * kernel2matrix(kernel, (size, size)))
    with pytest.raises(AssertionError, match="another matrix"):
        list(bench.build_lines(quick=True, repeats=1))


def test_workloads_span_what_is_promised():
    entries = [ConvSpec(shape, kernel, **p).nnz for _, shape, kernel, p in bench._BUILDS]
    assert min(entries) > 9e6
    assert max(entries) < 2.2e8
    assert max(entries) > 1.6e8
