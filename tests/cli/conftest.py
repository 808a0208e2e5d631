import pytest


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def photograph():
    from skimage import data

    return data.astronaut()[40:296, 60:316] / 255
