"""What an engine costs: the amounts of its work, and the seconds that a unit of each takes.

The amounts follow from the geometry alone. The seconds are fitted to measurements (`convop bench --calibrate`) and
kept beside this file, or in the user's own file where that has been run here.
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
from .cpu.columns import Cut
from .cpu.fft import best_transforms
from .cpu.gemm import is_pointwise

__all__ = ["AMOUNTS", "amounts", "costs_file", "predicted", "seconds_per_unit", "sweeps_seconds"]

_PACKAGED = Path(__file__).with_name("costs.json")


def costs_file() -> Path:
    """Where `convop bench --calibrate` keeps the costs of this machine."""
    cache_home = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache_home) if cache_home else Path.home() / ".cache") / "convop" / "costs.json"


def _multiplications(spec: ConvSpec) -> int:
    return spec.c_out * (spec.c_in // spec.groups) * math.prod(axis.taps * axis.outputs for axis in spec.axes)


def _moved(spec: ConvSpec) -> int:
    """Elements that are read, with the extension, and written."""
    read = spec.c_in * math.prod((axis.outputs - 1) * min(axis.stride, axis.taps) + axis.extent for axis in spec.axes)
    return read + spec.c_out * math.prod(axis.outputs for axis in spec.axes)


def _direct(spec: ConvSpec, adjoint: bool, parts: int, itemsize: int) -> dict[str, float]:
    del itemsize
    written = (spec.c_in if adjoint else spec.c_out) // spec.groups * parts
    return {
        "call": 1,
        "moved": parts * _moved(spec),
        "lines": parts * _lines(spec),
        _planes_kind(written): parts * parts * _multiplications(spec),
    }


def _lines(spec: ConvSpec) -> int:
    """Lines along the last axis that are read and written."""
    *leading, _ = spec.axes
    read = spec.c_in * math.prod((axis.outputs - 1) * min(axis.stride, axis.taps) + axis.extent for axis in leading)
    return read + spec.c_out * math.prod(axis.outputs for axis in leading)


def _planes_kind(written: int) -> str:
    return "multiplied, 4 planes" if written >= 4 else "multiplied, 2 planes" if written >= 2 else "multiplied, 1 plane"


def _gemm(spec: ConvSpec, adjoint: bool, parts: int, itemsize: int) -> dict[str, float]:
    del itemsize
    multiplied = parts * parts * _multiplications(spec)
    written = (spec.c_in if adjoint else spec.c_out) // spec.groups * parts
    work: dict[str, float] = {"call": 1, "groups": spec.groups, "multiplied": multiplied}
    if parts == 1 and is_pointwise(spec):
        return work
    return work | {"moved": parts * _moved(spec), "collected": multiplied / written}


def _fft(spec: ConvSpec, adjoint: bool, parts: int, itemsize: int) -> dict[str, float]:
    # Amounts that depend on how planes are cut are not told apart by a fit: their sum is known but for the machine.
    found = best_transforms(spec, adjoint, itemsize, parts)
    kind = "along the first axis" if isinstance(found, Cut) else "along all axes"
    return {"call": 1, kind: spec.groups * found.nanoseconds}


def _csr(spec: ConvSpec, adjoint: bool, parts: int, itemsize: int) -> dict[str, float]:
    del adjoint, itemsize
    return {"call": 1, "entries": parts * spec.nnz}


def _torch(spec: ConvSpec, adjoint: bool, parts: int, itemsize: int) -> dict[str, float]:
    del itemsize
    # Its libraries have loops of their own for the plainest case, and others for the rest.
    plain = all(axis.stride == axis.dilation == 1 or axis.taps == 1 for axis in spec.axes)
    kind = ("multiplied" if plain else "multiplied, strided or dilated") + (" back" if adjoint else "")
    return {"call": 1, "moved": parts * _moved(spec), kind: parts * parts * _multiplications(spec)}


def sweeps_seconds(spec: ConvSpec, rank: int, dtype: np.dtype[Any]) -> float:
    """Seconds that sweeps along the axes take for one column forward and one back.

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
    units = seconds_per_unit()["direct"].get("float32" if dtype.char in "fF" else "float64", {})
    parts = 2 if dtype.kind == "c" else 1
    channels = [spec.c_out // spec.groups, *[rank] * (spec.ndim - 1), spec.c_in // spec.groups]
    space = [axis.inputs for axis in spec.axes]
    # Blocks are read and written once, whatever the number of sweeps.
    once = {"call": 1, "moved": parts * _moved(spec), "lines": parts * _lines(spec)}
    total = 2 * sum(amount * units.get(kind, math.inf) for kind, amount in once.items())
    for a in reversed(range(spec.ndim)):
        axis, written, read = spec.axes[a], channels[a] * parts, channels[a + 1] * parts
        space[a] = axis.outputs
        multiplied = spec.groups * written * read * axis.taps * math.prod(space)
        total += sum(multiplied * units.get(_planes_kind(planes), math.inf) for planes in (written, read))
    return total


AMOUNTS = {"csr": _csr, "direct": _direct, "fft": _fft, "gemm": _gemm, "torch": _torch}


def amounts(name: str, spec: ConvSpec, dtype: np.dtype[Any], *, adjoint: bool) -> dict[str, float]:
    """How much of each kind of work an engine does for one column.

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
    parts = 2 if dtype.kind == "c" else 1
    return AMOUNTS[name](spec, adjoint, parts, dtype.itemsize // parts)


@cache
def seconds_per_unit() -> dict[str, dict[str, dict[str, float]]]:
    """Seconds of a unit of each kind of work, by engine and real dtype.

    Returns
    -------
    dict
        ``[engine][real dtype][kind]``; kinds that were not measured are missing.
    """
    for path in (costs_file(), _PACKAGED):
        try:
            costs = json.loads(path.read_text())["seconds"]
            return {name: costs[name] for name in AMOUNTS}
        except (OSError, ValueError, KeyError, TypeError):  # no such file, or one of another version
            continue
    raise RuntimeError(f"{_PACKAGED} is missing or damaged; install convop again")


def predicted(name: str, spec: ConvSpec, dtype: np.dtype[Any]) -> float:
    """Seconds that an engine takes for one column forward and one back.

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
    units = seconds_per_unit()[name].get("float32" if dtype.char in "fF" else "float64", {})
    total = 0.0
    for adjoint in (False, True):
        for kind, amount in amounts(name, spec, dtype, adjoint=adjoint).items():
            total += amount * units.get(kind, math.inf)
    return total
