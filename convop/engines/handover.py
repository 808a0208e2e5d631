"""How a compiled loop hands its work to threads that wait in compiled code, without the interpreter.

Each of these threads, the helpers, has a slot of memory: a state, a function and what it is called with.

    asleep --roused--> awake --claimed--> claimed --> posted --taken--> at work --> awake --after a while--> asleep

A loop claims every helper that is awake, posts itself there, does what the others leave to it, takes back what no
helper has begun and waits for those that are at work. Every step is one atomic exchange of the state, so that several
threads may hand over to the same helpers, nothing is done twice, and nothing is waited for that nobody does. Memory
that is posted lies on the stack of the loop, which outlives it.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["ASLEEP", "AWAKE", "counters", "serve", "share"]

ASLEEP, AWAKE, _CLAIMED, _POSTED, _AT_WORK = range(5)
# Integers of a slot.
_STATE, _FUNCTION, _ARGUMENTS = range(3)

_INT, _VOID = ir.IntType(64), ir.VoidType()
_POINTER = ir.IntType(8).as_pointer()
_JOB = ir.FunctionType(_VOID, [_POINTER])

# Looks at a state before a waiting thread lets others have its core, where the one that it waits for may be stuck.
_LOOKS = 2000


def _constant(value: int) -> Any:
    return ir.Constant(_INT, value)


def _field(builder: Any, slot: Any, number: int) -> Any:
    return builder.gep(builder.inttoptr(slot, _INT.as_pointer()), [_constant(number)])


def _state(builder: Any, slot: Any) -> Any:
    return builder.load_atomic(_field(builder, slot, _STATE), "seq_cst", 8)


def _becomes(builder: Any, slot: Any, state: int) -> None:
    builder.store_atomic(_constant(state), _field(builder, slot, _STATE), "seq_cst", 8)


def _exchanged(builder: Any, slot: Any, old: int, new: int) -> Any:
    """Whether the state was `old`, and is `new` from now on."""
    exchange = builder.cmpxchg(_field(builder, slot, _STATE), _constant(old), _constant(new), "seq_cst", "seq_cst")
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
    at_work = builder.icmp_signed("==", _state(builder, slot), _constant(_AT_WORK))
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
        posted = builder.icmp_signed("==", _state(builder, slot), _constant(_POSTED))
        # An exchange writes, and takes the cache line from whoever is about to post: look first.
        with builder.if_then(posted), builder.if_then(_exchanged(builder, slot, _POSTED, _AT_WORK)):
            address = builder.load(_field(builder, slot, _FUNCTION))
            arguments = builder.inttoptr(builder.load(_field(builder, slot, _ARGUMENTS)), _POINTER)
            builder.call(builder.inttoptr(address, _JOB.as_pointer()), [arguments])
            _becomes(builder, slot, AWAKE)
            builder.store(cgutils.true_bit, done)
        _pause(builder)
        return builder.load(done)

    return types.boolean(types.int64), emit


@intrinsic
def _fallen_asleep(typingctx, slot):
    """Whether a helper that was awake sleeps from now on."""

    def emit(context, builder, signature, args):
        return _exchanged(builder, args[0], AWAKE, ASLEEP)

    return types.boolean(types.int64), emit


@numba.njit("void(int64, int64)", nogil=True, cache=True)
def serve(slot, looks):
    """Do what is posted in the slot at this address, until nothing was for so many looks."""
    left = looks
    while left > 0 or not _fallen_asleep(slot):
        left = looks if _taken(slot) else max(left - 1, 0)


@numba.njit(nogil=True)
def counters():
    """Two counters from which threads take numbers, at ``[0]`` and ``[8]``: one a cache line."""
    return np.zeros(16, np.int64)


@intrinsic
def share(typingctx, crew, function, arguments):
    """Call a compiled function here and in the helpers that are awake, each as often as it is free to, at most once.

    The function takes its part of the work from counters among its arguments, until nothing is left. It must not
    raise. When this returns, no helper works for it any more.

    Parameters
    ----------
    crew : array of int64
        Addresses of slots.
    function : dispatcher
        Called without results.
    arguments : tuple
        What it is called with; all calls have the same.
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
        job = ir.Function(builder.module, _JOB, builder.module.get_unique_name("job"))
        job.linkage = "internal"
        inside = ir.IRBuilder(job.append_basic_block())
        passed = inside.load(inside.bitcast(job.args[0], values.type.as_pointer()))
        each = [inside.extract_value(passed, i) for i in range(len(arguments.types))]
        context.call_internal_no_propagate(inside, compiled.fndesc, called, each)
        inside.ret_void()

        shared = cgutils.alloca_once(builder, values.type)
        builder.store(values, shared)
        mine, address = builder.ptrtoint(shared, _INT), builder.ptrtoint(job, _INT)
        slots = context.make_array(crew)(context, builder, crew_value)
        count = builder.extract_value(slots.shape, 0)
        with cgutils.for_range(builder, count) as loop:
            slot = builder.load(builder.gep(slots.data, [loop.index]))
            with builder.if_then(_exchanged(builder, slot, AWAKE, _CLAIMED)):
                builder.store(address, _field(builder, slot, _FUNCTION))
                builder.store_atomic(mine, _field(builder, slot, _ARGUMENTS), "seq_cst", 8)
                _becomes(builder, slot, _POSTED)
        builder.call(job, [builder.bitcast(shared, _POINTER)])
        looks = cgutils.alloca_once_value(builder, _constant(0))
        with cgutils.for_range(builder, count) as loop:
            slot = builder.load(builder.gep(slots.data, [loop.index]))
            # This may take back what another loop has posted meanwhile, which then does without help.
            _exchanged(builder, slot, _POSTED, AWAKE)
            with _while_at_work(builder, slot, mine):
                looked = builder.add(builder.load(looks), _constant(1))
                builder.store(looked, looks)
                _pause(builder)
                with builder.if_then(builder.icmp_signed(">", looked, _constant(_LOOKS))):
                    _give_way(builder)
        return context.get_dummy_value()

    return types.void(crew, function, arguments), emit
