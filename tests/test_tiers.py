"""The quick tier's choice among the cases of thinned tests."""

from itertools import product
from types import SimpleNamespace

import conftest
import pytest


class Case:
    """What the choice reads of a pytest item, and the markers that it adds."""

    def __init__(self, function, **parameters):
        self.parent, self.function, self.callspec = None, function, SimpleNamespace(params=parameters)
        self.markers = {"thinned"}

    def iter_markers(self):
        return [SimpleNamespace(name=name) for name in self.markers]

    def add_marker(self, mark):
        self.markers.add(mark.name)


def quick(cases):
    conftest.pytest_collection_modifyitems(cases)
    return [case.callspec.params for case in cases if "slow" not in case.markers]


def test_each_value_of_each_parameter_is_in_the_quick_tier():
    shapes, modes, dtypes = [{"stride": 2}, {}, [3]], "abcde", ("f", "d")
    chosen = quick([Case("one", shape=s, mode=m, dtype=d) for s, m, d in product(shapes, modes, dtypes)])
    assert len(chosen) == 5
    assert {case["mode"] for case in chosen} == set(modes)
    assert {case["dtype"] for case in chosen} == set(dtypes)
    assert {id(case["shape"]) for case in chosen} == set(map(id, shapes))


def test_tests_are_thinned_apart():
    assert quick([Case("one", mode="a"), Case("two", mode="a")]) == [{"mode": "a"}] * 2


@pytest.mark.parametrize("marker", ["slow", "gpu"])
def test_cases_that_the_quick_tier_leaves_out_stand_for_no_value(marker):
    """A case on the GPU has the device of its own and any mode: the quick tier still needs one with that mode."""
    left_out = [Case("one", device="other", mode=mode) for mode in "ba"]
    for case in left_out:
        case.markers.add(marker)
    kept = [Case("one", device="host", mode=mode) for mode in "ab"]
    quick([*left_out, *kept])
    assert not any("slow" in case.markers for case in kept)


def test_equal_values_of_different_types_are_two_values():
    assert len(quick([Case("one", flip=True), Case("one", flip=1)])) == 2
