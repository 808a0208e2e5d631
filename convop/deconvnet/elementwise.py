"""What is done to each element of maps between two products: the compiled loops of `step_loops`, for columns."""

from __future__ import annotations

import numpy as np

from ..arrays.backend import Array
from ..threads.pool import awake_workers

__all__ = ["SplitStep", "power_sums", "shrunk"]

# What an element costs, in multiplications: without and with powers.
_STEP_WORK, _POWER_WORK = 8, 64


def _items(elements: int) -> int:
    from .step_loops import RUN

    return -(-elements // RUN)


def shrunk(v: Array, beta: float, p: float) -> Array:
    """`prox` of what is known to be right.

    Parameters
    ----------
    v : ndarray of float32 or float64
        Of any shape.
    beta, p : float
        As `prox` has them.

    Returns
    -------
    ndarray of the shape and dtype of `v`
    """
    from .step_loops import shrink

    flat = np.ascontiguousarray(v.T).reshape(-1)
    target = np.empty_like(flat)
    least = 1 / beta if p == 1 else (2 - p) / (2 - 2 * p) * (2 * (1 - p) / beta) ** (1 / (2 - p))
    crew = awake_workers(_items(len(flat)), len(flat) * (_STEP_WORK if p == 1 else _POWER_WORK))
    # Infinity less a threshold that the dtype does not hold would be none.
    least = min(least, float(np.finfo(v.dtype).max))
    shrink(crew, flat, target, float(beta), float(p), least, float(np.finfo(v.dtype).eps))
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
    ndarray of float64, of shape ``(I,)``
    """
    from .step_loops import power_sums as add

    rows = np.ascontiguousarray(columns.T)
    sums = np.empty((len(rows), _items(rows.shape[1])))
    add(awake_workers(sums.size, rows.size * _STEP_WORK), rows, float(p), sums.reshape(-1))
    return np.asarray(sums.sum(axis=1))


class SplitStep:
    """The step of ADMM in the sparse maps and the multipliers, which it keeps and changes in place.

    Parameters
    ----------
    w, u : ndarray of shape ``(N, I)``
        Maps and multipliers to begin with; they are copied.
    weights : ndarray of shape ``(N, I)``, optional
        Of the penalty; 1 if not given.
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
        """The multipliers, over rho."""
        return self._u.T

    def rescale(self, factor: float) -> None:
        """Multipliers over a factor, for a rho that is so much larger."""
        self._u /= self._u.dtype.type(factor)

    def __call__(self, pulled: Array, rho: float, relaxed: float) -> Array:
        """Another step, for ``z = w - u + pulled``.

        Returns
        -------
        ndarray of float64, of shape ``(I, 7)``
            What `step_loops.SUMS` names, of each image.
        """
        from .step_loops import SUMS, split

        w, real = self._w, self._w.dtype.type
        sums = np.zeros((len(w) * self._items, len(SUMS)))
        crew = awake_workers(len(sums), w.size * _STEP_WORK)
        split(crew, w, self._u, np.ascontiguousarray(pulled.T), self._weights, real(1 / rho), real(relaxed), sums)
        each = sums.reshape(len(w), self._items, -1)
        return np.concatenate([each[:, :, :1].max(axis=1), each[:, :, 1:].sum(axis=1)], axis=1)
