"""Networks in files: written whole or not at all, and read without trusting what a file says of itself."""

from __future__ import annotations

import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from .arrays import memory
from .arrays.backend import Array
from .deconvnet import DeconvLayer, DeconvNet
from .files import written
from .geometry.arguments import integer

__all__ = ["load_network", "save_network"]

_FORMAT = "convop deconvnet 1"
# Layers of a file, at most; and bytes of the text that says their parameters.
_MOST_LAYERS, _MOST_TEXT = 32, 2**20
# How far from 1 the norms of planes may be.
_NORM_ERROR = 1e-4


def save_network(path: str | Path, net: DeconvNet) -> Path:
    """Write a fitted network to a file.

    Parameters
    ----------
    path : str or Path
        A .npz file. Arrays and text alone are in it: no pickles.
    net : DeconvNet
        Fitted. Of `rng` an integer is kept, and anything else is not.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    ValueError
        If it is not fitted, or has been changed since so that it could not be read again, or the path is no .npz file.

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
    layers = []
    for layer in net.layers:
        parameters = layer.get_params()
        if not isinstance(parameters["connectivity"], str):
            parameters["connectivity"] = None  # the table that is kept beside
        size = parameters["kernel_size"]
        parameters["kernel_size"] = [int(k) for k in size] if np.iterable(size) else int(size)
        parameters["betas"] = [float(beta) for beta in parameters["betas"]]
        layers.append(
            {
                name: value.item() if isinstance(value, np.generic | np.ndarray) else value
                for name, value in parameters.items()
            }
        )
    seed = int(net.rng) if isinstance(net.rng, int | np.integer) else None
    text = json.dumps({"format": _FORMAT, "rng": seed, "layers": layers})
    arrays: dict[str, Any] = {}
    for number, (filters, table, costs) in enumerate(
        zip(net.filters_, net.connectivity_, net.cost_history_, strict=True)
    ):
        arrays[f"filters_{number}"], arrays[f"connectivity_{number}"] = filters, table
        arrays[f"costs_{number}"] = np.asarray(costs, dtype=np.float64)
    try:
        _network(json.loads(text), dict(arrays))
    except Exception as error:
        raise ValueError(f"net cannot be kept in a file: {error}; call fit again") from error
    with written(path) as file:
        np.savez(file, parameters=np.frombuffer(text.encode(), dtype=np.uint8), **arrays)
    return path


def load_network(path: str | Path) -> DeconvNet:
    """A network from a file that `save_network` has written.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    DeconvNet
        Fitted.

    Raises
    ------
    ValueError
        If the file is not such a one, is damaged, or does not fit together.
    OSError
        If there is no such file.
    MemoryError
        If it claims to hold more than fits.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"network {path} does not exist")
    try:
        arrays = _arrays(path)
        text = arrays.pop("parameters")
        if text.dtype != np.uint8 or text.ndim != 1 or text.size > _MOST_TEXT:
            raise ValueError("its parameters are no text")
        said = json.loads(text.tobytes())
        if not isinstance(said, dict) or said.get("format") != _FORMAT:
            raise ValueError(f"its format is not {_FORMAT!r}")
        return _network(said, arrays)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - a damaged file makes its parsers raise nearly anything
        raise ValueError(f"network {path} cannot be read: {error}") from None


def _arrays(path: Path) -> dict[str, Array]:
    """What is in a file, of plain dtypes and of the sizes that it says."""
    found: dict[str, Array] = {}
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if len(members) > 3 * _MOST_LAYERS + 1 or len({m.filename for m in members}) != len(members):
            raise ValueError(f"it has {len(members)} members")
        memory.require(2 * sum(member.file_size for member in members), f"reading {path}")
        for member in members:
            name = member.filename.removesuffix(".npy")
            with archive.open(member) as file:
                version = np.lib.format.read_magic(file)
                if version != (1, 0):
                    raise ValueError(f"{name} is of NumPy's format {version}")
                shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
                if dtype.kind not in "fbu" or dtype.itemsize > 8:
                    raise ValueError(f"{name} has the dtype {dtype}")
                count = math.prod(shape)
                # No more than the member holds is read, whatever its header claims.
                if len(shape) > 4 or count * dtype.itemsize > member.file_size:
                    raise ValueError(f"{name} claims the shape {shape}, which it does not hold")
                content = file.read(count * dtype.itemsize + 1)
            if len(content) != count * dtype.itemsize:
                raise ValueError(f"{name} holds {len(content)} bytes, not those of shape {shape}")
            found[name] = np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C").copy()
    return found


def _network(said: dict[str, Any], arrays: dict[str, Array]) -> DeconvNet:
    layers: list[DeconvLayer] = []
    filters: list[Array] = []
    tables: list[Array] = []
    costs: list[list[float]] = []
    if not 0 < len(said["layers"]) <= _MOST_LAYERS:
        raise ValueError(f"it has {len(said['layers'])} layers, where 1 to {_MOST_LAYERS} are expected")
    for number, parameters in enumerate(said["layers"]):
        if f"filters_{number}" not in arrays:
            raise ValueError(f"there are no filters of layer {number}")
        bank, table = arrays.pop(f"filters_{number}"), arrays.pop(f"connectivity_{number}")
        history = arrays.pop(f"costs_{number}")
        if parameters["connectivity"] is None:
            parameters["connectivity"] = table
        parameters["betas"] = tuple(parameters["betas"])
        layer = DeconvLayer(**parameters)
        size = layer.kernel_size if np.iterable(layer.kernel_size) else (layer.kernel_size,) * 2
        if bank.ndim != 4 or bank.dtype.kind != "f" or bank.shape[1:] != (layer.n_maps, *size):
            raise ValueError(f"filters of layer {number} have the shape {bank.shape}")
        if number and len(bank) != filters[-1].shape[1]:
            raise ValueError(f"filters of layer {number} do not fit those below")
        if not np.isfinite(bank).all() or 0 in bank.shape:
            raise ValueError(f"filters of layer {number} are not finite")
        if table.dtype != bool or table.shape != bank.shape[:2] or bank[~table].any():
            raise ValueError(f"connections of layer {number} are not those of its filters")
        if abs(np.linalg.norm(bank.astype(np.float64), axis=(2, 3))[table] - 1).max(initial=0) > _NORM_ERROR:
            raise ValueError(f"filters of layer {number} have not the norm 1")
        if history.ndim != 1 or history.dtype.kind != "f":
            raise ValueError(f"costs of layer {number} are no list of numbers")
        layers.append(layer)
        filters.append(bank)
        tables.append(table)
        costs.append([float(cost) for cost in history])
    if arrays:
        raise ValueError("its arrays are not those of its layers")
    net = DeconvNet(layers, rng=0 if said["rng"] is None else integer("rng", said["rng"]))
    net.check()
    net.filters_, net.connectivity_, net.cost_history_ = filters, tables, costs
    return net
