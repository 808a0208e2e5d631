"""Measurements beside the table of workloads: call overhead, low rank, thread scaling, peak memory, growth with size."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from ..arrays.backend import Array
from ..engines import make
from ..geometry.spec import ConvSpec
from ..threads.sizes import chosen_threads, set_num_threads
from .timing import Comparison, compare, interleaved_times, medians, repeat

_CALLS = 500


def measure_extras(*, quick: bool = False, repeats: int = 7) -> Iterator[Comparison]:
    """Measure call overhead, kernels of low rank, thread scaling, peak memory, and time per pixel by image size.

    Parameters
    ----------
    quick : bool
        Use small sizes, to check that everything runs.
    repeats : int
        Number of rounds.

    Yields
    ------
    Comparison
        Of times, or of memory if the name says so.
    """
    yield _compare_call_overhead(repeats)
    yield from _compare_separable(128 if quick else 1024, repeats)
    yield _compare_rank_search(128 if quick else 1024, repeats)
    yield _compare_threads(128 if quick else 1024, repeats)
    yield from _compare_peak_memory(256 if quick else 4096)
    yield _compare_sizes(64 if quick else 1024, repeats)


def _compare_call_overhead(repeats: int) -> Comparison:
    """Apply a 2x2 kernel to a 3x3 image, against three products of its matrix plus the overhead of a PyLops operator."""
    from ..operators.conv import Conv
    from ..operators.linear_operator import pylops

    A = Conv(np.array([[1.0, 2.0], [3.0, 4.0]]), (3, 3))
    matrix, dense = A.tosparse(), np.ones((4, 9))
    dense_operator = pylops.MatrixMult(np.ones((4, 9)))
    x, image = np.ones(9), np.ones((3, 3))
    seconds = interleaved_times(
        {
            "ours": repeat(lambda: A @ image, _CALLS),
            "matrix": repeat(lambda: matrix @ x, _CALLS),
            "PyLops": repeat(lambda: dense_operator @ x, _CALLS),
            "dense": repeat(lambda: dense @ x, _CALLS),
        },
        repeats,
    )
    # The overhead of PyLops is the time of its operator of a dense matrix minus the time of the bare product.
    rows = zip(seconds["matrix"], seconds["PyLops"], seconds["dense"], strict=True)
    allowed = [(3 * product + operator - bare) / _CALLS for product, operator, bare in rows]
    ours = [time / _CALLS for time in seconds["ours"]]
    return Comparison.of_times("A @ x, image 3^2, 2x2", "3 csr @ x and PyLops' own overhead", ours, allowed, limit=1.0)


def _compare_separable(size: int, repeats: int) -> Iterator[Comparison]:
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
        ours, theirs = partial(auto.forward, x), partial(other.forward, x)
        label = f"Gaussian blur {size}^2 k31, auto ({auto.name})"
        yield compare(label, f"engine {name}", ours, theirs, repeats=repeats, limit=1 / 4)


def _compare_rank_search(size: int, repeats: int) -> Comparison:
    """Search a kernel of full rank for a low rank in vain, against one product."""
    spec = ConvSpec((size, size), (31, 31), padding="same")
    x = np.random.default_rng(0).standard_normal(size * size)
    kernel = np.random.default_rng(0).standard_normal((31, 31))
    chosen = make("auto", spec, kernel).name
    apply = partial(make(chosen, spec, kernel).forward, x)
    construct = {"auto": partial(make, "auto", spec, kernel), "chosen": partial(make, chosen, spec, kernel)}
    construction = medians(interleaved_times(construct, 5 * repeats))
    search = construction["auto"] - construction["chosen"]
    product = medians(interleaved_times({"product": apply}, repeats))["product"]
    name = f"full rank {size}^2 k31: search and product"
    return Comparison(name, "product alone", search + product, product, 1 + search / product, 1.01)


def _compare_threads(size: int, repeats: int) -> Comparison:
    spec = ConvSpec((size, size), (15, 15), padding="same")
    engine = make("direct", spec, np.random.default_rng(0).standard_normal((15, 15)))
    x = np.random.default_rng(1).standard_normal(size * size)

    def apply_with(threads: int) -> Array:
        set_num_threads(threads)
        return engine.forward(x)

    two, one = partial(apply_with, 2), partial(apply_with, 1)
    before = chosen_threads()
    try:
        return compare(f"blur {size}^2 k15, two threads", "one thread", two, one, repeats=repeats, limit=1 / 1.6)
    finally:
        set_num_threads(before)


_PEAK_MEMORY = """
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


def _compare_peak_memory(size: int) -> Iterator[Comparison]:
    """Measure the peak memory of a new process, in images of x's size; x and the result count."""
    if sys.platform == "win32":  # pragma: no cover - Windows has no getrusage
        return
    image_nbytes = 8 * size * size
    for name in ("A @ x", "A.H @ y"):
        command = [sys.executable, "-c", _PEAK_MEMORY, str(size), name]
        nbytes = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        images = 1 + nbytes / image_nbytes
        label = f"peak memory of {name}, {size}^2 k7"
        yield Comparison(label, "8 images", images, 8.0, images / 8, 1.0, unit="images")


def _compare_sizes(size: int, repeats: int) -> Comparison:
    """Compare the time per pixel of a blur at four times the side with the time per pixel at the side."""
    kernel = np.random.default_rng(0).standard_normal((7, 7))

    def blur(side: int) -> Callable[[], Any]:
        engine = make("auto", ConvSpec((side, side), (7, 7), padding="same"), kernel)
        return partial(engine.forward, np.ones(side * side))

    seconds = interleaved_times({"small": blur(size), "large": blur(4 * size)}, repeats)
    large = [time / 16 for time in seconds["large"]]
    name = f"blur {4 * size}^2 k7, a pixel"
    return Comparison.of_times(name, f"blur {size}^2", large, seconds["small"], limit=1.5)
