import pytest
from spectral_cases import one_blas_thread  # noqa: F401


@pytest.fixture
def use_iterations(monkeypatch):
    """Returns a function that makes singular values come from iterations, as if dense decompositions were expensive."""
    return lambda: monkeypatch.setattr("convop.spectral.singular_values._DENSE_WORK", 0)
