import os
from importlib.util import find_spec

from hypothesis import HealthCheck, settings

if find_spec("cupy") is not None:  # PyLops, before a test imports it where CuPy cannot be used
    import convop.operators.linear_operator  # noqa: F401

# Deterministic in CI: a failure there is a failure everywhere. `dev` draws anew each time.
settings.register_profile(
    "ci", max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("dev", max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
