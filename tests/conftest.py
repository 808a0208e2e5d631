import os
from collections import defaultdict
from importlib.util import find_spec

import pytest
from hypothesis import HealthCheck, settings

if find_spec("cupy") is not None:  # PyLops has to be imported before a test makes CuPy unusable
    import convop.operators.linear_operator  # noqa: F401

# The examples are deterministic: a failure is a failure everywhere. The slow tier takes more of them, with the profile
# `many`. The profile `dev` draws new ones each time.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", settings.get_profile("default"), max_examples=25, derandomize=True)
settings.register_profile("many", settings.get_profile("default"), max_examples=300, derandomize=True)
settings.register_profile("dev", settings.get_profile("default"), max_examples=150)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


@pytest.hookimpl(tryfirst=True)  # before pytest deselects the slow tier
def pytest_collection_modifyitems(items):
    """Moves cases of the tests marked `thinned` to the slow tier: the quick one has each value of each parameter once."""
    cases = defaultdict(list)
    for item in items:
        markers = {marker.name for marker in item.iter_markers()}
        if "thinned" in markers and not markers & {"slow", "gpu"}:
            cases[item.parent, item.function].append((item, _parameters(item)))
    for test in cases.values():
        missing = set().union(*(parameters for _, parameters in test))
        while missing:
            chosen = max(test, key=lambda case: len(missing & case[1]))
            test.remove(chosen)
            missing -= chosen[1]
        for item, _ in test:
            item.add_marker(pytest.mark.slow)


def _parameters(item):
    """Returns names, types and values of the parameters of a case; objects without a hash are compared by identity."""
    parameters = item.callspec.params.items()
    return {(name, type(value), value if _has_hash(value) else id(value)) for name, value in parameters}


def _has_hash(value):
    try:
        hash(value)
    except TypeError:
        return False
    return True


@pytest.fixture
def benchmarks_without_pauses(monkeypatch):
    """Benchmarks neither pause nor warm up, for tests that do not compare times."""
    from convop.bench import timing

    monkeypatch.setattr(timing, "PAUSE", 0.0)
    monkeypatch.setattr(timing, "WARM_UP", 0.0)


@pytest.fixture(scope="module", params=["host", pytest.param("gpu", marks=pytest.mark.gpu)])
def cupy(request):
    """CuPy on a GPU, or the stand-in `host_cupy` in its place."""
    if request.param == "gpu":
        cupy = pytest.importorskip("cupy")
        if not cupy.cuda.is_available():
            pytest.skip("no GPU is at hand")
        yield cupy
        return
    import host_cupy

    with host_cupy.installed() as cupy:
        yield cupy
