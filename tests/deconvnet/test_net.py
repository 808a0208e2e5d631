"""Networks: fit, infer, reconstruct, patterns."""

import numpy as np
import pytest
from scipy.signal import convolve2d
from sparse_coding_cases import noise_images, objective_of, photographs, small_net, unit_filters

from convop import Conv
from convop.deconvnet import DeconvLayer, DeconvNet, sparse_codes
from convop.deconvnet.options import SolverOptions


def test_fit_is_reproducible_from_seed():
    images = photographs(2, 16)
    first, second = small_net().fit(images), small_net().fit(images)
    np.testing.assert_array_equal(first.filters_[0], second.filters_[0])
    np.testing.assert_array_equal(first.infer(images)[0], second.infer(images)[0])
    assert first.cost_history_ == second.cost_history_
    again = first.fit(images)
    np.testing.assert_array_equal(again.filters_[0], second.filters_[0])
    other = DeconvNet(small_net().layers, rng=4).fit(images)
    assert not np.array_equal(other.filters_[0], first.filters_[0])
    generator = DeconvNet(small_net().layers, rng=np.random.default_rng(3)).fit(images)
    np.testing.assert_array_equal(generator.filters_[0], first.filters_[0])


def test_fit_images_without_channels_and_in_colour():
    images = photographs(2, 16)
    with_axis, without = small_net().fit(images), small_net().fit(images[:, 0])
    np.testing.assert_array_equal(with_axis.filters_[0], without.filters_[0])
    colours = np.concatenate([images, images[:, :, ::-1], 0.5 * images], axis=1)
    net = small_net(n_epochs=2).fit(colours)
    assert net.filters_[0].shape == (3, 3, 3, 3)
    np.testing.assert_allclose(np.linalg.norm(net.filters_[0], axis=(2, 3)), 1, rtol=1e-12)
    costs = net.cost_history_[0]
    assert costs[1] <= costs[0]
    assert net.reconstruct(net.infer(colours)[0], 0).shape == colours.shape
    single = small_net().fit(images.astype(np.float32))
    assert single.filters_[0].dtype == single.infer(images.astype(np.float32))[0].dtype == np.float32
    np.testing.assert_allclose(single.filters_[0], with_axis.filters_[0], atol=0.02)
    assert small_net().fit(np.random.default_rng(0).integers(0, 255, (1, 12, 14), dtype=np.uint8)).filters_


@pytest.mark.parametrize(
    "solver", ["auto", *(pytest.param(s, marks=pytest.mark.slow) for s in ("admm", "fista", "hqs"))]
)
def test_infer_by_each_solver(solver):
    images = photographs(2, 16)
    net = small_net(solver=solver).fit(images)
    codes = sparse_codes(net.filters_[0], images, lam=4.0, rtol=1e-6)
    objective = objective_of(net.filters_[0], net.infer(images)[0], images, 4.0, 1)
    np.testing.assert_allclose(objective, codes.objective, rtol=0.03 if solver == "hqs" else 1e-3)
    other_size = np.zeros((1, 1, 9, 31))
    other_size[0, 0, 4, 4] = 3
    assert net.infer(other_size)[0].shape == (1, 3, 11, 33)


def test_fit_calls_callback_once_per_epoch_and_shows_progress(capfd):
    calls = []
    net = DeconvNet([DeconvLayer(2, 3, p=1.0, n_epochs=2), DeconvLayer(3, 3, p=1.0, n_epochs=1)])
    images = noise_images(1)
    before = images.copy()
    net.fit(images, callback=lambda *arguments: calls.append(arguments), progress=True)
    assert [call[:2] for call in calls] == [(0, 0), (0, 1), (1, 0)]
    assert [call[2] for call in calls] == [cost for costs in net.cost_history_ for cost in costs]
    assert "3 of 3 epochs" in capfd.readouterr().err
    np.testing.assert_array_equal(images, before)


def test_fit_warns_of_layer_whose_maps_are_zero():
    images = photographs(2, 24)
    layers = [DeconvLayer(4, 5, lam=5, p=1, n_epochs=1), DeconvLayer(4, 3, lam=1e-3, n_epochs=2)]
    with pytest.warns(UserWarning, match=r"all maps of layer 2 of 2 are zero.*lam=0\.001 and p=0\.8.*larger lam"):
        net = DeconvNet(layers).fit(images)
    assert not net.infer(images)[1].any()
    assert len(net.cost_history_[1]) == 2


