"""The quick tier's choice among the cases of thinned tests."""

from itertools import product
from types import SimpleNamespace

import conftest


class Case:
    """What the choice reads of a pytest item, and the markers that it adds."""

    def __init__(self, function, **parameters):
        self.parent, self.function, self.callspec = None, function, SimpleNamespace(params=parameters)
        self.markers = {"thinned"}

    def get_closest_marker(self, name):
        return name if name in self.markers else None

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


def test_tests_are_thinned_apart_and_slow_cases_do_not_count():
    first, second, slow = Case("one", mode="a"), Case("two", mode="a"), Case("one", mode="b")
    slow.markers.add("slow")
    assert quick([first, second, slow]) == [{"mode": "a"}] * 2
