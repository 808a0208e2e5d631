"""The command ``deblur``."""

from pathlib import Path

import numpy as np
import pytest
from command_line import error_line, run
from PIL import Image

from convop import Conv
from convop.apps.deblurring import read_point_spread_function


def crop(image, side):
    """Return the central square."""
    start = (len(image) - side) // 2
    return image[start : start + side, start : start + side]


def psnr(path, reference):
    with Image.open(path) as image:
        values = np.asarray(image, dtype=float) / 255
    return -10 * np.log10(np.mean((values - reference) ** 2))


@pytest.mark.thinned
@pytest.mark.parametrize(
    ("kernel", "mode", "damp"),
    [
        ("gaussian:2", "symmetric", "discrepancy"),
        ("motion:15,30", "reflect", "discrepancy:0.01"),
        ("motion:9,100", "symmetric", "0.1"),
        ("k.npy", "replicate", "discrepancy"),
        ("gaussian:1.5", "circular", "0.1"),
    ],
)
@pytest.mark.parametrize("colour", [True, False])
@pytest.mark.parametrize("side", [96, pytest.param(256, marks=pytest.mark.slow)])
def test_deblur_raises_psnr_of_photographs(photograph, kernel, mode, damp, colour, side):
    image = crop(photograph if colour else photograph[..., 1], side)
    rng = np.random.default_rng(0)
    point = np.outer([1, 2, 4, 6, 9], [3, 5, 7, 2, 1, 1, 0.5])
    np.save("k.npy", 255 * point)  # deblur scales it to sum 1
    if kernel != "k.npy":
        point = read_point_spread_function(kernel, (side, side))
    A = Conv(point / point.sum(), image.shape[:2], padding="same", padding_mode=mode, flip=True)
    blurred = np.clip(A @ image + 0.01 * rng.standard_normal(image.shape), 0, 1)
    Image.fromarray(np.rint(255 * blurred).astype(np.uint8)).save("blurred.png")
    result = run("deblur", "blurred.png", kernel, "-o", "out.png", "--padding-mode", mode, "--damp", damp)
    assert result.exit_code == 0
    assert "out.png" in result.stdout
    assert psnr("out.png", image) > psnr("blurred.png", image) + 1
    assert sorted(p.name for p in Path().iterdir()) == ["blurred.png", "k.npy", "out.png"]


@pytest.mark.parametrize("side", [96, pytest.param(256, marks=pytest.mark.slow)])
def test_deblur_by_cross_validation(photograph, side):
    photograph = crop(photograph, side)
    A = Conv(
        read_point_spread_function("motion:15,30", (side, side)),
        (side, side),
        padding="same",
        padding_mode="symmetric",
        flip=True,
    )
    blurred = np.clip(A @ photograph + 0.005 * np.random.default_rng(0).standard_normal(photograph.shape), 0, 1)
    Image.fromarray(np.rint(255 * blurred).astype(np.uint8)).save("blurred.png")
    result = run("deblur", "blurred.png", "motion:15,30", "-o", "out.png", "--damp", "gcv")
    assert "cross-validation" in " ".join(result.stdout.split())
    assert psnr("out.png", photograph) > psnr("blurred.png", photograph) + 1


@pytest.mark.thinned
@pytest.mark.parametrize("kernel", ["gaussian:2", "motion:15,30"])
@pytest.mark.parametrize("noise", [0.0, 0.02])
@pytest.mark.parametrize(
    "quality", [pytest.param(95, marks=pytest.mark.slow), pytest.param(90, marks=pytest.mark.slow), 75]
)
def test_deblur_raises_psnr_of_jpeg_files(kernel, noise, quality):
    """JPEG discards the finest detail, from which the noise is estimated; and the pixels around the image are unknown."""
    from skimage import data

    larger = data.camera() / 255
    A = Conv(
        read_point_spread_function(kernel, larger.shape),
        larger.shape,
        padding="same",
        padding_mode="symmetric",
        flip=True,
    )
    blurred = A @ larger + noise * np.random.default_rng(0).standard_normal(larger.shape)
    seen = np.rint(255 * np.clip(blurred[100:401, 150:373], 0, 1)).astype(np.uint8)
    Image.fromarray(seen).save("in.jpg", quality=quality)
    assert run("deblur", "in.jpg", kernel, "-o", "out.png").exit_code == 0
    reference = larger[100:401, 150:373]
    assert psnr("out.png", reference) > psnr("in.jpg", reference) + 1.5


