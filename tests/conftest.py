import os

from hypothesis import HealthCheck, settings

import convop.linear_operator  # noqa: F401 - PyLops, before a test imports it where CuPy is installed and cannot be used

# Deterministic in CI: a failure there is a failure everywhere. `dev` draws anew each time.
settings.register_profile(
    "ci", max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("dev", max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
