"""How a compiled loop hands its work to threads that wait in compiled code, without the interpreter.

Each of these threads, the helpers, has a slot of memory: a state, a function and what it is called with.

    free --claimed--> claimed --> posted --taken--> at work --> free

A loop claims every slot that is free, posts itself there, does what the others leave to it, takes back what no helper
has begun and waits for those that are at work. Every step is one atomic exchange of the state, so that several threads
may hand over to the same helpers, nothing is done twice, and nothing is waited for that nobody does: a helper that
sleeps, or has ended, only does not help. Memory that is posted lies on the stack of the loop, which outlives it.
"""

from __future__ import annotations

import platform
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .llvm import integer_constant

__all__ = ["FREE", "LEAVES", "LISTENS", "SLOT_STAMP", "STAMP", "counters", "serve", "share"]

FREE, _CLAIMED, _POSTED, _AT_WORK = range(4)
# Integers of a slot: what is above; whether its thread listens, whether it is to leave; and which code it listens to.
_STATE, _FUNCTION, _ARGUMENTS, LISTENS, LEAVES, SLOT_STAMP = range(6)
try:
    # Loops are kept compiled between processes, with `share` inside, though this file has changed since.
    STAMP = zlib.crc32(Path(__file__).read_bytes())
except OSError:  # without a source nothing is kept
    STAMP = 0

_INT, _VOID = ir.IntType(64), ir.VoidType()
_POINTER = ir.IntType(8).as_pointer()
_JOB = ir.FunctionType(_VOID, [_POINTER])

# Looks at a state before a waiting thread lets others have its core, where the one that it waits for may be stuck.
_LOOKS = 2000


def _field(builder: Any, slot: Any, number: int) -> Any:
    return builder.gep(builder.inttoptr(slot, _INT.as_pointer()), [integer_constant(number)])


def _state(builder: Any, slot: Any) -> Any:
    return builder.load_atomic(_field(builder, slot, _STATE), "seq_cst", 8)


def _becomes(builder: Any, slot: Any, state: int) -> None:
    builder.store_atomic(integer_constant(state), _field(builder, slot, _STATE), "seq_cst", 8)


def _exchanged(builder: Any, slot: Any, old: int, new: int) -> Any:
    """Whether the state was `old`, and is `new` from now on."""
    exchange = builder.cmpxchg(
        _field(builder, slot, _STATE), integer_constant(old), integer_constant(new), "seq_cst", "seq_cst"
    )
    return builder.extract_value(exchange, 1)


def _call(builder: Any, name: str, result: Any, *arguments: Any) -> None:
    signature = ir.FunctionType(result, [argument.type for argument in arguments])
    builder.call(cgutils.get_or_insert_function(builder.module, signature, name), arguments)


def _pause(builder: Any) -> None:
    """Tell the core that this thread only looks, so that one beside it has more of the core."""
    machine = platform.machine().lower()
    if machine in ("x86_64", "amd64"):
        _call(builder, "llvm.x86.sse2.pause", _VOID)
    elif machine in ("aarch64", "arm64"):
        _call(builder, "llvm.aarch64.hint", _VOID, ir.Constant(ir.IntType(32), 1))


def _give_way(builder: Any) -> None:
    """Let others have this core."""
    _call(builder, "SwitchToThread" if sys.platform == "win32" else "sched_yield", ir.IntType(32))


@contextmanager
def _while_at_work(builder: Any, slot: Any, arguments: Any) -> Iterator[None]:
    """A loop, inside of which is written what a thread does as long as a helper works on these arguments."""
    look, body, after = (builder.append_basic_block(name) for name in ("look", "wait", "done"))
    builder.branch(look)
    builder.position_at_end(look)
    posted = builder.load_atomic(_field(builder, slot, _ARGUMENTS), "seq_cst", 8)
    at_work = builder.icmp_signed("==", _state(builder, slot), integer_constant(_AT_WORK))
    builder.cbranch(builder.and_(at_work, builder.icmp_signed("==", posted, arguments)), body, after)
    builder.position_at_end(body)
    yield
    builder.branch(look)
    builder.position_at_end(after)


@intrinsic
def _taken(typingctx, slot):
    """Do what is posted in a slot; whether there was anything."""

    def emit(context, builder, signature, args):
        (slot,) = args
        done = cgutils.alloca_once_value(builder, cgutils.false_bit)
        posted = builder.icmp_signed("==", _state(builder, slot), integer_constant(_POSTED))
        # An exchange writes, and takes the cache line from whoever is about to post: look first.
        with builder.if_then(posted), builder.if_then(_exchanged(builder, slot, _POSTED, _AT_WORK)):
            address = builder.load(_field(builder, slot, _FUNCTION))
            arguments = builder.inttoptr(builder.load(_field(builder, slot, _ARGUMENTS)), _POINTER)
            builder.call(builder.inttoptr(address, _JOB.as_pointer()), [arguments])
            _becomes(builder, slot, FREE)
            builder.store(cgutils.true_bit, done)
        _pause(builder)
        return builder.load(done)

    return types.boolean(types.int64), emit


