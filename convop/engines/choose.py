"""Which engine an operator uses: by name, by the costs of its spec, or by measurement."""

from __future__ import annotations

import math
import statistics
import time
from bisect import bisect_left
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import numpy as np

from ..arrays import memory
from ..arrays.backend import Array, on_gpu
from ..geometry.arguments import one_of
from ..geometry.spec import ConvSpec
from . import costs, gpu
from .cpu.csr import CsrEngine
from .cpu.direct import DirectEngine
from .cpu.fft import FftEngine, best_transforms
from .cpu.filters import CsrFilter, DirectFilter, FftFilter, Filter, GemmFilter, SeparableFilter
from .cpu.gemm import GemmEngine
from .cpu.planes import parts_of, real_of
from .cpu.separable import SeparableEngine, is_low_rank
from .cpu.transforms import Lengths
from .protocol import Engine

__all__ = ["available", "check", "make", "make_filter", "renew", "suitable"]


def _torch(spec: ConvSpec, kernel: Array) -> Engine:
    from .torch import TorchEngine

    return TorchEngine(spec, kernel)


def _torch_filter(spec: ConvSpec, data: Array) -> Filter:
    from .torch import TorchFilter

    return TorchFilter(spec, data)


_ENGINES: dict[str, Callable[[ConvSpec, Array], Engine]] = {
    "csr": CsrEngine,
    "direct": DirectEngine,
    "fft": FftEngine,
    "gemm": GemmEngine,
    "separable": SeparableEngine,
    "torch": _torch,
}
_FILTERS: dict[str, Callable[[ConvSpec, Array], Filter]] = {
    "csr": CsrFilter,
    "direct": DirectFilter,
    "fft": FftFilter,
    "gemm": GemmFilter,
    "separable": SeparableFilter,
    "torch": _torch_filter,
}
_AUTOMATIC = ("auto", "measure")

# Up to so many entries the matrix is ahead of whatever has to be called: nothing is estimated then.
_TINY = 2**14
# Beyond so many, the matrix is for those who ask for it.
_MATRIX_ENTRIES = 2**20
# PyTorch is for float32 and so many channels that go into one, and come out of one.
_MANY = 8
# Results of the fft engine are as precise as the largest of them, and what is not finite spreads: it has to be so much
# faster than what rounds each result by itself.
_WORTH_TRANSFORMING = 0.9
# Sweeps are searched for where they would take this share of the time of the best other engine.
_WORTH_SEARCHING = 0.9
# Sweeps of a higher rank are not searched for.
_HIGHEST_RANK = 16
# Engines are measured that are predicted to take up to so many times as long as the best.
_WORTH_MEASURING = 4.0
_ROUNDS, _CALLS = 3, 3
# Seconds after which the threads of the BLAS are at rest, which wait actively for more work.
_SETTLE = 0.1


def available() -> tuple[str, ...]:
    """Names of the engines that can be used here.

    Returns
    -------
    tuple of str
        ``"torch"`` is among them where PyTorch is installed.

    Examples
    --------
    >>> import convop
    >>> "direct" in convop.engines.available()
    True
    """
    return tuple(name for name in _ENGINES if name != "torch" or _torch_is_installed())


@lru_cache(maxsize=1)
def _torch_is_installed() -> bool:
    return find_spec("torch") is not None


def check(name: object) -> str:
    """The name of an engine that can be used here, or ``"auto"`` or ``"measure"``.

    Parameters
    ----------
    name : object
        What was given as `engine`.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If there is no engine of that name here.
    """
    if name == "torch" and not _torch_is_installed():
        raise ValueError("engine='torch' needs PyTorch, which is not installed: pip install 'convop[torch]'")
    return one_of("engine", name, (*_AUTOMATIC, *available()))


def make(name: str, spec: ConvSpec, kernel: Array) -> Engine:
    """The engine of a name, for a spec and a kernel.

    Parameters
    ----------
    name : str
        One of `available`, or ``"auto"`` for the one whose costs are predicted to be least, or ``"measure"`` for the
        one that is fastest forward and back.
    spec : ConvSpec
        Geometry.
    kernel : ndarray
        Taps in the dtype of the map, not flipped.

    Returns
    -------
    Engine

    Raises
    ------
    ValueError
        If there is no engine of that name here.
    """
    if on_gpu(kernel):
        return gpu.make(name, spec, kernel)
    name = check(name)
    if name == "auto":
        name = _best(spec, kernel)
    elif name == "measure":
        name = _fastest(spec, kernel)
    return _ENGINES[name](spec, kernel)


def renew(name: str, engine: Engine, spec: ConvSpec, kernel: Array) -> Engine:
    """The engine of a name for another kernel, which shares with one of the same spec what it can.

    Parameters
    ----------
    name : str
        As in `make`.
    engine : Engine
        One of the same spec.
    spec : ConvSpec
        Geometry.
    kernel : ndarray
        New taps.

    Returns
    -------
    Engine
    """
    if on_gpu(kernel):
        return gpu.renew(name, engine, spec, kernel)
    # What suits a spec may depend on the kernel, which may be of low rank.
    wanted = _best(spec, kernel) if name == "auto" else _fastest(spec, kernel) if name == "measure" else engine.name
    return engine.with_kernel(kernel) if wanted == engine.name else _ENGINES[wanted](spec, kernel)


