"""The measured constants: the file that comes with the package, and the search by cost."""

import json
from dataclasses import asdict

import pytest

from convop.engines.cpu.tuning import PACKAGED, Tuning, cheapest


def test_packaged_tuning_has_every_value_of_the_file():
    values = json.loads(PACKAGED.read_text())["tuning"]
    assert json.loads(json.dumps(asdict(Tuning.packaged()))) == values | {
        "transform_kinds": ["first axis", "all axes"],
    }


def test_packaged_tuning_is_hashable_and_read_once():
    tuning = Tuning.packaged()
    assert Tuning.packaged() is tuning
    hash(tuning)  # lists have become tuples
    assert tuning.columns.lengths[:2] == (8, 16)


def test_packaged_transform_lengths_are_powers_of_two():
    assert all(length & (length - 1) == 0 for length in Tuning.packaged().columns.lengths)


def test_cheapest_takes_the_first_of_equals():
    cuts = [("a", 3), ("b", 1), ("c", 1), ("d", 2)]
    assert cheapest(cuts, lambda cut: cut[1]) == ("b", 1)
    assert cheapest(reversed(cuts), lambda cut: cut[1]) == ("c", 1)
    assert cheapest(iter([5]), lambda cut: cut) == 5


def test_cheapest_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="empty"):
        cheapest([], lambda cut: cut)