@intrinsic
def _set(typingctx, slot, field, value):
    """Write an integer of a slot, or only read it if the value is negative; what it is then."""

    def emit(context, builder, signature, args):
        slot, field, value = args
        place = builder.gep(builder.inttoptr(slot, _INT.as_pointer()), [field])
        with builder.if_then(builder.icmp_signed(">=", value, integer_constant(0))):
            builder.store_atomic(value, place, "seq_cst", 8)
        return builder.load_atomic(place, "seq_cst", 8)

    return types.int64(types.int64, types.int64, types.int64), emit


@numba.njit("void(int64, int64)", nogil=True, cache=True)
def serve(slot, looks):
    """Do what is posted in the slot at this address, until nothing was for so many looks, or the thread is to leave."""
    _set(slot, LISTENS, 1)
    left = looks
    while left > 0 and not _set(slot, LEAVES, -1):
        left = looks if _taken(slot) else left - 1
    _set(slot, LISTENS, 0)


@numba.njit(nogil=True)
def counters():
    """Two counters from which threads take numbers, at ``[0]`` and ``[8]``: one a cache line."""
    return np.zeros(16, np.int64)


@intrinsic
def share(typingctx, crew, function, arguments):
    """Call a compiled function here and in the helpers that are awake, each as often as it is free to, at most once.

    The function takes its part of the work from counters among its arguments, until nothing is left. When this returns,
    no helper works for it any more.

    Parameters
    ----------
    crew : array of int64
        Addresses of slots.
    function : dispatcher
        Called without results.
    arguments : tuple
        What it is called with; all calls have the same.

    Returns
    -------
    bool
        Whether no call has raised.
    """
    called = function.get_call_type(typingctx, arguments.types, {})

    def emit(context, builder, signature, args):
        crew_value, _, values = args
        compiled = function.dispatcher.get_compile_result(called)
        context.add_linking_libs([compiled.library])
        for i, kind in enumerate(arguments.types):
            if isinstance(kind, types.Array):  # borrowed: no thread counts references to what all of them read
                borrowed = context.make_array(kind)(context, builder, builder.extract_value(values, i))
                borrowed.meminfo = ir.Constant(borrowed.meminfo.type, None)
                values = builder.insert_value(values, borrowed._getvalue(), i)
        # What is posted: the arguments, and how many calls have raised.
        posted = ir.LiteralStructType([values.type, _INT])
        job = ir.Function(builder.module, _JOB, builder.module.get_unique_name("job"))
        job.linkage = "internal"
        inside = ir.IRBuilder(job.append_basic_block())
        own = inside.bitcast(job.args[0], posted.as_pointer())
        passed = inside.load(cgutils.gep_inbounds(inside, own, 0, 0))
        each = [inside.extract_value(passed, i) for i in range(len(arguments.types))]
        status, _ = context.call_internal_no_propagate(inside, compiled.fndesc, called, each)
        failed = inside.zext(status.is_error, _INT)
        inside.atomic_rmw("add", cgutils.gep_inbounds(inside, own, 0, 1), failed, "seq_cst")
        inside.ret_void()

        shared = cgutils.alloca_once(builder, posted)
        builder.store(values, cgutils.gep_inbounds(builder, shared, 0, 0))
        builder.store(integer_constant(0), cgutils.gep_inbounds(builder, shared, 0, 1))
        mine, address = builder.ptrtoint(shared, _INT), builder.ptrtoint(job, _INT)
        slots = context.make_array(crew)(context, builder, crew_value)
        count = builder.extract_value(slots.shape, 0)
        with cgutils.for_range(builder, count) as loop:
            slot = builder.load(builder.gep(slots.data, [loop.index]))
            understood = builder.icmp_signed(
                "==", builder.load(_field(builder, slot, SLOT_STAMP)), integer_constant(STAMP)
            )
            with builder.if_then(understood), builder.if_then(_exchanged(builder, slot, FREE, _CLAIMED)):
                builder.store(address, _field(builder, slot, _FUNCTION))
                builder.store_atomic(mine, _field(builder, slot, _ARGUMENTS), "seq_cst", 8)
                _becomes(builder, slot, _POSTED)
        builder.call(job, [builder.bitcast(shared, _POINTER)])
        looks = cgutils.alloca_once_value(builder, integer_constant(0))
        with cgutils.for_range(builder, count) as loop:
            slot = builder.load(builder.gep(slots.data, [loop.index]))
            # This may take back what another loop has posted meanwhile, which then does without help.
            _exchanged(builder, slot, _POSTED, FREE)
            with _while_at_work(builder, slot, mine):
                looked = builder.add(builder.load(looks), integer_constant(1))
                builder.store(looked, looks)
                _pause(builder)
                with builder.if_then(builder.icmp_signed(">", looked, integer_constant(_LOOKS))):
                    _give_way(builder)
        return builder.icmp_signed("==", builder.load(cgutils.gep_inbounds(builder, shared, 0, 1)), integer_constant(0))

    return types.boolean(crew, function, arguments), emit
