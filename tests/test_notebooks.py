"""Notebooks are stored with their outputs, without errors and without paths of a machine. CI executes them."""

import json
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


def test_all_notebooks_are_present():
    assert [n.stem for n in NOTEBOOKS] == [
        "01_transposed_convolution",
        "03_is_matrix_multiplication_efficient",
        "04_deblurring_and_super_resolution",
        "05_spectra",
        "06_deconvolutional_networks",
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_is_stored_as_executed(path):
    cells = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
    assert [c["execution_count"] for c in cells] == list(range(1, len(cells) + 1))
    outputs = [o for c in cells for o in c["outputs"]]
    assert any("image/png" in o.get("data", {}) for o in outputs)
    assert all(o["output_type"] != "error" and o.get("name") != "stderr" for o in outputs)
    text = json.dumps([o for o in outputs if "image/png" not in o.get("data", {})])
    assert "site-packages" not in text
    assert str(Path.home()) not in text
