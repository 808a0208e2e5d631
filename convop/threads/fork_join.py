"""Fork-join for compiled loops: work is posted to threads that wait in compiled code, without the interpreter.

Each worker thread has a slot of memory that holds a state, a function and the function's arguments:

    FREE --claim--> CLAIMED --> POSTED --exchange--> RUNNING --> FREE

`fork_join` claims every slot that is free, posts the function there, and calls the function itself. It then takes back
what no worker has started, and waits for the workers that run. Every step is one atomic exchange of the state, so several
threads may post to the same workers, nothing is done twice, and a worker that sleeps or has ended is not waited for.
What is posted lies on the stack of the caller, which outlives the work.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

from .compiled import kernel
from .llvm import integer_constant

FREE, _CLAIMED, _POSTED, _RUNNING = range(4)
# Integers of a slot: the state, what is posted, whether the worker looks for work, and whether it must exit.
_STATE, _FUNCTION, _ARGUMENTS, AWAKE, LEAVE = range(5)

_INT, _VOID = ir.IntType(64), ir.VoidType()
_POINTER = ir.IntType(8).as_pointer()
_JOB = ir.FunctionType(_VOID, [_POINTER])

# Looks at a state before a waiting thread yields its core, which the worker that it waits for may need.
_SPIN_LIMIT = 2000


def _field(builder: Any, slot: Any, number: int) -> Any:
    return builder.gep(builder.inttoptr(slot, _INT.as_pointer()), [integer_constant(number)])


def _state(builder: Any, slot: Any) -> Any:
    return builder.load_atomic(_field(builder, slot, _STATE), "seq_cst", 8)


def _set_state(builder: Any, slot: Any, state: int) -> None:
    builder.store_atomic(integer_constant(state), _field(builder, slot, _STATE), "seq_cst", 8)


def _compare_exchange(builder: Any, slot: Any, old: int, new: int) -> Any:
    """Sets the state to `new` if it is `old`, as one atomic operation, and returns whether it was."""
    exchange = builder.cmpxchg(
        _field(builder, slot, _STATE), integer_constant(old), integer_constant(new), "seq_cst", "seq_cst"
    )
    return builder.extract_value(exchange, 1)


def _call(builder: Any, name: str, result: Any, *arguments: Any) -> None:
    signature = ir.FunctionType(result, [argument.type for argument in arguments])
    builder.call(cgutils.get_or_insert_function(builder.module, signature, name), arguments)


def _pause(builder: Any) -> None:
    """Tells the core that this thread spins, so that its sibling hyperthread gets more of the core."""
    machine = platform.machine().lower()
    if machine in ("x86_64", "amd64"):
        _call(builder, "llvm.x86.sse2.pause", _VOID)
    elif machine in ("aarch64", "arm64"):
        _call(builder, "llvm.aarch64.hint", _VOID, ir.Constant(ir.IntType(32), 1))


def _yield_core(builder: Any) -> None:
    """Lets other threads run on this core."""
    _call(builder, "SwitchToThread" if sys.platform == "win32" else "sched_yield", ir.IntType(32))


@contextmanager
def _while_running(builder: Any, slot: Any, arguments: Any) -> Iterator[None]:
    """Emits a loop that runs as long as the worker of a slot works on these arguments; the block emits its body."""
    look, body, after = (builder.append_basic_block(name) for name in ("look", "wait", "done"))
    builder.branch(look)
    builder.position_at_end(look)
    posted = builder.load_atomic(_field(builder, slot, _ARGUMENTS), "seq_cst", 8)
    running = builder.icmp_signed("==", _state(builder, slot), integer_constant(_RUNNING))
    builder.cbranch(builder.and_(running, builder.icmp_signed("==", posted, arguments)), body, after)
    builder.position_at_end(body)
    yield
    builder.branch(look)
    builder.position_at_end(after)


@intrinsic
def _run_posted(typingctx, slot):
    """Runs what is posted in a slot, and returns whether there was anything."""

    def emit(context, builder, signature, args):
        (slot,) = args
        done = cgutils.alloca_once_value(builder, cgutils.false_bit)
        posted = builder.icmp_signed("==", _state(builder, slot), integer_constant(_POSTED))
        # An exchange takes the cache line from the thread that is about to post, so the state is read first.
        with builder.if_then(posted), builder.if_then(_compare_exchange(builder, slot, _POSTED, _RUNNING)):
            address = builder.load(_field(builder, slot, _FUNCTION))
            arguments = builder.inttoptr(builder.load(_field(builder, slot, _ARGUMENTS)), _POINTER)
            builder.call(builder.inttoptr(address, _JOB.as_pointer()), [arguments])
            _set_state(builder, slot, FREE)
            builder.store(cgutils.true_bit, done)
        _pause(builder)
        return builder.load(done)

    return types.boolean(types.int64), emit


@intrinsic
def _access(typingctx, slot, field, value):
    """Writes an integer of a slot unless `value` is negative, and returns what the slot holds then."""

    def emit(context, builder, signature, args):
        slot, field, value = args
        place = builder.gep(builder.inttoptr(slot, _INT.as_pointer()), [field])
        with builder.if_then(builder.icmp_signed(">=", value, integer_constant(0))):
            builder.store_atomic(value, place, "seq_cst", 8)
        return builder.load_atomic(place, "seq_cst", 8)

    return types.int64(types.int64, types.int64, types.int64), emit


@kernel
def worker_loop(slot, spin_limit):
    """Runs what is posted in the slot at this address, until it found nothing `spin_limit` times in a row or LEAVE is set."""
    _access(slot, AWAKE, 1)
    left = spin_limit
    while left > 0 and not _access(slot, LEAVE, -1):
        left = spin_limit if _run_posted(slot) else left - 1
    _access(slot, AWAKE, 0)


worker_loop.compile((types.int64, types.int64))


@intrinsic
def counters(typingctx):
    """Returns two counters for `atomic_fetch_add`, at ``[0]`` and ``[8]``: zeros on the stack of the calling kernel."""
    kind = types.Array(types.int64, 1, "C")

    def emit(context, builder, signature, args):
        size = 16  # so the two counters are on different cache lines
        memory = cgutils.alloca_once(builder, ir.ArrayType(_INT, size))
        builder.store(ir.Constant(memory.type.pointee, None), memory)
        array = context.make_array(kind)(context, builder)
        length, stride = integer_constant(size), integer_constant(8)
        data = builder.bitcast(memory, _INT.as_pointer())
        populate_array(array, data, (length,), (stride,), stride, None)
        return array._getvalue()

    return kind(), emit


def _borrowed(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """Returns a value without the reference counts of its arrays, also of those inside tuples and named tuples.

    All threads read the same arrays: counting references to them would bounce the counters' cache lines between cores.
    """
    if isinstance(kind, types.Array):
        array = context.make_array(kind)(context, builder, value)
        array.meminfo = ir.Constant(array.meminfo.type, None)
        return array._getvalue()
    if isinstance(kind, types.BaseTuple):
        for i, item in enumerate(kind):
            borrowed = _borrowed(context, builder, item, builder.extract_value(value, i))
            value = builder.insert_value(value, borrowed, i)
    return value


def _emit_job(context: Any, builder: Any, called: Any, compiled: Any, posted: Any) -> Any:
    """Emits the function that workers call with the address of what is posted: ``(arguments, failed calls)``."""
    job = ir.Function(builder.module, _JOB, builder.module.get_unique_name("job"))
    job.linkage = "internal"
    inside = ir.IRBuilder(job.append_basic_block())
    own = inside.bitcast(job.args[0], posted.as_pointer())
    arguments = inside.load(cgutils.gep_inbounds(inside, own, 0, 0))
    values = [inside.extract_value(arguments, i) for i in range(len(called.args))]
    status, _ = context.call_internal_no_propagate(inside, compiled.fndesc, called, values)
    failed = inside.zext(status.is_error, _INT)
    inside.atomic_rmw("add", cgutils.gep_inbounds(inside, own, 0, 1), failed, "seq_cst")
    inside.ret_void()
    return job


@intrinsic
def fork_join(typingctx, workers, function, arguments):
    """Calls a compiled function in this thread and in every worker that is awake and free.

    The function takes its share of the work from counters among its arguments, until nothing is left. When `fork_join`
    returns, no worker runs the function any more.

    Parameters
    ----------
    workers : array of int64
        Addresses of the workers' slots.
    function : dispatcher
        Called without results.
    arguments : tuple
        The arguments of every call. Arrays, also those inside named tuples, are passed without reference counts.

    Returns
    -------
    bool
        Whether no call has raised.
    """
    called = function.get_call_type(typingctx, arguments.types, {})

    def emit(context, builder, signature, args):
        workers_value, _, values = args
        compiled = function.dispatcher.get_compile_result(called)
        context.add_linking_libs([compiled.library])
        if context.enable_nrt:  # kernels that allocate no arrays count no references
            values = _borrowed(context, builder, arguments, values)
        posted = ir.LiteralStructType([values.type, _INT])
        job = _emit_job(context, builder, called, compiled, posted)
        shared = cgutils.alloca_once(builder, posted)
        failures = cgutils.gep_inbounds(builder, shared, 0, 1)
        builder.store(values, cgutils.gep_inbounds(builder, shared, 0, 0))
        builder.store(integer_constant(0), failures)
        mine, address = builder.ptrtoint(shared, _INT), builder.ptrtoint(job, _INT)
        slots = context.make_array(workers)(context, builder, workers_value)
        count = builder.extract_value(slots.shape, 0)
        with cgutils.for_range(builder, count) as loop:
            slot = builder.load(builder.gep(slots.data, [loop.index]))
            with builder.if_then(_compare_exchange(builder, slot, FREE, _CLAIMED)):
                builder.store(address, _field(builder, slot, _FUNCTION))
                builder.store_atomic(mine, _field(builder, slot, _ARGUMENTS), "seq_cst", 8)
                _set_state(builder, slot, _POSTED)
        builder.call(job, [builder.bitcast(shared, _POINTER)])
        looks = cgutils.alloca_once_value(builder, integer_constant(0))
        with cgutils.for_range(builder, count) as loop:
            slot = builder.load(builder.gep(slots.data, [loop.index]))
            # This may take back what another loop has posted meanwhile; that loop then proceeds without this worker.
            _compare_exchange(builder, slot, _POSTED, FREE)
            with _while_running(builder, slot, mine):
                looked = builder.add(builder.load(looks), integer_constant(1))
                builder.store(looked, looks)
                _pause(builder)
                with builder.if_then(builder.icmp_signed(">", looked, integer_constant(_SPIN_LIMIT))):
                    _yield_core(builder)
        return builder.icmp_signed("==", builder.load(failures), integer_constant(0))

    return types.boolean(workers, function, arguments), emit
