"""Times of engines and peers on a GPU, by the GPU's own clock.

Work is queued while a waiting kernel keeps the GPU busy, so that times are those of the GPU and not of the Python code that
queues it. Calls take turns with several sets of inputs and outputs, too many for the GPU's caches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np

from ..arrays.backend import Array, gpu, to_gpu
from ..cuda.tables import kernel_source
from ..engines import make
from ..engines.gpu import usable
from .applying import WorkloadTimes, check_agreement
from .machine import Machine
from .peers import gpu_peers
from .timing import Comparison
from .workloads import QUICK, WORKLOADS, Problem, Workload

# Bytes of all sets of arrays together: several times the second-level cache of a large GPU.
_SETS_NBYTES = 2**28
_MAX_SETS = 64
# Seconds of calls that are timed together, and their minimum and maximum number: a queue holds about 1000 launches.
_MEASURED, _CALLS = 0.005, (5, 50)
# Cycles of the waiting kernel, about 20 ms, during which the queue is filled.
_WAIT_CYCLES = 30_000_000
# Maximum number of entries of a matrix that is measured.
_MAX_ENTRIES = 3 * 10**8
_SIDES = (512, 1024, 2048, 4096)
_SAME = {"padding": "same"}
_BLURS = tuple(Workload(f"blur {n}^2 k3", (n, n), (3, 3), _SAME) for n in _SIDES if n != 2048)
# Limits of the direct engine: its rate over the rate of a copy of as many bytes, its time over the time of the matrix.
_COPY_RATE, _OVER_CSR = 0.7, 0.2


@dataclass(frozen=True)
class _Problem(Problem):
    """A workload on the GPU: number `number` of several sets of an input and an output, with the same kernel."""

    number: int = 0

    def _random(self, seed: int, shape: tuple[int, ...]) -> Array:
        return to_gpu(super()._random(seed and seed + 2 * self.number, shape))


def _problems(workload: Workload, dtype: str) -> list[_Problem]:
    """Make so many sets of arrays that they outgrow the caches."""
    first = _Problem(workload, np.dtype(dtype))
    return [_Problem(workload, first.dtype, n) for n in range(_sets(first.vector_nbytes))]


def _sets(nbytes: int) -> int:
    return max(2, min(_MAX_SETS, math.ceil(_SETS_NBYTES / nbytes)))


def measure_gpu(*, quick: bool = False) -> Machine:
    """Measure the rates of the GPU in use.

    Parameters
    ----------
    quick : bool
        Use small arrays, to check that everything runs.

    Returns
    -------
    Machine

    Raises
    ------
    RuntimeError
        If no GPU can be used; the message names the missing part.
    """
    cupy = gpu()
    size = 64 if quick else 8192
    rates = []
    for dtype in ("float64", "float32"):
        a, product = cupy.ones((size, size), dtype), cupy.empty((size, size), dtype)
        rates.append(2 * size**3 / _time(_take_turns([partial(cupy.matmul, a, a, out=product)])))
    nbytes = 2**16 if quick else 2**30
    name = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.runtime.getDevice())["name"]
    return Machine(rates[0], rates[1], nbytes / _copy_seconds(nbytes), 0, name.decode())


@cache
def _wait_kernel() -> Any:
    return gpu().RawModule(code=kernel_source("wait.cu")).get_function("wait")


def _time(function: Callable[[int], object]) -> float:
    """Return the GPU's seconds of a call; the function is called with 0, 1, 2 and so on."""
    least, most = _CALLS
    for n in range(least):  # warm-up: compilation, plans, memory
        function(n)
    once = _time_calls(function, least)
    return _time_calls(function, max(least, min(most, int(_MEASURED / max(once, _MEASURED / most)))))


def _time_calls(function: Callable[[int], object], calls: int) -> float:
    cupy = gpu()
    start, stop = cupy.cuda.Event(), cupy.cuda.Event()
    _wait_kernel()((1,), (1,), (np.int64(_WAIT_CYCLES),))
    start.record()
    for n in range(calls):
        function(n)
    stop.record()
    stop.synchronize()
    return float(cupy.cuda.get_elapsed_time(start, stop)) / 1e3 / calls


