"""Benchmark of the sparse coding solvers: time until the objective of a photograph is within 0.1 % of its minimum.

The solvers of this package are timed as users call them, including the evaluation of their stopping rule. SPORCO, where it
is installed, runs a fixed number of iterations, determined by a run before the timing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from ..arrays.backend import Array
from ..deconvnet import Codes, DeconvLayer, DeconvNet, sparse_codes
from ..files import read_photograph
from .timing import Comparison, compare

_RTOL = 1e-3
_LAM = 20.0
# Iterations, at most, to find the minimum, and of a peer until it is within the tolerance.
_MINIMUM_ITERATIONS, _PEER_ITERATIONS = 3000, 200


@dataclass(frozen=True)
class _Task:
    """The fine structure of a photograph, filters that were learned from it, and the minimum of the objective."""

    image: Array
    filters: Array
    minimum: float

    def solve(self, solver: str) -> Codes:
        """Finds the codes by a solver of this package, and checks their objective."""
        codes = sparse_codes(self.filters, self.image[None], lam=_LAM, solver=solver, rtol=_RTOL)
        _check_objective(f"solver {solver!r}", float(codes.objective[0]), self.minimum)
        return codes

    def __str__(self) -> str:
        _, maps, *taps = self.filters.shape
        return f"codes {len(self.image)}^2, {maps} {'x'.join(map(str, taps))}, {self.image.dtype}"


def measure_coding(*, quick: bool = False, repeats: int = 7) -> Iterator[Comparison]:
    """Time the default solver of `sparse_codes` in turn with FISTA, and with SPORCO where it is installed.

    Parameters
    ----------
    quick : bool
        Use small images and few filters, to see that the benchmark runs.
    repeats : int
        Number of rounds.

    Yields
    ------
    Comparison

    Raises
    ------
    AssertionError
        If a solver does not reach the same minimum.
    """
    photograph = read_photograph(None)
    detail = photograph - gaussian_filter(photograph, 4)
    crops = np.stack([detail[s : s + 96, s : s + 96] for s in (64, 160, 256)])
    layer = DeconvLayer(4, 5, lam=_LAM, p=1.0, n_epochs=1) if quick else DeconvLayer(32, 8, lam=_LAM, p=1.0)
    filters = DeconvNet([layer]).fit(crops).filters_[0]
    for size in (32,) if quick else (128, 256):
        start = (len(detail) - size) // 2
        image = detail[start : start + size, start : start + size]
        minimum = sparse_codes(filters, image[None], lam=_LAM, rtol=1e-6, maxiter=_MINIMUM_ITERATIONS).objective[0]
        for dtype in (np.float64, np.float32):
            task = _Task(image.astype(dtype), filters.astype(dtype), float(minimum))
            for name, peer in _peers(task).items():
                yield compare(str(task), name, partial(task.solve, "auto"), peer, repeats=repeats, limit=1.0)


def _peers(task: _Task) -> dict[str, Callable[[], object]]:
    """The solvers to compare with, by name."""
    peers: dict[str, Callable[[], object]] = {"solver 'fista'": partial(task.solve, "fista")}
    if find_spec("sporco") is not None:
        # The periodic problem has maps of the size of the image, and another minimum.
        for name, build, minimum in (("AddMaskSim", _masked, task.minimum), ("ConvBPDN, periodic", _periodic, None)):
            solver = build(task, _PEER_ITERATIONS, fast=False)
            solver.solve()
            # SPORCO's objective is this one over lam.
            objectives = [_LAM * float(value) for value in solver.getitstat().ObjFun]
            iterations = _iterations_to(f"SPORCO {name}", objectives, minimum or min(objectives))
            peers[f"SPORCO {name}, {iterations} iterations"] = partial(_build_and_solve, build, task, iterations)
    return peers


def _check_objective(name: str, objective: float, minimum: float) -> None:
    if not abs(objective - minimum) <= _RTOL * minimum:
        raise AssertionError(f"{name} ends at an objective of {objective:.6g}, where the minimum is {minimum:.6g}")


def _iterations_to(name: str, objectives: list[float], minimum: float) -> int:
    """The number of iterations until the objective is within the tolerance of the minimum."""
    _check_objective(name, min(objectives), minimum)
    return 1 + next(step for step, value in enumerate(objectives) if value <= (1 + _RTOL) * minimum)


def _build_and_solve(build: Callable[..., Any], task: _Task, iterations: int) -> None:
    build(task, iterations, fast=True).solve()


def _masked(task: _Task, iterations: int, *, fast: bool) -> Any:
    """SPORCO's solver of a periodic image with a margin of unknown pixels: the same problem as here."""
    from sporco.admm import cbpdn

    margin = [(taps - 1, 0) for taps in task.filters.shape[2:]]
    image, mask = np.pad(task.image, margin), np.pad(np.ones_like(task.image), margin)
    options = _options(task, iterations, fast=fast)
    return cbpdn.AddMaskSim(cbpdn.ConvBPDN, _dictionary(task), image, mask, 1 / _LAM, opt=options)


def _periodic(task: _Task, iterations: int, *, fast: bool) -> Any:
    """SPORCO's solver of a periodic image."""
    from sporco.admm import cbpdn

    return cbpdn.ConvBPDN(_dictionary(task), task.image, 1 / _LAM, _options(task, iterations, fast=fast), dimK=0)


def _options(task: _Task, iterations: int, *, fast: bool) -> Any:
    """SPORCO's default options, except for the stopping rule; `fast` omits the statistics of each iteration."""
    from sporco.admm import cbpdn

    return cbpdn.ConvBPDN.Options(
        {
            "MaxMainIter": iterations,
            "RelStopTol": 1e-9,
            "AuxVarObj": True,
            "FastSolve": fast,
            "DataType": task.image.dtype.type,
        }
    )


def _dictionary(task: _Task) -> Array:
    """The filters in SPORCO's order of axes."""
    return np.ascontiguousarray(task.filters[0].transpose(1, 2, 0))
