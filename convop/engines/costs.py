"""The cost model of the engines: amounts of work, and the seconds that a unit of each kind of work takes.

The amounts follow from the geometry alone. The seconds are fitted to measurements (`convop bench --calibrate`) and kept
in ``costs.json`` beside this file, for classes of machines by the bytes of their vectors, or in the user's own file where
the calibration has been run.
"""

from __future__ import annotations

import json
import math
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ..geometry.spec import ConvSpec
from ..threads.vectors import vector_unit
from .cpu.columns import ColumnCut
from .cpu.components import component_count, real_dtype
from .cpu.fft import cheapest_transforms
from .cpu.gemm import is_pointwise
from .cpu.tuning import PACKAGED, Tuning
from .cpu.winograd import winograd_cut


def costs_file() -> Path:
    """Returns the file in which `convop bench --calibrate` keeps the costs of this machine."""
    cache_home = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache_home) if cache_home else Path.home() / ".cache") / "convop" / "costs.json"


def _multiplications(spec: ConvSpec) -> int:
    return spec.c_out * (spec.c_in // spec.groups) * math.prod(axis.taps * axis.outputs for axis in spec.axes)


def _moved(spec: ConvSpec) -> int:
    """Returns the elements that are read, with the extension, and written."""
    read = spec.c_in * math.prod((axis.outputs - 1) * min(axis.stride, axis.taps) + axis.extent for axis in spec.axes)
    return read + spec.c_out * math.prod(axis.outputs for axis in spec.axes)


def _rows(spec: ConvSpec) -> int:
    """Returns the rows along the last axis that are read and written."""
    *leading, _ = spec.axes
    read = spec.c_in * math.prod((axis.outputs - 1) * min(axis.stride, axis.taps) + axis.extent for axis in leading)
    return read + spec.c_out * math.prod(axis.outputs for axis in leading)


def _planes_kind(written: int) -> str:
    return "multiplied, 4 planes" if written >= 4 else "multiplied, 2 planes" if written >= 2 else "multiplied, 1 plane"


def _written_planes(spec: ConvSpec, adjoint: bool, dtype: np.dtype[Any]) -> int:
    return (spec.c_in if adjoint else spec.c_out) // spec.groups * component_count(dtype)


def _direct(spec: ConvSpec, adjoint: bool, dtype: np.dtype[Any]) -> dict[str, float]:
    components = component_count(dtype)
    return {
        "call": 1,
        "moved": components * _moved(spec),
        "lines": components * _rows(spec),
        _planes_kind(_written_planes(spec, adjoint, dtype)): components * components * _multiplications(spec),
    }


def _gemm(spec: ConvSpec, adjoint: bool, dtype: np.dtype[Any]) -> dict[str, float]:
    components = component_count(dtype)
    multiplied = components * components * _multiplications(spec)
    work: dict[str, float] = {"call": 1, "groups": spec.groups, "multiplied": multiplied}
    if components == 1 and is_pointwise(spec):
        return work
    collected = multiplied / _written_planes(spec, adjoint, dtype)
    return work | {"moved": components * _moved(spec), "collected": collected}


def _fft(spec: ConvSpec, adjoint: bool, dtype: np.dtype[Any]) -> dict[str, float]:
    # A fit cannot separate amounts that depend on how planes are cut: their sum is predicted up to one fitted factor.
    found = cheapest_transforms(spec, adjoint, dtype, Tuning.packaged())
    kind = "along the first axis" if isinstance(found, ColumnCut) else "along all axes"
    return {"call": 1, kind: spec.groups * found.nanoseconds}


def _winograd(spec: ConvSpec, adjoint: bool, dtype: np.dtype[Any]) -> dict[str, float]:
    return {"call": 1, "predicted": spec.groups * winograd_cut(spec, adjoint, dtype, Tuning.packaged()).nanoseconds}


def _csr(spec: ConvSpec, adjoint: bool, dtype: np.dtype[Any]) -> dict[str, float]:
    del adjoint
    return {"call": 1, "entries": component_count(dtype) * spec.nnz}


def _torch(spec: ConvSpec, adjoint: bool, dtype: np.dtype[Any]) -> dict[str, float]:
    components = component_count(dtype)
    # oneDNN has dedicated loops for stride 1 without dilation.
    plain = all(axis.stride == axis.dilation == 1 or axis.taps == 1 for axis in spec.axes)
    kind = ("multiplied" if plain else "multiplied, strided or dilated") + (" back" if adjoint else "")
    return {"call": 1, "moved": components * _moved(spec), kind: components * components * _multiplications(spec)}


def sweeps_seconds(spec: ConvSpec, rank: int, dtype: np.dtype[Any]) -> float:
    """Returns the seconds that a separable kernel takes for one product forward and one adjoint.

    Parameters
    ----------
    spec : ConvSpec
        Geometry.
    rank : int
        Channels of a group between two sweeps.
    dtype : dtype
        Of the map.

    Returns
    -------
    float
    """
    units = seconds_per_unit()["direct"].get(real_dtype(dtype).name, {})
    components = component_count(dtype)
    channels = [spec.c_out // spec.groups, *[rank] * (spec.ndim - 1), spec.c_in // spec.groups]
    space = [axis.inputs for axis in spec.axes]
    # Blocks are read and written once, for any number of sweeps.
    once = {"call": 1, "moved": components * _moved(spec), "lines": components * _rows(spec)}
    total = 2 * sum(amount * units.get(kind, math.inf) for kind, amount in once.items())
    for a in reversed(range(spec.ndim)):
        axis, written, read = spec.axes[a], channels[a] * components, channels[a + 1] * components
        space[a] = axis.outputs
        multiplied = spec.groups * written * read * axis.taps * math.prod(space)
        total += sum(multiplied * units.get(_planes_kind(planes), math.inf) for planes in (written, read))
    return total


AMOUNTS = {"csr": _csr, "direct": _direct, "fft": _fft, "gemm": _gemm, "torch": _torch, "winograd": _winograd}


def amounts(name: str, spec: ConvSpec, dtype: np.dtype[Any], *, adjoint: bool) -> dict[str, float]:
    """Returns how much of each kind of work an engine does for one product.

    Parameters
    ----------
    name : str
        An engine.
    spec : ConvSpec
        Geometry.
    dtype : dtype
        Of the map.
    adjoint : bool
        Which direction.

    Returns
    -------
    dict of float
    """
    return AMOUNTS[name](spec, adjoint, dtype)


@cache
def seconds_per_unit() -> dict[str, dict[str, dict[str, float]]]:
    """Returns the seconds of a unit of each kind of work, by engine and real dtype, for machines of this width of vectors.

    Returns
    -------
    dict
        ``[engine][real dtype][kind]``; kinds that were not measured are missing.
    """
    try:
        costs = json.loads(costs_file().read_text())["seconds"]
        return {name: costs[name] for name in AMOUNTS}
    except (OSError, ValueError, KeyError, TypeError):  # no such file, or one of another version
        classes: dict[str, Any] = json.loads(PACKAGED.read_text())["classes"]
    width = vector_unit().bytes
    nearest = min(classes, key=lambda name: abs(math.log2(int(name) / width)))
    return {name: classes[nearest]["seconds"][name] for name in AMOUNTS}


def predicted(name: str, spec: ConvSpec, dtype: np.dtype[Any]) -> float:
    """Returns the seconds that an engine takes for one product forward and one adjoint.

    Parameters
    ----------
    name : str
        An engine other than ``"separable"``.
    spec : ConvSpec
        Geometry.
    dtype : dtype
        Of the map.

    Returns
    -------
    float
        Infinite where nothing like it has been measured.
    """
    units = seconds_per_unit()[name].get(real_dtype(dtype).name, {})
    total = 0.0
    for adjoint in (False, True):
        for kind, amount in amounts(name, spec, dtype, adjoint=adjoint).items():
            total += amount * units.get(kind, math.inf)
    return total
