"""The machine's limits, and the loops that measure them."""

import os
import platform
import re

import numba
import numpy as np
import pytest

from convop import bench
from convop.bench import rate_loops
from convop.engines.cpu.workspace import aligned
from convop.threads.pool import awake_workers
from convop.threads.vectors import FORCED_WIDTH, vector_unit

DTYPES = ("float64", "float32")


def test_limit_is_the_larger_of_arithmetic_and_traffic():
    machine = bench.Machine(peak64=100.0, peak32=200.0, bandwidth=10.0, threads=1)
    assert machine.roofline_seconds(1000, 10, 8) == 20.0  # two operations for each multiply-add
    assert machine.roofline_seconds(1000, 10, 4) == 10.0
    assert machine.roofline_seconds(1, 1000, 8) == 100.0


@pytest.mark.parametrize("dtype", DTYPES)
def test_each_item_is_computed_once_with_the_total_of_all_sums(dtype):
    factor, addend = 0.5, 3.0
    totals = np.zeros(50, dtype)
    starts = np.arange(rate_loops.SUMS)
    rate_loops.multiply_adds(awake_workers(50, 10**9), np.array([factor, addend], dtype), 2, totals)
    expected = ((starts * factor + addend) * factor + addend).sum()
    assert totals == pytest.approx(np.full(50, expected))


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="reads the assembly of x86")
@pytest.mark.skipif(FORCED_WIDTH in os.environ, reason="the sums may not fit in this machine's registers")
@pytest.mark.parametrize("dtype", DTYPES)
def test_loop_has_one_multiply_add_for_each_sum_and_reads_no_memory(dtype):
    compiled = numba.njit(nogil=True, _nrt=False)(rate_loops.multiply_add_items.py_func)
    arrays = np.zeros(16, np.int64), np.zeros(2, dtype), 1, np.zeros(4, dtype)
    compiled.compile(tuple(map(numba.typeof, arrays)))
    (assembly,) = compiled.inspect_asm().values()
    loops = [body for body in backward_jumps(assembly) if re.search(r"fmadd\S*p[sd]|mulp[sd]", body)]
    innermost = min(loops, key=len)
    sums = re.findall(r"(?:fmadd\S*|\bv?mul)p[sd]\s.*%([xyz]mm\d+)$", innermost, re.MULTILINE)
    assert len(sums) % rate_loops.SUMS == 0
    assert len(set(sums)) == rate_loops.SUMS >= 10
    assert "(" not in innermost  # an address, as in 32(%rsp)
    width = {16: "x", 32: "y", 64: "z"}[vector_unit().bytes]
    assert {name[0] for name in sums} == {width}


def backward_jumps(assembly):
    """Yield the text of each loop: from a label to a jump back to it."""
    lines = assembly.splitlines()
    labels = {}
    for number, line in enumerate(lines):
        if match := re.match(r"(\S+):", line):
            labels[match[1]] = number
        elif (match := re.match(r"\s+j\w+\s+(\S+)", line)) and match[1] in labels:
            yield "\n".join(lines[labels[match[1]] : number])


@pytest.mark.parametrize("item_size", [64, 1024, 2**20])
def test_copy_copies_all_elements(item_size):
    source, target = aligned(64 * 100, np.dtype(float)), aligned(64 * 100, np.dtype(float))
    source[:], target[:] = np.arange(6400), -1
    rate_loops.copy(awake_workers(6400 // 64, 10**9), source, target, item_size)
    assert np.array_equal(source, target)
