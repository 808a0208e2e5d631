"""Learning: planted filters, photographs, and extreme numbers."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.signal import correlate2d
from sparse_coding_cases import noise_images, objective_of, photographs, synthesise, unit_filters

from convop.deconvnet import DeconvLayer, DeconvNet, snr


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 6))])
@pytest.mark.parametrize(
    ("lam", "p"), [(10.0, 1.0), *(pytest.param(*c, marks=pytest.mark.slow) for c in ((50.0, 1.0), (10.0, 0.8)))]
)
def test_fit_finds_planted_filters(seed, lam, p):
    """Without recentring, or without continuation in the weight, fit finds only one or two of the planted filters."""
    rng = np.random.default_rng(seed)
    planted = unit_filters((1, 5, 5, 5), seed=100 + seed, smooth=False)
    maps = rng.standard_normal((3, 5, 48, 48)) * (rng.random((3, 5, 48, 48)) < 0.012)
    images = synthesise(planted, maps)
    net = DeconvNet([DeconvLayer(5, 5, lam=lam, p=p, n_epochs=4)], rng=seed).fit(images)
    costs = net.cost_history_[0]
    assert all(b <= a * (1 + 1e-12) for a, b in pairwise(costs))
    similarity = np.array(
        [
            [np.abs(correlate2d(a, b, "full")).max() for b in net.filters_[0][0]]  # up to shift and sign
            for a in planted[0]
        ]
    )
    assert (np.sort(similarity.max(axis=1))[1:] >= 0.95).all()
    assert len(set(similarity.argmax(axis=1))) >= 4


@pytest.mark.slow
@pytest.mark.parametrize("p", [1.0, 0.8])
def test_fit_one_layer_of_photographs(p):
    images = photographs()
    net = DeconvNet([DeconvLayer(9, 7, lam=5.0, p=p, n_epochs=4)]).fit(images)
    costs = net.cost_history_[0]
    assert len(costs) == 4
    assert all(b < a for a, b in pairwise(costs))
    maps = net.infer(images)[0]
    assert maps.shape == (3, 9, 70, 70)
    assert (maps != 0).mean() < 0.1
    assert snr(images, net.reconstruct(maps, 0)) >= (14 if p == 1 else 12)
    objective = objective_of(net.filters_[0], maps, images, 5.0, p).sum()
    assert objective <= costs[-1] * 1.01  # the cost is the objective of these filters
    assert objective < 0.8 * 2.5 * (images**2).sum()


@pytest.mark.slow
def test_fit_two_layers_of_photographs():
    images = photographs(3, 48)
    layers = [
        DeconvLayer(6, 7, lam=5.0, p=1.0, n_epochs=3),
        DeconvLayer(21, 5, lam=5.0, p=1.0, n_epochs=2, connectivity="singles+pairs"),
    ]
    net = DeconvNet(layers).fit(images)
    for filters, table in zip(net.filters_, net.connectivity_, strict=True):
        norms = np.linalg.norm(filters, axis=(2, 3))
        np.testing.assert_allclose(norms[table], 1, rtol=1e-12)
        assert not filters[~table].any()
    assert [f.shape for f in net.filters_] == [(1, 6, 7, 7), (6, 21, 5, 5)]
    assert all(b <= a for costs in net.cost_history_ for a, b in pairwise(costs))
    maps = net.infer(images)
    assert [m.shape for m in maps] == [(3, 6, 54, 54), (3, 21, 58, 58)]
    assert snr(images, net.reconstruct(maps[1], 1)) >= 4
    expected = synthesise(net.filters_[0], synthesise(net.filters_[1], maps[1][:1]))
    np.testing.assert_allclose(net.reconstruct(maps[1][:1], -1), expected, atol=1e-10)
    # Each layer shortens the axes by its kernel size less one.
    impulse = np.zeros((1, 21, 11 + 4, 11 + 4))
    impulse[0, 20, 7, 7] = 1
    assert net.reconstruct(impulse, 1).shape == (1, 1, 5, 5)


@pytest.mark.parametrize(
    "shape", [(1, 1), (4, 1), *(pytest.param(s, marks=pytest.mark.slow) for s in ((1, 4), (3, 2)))]
)
def test_fit_small_filters_and_small_images(shape):
    for size in ((6, 7), (1, 5), (2, 2)):
        images = 3 * np.random.default_rng(0).standard_normal((2, 1, *size))
        net = DeconvNet([DeconvLayer(2, shape, lam=9.0, p=1.0, n_epochs=2)]).fit(images)
        assert net.filters_[0].shape == (1, 2, *shape)
        assert np.isfinite(net.cost_history_[0]).all()


@pytest.mark.slow
def test_fit_numbers_whose_squares_overflow():
    images = noise_images(2)
    layer = {"p": 1.0, "n_epochs": 2}
    expected = DeconvNet([DeconvLayer(3, 3, lam=4.0, **layer)]).fit(images)
    for power in (-200, 200):
        net = DeconvNet([DeconvLayer(3, 3, lam=4.0 * 10.0**-power, **layer)]).fit(images * 10.0**power)
        np.testing.assert_allclose(net.filters_[0], expected.filters_[0], atol=1e-6)
        np.testing.assert_allclose(net.cost_history_[0], np.array(expected.cost_history_[0]) * 10.0**power, rtol=1e-6)
    expected = DeconvNet([DeconvLayer(3, 3, lam=4.0, p=0.5, n_epochs=1)]).fit(images)
    for power in (-220, 220):
        layer = DeconvLayer(3, 3, lam=4.0 * 2.0 ** (-1.5 * power), p=0.5, n_epochs=1)
        net = DeconvNet([layer]).fit(images * 2.0**power)
        np.testing.assert_allclose(net.filters_[0], expected.filters_[0], atol=1e-6)
        np.testing.assert_allclose(net.cost_history_[0], np.array(expected.cost_history_[0]) * 2.0 ** (power / 2))


def test_fit_checks_memory_first(monkeypatch):
    monkeypatch.setattr("convop.arrays.memory.available", lambda: 10**6)
    monkeypatch.setattr("convop.arrays.memory._SMALL", 0)
    with pytest.raises(MemoryError, match="learning from the maps of 5 images, 4 x 28 x 28 each, takes"):
        DeconvNet([DeconvLayer(4, 5)]).fit(photographs(5, 24))
