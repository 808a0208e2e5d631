"""Helpers for Numba intrinsics that are written in LLVM, and two intrinsics for kernels of all kinds.

`copy_elements` copies between arrays. `atomic_fetch_add` hands out the items of a piece of work: every thread takes the next number of one shared counter.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
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


@intrinsic
def copy_elements(typingctx, source, source_at, source_step, target, target_at, target_step, count):
    """Copies ``source[source_at + i*source_step]`` to ``target[target_at + i*target_step]`` for ``0 <= i < count``.

    The arrays do not overlap. Neighbours are copied by the C library, as a loop that LLVM vectorises takes the last elements,
    up to 31, one by one. Other steps save what Numba spends on negative indices.
    """
    integer = types.int64
    signature = types.void(source, integer, integer, target, integer, integer, integer)

    def emit(context, builder, signature, args):
        source, source_at, source_step, target, target_at, target_step, count = arrays_of(
            context, builder, signature, args
        )
        start, to = builder.gep(source.data, [source_at]), builder.gep(target.data, [target_at])
        one = integer_constant(1)
        neighbours = builder.and_(
            builder.icmp_signed("==", source_step, one), builder.icmp_signed("==", target_step, one)
        )
        some = builder.icmp_signed(">", count, integer_constant(0))
        with builder.if_then(some), builder.if_else(neighbours) as (then, otherwise):
            with then:
                itemsize = context.get_abi_sizeof(source.data.type.pointee)
                cgutils.raw_memcpy(builder, to, start, count, itemsize)
            with otherwise, cgutils.for_range(builder, count) as loop:
                value = builder.load(builder.gep(start, [builder.mul(loop.index, source_step)]))
                builder.store(value, builder.gep(to, [builder.mul(loop.index, target_step)]))
        return context.get_dummy_value()

    return signature, emit
