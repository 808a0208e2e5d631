"""The stopping rule of convex sparse coding: the duality gap, or an objective that has settled."""

from __future__ import annotations

import math

import numpy as np

from ..arrays.backend import Array

# An objective has settled when it moves by less than SETTLED_SHARE of the tolerance over a window of SETTLED_STEPS
# iterations, or of a 1/_WINDOW of all iterations if that is more: an error that falls as slowly as 1/n is then at most
# _WINDOW - 1 times as large as the move over the window. The relative gap must be at most _SETTLED_GAP tolerances.
SETTLED_STEPS, SETTLED_SHARE, _WINDOW, _SETTLED_GAP = 10, 0.1, 5, 10.0


class ConvergenceMonitor:
    """Decides after each iteration whether the objectives of all images are close enough to their minimum, for p = 1.

    Parameters
    ----------
    count : int
        Number of images I.
    rtol : float
        Tolerance for the objective's distance to its minimum, relative to the objective.

    Attributes
    ----------
    best_bound : ndarray of shape ``(I,)``
        The largest lower bound of each minimum so far.
    """

    def __init__(self, count: int, rtol: float) -> None:
        self._rtol = rtol
        self.best_bound = np.full(count, -math.inf)
        self._history: list[Array] = []

    def update(self, objective: Array, bound: Array) -> bool:
        """Records the objectives and lower bounds of an iteration, and returns whether every image has converged."""
        self.best_bound = np.maximum(self.best_bound, bound)
        scale = np.where(objective > 0, objective, 1)
        gap = (objective - self.best_bound) / scale
        self._history.append(objective)
        if (gap <= self._rtol).all():
            return True
        window = max(SETTLED_STEPS, len(self._history) // _WINDOW)
        if len(self._history) <= window:
            return False
        moved = np.ptp(self._history[-1 - window :], axis=0) / scale
        settled = (moved <= SETTLED_SHARE * self._rtol) & (gap <= _SETTLED_GAP * self._rtol)
        return bool((settled | (gap <= self._rtol)).all())
