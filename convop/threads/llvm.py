"""Helpers for Numba intrinsics that are written in LLVM, and the one intrinsic that all thread code needs.

`atomic_fetch_add` hands out the items of a piece of work: every thread takes the next number of one shared counter.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_INT = ir.IntType(64)


def integer_constant(value: int) -> ir.Constant:
    """Returns a 64-bit integer constant of LLVM."""
    return ir.Constant(_INT, value)


def arrays_of(context: Any, builder: Any, signature: Any, args: Any) -> list[Any]:
    """Returns the arguments of an intrinsic, with arrays and named tuples unpacked."""
    return [_unpacked(context, builder, kind, value) for kind, value in zip(signature.args, args, strict=True)]


def _unpacked(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    if isinstance(kind, types.Array):
        return context.make_array(kind)(context, builder, value)
    if isinstance(kind, types.NamedTuple):
        values = (builder.extract_value(value, i) for i in range(len(kind.types)))
        fields = zip(kind.fields, kind.types, values, strict=True)
        return SimpleNamespace(**{name: _unpacked(context, builder, k, v) for name, k, v in fields})
    return value


@intrinsic
def atomic_fetch_add(typingctx, counter):
    """Returns ``counter[0]`` and adds 1 to it, as one atomic operation."""
    signature = types.int64(counter)

    def emit(context, builder, signature, args):
        (counter,) = arrays_of(context, builder, signature, args)
        return builder.atomic_rmw("add", counter.data, integer_constant(1), "monotonic")

    return signature, emit
