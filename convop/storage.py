"""Stores deconvolutional networks in .npz files: written atomically, and read without trusting their contents."""

from __future__ import annotations

import json
import math
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np

from .arrays import memory
from .arrays.backend import Array
from .deconvnet import DeconvLayer, DeconvNet
from .files import atomic_write
from .geometry.arguments import integer

__all__ = ["load_network", "save_network"]

_FORMAT = "convop deconvnet 1"
# The largest number of layers in a file, and of bytes of the JSON text with their parameters.
_MAX_LAYERS, _MAX_TEXT = 32, 2**20
# Tolerance for the unit norms of filter planes.
_NORM_ERROR = 1e-4


def save_network(path: str | Path, net: DeconvNet) -> Path:
    """Write a fitted network to a file.

    Parameters
    ----------
    path : str or Path
        A .npz file. It contains arrays and text only, no pickles.
    net : DeconvNet
        A fitted network. Its `rng` is stored if it is an integer, and otherwise lost.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    ValueError
        If the path is not a .npz file, the network is not fitted, or its layers have changed since `fit` so that the file
        could not be read again.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from convop.deconvnet import DeconvLayer, DeconvNet
    >>> from convop.storage import load_network, save_network
    >>> images = np.random.default_rng(0).standard_normal((1, 12, 12))
    >>> net = DeconvNet([DeconvLayer(2, 3, p=1.0, n_epochs=1)]).fit(images)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     again = load_network(save_network(folder + "/net.npz", net))
    >>> np.array_equal(again.filters_[0], net.filters_[0])
    True
    """
    path = Path(path)
    if path.suffix.lower() != ".npz":
        raise ValueError(f"path must be a .npz file, got {path}")
    if not hasattr(net, "filters_"):
        raise ValueError("net has no filters yet: call fit first")
    seed = int(net.rng) if isinstance(net.rng, int | np.integer) else None
    layers = [_layer_parameters(layer) for layer in net.layers]
    text = json.dumps({"format": _FORMAT, "rng": seed, "layers": layers})
    arrays: dict[str, Any] = {}
    for number, (filters, table, costs) in enumerate(
        zip(net.filters_, net.connectivity_, net.cost_history_, strict=True)
    ):
        arrays[f"filters_{number}"], arrays[f"connectivity_{number}"] = filters, table
        arrays[f"costs_{number}"] = np.asarray(costs, dtype=np.float64)
    try:
        _to_network(json.loads(text), dict(arrays))
    except Exception as error:
        raise ValueError(f"net cannot be stored: {error}; call fit again") from error
    with atomic_write(path) as file:
        np.savez(file, parameters=np.frombuffer(text.encode(), dtype=np.uint8), **arrays)
    return path


def _layer_parameters(layer: DeconvLayer) -> dict[str, Any]:
    """The parameters of a layer as values that JSON can hold."""
    parameters = layer.get_params()
    if not isinstance(parameters["connectivity"], str):
        parameters["connectivity"] = None  # the table has an array of its own in the file
    size = parameters["kernel_size"]
    parameters["kernel_size"] = [int(k) for k in size] if np.iterable(size) else int(size)
    parameters["betas"] = [float(beta) for beta in parameters["betas"]]
    return {
        name: value.item() if isinstance(value, np.generic | np.ndarray) else value
        for name, value in parameters.items()
    }


def load_network(path: str | Path) -> DeconvNet:
    """Read a network from a file that `save_network` has written.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    DeconvNet
        The fitted network.

    Raises
    ------
    ValueError
        If the file has another format, is damaged, or contradicts itself.
    OSError
        If the file does not exist.
    MemoryError
        If the file claims to hold more than fits the free memory.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"network {path} does not exist")
    try:
        arrays = _read_arrays(path)
        text = arrays.pop("parameters")
        if text.dtype != np.uint8 or text.ndim != 1 or text.size > _MAX_TEXT:
            raise ValueError("its parameters are not text")
        header = json.loads(text.tobytes())
        if not isinstance(header, dict) or header.get("format") != _FORMAT:
            raise ValueError(f"its format is not {_FORMAT!r}")
        return _to_network(header, arrays)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - parsers raise almost any exception on a damaged file
        raise ValueError(f"network {path} cannot be read: {error}") from None


def _read_arrays(path: Path) -> dict[str, Array]:
    """Returns the arrays of a file by name, after checks of their number, sizes and dtypes."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if len(members) > 3 * _MAX_LAYERS + 1 or len({m.filename for m in members}) != len(members):
            raise ValueError(f"it has {len(members)} members")
        memory.require(2 * sum(member.file_size for member in members), f"reading {path}")
        arrays: dict[str, Array] = {}
        for member in members:
            name = member.filename.removesuffix(".npy")
            with archive.open(member) as file:
                arrays[name] = _read_array(file, name, member.file_size)
        return arrays


