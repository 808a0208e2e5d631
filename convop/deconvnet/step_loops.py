"""The compiled loops over the elements of maps: each reads what it needs once, and adds up what is asked of it.

There are many more maps than channels, so that what is done to each of their elements between two products takes longer
than the products, if every operation is a pass through memory of its own. Items of work are runs of an image's elements:
short enough for sums in the dtype of the maps, which are added up in double precision.
"""

from __future__ import annotations

import numba
import numpy as np

from ..threads.fork_join import counters, fork_join
from ..threads.llvm import atomic_fetch_add

__all__ = ["RUN", "SUMS", "power_sums", "shrink", "split"]

# Elements of an item, and of a run inside it whose sums are in the dtype of the maps.
RUN, _SHORT = 16384, 1024
# What `split` adds up of each item, by column.
SUMS = ("largest |A^T s|", "|w|", "(z - w)^2", "z^2", "w^2", "(w - old)^2", "u^2")
# Iterations of Newton at most; a handful is taken, unless p is next to 1.
_NEWTON_STEPS = 60


@numba.njit(nogil=True, cache=True, fastmath={"nnan", "nsz"})
def _largest(values):
    largest = values.dtype.type(0)
    for i in range(len(values)):
        largest = max(largest, abs(values[i]))
    return largest


# Sums may be put together in any order.
@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _split_run(w, u, pulled, thresholds, relaxed, sums):
    zero = w.dtype.type(0)
    kept = w.dtype.type(1) - relaxed
    sizes, apart, squares, news, moved, multipliers = zero, zero, zero, zero, zero, zero
    for i in range(len(w)):
        old, threshold = w[i], thresholds[i]
        z = old - u[i] + pulled[i]
        v = relaxed * z + kept * old + u[i]
        beyond = min(max(v, -threshold), threshold)  # what soft thresholding takes away: the next multipliers
        new = v - beyond
        w[i], u[i] = new, beyond
        sizes += abs(new)
        apart += (z - new) ** 2
        squares += z * z
        news += new * new
        moved += (new - old) ** 2
        multipliers += beyond * beyond
    sums[1] += sizes
    sums[2] += apart
    sums[3] += squares
    sums[4] += news
    sums[5] += moved
    sums[6] += multipliers


@numba.njit(nogil=True, cache=True)
def _split(counter, w, u, pulled, weights, weight, relaxed, sums):
    items_of_image = -(-w.shape[1] // RUN)
    thresholds = np.full(_SHORT, weight, w.dtype)
    item = atomic_fetch_add(counter)
    while item < len(sums):
        image, part = divmod(item, items_of_image)
        for start in range(part * RUN, min((part + 1) * RUN, w.shape[1]), _SHORT):
            stop = min(start + _SHORT, w.shape[1])
            if len(weights):
                for i in range(start, stop):
                    thresholds[i - start] = weight * weights[image, i]
            sums[item, 0] = max(sums[item, 0], _largest(pulled[image, start:stop]))
            _split_run(
                w[image, start:stop], u[image, start:stop], pulled[image, start:stop], thresholds, relaxed, sums[item]
            )
        item = atomic_fetch_add(counter)


@numba.njit(nogil=True, cache=True)
def split(crew, w, u, pulled, weights, weight, relaxed, sums):
    """A step of ADMM after its system is solved, in place, on maps and multipliers of shape ``(images, elements)``.

    With ``z = w - u + pulled`` and ``v = relaxed z + (1 - relaxed) w + u``, the new multipliers are v cut off at the
    threshold on both sides, and the new w is what is left of v. Thresholds are `weight`, times `weights` if they have rows.
    `sums` has a row for each item and the columns `SUMS`, and is zero before.
    """
    if not fork_join(crew, _split, (counters(), w, u, pulled, weights, weight, relaxed, sums)):
        raise RuntimeError("a compiled loop has failed")


@numba.njit(nogil=True, cache=True)
def _root(size, beta, p, precision):
    """The larger root of ``w - size + p/beta w^(p - 1)``, from the right by Newton's method."""
    w = size
    for _ in range(_NEWTON_STEPS):
        pull = p / beta * w ** (p - 1)
        step = (w - size + pull) / (1 + (p - 1) * pull / w)
        if not step > precision * w:  # nor for NaN, which infinity less itself is
            break
        w -= step
    return w


@numba.njit(nogil=True, cache=True)
def _shrink(counter, v, target, beta, p, least, precision):
    items = -(-len(v) // RUN)
    threshold = v.dtype.type(least)
    item = atomic_fetch_add(counter)
    while item < items:
        for i in range(item * RUN, min((item + 1) * RUN, len(v))):
            if p == 1:
                target[i] = v[i] - min(max(v[i], -threshold), threshold)
            elif not abs(v[i]) <= least:
                target[i] = np.copysign(_root(np.float64(abs(v[i])), beta, p, precision), v[i])
            else:
                target[i] = 0
        item = atomic_fetch_add(counter)


@numba.njit(nogil=True, cache=True)
def shrink(crew, v, target, beta, p, least, precision):
    """The proximal operator of ``|.|^p/beta`` of each element: zero up to `least`, a root to a relative precision beyond."""
    if not fork_join(crew, _shrink, (counters(), v, target, beta, p, least, precision)):
        raise RuntimeError("a compiled loop has failed")


@numba.njit(nogil=True, cache=True)
def _power_sums(counter, w, p, sums):
    items_of_image = -(-w.shape[1] // RUN)
    item = atomic_fetch_add(counter)
    while item < len(sums):
        image, part = divmod(item, items_of_image)
        total = 0.0
        for i in range(part * RUN, min((part + 1) * RUN, w.shape[1])):
            size = np.float64(abs(w[image, i]))
            if size > 0:
                total += size if p == 1 else size**p
        sums[item] = total
        item = atomic_fetch_add(counter)


@numba.njit(nogil=True, cache=True)
def power_sums(crew, w, p, sums):
    """``sum |w|^p`` of each item of maps of shape ``(images, elements)``."""
    if not fork_join(crew, _power_sums, (counters(), w, p, sums)):
        raise RuntimeError("a compiled loop has failed")
