"""Compiles all kernels and keeps them on disk: the computation of ``convop warm-up``, for images of containers."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..arrays.backend import Array
from ..deconvnet.elementwise import SplitVariables, power_sums, prox_lp
from ..engines.cpu.direct import DirectEngine
from ..engines.cpu.fft import FftEngine
from ..engines.cpu.filters import DirectFilter
from ..engines.cpu.gemm import GemmEngine
from ..engines.cpu.separable import SeparableEngine
from ..engines.cpu.tuning import Tuning
from ..engines.cpu.winograd import WinogradEngine
from ..geometry.spec import ConvSpec
from ..matrix.builders import Tables, large_structure, large_values
from ..threads.sizes import thread_count

__all__ = ["JOBS", "cache_folder", "warm_up"]

# The engines compute with real numbers only; complex ones are pairs of them.
_REAL = ("float32", "float64")
_PLAIN = ConvSpec((16, 16), (3, 3), padding=1)
# The adjoint writes every second element, and halo rows and columns.
_STRIDED = ConvSpec((16, 16), (3, 3), padding=1, stride=2, padding_mode="symmetric")


def _ones(spec: ConvSpec, dtype: str) -> Array:
    ones: Array = np.ones(spec.kernel_shape, dtype)
    return ones


def _direct_in_place() -> None:
    for dtype in _REAL:
        DirectEngine(_PLAIN, _ones(_PLAIN, dtype)).forward(np.ones(_PLAIN.shape[1], dtype))


def _direct() -> None:
    for dtype in _REAL:
        DirectEngine(_STRIDED, _ones(_STRIDED, dtype)).adjoint(np.ones(_STRIDED.shape[0], dtype))


def _separable() -> None:
    for dtype in _REAL:
        SeparableEngine(_PLAIN, _ones(_PLAIN, dtype)).forward(np.ones(_PLAIN.shape[1], dtype))


def _columns() -> None:
    tuning = replace(Tuning.packaged(), transform_kinds=("first axis",))
    for dtype in _REAL:
        FftEngine(_PLAIN, _ones(_PLAIN, dtype), tuning).forward(np.ones(_PLAIN.shape[1], dtype))


def _blocks() -> None:
    for dtype in _REAL:
        GemmEngine(_PLAIN, _ones(_PLAIN, dtype)).forward(np.ones(_PLAIN.shape[1], dtype))


def _gradient() -> None:
    for dtype in _REAL:
        data = np.ones((1, *_PLAIN.input_shape), dtype)
        DirectFilter(_PLAIN, data).adjoint(np.ones(_PLAIN.shape[0], dtype))


def _matrix() -> None:
    tables = Tables.of(_PLAIN)
    large_structure(tables)
    for dtype in ("float32", "float64", "complex128"):  # complex64 is copied as float64 is
        large_values(tables, np.ones(_PLAIN.kernel_shape, dtype))


def _winograd() -> None:
    for dtype in _REAL:
        WinogradEngine(_PLAIN, _ones(_PLAIN, dtype)).forward(np.ones(_PLAIN.shape[1], dtype))


def _elementwise() -> None:
    for dtype in _REAL:
        maps = np.ones((8, 1), dtype)
        SplitVariables(maps, maps, None).update(maps, 1.0, 1.5)
        prox_lp(maps, 1.0, 0.5)
        power_sums(maps, 0.5)


# Groups of kernels and the functions that compile them. No kernel is in two groups: two processes that write the same index
# of Numba's cache at once would lose entries. The longest are first.
JOBS: dict[str, Callable[[], None]] = {
    "matrix": _matrix,
    "direct": _direct,
    "fft": _columns,
    "separable": _separable,
    "winograd": _winograd,
    "elementwise": _elementwise,
    "direct, in place": _direct_in_place,
    "gemm": _blocks,
    "gradient": _gradient,
}


def _compile(name: str) -> str:
    JOBS[name]()
    return name


def cache_folder() -> Path:
    """Return the folder that compiled kernels are kept in.

    Returns
    -------
    Path
        The innermost folder that has all of them.

    Raises
    ------
    OSError
        If there is none, or the environment variable NUMBA_CACHE_DIR names a folder that cannot be written.
    """
    from ..deconvnet.step_loops import admm_update
    from ..engines.kernels.direct import correlate
    from ..matrix.loops import fill_values
    from ..threads.fork_join import worker_loop

    wanted = os.environ.get("NUMBA_CACHE_DIR")
    found = [kernel.stats.cache_path for kernel in (admm_update, correlate, fill_values, worker_loop)]
    remedy = "set the environment variable NUMBA_CACHE_DIR to a folder that can be written"
    if None in found:
        raise OSError(f"compiled kernels cannot be kept: no cache folder can be written; {remedy}")
    folder = Path(os.path.commonpath(found))
    if wanted and Path(wanted).resolve() not in (folder.resolve(), *folder.resolve().parents):
        raise OSError(f"compiled kernels cannot be kept in {wanted}, which cannot be written; {remedy}")
    return folder


def warm_up(progress: Callable[[str], None]) -> None:
    """Compile all kernels for this machine, in as many processes as there are cores.

    Numba compiles in one thread of a process at a time. Kernels that are on disk already are not compiled again.

    Parameters
    ----------
    progress : callable
        Called with the name of each of `JOBS` when it is done.

    Raises
    ------
    OSError
        If a file cannot be written.
    """
    # A forked child would have none of the threads of this process, whose locks it inherits.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(thread_count(), len(JOBS)), context) as processes:
        for job in as_completed([processes.submit(_compile, name) for name in JOBS]):
            progress(job.result())