def _read_array(file: IO[bytes], name: str, nbytes: int) -> Array:
    """Reads an array in NumPy's format from a member of `nbytes` bytes, and no more bytes than it holds."""
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"{name} has version {version} of NumPy's format")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.kind not in "fbu" or dtype.itemsize > 8:
        raise ValueError(f"{name} has the dtype {dtype}")
    expected = math.prod(shape) * dtype.itemsize
    if len(shape) > 4 or expected > nbytes:
        raise ValueError(f"{name} claims the shape {shape}, which does not fit its {nbytes} bytes")
    content = file.read(expected + 1)
    if len(content) != expected:
        raise ValueError(f"{name} holds {len(content)} bytes, but its shape {shape} takes {expected}")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C").copy()


def _to_network(header: dict[str, Any], arrays: dict[str, Array]) -> DeconvNet:
    """Returns the fitted network of a header and the arrays of its layers, which are removed from `arrays`."""
    layers: list[DeconvLayer] = []
    filters: list[Array] = []
    tables: list[Array] = []
    costs: list[list[float]] = []
    if not 0 < len(header["layers"]) <= _MAX_LAYERS:
        raise ValueError(f"it has {len(header['layers'])} layers, where 1 to {_MAX_LAYERS} are expected")
    for number, parameters in enumerate(header["layers"]):
        if f"filters_{number}" not in arrays:
            raise ValueError(f"there are no filters of layer {number}")
        bank, table, history = (arrays.pop(f"{name}_{number}") for name in ("filters", "connectivity", "costs"))
        if parameters["connectivity"] is None:
            parameters["connectivity"] = table
        parameters["betas"] = tuple(parameters["betas"])
        layer = DeconvLayer(**parameters)
        _check_layer_arrays(f"layer {number}", layer, bank, table, history)
        if number and len(bank) != filters[-1].shape[1]:
            raise ValueError(f"filters of layer {number} do not match the layer below")
        layers.append(layer)
        filters.append(bank)
        tables.append(table)
        costs.append([float(cost) for cost in history])
    if arrays:
        raise ValueError("its arrays do not match its layers")
    net = DeconvNet(layers, rng=0 if header["rng"] is None else integer("rng", header["rng"]))
    net.check()
    net.filters_, net.connectivity_, net.cost_history_ = filters, tables, costs
    return net


def _check_layer_arrays(name: str, layer: DeconvLayer, filters: Array, table: Array, costs: Array) -> None:
    """Raises ValueError unless the arrays are filters, connections and costs that `fit` could have made for a layer."""
    size = layer.kernel_size if np.iterable(layer.kernel_size) else (layer.kernel_size,) * 2
    if filters.ndim != 4 or filters.dtype.kind != "f" or filters.shape[1:] != (layer.n_maps, *size):
        raise ValueError(f"filters of {name} have the shape {filters.shape} and the dtype {filters.dtype}")
    if not np.isfinite(filters).all() or 0 in filters.shape:
        raise ValueError(f"filters of {name} are not finite")
    if table.dtype != bool or table.shape != filters.shape[:2] or filters[~table].any():
        raise ValueError(f"connections of {name} do not match its filters")
    norms = np.linalg.norm(filters.astype(np.float64), axis=(2, 3))[table]
    if abs(norms - 1).max(initial=0) > _NORM_ERROR:
        raise ValueError(f"filters of {name} do not have unit norm")
    if costs.ndim != 1 or costs.dtype.kind != "f":
        raise ValueError(f"costs of {name} are not a list of numbers")