def _copy_seconds(nbytes: int) -> float:
    """Return the seconds of a copy that reads and writes `nbytes` bytes in total."""
    cupy = gpu()
    count = _sets(nbytes)
    sources, targets = ([cupy.zeros(nbytes // 8, np.float32) for _ in range(count)] for _ in range(2))
    return _time(lambda n: cupy.copyto(targets[n % count], sources[n % count]))


def _take_turns(functions: Sequence[Callable[[], object]]) -> Callable[[int], object]:
    """Return a function of n that calls number n, modulo their number, of the functions."""
    return lambda n: functions[n % len(functions)]()


def _interleaved_times(functions: dict[str, Callable[[int], object]], repeats: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            times[name].append(_time(function))
    return times


def measure_gpu_workloads(
    machine: Machine,
    *,
    quick: bool = False,
    repeats: int = 7,
    workloads: Sequence[Workload] | None = None,
    dtypes: Sequence[str] = ("float64", "float32"),
) -> Iterator[WorkloadTimes]:
    """Time all engines and all installed peers on the GPU.

    Parameters
    ----------
    machine, quick, repeats, workloads, dtypes
        As in `measure_workloads`. The lower bound of the time is that of a copy of as many bytes, or of a matrix product
        of as many multiply-adds.

    Yields
    ------
    WorkloadTimes

    Raises
    ------
    AssertionError
        If an engine or a peer computes a different result.
    RuntimeError
        If no GPU can be used.
    """
    for workload in workloads or (QUICK if quick else (*_BLURS, *WORKLOADS)):
        for dtype in dtypes:
            yield from _measure_problems(_problems(workload, dtype), machine, repeats)


def _measure_problems(problems: list[_Problem], machine: Machine, repeats: int) -> Iterator[WorkloadTimes]:
    first = problems[0]
    spec = first.spec
    names = [name for name in usable() if name != "csr" or spec.nnz <= _MAX_ENTRIES]
    engines = {name: make(name, spec, first.kernel) for name in ("auto", *names)}
    pairs = [gpu_peers(problem) for problem in problems]
    arithmetic = 2 * first.multiplications / machine.peak(first.dtype.itemsize)
    least = max(_copy_seconds(first.vector_nbytes), arithmetic)
    for side, direction in enumerate(("forward", "adjoint")):
        functions: dict[str, list[Callable[[], Any]]] = {
            name: [_product(engine, direction, problem) for problem in problems] for name, engine in engines.items()
        }
        for name in pairs[0]:
            if known := [function for pair in pairs if (function := pair[name][side]) is not None]:
                functions[name] = known
        check_agreement(first, {name: sets[0] for name, sets in functions.items()})
        times = _interleaved_times({name: _take_turns(sets) for name, sets in functions.items()}, repeats)
        yield WorkloadTimes.of_times(first, direction, times, engines, least)


def _product(engine: Any, direction: str, problem: _Problem) -> Callable[[], Any]:
    """Return a function that applies the engine to the problem's input, or its adjoint to the problem's output."""
    if direction == "adjoint":
        return partial(engine.adjoint, problem.y.ravel())
    return partial(engine.forward, problem.x.ravel())


def measure_gpu_limits(*, quick: bool = False, repeats: int = 7) -> Iterator[Comparison]:
    """Time the matrix and the direct engine, on a blur of one channel, against a copy of the bytes that they need.

    Parameters
    ----------
    quick : bool
        Use small images, to check that everything runs.
    repeats : int
        Number of rounds.

    Yields
    ------
    Comparison
    """
    for side in (64,) if quick else _SIDES:
        for dtype in ("float32", "float64"):
            problems = _problems(Workload(f"blur {side}^2 k3", (side, side), (3, 3), _SAME), dtype)
            first = problems[0]
            matrix_nbytes = first.spec.matrix_nbytes(first.dtype)
            needed = {"direct": first.vector_nbytes, "csr": first.vector_nbytes + matrix_nbytes}
            engines = {name: make(name, first.spec, first.kernel) for name in needed}
            for direction in ("forward", "adjoint"):
                functions = {
                    name: _take_turns([_product(engine, direction, problem) for problem in problems])
                    for name, engine in engines.items()
                }
                times = _interleaved_times(functions, repeats)
                work = f"{first.workload.name} {dtype} {direction}"
                for name, nbytes in needed.items():
                    copies = [_copy_seconds(nbytes) for _ in range(repeats)]
                    label = f"{name}, {work}"
                    yield Comparison.of_times(
                        label, "a copy of as many bytes", times[name], copies, limit=1 / _COPY_RATE
                    )
                yield Comparison.of_times(f"direct, {work}", "csr", times["direct"], times["csr"], limit=_OVER_CSR)
