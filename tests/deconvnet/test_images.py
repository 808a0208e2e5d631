"""Preprocessing of images, and the signal-to-noise ratio."""

import math

import numpy as np
import pytest

from convop.deconvnet import local_contrast, remove_mean, rescale, snr


def test_remove_mean_and_rescale():
    images = np.random.default_rng(0).random((2, 3, 8, 9)) + np.reshape([1.0, 2.0, 3.0], (3, 1, 1))
    np.testing.assert_allclose(remove_mean(images).mean(axis=(2, 3)), 0, atol=1e-14)
    assert remove_mean(images[:, 0]).shape == (2, 8, 9)
    scaled = rescale(remove_mean(images))
    np.testing.assert_allclose(np.abs(scaled).max(axis=(1, 2, 3)), 1)
    assert not rescale(np.zeros((1, 4, 4))).any()
    assert remove_mean(np.ones((1, 4, 4), np.float32)).dtype == np.float32
    assert remove_mean(np.full((1, 4, 4), 200, np.uint8)).dtype == np.float64


def test_local_contrast_matches_definition():
    rng = np.random.default_rng(0)
    image = rng.random((9, 11))
    t = np.arange(-2, 3)
    window = np.exp(-(t[:, None] ** 2 + t**2) / (2 * 1.591**2))
    window /= window.sum()

    def local_mean(x):
        padded = np.pad(x, 2, "symmetric")
        return np.array([[(padded[i : i + 5, j : j + 5] * window).sum() for j in range(11)] for i in range(9)])

    centred = image - local_mean(image)
    deviation = np.sqrt(local_mean(centred**2))
    expected = centred / np.maximum(deviation, deviation.mean())
    np.testing.assert_allclose(local_contrast(image[None])[0], expected, atol=1e-12)
    np.testing.assert_allclose(local_contrast(image[None], floor=1.0)[0], centred, atol=1e-12)
    stacked = np.stack([image, 2 * image])[None]
    np.testing.assert_allclose(
        local_contrast(stacked)[0, 1], expected, atol=1e-12
    )  # contrast does not depend on the scale


def test_local_contrast_of_constant_images_is_zero():
    for value in (0.0, 1.0, 1e6):
        assert not local_contrast(np.full((1, 6, 6), value)).any()


def test_local_contrast_rejects_invalid_arguments():
    for wrong in ({"size": 4}, {"size": 0}, {"sigma": 0}, {"floor": -1}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
            local_contrast(np.ones((1, 9, 11)), **wrong)


def test_preprocessing_of_numbers_whose_squares_overflow():
    images = np.random.default_rng(0).standard_normal((2, 1, 12, 11))
    for dtype, powers in ((np.float64, (-900, 900)), (np.float32, (-90, 90))):
        plain = images.astype(dtype)
        for power in powers:
            huge = np.ldexp(plain, power)
            np.testing.assert_allclose(local_contrast(huge), local_contrast(plain), rtol=1e-4)
            np.testing.assert_array_equal(np.ldexp(remove_mean(huge), -power), remove_mean(plain))
            if dtype == np.float64:
                scaled = local_contrast(huge, floor=math.ldexp(0.5, power))
                np.testing.assert_allclose(scaled, local_contrast(plain, floor=0.5), rtol=1e-4)
            assert snr(huge, 1.01 * huge) == pytest.approx(snr(plain, 1.01 * plain), abs=1e-3)
    assert np.isfinite(remove_mean(np.full((1, 4, 4), 1.7e308))).all()
    assert np.isfinite(local_contrast(images, sigma=1e200)).all()


def test_snr_rejects_invalid_arguments():
    for wrong in ([np.nan, 1.0], np.ma.masked_array([1.0, 2.0]), [1j, 2.0], []):
        with pytest.raises((TypeError, ValueError), match="images"):
            snr(wrong, wrong)


def test_snr_of_known_noise():
    x = np.random.default_rng(0).standard_normal(10_000)
    noise = np.random.default_rng(1).standard_normal(10_000)
    assert snr(x + 5, x + 5 + 0.1 * noise) == pytest.approx(20, abs=0.2)
    assert snr(x, x) == math.inf


def test_snr_rejects_different_shapes():
    x = np.ones(10)
    with pytest.raises(ValueError, match="images and reconstructions must have the same non-empty shape"):
        snr(x, x[:5])
