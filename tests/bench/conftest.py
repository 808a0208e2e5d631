import pytest


@pytest.fixture(autouse=True)
def _benchmarks_without_pauses(benchmarks_without_pauses):
    """No test in this folder compares times."""
