"""Elementwise operations of the solvers on maps: runs the compiled loops of `step_loops` on vectors that are columns."""

from __future__ import annotations

import numpy as np

from ..arrays.backend import Array
from ..threads.pool import awake_workers

# The cost of an element in multiplications, without and with a power.
_WORK, _POWER_WORK = 8, 64


def _items(elements: int) -> int:
    from .step_loops import RUN

    return -(-elements // RUN)


def prox_lp(v: Array, beta: float, p: float) -> Array:
    """The proximal operator of the penalty ``|.|^p/beta``, for arguments that have been checked.

    Parameters
    ----------
    v : ndarray of float32 or float64
        Of any shape.
    beta, p : float
        As in `prox`.

    Returns
    -------
    ndarray of the shape and dtype of `v`
    """
    from . import step_loops

    flat = np.ascontiguousarray(v.T).reshape(-1)
    target = np.empty_like(flat)
    threshold = 1 / beta if p == 1 else (2 - p) / (2 - 2 * p) * (2 * (1 - p) / beta) ** (1 / (2 - p))
    # A threshold beyond the range of the dtype would become infinite, and inf - inf is NaN.
    threshold = min(threshold, float(np.finfo(v.dtype).max))
    penalty = step_loops.LpPenalty(float(beta), float(p), threshold, float(np.finfo(v.dtype).eps))
    workers = awake_workers(_items(len(flat)), len(flat) * (_WORK if p == 1 else _POWER_WORK))
    step_loops.prox_lp(workers, flat, target, penalty)
    return target.reshape(v.T.shape).T


def power_sums(columns: Array, p: float) -> Array:
    """``sum |w|^p`` of each column, in double precision.

    Parameters
    ----------
    columns : ndarray of shape ``(N, I)``
        Maps.
    p : float
        The power.

    Returns
    -------
    ndarray of float64 of shape ``(I,)``
    """
    from . import step_loops

    rows = np.ascontiguousarray(columns.T)
    sums = np.empty((len(rows), _items(rows.shape[1])))
    step_loops.power_sums(awake_workers(sums.size, rows.size * _WORK), rows, float(p), sums.reshape(-1))
    return np.asarray(sums.sum(axis=1))


class SplitVariables:
    """The sparse maps and multipliers of ADMM, in copies that are updated in place.

    Parameters
    ----------
    w, u : ndarray of shape ``(N, I)``
        The first maps and multipliers.
    weights : ndarray of shape ``(N, I)``, optional
        Weights of the penalty; by default 1.
    """

    def __init__(self, w: Array, u: Array, weights: Array | None) -> None:
        self._w, self._u = (np.array(columns.T, order="C") for columns in (w, u))
        self._weights = np.empty((0, 0), w.dtype) if weights is None else np.ascontiguousarray(weights.T)
        self._items = _items(self._w.shape[1])

    @property
    def w(self) -> Array:
        """The sparse maps, as columns."""
        return self._w.T

    @property
    def u(self) -> Array:
        """The multipliers over rho, as columns."""
        return self._u.T

    def divide_multipliers(self, factor: float) -> None:
        """Divides the multipliers over rho by the factor by which rho grows."""
        self._u /= self._u.dtype.type(factor)

    def update(self, adjoint_term: Array, rho: float, relaxation: float) -> Array:
        """Runs the update of `step_loops.admm_update`, for ``z = w - u + adjoint_term``.

        Returns
        -------
        ndarray of float64 of shape ``(I, 7)``
            The sums that `step_loops.SUMS` names, of each image.
        """
        from .step_loops import SUMS, AdmmUpdate, admm_update

        w, real = self._w, self._w.dtype.type
        update = AdmmUpdate(
            w=w,
            u=self._u,
            adjoint_term=np.ascontiguousarray(adjoint_term.T),
            weights=self._weights,
            threshold=real(1 / rho),
            relaxation=real(relaxation),
        )
        sums = np.zeros((len(w) * self._items, len(SUMS)))
        admm_update(awake_workers(len(sums), w.size * _WORK), update, sums)
        by_image = sums.reshape(len(w), self._items, -1)
        return np.concatenate([by_image[:, :, :1].max(axis=1), by_image[:, :, 1:].sum(axis=1)], axis=1)