def make_filter(name: str, spec: ConvSpec, data: Array) -> Filter:
    """The engine of a name with a fixed input, to be applied to kernels.

    Parameters
    ----------
    name : str
        As in `make`; ``"measure"`` is ``"auto"`` here, as what is measured depends on the kernel.
    spec : ConvSpec
        Geometry.
    data : ndarray of shape ``spec.input_shape``
        The input.

    Returns
    -------
    Filter

    Raises
    ------
    ValueError
        If there is no engine of that name here.
    """
    if on_gpu(data):
        return gpu.make_filter(name, spec, data)
    name = check(name)
    if name in _AUTOMATIC:
        ranked = [name for _, name in _ranking(spec, data.dtype)]
        # The gradient of the kernel is made by transforms along all axes, if by any.
        sums = isinstance(best_transforms(spec, False, real_of(data.dtype).itemsize, parts_of(data.dtype)), Lengths)
        name = next(name for name in ranked if name != "fft" or sums)
    return _FILTERS[name](spec, data)


def suitable(spec: ConvSpec, dtype: np.dtype[Any]) -> list[str]:
    """Engines among which the best for a spec is looked for, but for the separable one, which is up to the kernel.

    Parameters
    ----------
    spec : ConvSpec
        Geometry.
    dtype : dtype
        Of the map.

    Returns
    -------
    list of str
    """
    names = [name for name in available() if name != "separable"]
    if spec.nnz > _MATRIX_ENTRIES:
        names.remove("csr")
    if "torch" in names and (dtype.char not in "fF" or min(spec.c_in, spec.c_out) // spec.groups < _MANY):
        names.remove("torch")
    # transformed kernels: a complex spectrum for each pair of channels
    spectra = spec.c_out * (spec.c_in // spec.groups) * math.prod(axis.outputs + axis.extent for axis in spec.axes)
    free = memory.available()
    if free is not None and 16 * spectra > free / 4:
        names.remove("fft")
    return names


@lru_cache(maxsize=256)
def _ranking(spec: ConvSpec, dtype: np.dtype[Any]) -> list[tuple[float, str]]:
    """Predicted seconds and names of the engines that suit a spec, best first."""
    if spec.nnz <= _TINY:
        return [(0.0, "csr")]
    bias = {"fft": 1 / _WORTH_TRANSFORMING}
    return sorted((costs.predicted(name, spec, dtype) * bias.get(name, 1), name) for name in suitable(spec, dtype))


def _best(spec: ConvSpec, kernel: Array) -> str:
    seconds, name = _ranking(spec, kernel.dtype)[0]
    return "separable" if _sweeps(spec, kernel, seconds * _WORTH_SEARCHING) else name


def _sweeps(spec: ConvSpec, kernel: Array, seconds: float) -> bool:
    """Whether a kernel is of so low a rank that sweeps take less time than that."""
    rank = _worthwhile_rank(spec, kernel.dtype, seconds) if spec.ndim > 1 and seconds else 0
    return rank > 0 and is_low_rank(spec, kernel, rank)


@lru_cache(maxsize=256)
def _worthwhile_rank(spec: ConvSpec, dtype: np.dtype[Any], seconds: float) -> int:
    """The highest rank with which sweeps take less than that: their time grows with it."""
    ranks = range(1, _HIGHEST_RANK + 1)
    return bisect_left(ranks, seconds, key=lambda rank: costs.sweeps_seconds(spec, rank, dtype))


# The winners of measurements, by what they were measured for.
_measured: dict[tuple[ConvSpec, str, bool], str] = {}


def _fastest(spec: ConvSpec, kernel: Array) -> str:
    """The engine that takes least time forward and back, measured once for a spec, a dtype and a rank."""
    ranking = _ranking(spec, kernel.dtype)
    best = ranking[0][0]
    sweeps = _sweeps(spec, kernel, best)
    key = (spec, kernel.dtype.char, sweeps)
    if key not in _measured:
        names = [name for seconds, name in ranking if seconds <= _WORTH_MEASURING * best]
        names += ["separable"] * sweeps
        _measured[key] = names[0] if len(names) == 1 else _winner(names, spec, kernel)
    return _measured[key]


def _winner(names: list[str], spec: ConvSpec, kernel: Array) -> str:
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal(n).astype(kernel.dtype) for n in (spec.shape[1], spec.shape[0]))
    engines = {name: _ENGINES[name](spec, kernel) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(_ROUNDS):
        for name, engine in engines.items():  # in turn, so that a disturbance meets all
            engine.forward(x)
            for _ in range(_CALLS):
                start = time.perf_counter()
                engine.forward(x)
                engine.adjoint(y)
                seconds[name].append(time.perf_counter() - start)
            if name == "gemm":
                time.sleep(_SETTLE)
    return min(names, key=lambda name: statistics.median(seconds[name]))
