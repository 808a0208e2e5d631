"""Networks in .npz files: the round trip, and files that are damaged or contradict themselves."""

import json
import zipfile

import numpy as np
import pytest
from sparse_coding_cases import noise_images, small_net

from convop import storage
from convop.deconvnet import DeconvLayer, DeconvNet
from convop.storage import load_network, save_network


@pytest.fixture
def stored_network(tmp_path):
    table = np.array([[True, False, True], [True, True, False]])
    layers = [DeconvLayer(2, (3, 4), p=1.0, n_epochs=1), DeconvLayer(3, 3, p=0.7, n_epochs=1, connectivity=table)]
    net = DeconvNet(layers, rng=5).fit(np.float32(noise_images(1)))
    return net, save_network(tmp_path / "net.npz", net)


def test_load_network_restores_saved_network(stored_network):
    net, path = stored_network
    loaded = load_network(path)
    images = np.float32(noise_images(2))
    for expected, maps in zip(net.infer(images), loaded.infer(images), strict=True):
        np.testing.assert_array_equal(maps, expected)
        assert maps.dtype == expected.dtype == np.float32
    assert loaded.cost_history_ == net.cost_history_
    assert loaded.rng == 5
    for expected, layer in zip(net.layers, loaded.layers, strict=True):
        for name, value in expected.get_params().items():
            assert np.array_equal(layer.get_params()[name], value), name
    refitted = loaded.fit(images)
    np.testing.assert_array_equal(refitted.filters_[1], net.fit(images).filters_[1])


def test_save_network_rejects_unfitted_networks_and_other_files(stored_network):
    net, path = stored_network
    with pytest.raises(ValueError, match="call fit first"):
        save_network(path, DeconvNet([DeconvLayer(2, 3)]))
    with pytest.raises(ValueError, match=r"path must be a \.npz file"):
        save_network(path.with_suffix(".txt"), net)
    assert [p.name for p in path.parent.iterdir()] == ["net.npz"]


def test_save_network_converts_parameters_and_limits_layers(tmp_path, monkeypatch):
    images = noise_images(1)
    path = tmp_path / "net.npz"
    net = DeconvNet([DeconvLayer(np.int64(2), 3, lam=np.array(4.0), p=np.float32(1), n_epochs=1)]).fit(images)
    assert load_network(save_network(path, net)).layers[0].lam == 4.0
    monkeypatch.setattr(storage, "_MAX_LAYERS", 2)
    deep = DeconvNet([DeconvLayer(1, 1, lam=100.0, p=1.0, n_epochs=1) for _ in range(3)]).fit(images)
    with pytest.raises(ValueError, match="it has 3 layers, where 1 to 2 are expected"):
        save_network(tmp_path / "deep.npz", deep)
    assert [p.name for p in tmp_path.iterdir()] == ["net.npz"]


def test_save_network_rejects_networks_whose_layers_have_changed(tmp_path):
    images = noise_images(2)
    for change in (
        lambda net: net.layers[0].set_params(n_maps=5),
        lambda net: net.layers[0].set_params(kernel_size=4),
        lambda net: net.layers.append(DeconvLayer(2, 3)),
    ):
        net = small_net().fit(images)
        change(net)
        with pytest.raises(ValueError, match=r"net cannot be stored: .*; call fit again"):
            save_network(tmp_path / "net.npz", net)
    assert not list(tmp_path.iterdir())


def with_members(path, **changes):
    """Writes a copy of a file with other members, and returns its path."""
    with np.load(path) as members:
        arrays = dict(members)
    for name, value in changes.items():
        arrays.pop(name, None)
        if value is not None:
            arrays[name] = value
    other = path.with_name("other.npz")
    np.savez(other, **arrays)
    return other


def test_load_network_rejects_members_that_do_not_match(stored_network):
    _, path = stored_network
    with np.load(path) as members:
        header = json.loads(members["parameters"].tobytes())
        filters = members["filters_0"]

    def header_with(**changes):
        return np.frombuffer(json.dumps({**header, **changes}).encode(), np.uint8)

    layer = dict(header["layers"][0])
    for changes, message in (
        ({"parameters": header_with(format="else")}, "its format is not"),
        ({"parameters": np.frombuffer(b"{", np.uint8)}, "cannot be read"),
        ({"parameters": np.zeros(3)}, "its parameters are not text"),
        ({"parameters": None}, "cannot be read"),
        ({"parameters": header_with(layers=[{**layer, "lam": -1}, header["layers"][1]])}, "lam must be positive"),
        ({"parameters": header_with(layers=[{**layer, "n_maps": 10**9}, header["layers"][1]])}, "filters of layer 0"),
        ({"parameters": header_with(layers=[{**layer, "new": 1}, header["layers"][1]])}, "cannot be read"),
        ({"parameters": header_with(layers=[])}, "it has 0 layers, where 1 to 32 are expected"),
        ({"parameters": header_with(layers=header["layers"][:1])}, "its arrays do not match its layers"),
        ({"filters_0": np.full_like(filters, np.nan)}, "are not finite"),
        ({"filters_0": filters[:, :1]}, "have the shape"),
        ({"filters_0": 7 * filters}, "filters of layer 0 do not have unit norm"),
        ({"filters_0": 1e-310 * filters}, "filters of layer 0 do not have unit norm"),
        ({"parameters": header_with(rng=-5)}, "rng must be an integer from 0"),
        ({"parameters": header_with(rng="5")}, "rng must be an integer"),
        ({"filters_0": filters.astype(np.int8)}, "dtype"),
        ({"filters_0": filters.astype(complex)}, "has the dtype complex128"),
        ({"filters_1": None}, "cannot be read"),
        ({"connectivity_1": np.ones((2, 3))}, "connections of layer 1"),
        ({"connectivity_1": np.zeros((2, 3), bool)}, "connect"),
        ({"costs_0": np.ones((1, 2))}, "costs of layer 0"),
        ({"more": np.ones(3)}, "its arrays do not match its layers"),
    ):
        with pytest.raises(ValueError, match=message):
            load_network(with_members(path, **changes))


def test_load_network_rejects_array_larger_than_its_member(tmp_path):
    with zipfile.ZipFile(tmp_path / "claims.npz", "w") as archive:
        header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999, 99999), }"
        header += b" " * (63 - (len(header) + 10) % 64) + b"\n"
        archive.writestr("filters_0.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(ValueError, match="claims the shape"):
        load_network(tmp_path / "claims.npz")


def test_load_network_rejects_damaged_and_missing_files(stored_network, tmp_path):
    _, path = stored_network
    for content in (b"", b"text", path.read_bytes()[:300]):
        (tmp_path / "damaged.npz").write_bytes(content)
        with pytest.raises(ValueError, match=r"network .*damaged.npz cannot be read"):
            load_network(tmp_path / "damaged.npz")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_network(tmp_path / "nothing.npz")


def test_load_network_never_unpickles(stored_network):
    _, path = stored_network

    class Trap:
        def __reduce__(self):
            return print, ("trapped",)

    with pytest.raises(ValueError, match="cannot be read"):
        load_network(with_members(path, filters_0=np.array([Trap()], dtype=object)))
