"""Compiled loops that measure the machine's rates: multiply-adds that stay in registers, and copies of large arrays."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..threads.compiled import kernel
from ..threads.fork_join import counters, fork_join
from ..threads.llvm import arrays_of, atomic_fetch_add, integer_constant
from ..threads.vectors import vector_unit

# A multiply-add takes four cycles and up to four start in each, so that the loop needs 8 to 16 independent sums. Three
# quarters of the registers, 12 or 24, are enough, and leave registers for the factor and the addend.
SUMS = vector_unit().registers * 3 // 4

_INT = ir.IntType(64)


def _vector_type(real: Any) -> Any:
    bits = real.bitwidth
    return ir.VectorType(ir.FloatType() if bits == 32 else ir.DoubleType(), vector_unit().bytes * 8 // bits)


@intrinsic
def _multiply_add(typingctx, factor, addend, count):
    """Returns the total of `SUMS` vectors s, after ``s = s*factor + addend`` has been computed `count` times for each."""
    signature = factor(factor, addend, types.int64)

    def emit(context, builder, signature, args):
        factor, addend, count = args
        vector = _vector_type(signature.args[0])
        operands = []
        for scalar in (factor, addend):
            first = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
            lanes = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count)
            operands.append(builder.shuffle_vector(first, first, lanes))
        name = f"llvm.fmuladd.v{vector.count}f{signature.args[0].bitwidth}"
        fused = cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector] * 3), name)
        before = builder.block
        loop, after = builder.append_basic_block("multiply_adds"), builder.append_basic_block("summed")
        builder.branch(loop)
        builder.position_at_end(loop)
        done = builder.phi(_INT)
        done.add_incoming(integer_constant(0), before)
        sums = [builder.phi(vector) for _ in range(SUMS)]
        for n, phi in enumerate(sums):
            # From different values: LLVM computes sums that are equal only once.
            phi.add_incoming(ir.Constant(vector, [float(n)] * vector.count), before)
            phi.add_incoming(builder.call(fused, [phi, *operands]), loop)
        following = builder.add(done, integer_constant(1))
        done.add_incoming(following, loop)
        builder.cbranch(builder.icmp_signed("<", following, count), loop, after)
        builder.position_at_end(after)
        total = sums[0].incomings[1][0]
        for phi in sums[1:]:
            total = builder.fadd(total, phi.incomings[1][0])
        return builder.extract_element(total, ir.Constant(ir.IntType(32), 0))

    return signature, emit


@kernel
def multiply_add_items(counter, operands, count, totals):
    """Takes items until none is left, and computes `count` multiply-adds of each of `SUMS` vectors for each item."""
    item = atomic_fetch_add(counter)
    while item < len(totals):
        totals[item] = _multiply_add(operands[0], operands[1], count)
        item = atomic_fetch_add(counter)


@kernel
def multiply_adds(workers, operands, count, totals):
    """Computes ``count * SUMS`` vectors of multiply-adds for each element of `totals`, on all threads.

    Parameters
    ----------
    workers : array of int64
        From `awake_workers`.
    operands : array of shape ``(2,)``
        A factor below 1 and an addend, so that the sums neither overflow nor vanish.
    count : int
        Multiply-adds of each sum; at least 1.
    totals : array of shape ``(items,)``
        Filled with one element of the sums' total, so that no multiply-add is left out.
    """
    if not fork_join(workers, multiply_add_items, (counters(), operands, count, totals)):
        raise RuntimeError("a compiled loop has failed")


@intrinsic
def _copy_vectors(typingctx, source, target, start, stop):
    """Copies ``source[start:stop]`` to `target` by stores that bypass the caches, vector by vector."""
    signature = types.void(source, target, types.int64, types.int64)

    def emit(context, builder, signature, args):
        source, target, start, stop = arrays_of(context, builder, signature, args)
        vector = _vector_type(signature.args[0].dtype)
        bypass = builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)])
        with cgutils.for_range_slice(builder, start, stop, integer_constant(vector.count), _INT) as (i, _):
            read, written = (
                builder.bitcast(builder.gep(array.data, [i]), vector.as_pointer()) for array in (source, target)
            )
            store = builder.store(builder.load(read, align=vector_unit().bytes), written, align=vector_unit().bytes)
            store.set_metadata("nontemporal", bypass)
        return context.get_dummy_value()

    return signature, emit


@kernel
def copy_items(counter, source, target, item_size):
    """Takes items until none is left, and copies `item_size` elements for each."""
    start = atomic_fetch_add(counter) * item_size
    while start < len(source):
        _copy_vectors(source, target, start, min(start + item_size, len(source)))
        start = atomic_fetch_add(counter) * item_size


@kernel
def copy(workers, source, target, item_size):
    """Copies an array to another, on all threads.

    Stores bypass the caches: others first read the memory that they overwrite, which takes 1.8 times as long on
    two cores of Zen 3.

    Parameters
    ----------
    workers : array of int64
        From `awake_workers`.
    source, target : array of shape ``(elements,)``
        Aligned to vectors, and a whole number of vectors long.
    item_size : int
        Elements that a thread copies at a time: a whole number of vectors.
    """
    if not fork_join(workers, copy_items, (counters(), source, target, item_size)):
        raise RuntimeError("a compiled loop has failed")
