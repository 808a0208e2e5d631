"""Sparse codes of a photograph: the time until the objective is within a thousandth of its minimum.

Of the solvers here as their users call them, which includes finding out that they may end. SPORCO, where it is installed,
is told after how many iterations to end, which only hindsight knows.
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
from .timing import Line, in_turn

__all__ = ["coding_lines"]

_WITHIN = 1e-3
_LAM = 20.0
# Iterations at most: for the minimum, and of a peer until it is close to it.
_TO_MINIMUM, _PEER_STEPS = 3000, 200


@dataclass(frozen=True)
class _Work:
    """A photograph without its coarse structure, filters that were learned from it, and the objective's minimum."""

    image: Array
    filters: Array
    minimum: float

    def codes(self, solver: str) -> Codes:
        """By a solver of this package, to within a thousandth."""
        found = sparse_codes(self.filters, self.image[None], lam=_LAM, solver=solver, rtol=_WITHIN)
        _close(f"solver {solver!r}", float(found.objective[0]), self.minimum)
        return found

    def __str__(self) -> str:
        _, maps, *taps = self.filters.shape
        return f"codes {len(self.image)}^2, {maps} {'x'.join(map(str, taps))}, {self.image.dtype}"


def coding_lines(*, quick: bool = False, repeats: int = 7) -> Iterator[Line]:
    """Measure solvers.

    Parameters
    ----------
    quick : bool
        Small sizes, to see that it runs.
    repeats : int
        Rounds.

    Yields
    ------
    Line

    Raises
    ------
    AssertionError
        If a solver does not come to the same minimum.
    """
    photograph = read_photograph(None)
    detail = photograph - gaussian_filter(photograph, 4)
    crops = np.stack([detail[s : s + 96, s : s + 96] for s in (64, 160, 256)])
    layer = DeconvLayer(4, 5, lam=_LAM, p=1.0, n_epochs=1) if quick else DeconvLayer(32, 8, lam=_LAM, p=1.0)
    filters = DeconvNet([layer]).fit(crops).filters_[0]
    for size in (32,) if quick else (128, 256):
        start = (len(detail) - size) // 2
        image = detail[start : start + size, start : start + size]
        minimum = sparse_codes(filters, image[None], lam=_LAM, rtol=1e-6, maxiter=_TO_MINIMUM).objective[0]
        for dtype in (np.float64, np.float32):
            work = _Work(image.astype(dtype), filters.astype(dtype), float(minimum))
            for against, peer in _others(work).items():
                ours, theirs, ratio = in_turn(partial(work.codes, "auto"), peer, repeats)
                yield Line(str(work), against, ours, theirs, ratio, 1.0)


def _others(work: _Work) -> dict[str, Callable[[], object]]:
    """What `solver="auto"` is compared with."""
    found: dict[str, Callable[[], object]] = {"solver 'fista'": partial(work.codes, "fista")}
    if find_spec("sporco") is not None:
        # The same problem; and that of a periodic image with maps no larger than it, whose minimum is its own.
        for name, made, minimum in (("AddMaskSim", _masked, work.minimum), ("ConvBPDN, periodic", _periodic, None)):
            solver = made(work, _PEER_STEPS, fast=False)
            solver.solve()
            # Theirs is over lam.
            objectives = [_LAM * float(value) for value in solver.getitstat().ObjFun]
            steps = _steps_to(f"SPORCO {name}", objectives, minimum or min(objectives))
            found[f"SPORCO {name}, {steps} iterations"] = partial(_solved, made, work, steps)
    return found


def _close(name: str, objective: float, minimum: float) -> None:
    if not abs(objective - minimum) <= _WITHIN * minimum:
        raise AssertionError(f"{name} ends at an objective of {objective:.6g}, where the minimum is {minimum:.6g}")


def _steps_to(name: str, objectives: list[float], minimum: float) -> int:
    """Iterations until the objective is within a thousandth of the minimum."""
    _close(name, min(objectives), minimum)
    return 1 + next(step for step, value in enumerate(objectives) if value <= (1 + _WITHIN) * minimum)


def _solved(made: Callable[..., Any], work: _Work, steps: int) -> None:
    made(work, steps, fast=True).solve()


def _masked(work: _Work, steps: int, *, fast: bool) -> Any:
    """A periodic image with a margin whose pixels are not known."""
    from sporco.admm import cbpdn

    margin = [(taps - 1, 0) for taps in work.filters.shape[2:]]
    image, mask = np.pad(work.image, margin), np.pad(np.ones_like(work.image), margin)
    return cbpdn.AddMaskSim(
        cbpdn.ConvBPDN, _dictionary(work), image, mask, 1 / _LAM, opt=_options(work, steps, fast=fast)
    )


def _periodic(work: _Work, steps: int, *, fast: bool) -> Any:
    from sporco.admm import cbpdn

    return cbpdn.ConvBPDN(_dictionary(work), work.image, 1 / _LAM, _options(work, steps, fast=fast), dimK=0)


def _options(work: _Work, steps: int, *, fast: bool) -> Any:
    """Theirs by default, but for when to end; `fast` leaves out what need not be known on the way."""
    from sporco.admm import cbpdn

    return cbpdn.ConvBPDN.Options(
        {
            "MaxMainIter": steps,
            "RelStopTol": 1e-9,
            "AuxVarObj": True,
            "FastSolve": fast,
            "DataType": work.image.dtype.type,
        }
    )


def _dictionary(work: _Work) -> Array:
    return np.ascontiguousarray(work.filters[0].transpose(1, 2, 0))