def test_deblur_writes_an_image_whatever_the_input():
    """Of an image that the blur does not explain, of noise, and of a constant image, whose brightness does not change."""
    rng = np.random.default_rng(0)
    sharp = rng.integers(0, 2, (60, 80)).repeat(3, 0).repeat(3, 1) * 200
    flat = np.clip(200 + 20 * rng.standard_normal((100, 120)), 0, 255)
    for image, kernel in ((sharp, "gaussian:2"), (flat, "gaussian:1"), (np.full((40, 50), 200), "motion:5,20")):
        Image.fromarray(image.astype(np.uint8)).save("in.png")
        result = run("deblur", "in.png", kernel, "-o", "out.png")
        assert result.exit_code == 0, result.stderr
        with Image.open("out.png") as out:
            assert image is sharp or np.asarray(out).mean() == pytest.approx(image.mean(), abs=1.5)
    assert run("deblur", "in.png", "gaussian:1", "-o", "out.png", "--damp", "1e300").exit_code == 0


def test_deblur_keeps_units_of_floating_point_images():
    values = np.linspace(0.2, 0.7, 40 * 30, dtype=np.float32).reshape(30, 40)
    Image.fromarray(values).save("in.tif")
    assert run("deblur", "in.tif", "[[1]]", "-o", "out.tif", "--damp", "0").exit_code == 0
    with Image.open("out.tif") as out:
        np.testing.assert_allclose(np.asarray(out) / 65535, values, atol=1e-5)


def test_deblur_reports_missing_convergence():
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50), dtype=np.uint8)).save("in.png")
    result = run("deblur", "in.png", "gaussian:3", "-o", "out.png", "--padding-mode", "reflect", "--damp", "1e-9")
    assert result.exit_code == 0
    assert "the solver did not converge" in result.stderr


def test_deblur_rejects_bad_arguments():
    Image.new("L", (40, 30), 128).save("in.png")
    np.save("complex.npy", np.ones((3, 3)) * (1 + 1j))
    for kernel, message in (
        ("gaussian:", "kernel must be gaussian:SIGMA, got 'gaussian:'"),
        ("gaussian:0", "sigma must be a positive number"),
        ("gaussian:1,2", "kernel must be gaussian:SIGMA"),
        ("motion:3", "kernel must be motion:LENGTH,ANGLE, got 'motion:3'"),
        ("motion:a,b", "kernel must be motion:LENGTH,ANGLE"),
        ("gaussian:9", "kernel of 73x73 pixels is larger than the image of 30x40"),
        ("[1,2]", "two dimensions"),
        ("gaussian:1e9", "kernel of 8000000001x8000000001 pixels is larger"),  # refused before it is allocated
        ("motion:1e9,3", "is larger than the image"),
        ("[[1,-1]]", "a sum that is positive and finite, got 0"),
        ("[[1e308,1e308]]", "a sum that is positive and finite, got inf"),
        ("[[]]", "two dimensions"),
        ("complex.npy", "must be real, got complex numbers"),
        (
            "Gaussian:2",
            "kernel must be a file, gaussian:SIGMA, motion:LENGTH,ANGLE or [[...], [...]]; got 'Gaussian:2'",
        ),
        ("nothing.npy", "which is not a file"),
    ):
        assert message in error_line("deblur", "in.png", kernel, "-o", "out.png")
    for damp in ("-1", "nan", "a", "gcv:3", "discrepancy:x"):
        assert "damp must be" in error_line("deblur", "in.png", "gaussian:1", "-o", "out.png", "--damp", damp)
    assert "noise" in error_line("deblur", "in.png", "gaussian:1", "-o", "out.png", "--damp", "discrepancy:5")
    assert "padding_mode must be" in error_line(
        "deblur", "in.png", "gaussian:1", "-o", "o.png", "--padding-mode", "wrap"
    )
    assert "output must be a .png or .tif" in error_line("deblur", "in.png", "gaussian:1", "-o", "out.gif")
    assert "no folder" in error_line("deblur", "in.png", "gaussian:1", "-o", "there/out.png")
    assert "image nothing.png does not exist" in error_line("deblur", "nothing.png", "gaussian:1", "-o", "out.png")
    assert not Path("out.png").exists()
