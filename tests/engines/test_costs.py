"""The cost model: amounts of work by hand, and where the seconds of a unit come from."""

import json

import numpy as np
import pytest
import strategies
from hypothesis import given

from convop import ConvSpec
from convop.engines import costs
from convop.threads.vectors import AVX2, AVX512, NEON, SSE


@pytest.fixture
def own_costs(tmp_path, monkeypatch):
    """The path of the user's own file, which does not exist yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    costs.seconds_per_unit.cache_clear()
    path = costs.costs_file()
    path.parent.mkdir()
    yield path
    costs.seconds_per_unit.cache_clear()


def test_seconds_per_unit_come_from_the_users_file_if_it_is_sound(tmp_path, own_costs):
    packaged = costs.seconds_per_unit()
    assert own_costs == tmp_path / "convop" / "costs.json"
    for text in ("not json", "[]", '{"seconds": {"csr": {}}}'):
        own_costs.write_text(text)
        costs.seconds_per_unit.cache_clear()
        assert costs.seconds_per_unit() == packaged
    own_costs.write_text('{"seconds": {"csr": {}, "direct": {}, "fft": {}, "gemm": {}, "torch": {}, "winograd": {}}}')
    costs.seconds_per_unit.cache_clear()
    assert costs.seconds_per_unit()["fft"] == {}


@pytest.mark.parametrize(("unit", "name"), [(SSE, "32"), (NEON, "32"), (AVX2, "32"), (AVX512, "64")])
def test_packaged_seconds_are_those_of_the_nearest_width_of_vectors(unit, name, own_costs, monkeypatch):
    classes = json.loads(costs.PACKAGED.read_text())["classes"]
    assert set(classes) == {"32", "64"}
    monkeypatch.setattr(costs, "vector_unit", lambda: unit)
    assert costs.seconds_per_unit() == classes[name]["seconds"]


@given(case=strategies.cases())
def test_every_kind_of_work_has_a_cost(case):
    spec = ConvSpec(case.input_shape, case.kernel.shape, **case.parameters)
    for name in ("csr", "direct", "fft", "gemm", "winograd"):
        assert 0 <= costs.predicted(name, spec, case.kernel.dtype) < 1
    single = np.dtype("float32")
    assert 0 <= costs.predicted("torch", spec, single) < 1
    for rank in (1, 3):
        assert 0 <= costs.sweeps_seconds(spec, rank, case.kernel.dtype) < 1


def test_amounts_of_two_channels_to_four():
    """Kernel (4, 2, 3, 3) on (2, 5, 6) without padding: 3 x 4 results a channel, each of 2 * 9 products."""
    spec = ConvSpec((2, 5, 6), (4, 2, 3, 3))
    products, moved, rows = 4 * 12 * 18, 2 * 5 * 6 + 4 * 3 * 4, 2 * 5 + 4 * 3
    real, double = np.dtype("float32"), np.dtype("complex64")
    assert costs.amounts("csr", spec, real, adjoint=False) == {"call": 1, "entries": products}
    direct = {"call": 1, "moved": moved, "lines": rows}
    assert costs.amounts("direct", spec, real, adjoint=False) == direct | {"multiplied, 4 planes": products}
    assert costs.amounts("direct", spec, real, adjoint=True) == direct | {"multiplied, 2 planes": products}
    # A complex number is two planes, and a product of complex numbers four real products.
    assert costs.amounts("direct", spec, double, adjoint=True) == {
        "call": 1,
        "moved": 2 * moved,
        "lines": 2 * rows,
        "multiplied, 4 planes": 4 * products,
    }
    assert costs.amounts("gemm", spec, real, adjoint=False) == {
        "call": 1,
        "groups": 1,
        "multiplied": products,
        "moved": moved,
        "collected": 12 * 18,
    }


def test_predicted_adds_both_directions_and_is_infinite_for_unmeasured_work(monkeypatch):
    spec = ConvSpec((2, 5, 6), (4, 2, 3, 3))
    units = {"csr": {"float32": {"call": 3.0, "entries": 0.5}, "float64": {"call": 3.0}}}
    monkeypatch.setattr(costs, "seconds_per_unit", lambda: units)
    assert costs.predicted("csr", spec, np.dtype("float32")) == 2 * (3 + 0.5 * 864)
    assert costs.predicted("csr", spec, np.dtype("float64")) == np.inf
