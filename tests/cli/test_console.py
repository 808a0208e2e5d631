"""Errors in one line, and requirements checked before any work."""

from pathlib import Path

import numpy as np
import pytest
import typer
from command_line import error_line
from PIL import Image

from convop.cli.console import one_line_errors


def test_overflow_error_exits_in_one_line():
    with pytest.raises(typer.Exit), one_line_errors():
        raise OverflowError("the maps are too large")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="a folder in which nothing can be made")
def test_unwritable_output_is_refused_before_any_work(tmp_path):
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(tmp_path / "grey.png")
    for path in ("/proc/self/net.npz", str(tmp_path / f"{'n' * 250}.npz")):
        message = error_line("deconvnet", "fit", str(tmp_path / "grey.png"), "-o", path)
        assert "cannot be written" in message
        assert "epochs" not in message
    assert [p.name for p in tmp_path.iterdir()] == ["grey.png"]


def test_pictures_without_matplotlib_are_refused_before_any_work(monkeypatch):
    monkeypatch.setattr("convop.cli.console.find_spec", lambda name: None)
    assert "pictures need matplotlib" in error_line("demo")
    assert "pictures need matplotlib" in error_line("matrix", "[1]", "--shape", "3", "-o", "m.npz", "--plot", "m.png")
