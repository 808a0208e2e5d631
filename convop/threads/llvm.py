"""Helpers for Numba intrinsics that are written in LLVM, and the one intrinsic that all thread code needs.

`atomic_fetch_add` hands out the items of a piece of work: every thread takes the next number of one shared counter.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

__all__ = ["arrays_of", "atomic_fetch_add", "integer_constant"]

_INT = ir.IntType(64)


def integer_constant(value: int) -> ir.Constant:
    """Returns a 64-bit integer constant of LLVM."""
    return ir.Constant(_INT, value)


def arrays_of(context: Any, builder: Any, signature: Any, args: Any, names: tuple[int, ...]) -> list[Any]:
    """Returns the arguments of an intrinsic, with those at the positions `names` unpacked as arrays."""
    return [
        context.make_array(signature.args[n])(context, builder, args[n]) if n in names else args[n]
        for n in range(len(args))
    ]


@intrinsic
def atomic_fetch_add(typingctx, counter):
    """Returns ``counter[0]`` and adds 1 to it, as one atomic operation."""
    signature = types.int64(counter)

    def emit(context, builder, signature, args):
        (counter,) = arrays_of(context, builder, signature, args, (0,))
        return builder.atomic_rmw("add", counter.data, integer_constant(1), "monotonic")

    return signature, emit
