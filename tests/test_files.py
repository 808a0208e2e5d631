"""Reading kernels and images, writing them, and atomic writes."""

import os
import stat

import numpy as np
import pytest
from PIL import Image

from convop import files


@pytest.mark.parametrize(
    ("mode", "stored", "expected"),
    [
        ("L", np.uint8, 1 / 255),
        ("I;16", np.uint16, None),
        ("F", np.float32, None),
        ("I", np.int32, None),
    ],
)
def test_read_photograph_of_any_bit_depth_returns_grey_values(tmp_path, mode, stored, expected):
    levels = np.arange(400).reshape(20, 20) % 256
    path = tmp_path / "image.tif"
    Image.fromarray(levels.astype(stored)).save(path)
    with Image.open(path) as image:
        assert image.mode == mode
    grey = files.read_photograph(path)
    assert grey.dtype == np.float64
    np.testing.assert_allclose(grey, levels / 255, atol=1e-12)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "1", "LA", "CMYK"])
def test_read_photograph_converts_colours_to_grey(tmp_path, mode):
    path = tmp_path / f"image.{'tif' if mode == 'CMYK' else 'png'}"
    Image.new("RGB", (30, 20), (255, 255, 255)).convert(mode).save(path)
    grey = files.read_photograph(path)
    assert grey.shape == (20, 30)
    np.testing.assert_allclose(grey, 1, atol=0.01)


def test_read_photograph_applies_exif_orientation(tmp_path):
    levels = np.arange(600, dtype=np.uint8).reshape(20, 30)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by 90 degrees
    Image.fromarray(levels).save(tmp_path / "turned.png", exif=exif)
    grey = files.read_photograph(tmp_path / "turned.png")
    np.testing.assert_allclose(grey * 255, np.rot90(levels, -1))


def test_read_photograph_reduces_large_images(tmp_path):
    Image.new("L", (3000, 500), 128).save(tmp_path / "wide.png")
    assert files.read_photograph(tmp_path / "wide.png").shape == (171, 1024)


def test_read_photograph_without_path_returns_scikit_image_photographer():
    photograph = files.read_photograph(None)
    assert photograph.shape == (512, 512)
    assert photograph.min() == 0
    assert photograph.max() == 1


def test_read_photograph_of_constant_or_nan_floats(tmp_path):
    Image.fromarray(np.full((20, 20), 7, np.float32)).save(tmp_path / "flat.tif")
    assert (files.read_photograph(tmp_path / "flat.tif") == 0).all()
    Image.fromarray(np.full((20, 20), np.nan, np.float32)).save(tmp_path / "nan.tif")
    with pytest.raises(ValueError, match="not finite"):
        files.read_photograph(tmp_path / "nan.tif")


def test_write_image_clips_and_round_trips(tmp_path):
    image = np.linspace(-0.2, 1.2, 400).reshape(20, 20)
    assert files.write_image(tmp_path / "a.png", image) == tmp_path / "a.png"
    np.testing.assert_allclose(files.read_photograph(tmp_path / "a.png"), image.clip(0, 1), atol=0.5 / 255 + 1e-9)


def test_atomic_write_replaces_the_file_only_when_complete(tmp_path):
    path = tmp_path / "file"
    path.write_text("before")

    def write_half_and_fail():
        with files.atomic_write(path) as file:
            file.write(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_half_and_fail()
    assert path.read_text() == "before"
    with files.atomic_write(path) as file:
        file.write(b"after")
    assert path.read_text() == "after"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_atomic_write_sets_ordinary_permissions(tmp_path):
    with files.atomic_write(tmp_path / "a"):
        pass
    (tmp_path / "b").write_text("")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == stat.S_IMODE((tmp_path / "b").stat().st_mode)


@pytest.mark.parametrize("suffix", files.IMAGE_SUFFIXES)
def test_write_picture_keeps_colours_and_size(tmp_path, suffix):
    rng = np.random.default_rng(0)
    levels = np.kron(rng.integers(0, 256, (3, 4, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    Image.fromarray(levels).save(tmp_path / "in.png")
    picture = files.read_picture(tmp_path / "in.png")
    assert picture.values.shape == (48, 64, 3)
    assert (picture.opacity, picture.high_bit_depth) == (None, False)
    np.testing.assert_array_equal(picture.values, levels / 255)
    path = files.write_picture(tmp_path / f"out{suffix}", picture)
    with Image.open(path) as image:
        stored = np.asarray(image.convert("RGB"), dtype=float)
    lossy = suffix in (".jpg", ".jpeg", ".webp")
    assert np.abs(stored - levels).mean() <= (4 if lossy else 0)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "1", "CMYK", "I;16", "F"])
def test_read_picture_of_every_pillow_mode(tmp_path, mode):
    path = tmp_path / f"in.{'tif' if mode in ('CMYK', 'F', 'I;16') else 'png'}"
    if mode in ("I;16", "F"):
        levels = np.arange(400).reshape(20, 20) * 100
        Image.fromarray(levels.astype(np.uint16 if mode == "I;16" else np.float32)).save(path)
    else:
        Image.new("RGB", (20, 20), (200, 200, 200)).convert(mode).save(path)
    picture = files.read_picture(path)
    assert picture.values.shape in ((20, 20), (20, 20, 3))
    assert (picture.opacity is not None) == (mode in ("LA", "RGBA"))
    assert picture.high_bit_depth == (mode in ("I;16", "F"))
    if mode == "I;16":
        np.testing.assert_array_equal(picture.values, levels / 65535)
        out = files.write_picture(tmp_path / "out.png", picture)
        np.testing.assert_array_equal(files.read_picture(out).values, picture.values)
    elif mode == "RGBA":
        out = files.write_picture(tmp_path / "out.png", picture)
        with Image.open(out) as image:
            assert image.mode == "RGBA"
        with Image.open(files.write_picture(tmp_path / "out.jpg", picture)) as image:
            assert image.mode == "RGB"


def test_read_picture_rejects_files_that_are_not_images(tmp_path):
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ValueError, match="not an image that Pillow can read"):
        files.read_picture(tmp_path / "text.png")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        files.read_picture(tmp_path / "nothing.png")
    Image.new("L", (8, 30)).save(tmp_path / "small.png")
    with pytest.raises(ValueError, match=r"at least 16x16 pixels, got 8x30"):
        files.read_picture(tmp_path / "small.png")
    data = np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8)
    Image.fromarray(data).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:600])
    with pytest.raises(ValueError, match="is damaged"):
        files.read_picture(tmp_path / "cut.png")
