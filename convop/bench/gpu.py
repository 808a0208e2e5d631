"""Engines and peers on a GPU, timed by its own clock.

What is timed is put into the GPU's queue while that is kept busy: so times are those of the GPU, and not of the Python
that calls it. Inputs and outputs are taken in turn from several sets, too many for its caches.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np

from ..arrays.backend import Array, gpu, to_gpu
from ..cuda.tables import source
from ..engines import make
from ..engines.gpu import usable
from .applying import ApplyLine, compared
from .machine import Machine
from .peers import Pair, gpu_peers
from .timing import Line, medians
from .workloads import QUICK, WORKLOADS, Problem, Workload

__all__ = ["gpu_apply_lines", "gpu_limit_lines", "gpu_machine"]

# Bytes of all sets of arrays together: several times the second-level cache of a large GPU.
_SETS_NBYTES = 2**28
_MOST_SETS = 64
# Seconds of calls that are timed together, and how many there are at least and at most: a queue has some 1000 places.
_BURST, _CALLS = 0.005, (5, 50)
# Cycles for which the GPU waits until the queue is filled: some 20 ms.
_WAIT = 30_000_000
# Entries up to which matrices are measured.
_MATRIX_ENTRIES = 3 * 10**8
_SIDES = (512, 1024, 2048, 4096)
_SAME = {"padding": "same"}
_BLURS = tuple(Workload(f"blur {n}^2 k3", (n, n), (3, 3), _SAME) for n in _SIDES if n != 2048)
# Of the rate of a copy of as many bytes, and the time of the matrix's product that the direct engine may take.
_RATE, _OVER_CSR = 0.7, 0.2


@dataclass(frozen=True)
class _Problem(Problem):
    """A workload on the GPU: one kernel, and one of several inputs and outputs."""

    number: int = 0

    def _normal(self, seed: int, shape: tuple[int, ...]) -> Array:
        return to_gpu(super()._normal(seed and seed + 2 * self.number, shape))

    @property
    def sets(self) -> int:
        """Sets of arrays that outgrow the caches."""
        nbytes = sum(self.spec.shape) * self.dtype.itemsize
        return max(2, min(_MOST_SETS, math.ceil(_SETS_NBYTES / nbytes)))


def gpu_machine(*, quick: bool = False) -> Machine:
    """The rates of the GPU in use.

    Parameters
    ----------
    quick : bool
        Small arrays, to see that it runs.

    Returns
    -------
    Machine

    Raises
    ------
    RuntimeError
        If there is none; the message says what is missing.
    """
    cupy = gpu()
    size = 64 if quick else 8192
    rates = []
    for dtype in ("float64", "float32"):
        a, product = cupy.ones((size, size), dtype), cupy.empty((size, size), dtype)
        rates.append(size**3 / _seconds(_turns([partial(cupy.matmul, a, a, out=product)])))
    nbytes = 2**16 if quick else 2**30
    name = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.runtime.getDevice())["name"]
    return Machine(rates[0], rates[1], nbytes / _copy_seconds(nbytes), 0, name.decode())


@cache
def _wait() -> Any:
    return gpu().RawModule(code=source("wait.cu")).get_function("wait")


def _seconds(function: Callable[[int], object]) -> float:
    """Seconds of the GPU for a call, of calls one after another with 0, 1, 2 and so on."""
    for n in range(_CALLS[0]):  # compiled, planned, its memory taken
        function(n)
    once = _timed(function, _CALLS[0])
    return _timed(function, max(_CALLS[0], min(_CALLS[1], int(_BURST / max(once, _BURST / _CALLS[1])))))


def _timed(function: Callable[[int], object], calls: int) -> float:
    cupy = gpu()
    start, stop = cupy.cuda.Event(), cupy.cuda.Event()
    _wait()((1,), (1,), (np.int64(_WAIT),))
    start.record()
    for n in range(calls):
        function(n)
    stop.record()
    stop.synchronize()
    return float(cupy.cuda.get_elapsed_time(start, stop)) / 1e3 / calls


def _copy_seconds(nbytes: int) -> float:
    """Seconds that a copy takes which reads and writes so many bytes in all."""
    cupy = gpu()
    count = max(2, min(_MOST_SETS, math.ceil(_SETS_NBYTES / nbytes)))
    sources, targets = ([cupy.zeros(nbytes // 8, np.float32) for _ in range(count)] for _ in range(2))
    return _seconds(lambda n: cupy.copyto(targets[n % count], sources[n % count]))


def _turns(functions: Sequence[Callable[[], object]]) -> Callable[[int], object]:
    return lambda n: functions[n % len(functions)]()


def _in_turn(functions: dict[str, Callable[[int], object]], repeats: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            times[name].append(_seconds(function))
    return times


def gpu_apply_lines(
    machine: Machine,
    *,
    quick: bool = False,
    repeats: int = 7,
    workloads: Sequence[Workload] | None = None,
    dtypes: Sequence[str] = ("float64", "float32"),
) -> Iterator[ApplyLine]:
    """Measure workloads on the GPU with all engines and all installed peers.

    Parameters
    ----------
    machine, quick, repeats, workloads, dtypes
        As in `apply_lines`. The share of the limit is that of a copy of as many bytes, or of a matrix product of as
        many multiplications.

    Yields
    ------
    ApplyLine

    Raises
    ------
    AssertionError
        If one of them computes something else.
    RuntimeError
        If there is no GPU.
    """
    for workload in workloads or (QUICK if quick else (*_BLURS, *WORKLOADS)):
        for dtype in dtypes:
            first = _Problem(workload, np.dtype(dtype))
            yield from _lines([_Problem(workload, first.dtype, n) for n in range(first.sets)], machine, repeats)


def _lines(problems: list[_Problem], machine: Machine, repeats: int) -> Iterator[ApplyLine]:
    first = problems[0]
    spec = first.spec
    names = [name for name in usable() if name != "csr" or spec.nnz <= _MATRIX_ENTRIES]
    engines = {name: make(name, spec, first.kernel) for name in ("auto", *names)}
    others: list[dict[str, Pair]] = [gpu_peers(problem) for problem in problems]
    multiplied = spec.c_out * (spec.c_in // spec.groups) * math.prod(a.taps * a.outputs for a in spec.axes)
    copy = _copy_seconds(sum(spec.shape) * first.dtype.itemsize)
    rate = machine.gemm64 if first.dtype.itemsize == 8 else machine.gemm32
    for direction, side in {"forward": 0, "adjoint": 1}.items():
        functions: dict[str, list[Callable[[], Any]]] = {
            name: [
                partial(engine.adjoint, p.y.ravel()) if side else partial(engine.forward, p.x.ravel()) for p in problems
            ]
            for name, engine in engines.items()
        }
        theirs = {name: [pairs[name][side] for pairs in others] for name in others[0]}
        known = {name: [f for f in made if f is not None] for name, made in theirs.items()}
        known = {name: made for name, made in known.items() if made}
        compared(first, {name: made[0] for name, made in (functions | known).items()})
        times = _in_turn({name: _turns(made) for name, made in (functions | known).items()}, repeats)
        middle = medians(times)
        yield ApplyLine(
            workload=first.workload.name,
            dtype=first.dtype.name,
            direction=direction,
            engine=engines["auto"].name,
            seconds={name: middle[name] for name in functions},
            peers={name: middle[name] for name in known},
            ratios={
                name: statistics.median(b / a for a, b in zip(times["auto"], times[name], strict=True))
                for name in known
            },
            share=max(copy, multiplied / rate) / middle["auto"],
            gemm_share=multiplied / middle["auto"] / rate,
        )


def gpu_limit_lines(*, quick: bool = False, repeats: int = 7) -> Iterator[Line]:
    """How near the matrix and the direct engine come to a copy of the bytes that they need, on a blur of one channel.

    Parameters
    ----------
    quick : bool
        Small images, to see that it runs.
    repeats : int
        Measurements per line.

    Yields
    ------
    Line
    """
    for side in (64,) if quick else _SIDES:
        for dtype in ("float32", "float64"):
            workload = Workload(f"blur {side}^2 k3", (side, side), (3, 3), _SAME)
            first = _Problem(workload, np.dtype(dtype))
            problems = [_Problem(workload, first.dtype, n) for n in range(first.sets)]
            spec = first.spec
            vectors = sum(spec.shape) * first.dtype.itemsize
            engines = {name: make(name, spec, first.kernel) for name in ("direct", "csr")}
            for direction in ("forward", "adjoint"):
                apply = {
                    name: _turns(
                        [
                            partial(getattr(e, direction), p.x.ravel() if direction == "forward" else p.y.ravel())
                            for p in problems
                        ]
                    )
                    for name, e in engines.items()
                }
                times = _in_turn(apply, repeats)
                needed = {"direct": vectors, "csr": vectors + spec.matrix_nbytes(first.dtype)}
                work = f"{workload.name} {dtype} {direction}"
                for name, nbytes in needed.items():
                    copies = [_copy_seconds(nbytes) for _ in range(repeats)]
                    yield _line(f"{name}, {work}", "a copy of as many bytes", times[name], copies, 1 / _RATE)
                yield _line(f"direct, {work}", "csr", times["direct"], times["csr"], _OVER_CSR)


def _line(name: str, against: str, ours: list[float], theirs: list[float], limit: float) -> Line:
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    return Line(name, against, statistics.median(ours), statistics.median(theirs), ratio, limit)
