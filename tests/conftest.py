import os
from importlib.util import find_spec

import pytest
from hypothesis import HealthCheck, settings

if find_spec("cupy") is not None:  # PyLops has to be imported before a test makes CuPy unusable
    import convop.operators.linear_operator  # noqa: F401

# CI's examples are deterministic: a failure there is a failure everywhere. The profile `dev` draws new ones each time.
settings.register_profile(
    "ci", max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("dev", max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


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
