"""Interleaved timing, and comparisons."""

import itertools
import time

from convop.bench import timing


def test_compare_times_functions_in_turn_after_a_warm_up():
    calls = []

    def ours():
        calls.append("ours")
        time.sleep(0.02)

    def theirs():
        calls.append("theirs")
        time.sleep(0.01)

    comparison = timing.compare("ours", "theirs", ours, theirs, repeats=3, limit=1.0)
    # Each function is called several times in every round.
    assert len(list(itertools.groupby(calls))) > 2
    assert calls.count("theirs") >= 4 * 3
    assert comparison.seconds > comparison.against_seconds
    assert comparison.ratio > 1


def test_compare_divides_times_by_units(monkeypatch):
    monkeypatch.setattr(timing, "interleaved_times", lambda *_: {"ours": [2.0, 8.0, 3.0], "theirs": [1.0, 2.0, 3.0]})
    comparison = timing.compare("work", "reference", list, list, repeats=3, limit=1.0, entries=7, units=2)
    assert comparison == timing.Comparison("work", "reference", 1.5, 1.0, 2.0, 1.0, entries=7)
    assert comparison.as_dict()["unit"] == "s"
