"""Calibrates the cost model of ``engine="auto"`` on this machine: a least-squares fit to measured times."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.optimize

from ..engines import make
from ..engines.choose import candidates
from ..engines.costs import AMOUNTS, amounts, costs_file, seconds_per_unit
from ..engines.cpu.tuning import packaged_constants
from ..files import atomic_write
from .timing import interleaved_times, medians
from .workloads import WORKLOADS, Problem, Workload

# The workloads of the benchmark and others of similar sizes, so that several workloads determine the cost of each kind of work.
# The engine of separable kernels has no costs of its own.
CALIBRATION_WORKLOADS = (
    *(workload for workload in WORKLOADS if not workload.is_separable),
    Workload("blur 200^2 k5", (200, 200), (5, 5), {"padding": "same"}),
    Workload("blur 300^2 k21", (300, 300), (21, 21), {"padding": "same"}),
    Workload("blur 700^2 k11", (700, 700), (11, 11), {"padding": "same"}),
    Workload("blur 400^2 k51", (400, 400), (51, 51), {"padding": "same"}),
    Workload("sweep 1024^2 1x31", (1024, 1024), (1, 31), {"padding": "same"}),
    Workload("sweep 1024^2 31x1", (1024, 1024), (31, 1), {"padding": "same"}),
    Workload("signal 2^16 k500", (2**16,), (500,), {"padding": "same"}),
    Workload("signal 2^18 k9", (2**18,), (9,), {"padding": "same"}),
    Workload("volume 40^3 k3", (40, 40, 40), (3, 3, 3), {"padding": "same"}),
    Workload("volume 48^3 k9", (48, 48, 48), (9, 9, 9), {"padding": "same"}),
    Workload("2->2 256^2 k5", (2, 256, 256), (2, 2, 5, 5), {"padding": 2}),
    Workload("3->3 200^2 k9", (3, 200, 200), (3, 3, 9, 9), {"padding": 4}),
    Workload("16->32 64^2 k3 stride 2", (16, 64, 64), (32, 16, 3, 3), {"padding": 1, "stride": 2}),
    Workload("32->32 64^2 k5", (32, 64, 64), (32, 32, 5, 5), {"padding": 2}),
    Workload("128->128 14^2 k3", (128, 14, 14), (128, 128, 3, 3), {"padding": 1}),
    Workload("512->128 28^2 1x1", (512, 28, 28), (128, 512, 1, 1)),
    Workload("groups 8 of 8->8 56^2 k3", (64, 56, 56), (64, 8, 3, 3), {"padding": 1, "groups": 8}),
    Workload("depthwise 128 56^2 k7", (128, 56, 56), (128, 1, 7, 7), {"padding": 3, "groups": 128}),
    Workload("16->16 signal 4096 k9", (16, 4096), (16, 16, 9), {"padding": 4}),
    Workload("8->8 volume 24^3 k3", (8, 24, 24, 24), (8, 8, 3, 3, 3), {"padding": 1}),
    Workload("8->8 16^2 k3", (8, 16, 16), (8, 8, 3, 3), {"padding": 1}),
    Workload("blur 64^2 k3", (64, 64), (3, 3), {"padding": "same"}),
    Workload("blur 100^2 k7", (100, 100), (7, 7), {"padding": "same"}),
    Workload("signal 5000 k20", (5000,), (20,), {"padding": "same"}),
    Workload("32->32 14^2 k3 stride 2", (32, 14, 14), (32, 32, 3, 3), {"padding": 1, "stride": 2}),
    Workload("32->32 28^2 k3 dilation 2", (32, 28, 28), (32, 32, 3, 3), {"padding": 2, "dilation": 2}),
)
_QUICK = CALIBRATION_WORKLOADS[15:16] + CALIBRATION_WORKLOADS[22:24]
# Seconds of a product above which an engine is left out: `auto` never chooses it there.
_MAX_SECONDS = 0.3


def fit_costs(
    *, quick: bool = False, repeats: int = 5, progress: Callable[[str], object] = lambda _: None
) -> dict[str, Any]:
    """Time every engine on many workloads, and fit the seconds per unit of each kind of work.

    The fit minimises the sum of squared relative errors under the constraint that no cost is negative (nonnegative least
    squares).

    Parameters
    ----------
    quick : bool
        Use a few small workloads, to check that everything runs.
    repeats : int
        Number of rounds, of which the median is used.
    progress : callable
        Called with the name of each workload before it is measured.

    Returns
    -------
    dict
        ``"seconds"``: seconds per unit by engine, dtype and kind of work; ``"errors"``: median relative error of the fit by
        engine and dtype; ``"machine"``: the processor architecture; ``"tuning"``: the package's constants for sizes of blocks.
    """
    measured: dict[tuple[str, str], list[tuple[dict[str, float], float]]] = {}
    for workload in _QUICK if quick else CALIBRATION_WORKLOADS:
        progress(workload.name)
        for dtype in ("float64", "float32"):
            problem = Problem(workload, np.dtype(dtype))
            names = candidates(problem.spec, problem.dtype)
            for (name, adjoint), seconds in _time_engines(problem, names, repeats).items():
                work = amounts(name, problem.spec, problem.dtype, adjoint=adjoint)
                measured.setdefault((name, dtype), []).append((work, seconds))
    fitted: dict[str, dict[str, dict[str, float]]] = {name: {} for name in AMOUNTS}
    errors: dict[str, dict[str, float]] = {}
    for (name, dtype), rows in measured.items():
        units, error = _fit_units(rows)
        fitted[name][dtype] = units
        errors.setdefault(name, {})[dtype] = error
    constants = packaged_constants()  # the sizes of blocks are not fitted, and stay in the package's file
    return {"machine": platform.machine(), "errors": errors, "seconds": fitted, "tuning": constants}


def _time_engines(problem: Problem, names: list[str], repeats: int) -> dict[tuple[str, bool], float]:
    """Return the median seconds of the forward product (key ``(name, False)``) and the adjoint (``(name, True)``)."""
    functions: dict[str, Callable[[], object]] = {}
    keys: dict[str, tuple[str, bool]] = {}
    spec, x, y = problem.spec, problem.x.ravel(), problem.y.ravel()
    for name in names:
        engine = make(name, spec, problem.kernel)
        forward, adjoint = partial(engine.forward, x), partial(engine.adjoint, y)
        if interleaved_times({name: forward}, 1)[name][0] > _MAX_SECONDS:
            continue
        functions |= {f"{name} forward": forward, f"{name} adjoint": adjoint}
        keys |= {f"{name} forward": (name, False), f"{name} adjoint": (name, True)}
    return {keys[label]: seconds for label, seconds in medians(interleaved_times(functions, repeats)).items()}


def _fit_units(rows: list[tuple[dict[str, float], float]]) -> tuple[dict[str, float], float]:
    """Fit seconds per unit of each kind of work; rows are ``(amounts of work, seconds)``. Returns the median relative error too."""
    kinds = sorted({kind for work, _ in rows for kind in work})
    matrix = np.array([[work.get(kind, 0.0) / seconds for kind in kinds] for work, seconds in rows])
    scale = matrix.max(axis=0)
    units, _ = scipy.optimize.nnls(matrix / scale, np.ones(len(rows)))
    error = float(np.median(np.abs(matrix / scale @ units - 1)))
    return {kind: float(u) for kind, u in zip(kinds, units / scale, strict=True)}, error


def save_costs(costs: dict[str, Any], path: Path | None = None) -> Path:
    """Write fitted costs to a file, and make ``engine="auto"`` read them anew.

    Parameters
    ----------
    costs : dict
        From `fit_costs`.
    path : Path, optional
        By default the user's own file, which ``engine="auto"`` prefers to the package's.

    Returns
    -------
    Path
        The file.
    """
    path = costs_file() if path is None else path
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write((json.dumps(costs, indent=1) + "\n").encode())
    seconds_per_unit.cache_clear()
    return path
