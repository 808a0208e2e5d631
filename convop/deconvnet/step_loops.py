"""Compiled loops over the elements of maps: the ADMM update, the proximal operator of ``|.|^p``, and sums of powers.

Layers have many more maps than channels. If each elementwise operation between two products were a pass of its own
through memory, these passes would take longer than the products; each loop here reads an element once and accumulates
its sums on the way. An item of work is a run of at most `RUN` elements of one image.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np

from ..threads.compiled import allocating_kernel
from ..threads.fork_join import counters, fork_join
from ..threads.llvm import atomic_fetch_add

# Elements of an item. Within it, runs of _SHORT elements are summed in the dtype of the maps, and these sums in double
# precision.
RUN, _SHORT = 16384, 1024
# The sums of `admm_update`, by column.
SUMS = ("max |A^T s|", "|w|", "(z - w)^2", "z^2", "w^2", "(w - old w)^2", "u^2")
# Newton iterations at most; a handful suffices unless p is next to 1.
_NEWTON_STEPS = 60


class AdmmUpdate(NamedTuple):
    """The arguments of `admm_update`; arrays have the shape ``(images, elements)`` and the dtype of the maps."""

    w: Any  # sparse maps, replaced
    u: Any  # multipliers over rho, replaced
    adjoint_term: Any  # A^T s
    weights: Any  # factors of the threshold, or an array without rows for factors of 1
    threshold: Any  # 1/rho, in the dtype of the maps
    relaxation: Any  # over-relaxation factor, in the dtype of the maps


class LpPenalty(NamedTuple):
    """The penalty ``|.|^p/beta`` and the numbers of its proximal operator, as Python floats."""

    beta: float
    p: float
    threshold: float  # the proximal operator is zero up to this modulus
    precision: float  # relative accuracy of the roots for p < 1


@numba.njit(nogil=True, fastmath={"nnan", "nsz"})
def _max_modulus(values):
    largest = values.dtype.type(0)
    for i in range(len(values)):
        largest = max(largest, abs(values[i]))
    return largest


# Fast-math flags let LLVM reorder the sums and so vectorise them.
@numba.njit(nogil=True, fastmath={"reassoc", "contract"})
def _admm_update_run(w, u, adjoint_term, thresholds, relaxation, sums):
    zero = w.dtype.type(0)
    complement = w.dtype.type(1) - relaxation
    w_sum, primal, z_square, w_square, dual, u_square = zero, zero, zero, zero, zero, zero
    for i in range(len(w)):
        old, threshold = w[i], thresholds[i]
        z = old - u[i] + adjoint_term[i]
        v = relaxation * z + complement * old + u[i]
        clipped = min(max(v, -threshold), threshold)
        new = v - clipped  # the soft threshold of v
        w[i], u[i] = new, clipped
        w_sum += abs(new)
        primal += (z - new) ** 2
        z_square += z * z
        w_square += new * new
        dual += (new - old) ** 2
        u_square += clipped * clipped
    sums[1] += w_sum
    sums[2] += primal
    sums[3] += z_square
    sums[4] += w_square
    sums[5] += dual
    sums[6] += u_square


@allocating_kernel
def _admm_update_items(counter, update, sums):
    w, u, adjoint_term, weights, threshold, relaxation = update
    items_per_image = -(-w.shape[1] // RUN)
    thresholds = np.full(_SHORT, threshold, w.dtype)
    item = atomic_fetch_add(counter)
    while item < len(sums):
        image, run = divmod(item, items_per_image)
        for start in range(run * RUN, min((run + 1) * RUN, w.shape[1]), _SHORT):
            stop = min(start + _SHORT, w.shape[1])
            if len(weights):
                for i in range(start, stop):
                    thresholds[i - start] = threshold * weights[image, i]
            adjoint_run = adjoint_term[image, start:stop]
            sums[item, 0] = max(sums[item, 0], _max_modulus(adjoint_run))
            _admm_update_run(
                w[image, start:stop], u[image, start:stop], adjoint_run, thresholds, relaxation, sums[item]
            )
        item = atomic_fetch_add(counter)


@allocating_kernel
def admm_update(workers, update, sums):
    """Updates the maps and multipliers of ADMM in place, after the linear system is solved, and adds up `SUMS`.

    With ``z = w - u + adjoint_term`` and ``v = relaxation z + (1 - relaxation) w + u``, the new multipliers are v clipped
    to the threshold, and the new w is the rest of v: its soft threshold.

    Parameters
    ----------
    workers : array of int64
        From `awake_workers`.
    update : AdmmUpdate
        The variables.
    sums : array of float64 of shape ``(items, 7)``
        Zeros; filled with the sums of each item.
    """
    if not fork_join(workers, _admm_update_items, (counters(), update, sums)):
        raise RuntimeError("a compiled loop has failed")


@numba.njit(nogil=True)
def _larger_root(modulus, penalty):
    """The larger root of ``w - modulus + p/beta w^(p - 1)``, by Newton's method from the right."""
    beta, p = penalty.beta, penalty.p
    w = modulus
    for _ in range(_NEWTON_STEPS):
        slope = p / beta * w ** (p - 1)
        step = (w - modulus + slope) / (1 + (p - 1) * slope / w)
        if not step > penalty.precision * w:  # also for NaN, which is inf - inf
            break
        w -= step
    return w


@allocating_kernel
def _prox_lp_items(counter, v, target, penalty):
    items = -(-len(v) // RUN)
    threshold = v.dtype.type(penalty.threshold)
    item = atomic_fetch_add(counter)
    while item < items:
        for i in range(item * RUN, min((item + 1) * RUN, len(v))):
            if penalty.p == 1:
                target[i] = v[i] - min(max(v[i], -threshold), threshold)
            elif not abs(v[i]) <= penalty.threshold:
                target[i] = np.copysign(_larger_root(np.float64(abs(v[i])), penalty), v[i])
            else:
                target[i] = 0
        item = atomic_fetch_add(counter)


@allocating_kernel
def prox_lp(workers, v, target, penalty):
    """Writes the proximal operator of an `LpPenalty` at each element of v to `target`; both have one axis."""
    if not fork_join(workers, _prox_lp_items, (counters(), v, target, penalty)):
        raise RuntimeError("a compiled loop has failed")


@allocating_kernel
def _power_sums_items(counter, w, p, sums):
    items_per_image = -(-w.shape[1] // RUN)
    item = atomic_fetch_add(counter)
    while item < len(sums):
        image, run = divmod(item, items_per_image)
        total = 0.0
        for i in range(run * RUN, min((run + 1) * RUN, w.shape[1])):
            modulus = np.float64(abs(w[image, i]))
            if modulus > 0:
                total += modulus if p == 1 else modulus**p
        sums[item] = total
        item = atomic_fetch_add(counter)


@allocating_kernel
def power_sums(workers, w, p, sums):
    """Writes ``sum |w|^p`` of each item of maps of shape ``(images, elements)`` to `sums`."""
    if not fork_join(workers, _power_sums_items, (counters(), w, p, sums)):
        raise RuntimeError("a compiled loop has failed")
