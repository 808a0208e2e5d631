"""Names of engines: those that exist, those that are not installed, and those that are unknown."""

import pytest

import convop
from convop import Conv
from convop.engines import selection


def test_unknown_engines_are_refused_with_the_names_of_all(monkeypatch):
    with pytest.raises(ValueError, match=r"engine must be one of auto, measure, csr, direct, .*; got 'cuda'"):
        Conv([1.0, 2.0], 5, engine="cuda")
    monkeypatch.setattr(selection, "torch_is_installed", lambda: False)
    assert "torch" not in convop.engines.available()
    with pytest.raises(ValueError, match=r"engine='torch' needs PyTorch, .* pip install 'convop\[torch\]'"):
        Conv([1.0, 2.0], 5, engine="torch")
