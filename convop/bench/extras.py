"""What a table of workloads does not show: tiny inputs, low rank, threads, memory and growth with size."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from ..arrays.backend import Array
from ..engines import make
from ..geometry.spec import ConvSpec
from ..threads import sizes as parallel
from .timing import Line, in_turn, medians, times_in_turn

__all__ = ["extra_lines"]

_CALLS = 500


def extra_lines(*, quick: bool = False, repeats: int = 7) -> Iterator[Line]:
    """Measure them.

    Parameters
    ----------
    quick : bool
        Small sizes, to see that it runs.
    repeats : int
        Rounds.

    Yields
    ------
    Line
        With ratios of time, or of memory where the name says so, that should not exceed the limit.
    """
    yield _tiny(repeats)
    yield from _low_rank(128 if quick else 1024, repeats)
    yield _threads(128 if quick else 1024, repeats)
    yield from _memory(256 if quick else 4096)
    yield _growth(64 if quick else 1024, repeats)


def _tiny(repeats: int) -> Line:
    """A 2x2 kernel on a 3x3 image, against the bare product and what PyLops adds to it."""
    from ..operators.conv import Conv
    from ..operators.linear_operator import pylops

    kernel = np.array([[1.0, 2.0], [3.0, 4.0]])
    A = Conv(kernel, (3, 3))
    matrix = A.tosparse()
    dense = pylops.MatrixMult(np.ones((4, 9)))
    bare = np.ones((4, 9))
    x, image = np.ones(9), np.ones((3, 3))

    def many(function: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(_CALLS):
                function()

        return run

    seconds = times_in_turn(
        {
            "ours": many(lambda: A @ image),
            "matrix": many(lambda: matrix @ x),
            "PyLops": many(lambda: dense @ x),
            "dense": many(lambda: bare @ x),
        },
        repeats,
    )
    # what PyLops takes for its own work: its operator of a dense matrix, less the product itself
    rows = zip(seconds["ours"], seconds["matrix"], seconds["PyLops"], seconds["dense"], strict=True)
    limits = [(ours, 3 * product + pylops - dense) for ours, product, pylops, dense in rows]
    return Line(
        "A @ x, image 3^2, 2x2",
        "3 csr @ x and PyLops' own overhead",
        statistics.median(a for a, _ in limits) / _CALLS,
        statistics.median(b for _, b in limits) / _CALLS,
        statistics.median(a / b for a, b in limits),
        1.0,
    )


def _low_rank(size: int, repeats: int) -> Iterator[Line]:
    t = np.arange(31) - 15
    gaussian = np.exp(-(t**2) / 50.0)
    kernel = np.outer(gaussian, gaussian) / gaussian.sum() ** 2
    spec = ConvSpec((size, size), (31, 31), padding="same")
    x = np.random.default_rng(0).standard_normal(size * size)
    auto = make("auto", spec, kernel)
    for name in ("fft", "direct"):
        other = make(name, spec, kernel)
        error = np.abs(auto.forward(x) - other.forward(x)).max() / np.abs(other.forward(x)).max()
        if not error <= 1e-13:
            raise AssertionError(f"engine {auto.name} differs from {name} by {error:.1e}")
        ours, theirs, ratio = in_turn(partial(auto.forward, x), partial(other.forward, x), repeats)
        yield Line(f"Gaussian blur {size}^2 k31, auto ({auto.name})", f"engine {name}", ours, theirs, ratio, 1 / 4)
    # a kernel of full rank: what the search for a low one costs, in the time of one product
    rough = np.random.default_rng(0).standard_normal((31, 31))
    found = make("auto", spec, rough)
    by_name = make(found.name, spec, rough)

    def construct(name: str) -> Callable[[], object]:
        return lambda: make(name, spec, rough)

    making = medians(times_in_turn({"auto": construct("auto"), "name": construct(found.name)}, 5 * repeats))
    once = medians(times_in_turn({"": partial(by_name.forward, x)}, repeats))[""]
    yield Line(
        f"full rank {size}^2 k31: search and product", "product alone", making["auto"] - making["name"] + once, once,
        1 + (making["auto"] - making["name"]) / once, 1.01,
    )  # fmt: skip


def _threads(size: int, repeats: int) -> Line:
    spec = ConvSpec((size, size), (15, 15), padding="same")
    engine = make("direct", spec, np.random.default_rng(0).standard_normal((15, 15)))
    x = np.random.default_rng(1).standard_normal(size * size)
    before = parallel.chosen_threads()

    def with_threads(count: int) -> Callable[[], Array]:
        def run() -> Array:
            parallel.set_num_threads(count)
            return engine.forward(x)

        return run

    try:
        two, one, ratio = in_turn(with_threads(2), with_threads(1), repeats)
    finally:
        parallel.set_num_threads(before)
    return Line(f"blur {size}^2 k15, two threads", "one thread", two, one, ratio, 1 / 1.6)


_PEAK = """
import resource, sys
import numpy as np
from convop import Conv
size, name = int(sys.argv[1]), sys.argv[2]
kernel = np.random.default_rng(0).standard_normal((7, 7))
for side in (64, size):
    A = Conv(kernel, (side, side), padding="same", engine="direct" if side < size else "auto")
    x = np.ones((side, side))
    if side == size:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    y = A @ x if name == "A @ x" else A.H @ x
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((peak - before) * (1 if sys.platform == "darwin" else 1024))
"""


def _memory(size: int) -> Iterator[Line]:
    """Peak memory in images, x and the result counted, by a process of its own."""
    image = 8 * size * size
    for name in ("A @ x", "A.H @ y"):
        if sys.platform == "win32":  # pragma: no cover - no such figure there
            return
        run = subprocess.run([sys.executable, "-c", _PEAK, str(size), name], check=True, capture_output=True, text=True)
        images = 1 + int(run.stdout) / image
        yield Line(f"peak memory of {name}, {size}^2 k7", "8 images", images, 8.0, images / 8, 1.0, unit="images")


def _growth(size: int, repeats: int) -> Line:
    """Time a pixel at four times the side over that at the side."""
    kernel = np.random.default_rng(0).standard_normal((7, 7))

    def applied(side: int) -> Callable[[], Any]:
        engine = make("auto", ConvSpec((side, side), (7, 7), padding="same"), kernel)
        return partial(engine.forward, np.ones(side * side))

    large, small, ratio = in_turn(applied(4 * size), applied(size), repeats)
    return Line(f"blur {4 * size}^2 k7, a pixel", f"blur {size}^2", large / 16, small, ratio / 16, 1.5)
