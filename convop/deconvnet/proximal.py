"""The proximal operator of the sparsity penalty ``|.|^p``: soft thresholding for p = 1, a scalar root for p < 1."""

from __future__ import annotations

import numpy.typing as npt

from ..arrays.backend import Array, as_array
from ..arrays.dtypes import kept_dtype
from ..geometry.arguments import number, positive
from .elementwise import prox_lp


def prox(v: npt.ArrayLike, beta: float, p: float) -> Array:
    """Proximal operator of the penalty ``|.|^p/beta``: the minimiser of ``|w|^p + beta/2 (w - v)^2`` for each element of v.

    Parameters
    ----------
    v : array_like
        Real numbers.
    beta : float
        Weight of the quadratic term, more than 0.
    p : float
        Power of the penalty, more than 0 and at most 1.

    Returns
    -------
    ndarray of the shape of `v`
        With the dtype of `v` if that is float32 or float64.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside these ranges, or is not a real number.

    Notes
    -----
    For p = 1 this is soft thresholding, ``sign(v) max(|v| - 1/beta, 0)``. For p < 1 a minimiser other than zero is the
    larger root of

        h(w) = w - |v| + (p/beta) w^(p - 1) = 0,

    and it is better than zero where ``|v|`` exceeds ``(2 - p)/(2 - 2 p) (2 (1 - p)/beta)^(1/(2 - p))``. On the right of
    the root h is convex and grows, so Newton's method started at ``|v|`` converges to the root without overshooting, to
    the last digit, for every p. The closed forms for p = 1/2 and 2/3 (Krishnan and Fergus, NIPS 2009) give the same.

    Examples
    --------
    >>> from convop.deconvnet import prox
    >>> prox([-3.0, 0.5, 2.0], 1.0, 1.0).tolist()
    [-2.0, 0.0, 1.0]
    >>> prox([-3.0, 0.5, 2.0], 1.0, 0.5).round(6).tolist()
    [-2.695453, 0.0, 1.605378]
    """
    values = as_array(v, "v")
    kept = kept_dtype(values.dtype, "v")
    if kept.kind == "c":
        raise TypeError(f"v must be real, got dtype {values.dtype}")
    weight, power = positive("beta", beta), checked_power(p)
    return prox_lp(values.astype(kept, copy=False).reshape(-1), weight, power).reshape(values.shape)


def checked_power(p: float) -> float:
    """Returns p as a float, and raises ValueError unless it is more than 0 and at most 1."""
    power = number("p", p)
    if not 0 < power <= 1:
        raise ValueError(f"p must be more than 0 and at most 1, got {p!r}")
    return power
