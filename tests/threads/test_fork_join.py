"""What `fork_join` passes to the function that all threads call."""

from typing import NamedTuple

import numpy as np
from numba import njit, types
from numba.core.typing.typeof import typeof
from numba.extending import intrinsic

from convop.threads.fork_join import counters, fork_join


class Inner(NamedTuple):
    size: int
    values: np.ndarray


class Outer(NamedTuple):
    inner: Inner
    pair: tuple
    values: np.ndarray


@intrinsic
def reference_count_address(typingctx, array):
    """Returns where an array's references are counted, 0 for an array whose references nobody counts."""

    def emit(context, builder, signature, args):
        (value,) = args
        meminfo = context.make_array(signature.args[0])(context, builder, value).meminfo
        return builder.ptrtoint(meminfo, context.get_value_type(types.int64))

    return types.int64(array), emit


@njit(nogil=True)
def _look(counter, record, plain, addresses):
    addresses[0] = reference_count_address(counter)
    addresses[1] = reference_count_address(plain)
    addresses[2] = reference_count_address(record.values)
    addresses[3] = reference_count_address(record.inner.values)
    addresses[4] = reference_count_address(record.pair[0])
    addresses[5] = record.inner.size
    addresses[6] = int(record.values[1] + record.inner.values[1] + record.pair[0][0] + record.pair[1][1])


@njit(nogil=True)
def look(workers, record, plain, addresses):
    addresses[7] = reference_count_address(record.inner.values)
    return fork_join(workers, _look, (counters(), record, plain, addresses))


def test_fork_join_borrows_arrays_inside_records_and_tuples():
    record = Outer(Inner(5, np.array([1.0, 2.0])), (np.array([30.0]), np.array([0.0, 400.0])), np.arange(3.0))
    addresses = np.full(8, -1)
    assert look(np.zeros(0, np.int64), record, np.ones(1), addresses)
    assert list(addresses[:5]) == [0] * 5
    assert list(addresses[5:7]) == [5, 433]
    assert addresses[7] != 0  # the caller's own arrays are counted


def test_records_keep_their_type_through_numba():
    record = Inner(5, np.ones(2))
    assert isinstance(typeof(record), types.NamedTuple)
    assert typeof(record).fields == Inner._fields