def test_infer_warns_of_maps_that_did_not_converge(monkeypatch):
    images = noise_images(1)
    net = small_net().fit(images)
    monkeypatch.setattr(DeconvLayer, "_options", lambda self: SolverOptions(maxiter=2))
    with pytest.warns(UserWarning, match="the maps of layer 1: stopped after maxiter=2 iterations"):
        net.infer(images)


def test_failed_fit_leaves_network_unchanged():
    net = small_net().fit(noise_images(1))
    before = net.filters_

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        net.fit(noise_images(2), callback=stop)
    assert net.filters_ is before


def test_fit_copies_connection_table():
    table = np.ones((1, 3), dtype=bool)
    net = DeconvNet([DeconvLayer(3, 3, lam=4.0, p=1.0, n_epochs=1, connectivity=table)]).fit(noise_images(1))
    net.connectivity_[0][:] = False
    assert table.all()


def test_reconstruct_applies_operator_of_filters():
    filters = unit_filters((2, 3, 4, 5))
    A = Conv(filters, (3, 12, 14), flip=True)
    net = DeconvNet([DeconvLayer(3, (4, 5))])
    net.filters_ = [filters]
    maps = np.random.default_rng(0).standard_normal((1, 3, 12, 14))
    np.testing.assert_allclose(net.reconstruct(maps, 0)[0], A @ maps[0], atol=1e-12)


def test_patterns_are_convolutions_of_filters():
    net = DeconvNet([DeconvLayer(3, (4, 5)), DeconvLayer(2, 3)])
    net.filters_ = [unit_filters((2, 3, 4, 5)), unit_filters((3, 2, 3, 3), seed=1)]
    np.testing.assert_allclose(net.patterns(0), net.filters_[0].swapaxes(0, 1), atol=1e-14)
    expected = [
        [sum(convolve2d(net.filters_[1][m, k], net.filters_[0][c, m]) for m in range(3)) for c in range(2)]
        for k in range(2)
    ]
    np.testing.assert_allclose(net.patterns(1), expected, atol=1e-14)
    np.testing.assert_allclose(net.patterns(-1), expected, atol=1e-14)


def test_fit_rejects_invalid_layers_and_rng():
    images = noise_images(1)
    with pytest.raises(ValueError, match="lam must be positive"):
        DeconvNet([DeconvLayer(3, 5).set_params(lam=-1)]).fit(images)
    for layers in ([], [3], None, 5, DeconvLayer(2, 3), iter([DeconvLayer(2, 3)])):
        with pytest.raises(TypeError, match="layers must be a list of one or more DeconvLayers"):
            DeconvNet(layers).fit(images)
    for wrong in ("a", -1):
        with pytest.raises((TypeError, ValueError), match="rng must be an integer from 0"):
            DeconvNet([DeconvLayer(2, 3)], rng=wrong).fit(images)
    with pytest.raises(TypeError, match="callback must be callable"):
        small_net().fit(images, callback=3)


def test_network_rejects_images_maps_and_layers_that_do_not_match():
    images = noise_images(1)
    net = small_net()
    with pytest.raises(ValueError, match="call fit first"):
        net.infer(images)
    net.fit(images)
    with pytest.raises(ValueError, match="images must have the 1 channels"):
        net.infer(np.ones((1, 2, 12, 12)))
    with pytest.raises(ValueError, match="layer must be from -1 to 0, got 1"):
        net.reconstruct(net.infer(images)[0], 1)
    with pytest.raises(ValueError, match="layer must be from -1 to 0, got -2"):
        net.patterns(-2)
    with pytest.raises(ValueError, match=r"maps must have the shape \(I, 3, h, w\)"):
        net.reconstruct(images, 0)
    with pytest.raises(ValueError, match="maps must be at least as large as the filters"):
        net.reconstruct(np.ones((1, 3, 2, 2)), 0)


@pytest.mark.parametrize(
    "change",
    [
        lambda net: net.layers[0].set_params(n_maps=5),
        lambda net: net.layers[0].set_params(kernel_size=4),
        lambda net: net.layers.append(DeconvLayer(2, 3)),
    ],
)
def test_network_with_changed_layers_must_be_fitted_again(change):
    images = noise_images(2)
    net = small_net().fit(images)
    maps = net.infer(images)[0]
    change(net)
    for use in (lambda: net.infer(images), lambda: net.reconstruct(maps, 0)):
        with pytest.raises(ValueError, match="has layers that have changed since fit: call fit again"):
            use()
