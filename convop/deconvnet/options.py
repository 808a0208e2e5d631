"""The options of the sparse coding solvers, checked in one place for `sparse_codes` and for `DeconvLayer`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..geometry.arguments import at_least_one, number, one_of, positive
from .half_quadratic import BETAS

_SOLVERS = ("auto", "admm", "fista", "hqs")


@dataclass(frozen=True)
class SolverOptions:
    """Options of a solver, as `sparse_codes` describes them.

    Attributes
    ----------
    solver : {"admm", "fista", "hqs"}
        The method.
    betas : tuple of float
        Weights of the stages of "hqs".
    cg_iterations : int
        Conjugate-gradient iterations in each linear system, at least.
    rtol : float
        Tolerance for the distance of the objective to its minimum.
    maxiter : int
        Iterations of all stages together, at most.
    """

    solver: str = "admm"
    betas: tuple[float, ...] = BETAS
    cg_iterations: int = 2
    rtol: float = 1e-3
    maxiter: int = 1000

    @classmethod
    def from_arguments(
        cls, p: float, solver: str, betas: Sequence[float], cg_iterations: int, rtol: float = 1e-3, maxiter: int = 1000
    ) -> SolverOptions:
        """Returns the options of arguments that users give, for a penalty of power p.

        Raises
        ------
        ValueError, TypeError
            If an argument is out of its range, or the solver cannot minimise for p.
        """
        if not 0 < number("rtol", rtol) < 1:
            raise ValueError(f"rtol must be between 0 and 1, got {rtol!r}")
        name = one_of("solver", solver, _SOLVERS)
        if name == "fista" and p != 1:
            raise ValueError(f"solver 'fista' is for p = 1, got p = {p:g}: use 'admm' or 'hqs'")
        return cls(
            solver="admm" if name == "auto" else name,
            betas=_increasing(betas),
            cg_iterations=at_least_one("cg_iterations", cg_iterations),
            rtol=float(rtol),
            maxiter=at_least_one("maxiter", maxiter),
        )


def _increasing(betas: Sequence[float]) -> tuple[float, ...]:
    """Returns betas as a tuple of increasing positive floats, or raises."""
    if isinstance(betas, str | bytes) or not np.iterable(betas):
        raise TypeError(f"betas must be one or more increasing numbers, got {betas!r}")
    checked = tuple(positive("betas", beta) for beta in betas)
    if not checked or any(b <= a for a, b in pairwise(checked)):
        raise ValueError(f"betas must be one or more increasing numbers, got {betas!r}")
    return checked
