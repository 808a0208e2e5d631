"""The loop that every engine with planes shares: take a block, read it, process it, write it, until none is left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...threads.compiled import inlined, uncached_kernel
from ...threads.llvm import atomic_fetch_add
from .planes import block_of
from .records import PairTaps, Taps, Workspace


def block_loop(process: Callable[..., None]) -> Any:
    """Returns the compiled loop that calls `process` for every block; `fork_join` runs it on all threads.

    Parameters
    ----------
    process : callable
        Called with a block, the plan, source, target and the thread's own workspace. It reads the block with
        `planes.gather`, correlates, and writes with `planes.scatter`. It is compiled as part of the loop.

    Returns
    -------
    dispatcher
        Called with shared counters, the number of blocks, a plan that has a `tiling`, and `Operands`.
    """
    body = inlined(process)

    def loop(counter, items, plan, operands):
        worker = atomic_fetch_add(counter[8:])  # in order of arrival; the caller is one of them
        spaces = operands.workspace
        own = Workspace(spaces.x[worker], spaces.x_read[worker], spaces.y[worker], spaces.y_read[worker])
        item = atomic_fetch_add(counter)
        while item < items:
            body(block_of(item, plan.tiling), plan, operands.source, operands.target, own)
            item = atomic_fetch_add(counter)

    return uncached_kernel(loop, f"{process.__module__}_{process.__name__}_loop")


@inlined
def taps_of(table, phase):
    """Returns the taps of an output phase."""
    at = table.offset_at[phase]
    return Taps(table.offsets, at, table.weights, table.offset_at[phase + 1] - at)


@inlined
def pair_taps_of(table, group, phase, taps):
    """Returns the taps of an output phase for pairs of results, of `taps` taps in all."""
    ends = table.ends[phase]
    at, weight_at = table.offset_at[phase], table.weight_at[group, phase]
    return PairTaps(table.offsets, at, table.weights, weight_at, ends, taps - ends)
