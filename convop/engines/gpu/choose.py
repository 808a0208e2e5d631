"""Which engine an operator on the GPU uses."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec

from ...arrays.backend import Array, gpu
from ...geometry.arguments import one_of
from ...geometry.spec import ConvSpec
from ..cpu.filters import Filter
from ..protocol import Engine
from .csr import CsrEngine
from .direct import DirectEngine
from .fft import FftEngine
from .filters import GpuFilter

__all__ = ["NAMES", "make", "make_filter", "renew", "usable"]


def _torch_engine(spec: ConvSpec, kernel: Array) -> Engine:
    from ..torch import TorchEngine

    return TorchEngine(spec, kernel)


_ENGINES: dict[str, Callable[[ConvSpec, Array], Engine]] = {
    "csr": CsrEngine,
    "direct": DirectEngine,
    "fft": FftEngine,
    "torch": _torch_engine,
}
NAMES = tuple(_ENGINES)
_AUTOMATIC = ("auto", "measure")

# Taps from which on transforms are ahead. They take a dozen passes over complex planes, at some 4 TB/s 25 ps for each
# element in single precision; a multiplication takes 0.1 ps where a third of the peak is reached.
_MANY_TAPS = 256
# Channels of a group from which on PyTorch's products of matrices are ahead of sums by threads of their own.
_MANY_CHANNELS = 8
# Beyond so many entries, the matrix is for those who ask for it.
_MATRIX_ENTRIES = 2**24
_ROUNDS, _CALLS = 3, 3

# The winners of measurements, by what they were measured for.
_measured: dict[tuple[ConvSpec, str], str] = {}


def make(name: str, spec: ConvSpec, kernel: Array) -> Engine:
    """The engine of a name, for a spec and a kernel on the GPU.

    Parameters
    ----------
    name : str
        One of `NAMES`, ``"auto"`` for what suits the number of taps, or ``"measure"`` for what is fastest.
    spec : ConvSpec
        Geometry.
    kernel : ndarray
        Taps in the dtype of the map, not flipped, on the GPU.

    Returns
    -------
    Engine

    Raises
    ------
    ValueError
        If there is no engine of that name on the GPU.
    """
    return _ENGINES[_chosen(_checked(name), spec, kernel)](spec, kernel)


def renew(name: str, engine: Engine, spec: ConvSpec, kernel: Array) -> Engine:
    """The engine of a name for another kernel, which shares with one of the same spec what it can."""
    wanted = engine.name if name not in _AUTOMATIC else _chosen(name, spec, kernel)
    return engine.with_kernel(kernel) if wanted == engine.name else _ENGINES[wanted](spec, kernel)


def make_filter(name: str, spec: ConvSpec, data: Array) -> Filter:
    """The engine of a name with a fixed input on the GPU, to be applied to kernels; as `make` for what is automatic."""
    name = _checked(name)
    name = "direct" if name == "measure" else _chosen(name, spec, data)
    return GpuFilter(spec, data, name, _ENGINES[name])


def _checked(name: object) -> str:
    checked = one_of("engine of an operator on the GPU", name, (*_AUTOMATIC, *NAMES))
    if checked == "torch" and not _torch_is_installed():
        raise ValueError("engine='torch' needs PyTorch, which is not installed: pip install torch")
    return checked


@lru_cache(maxsize=1)
def _torch_is_installed() -> bool:
    return find_spec("torch") is not None


@lru_cache(maxsize=1)
def _torch_has_gpu() -> bool:
    if not _torch_is_installed():
        return False
    from ..torch import has_gpu

    return has_gpu()


def _chosen(name: str, spec: ConvSpec, kernel: Array) -> str:
    if name == "auto":
        taps = math.prod(axis.taps for axis in spec.axes)
        if min(spec.c_in, spec.c_out) // spec.groups >= _MANY_CHANNELS and _torch_has_gpu():
            return "torch"
        return "fft" if taps >= _MANY_TAPS else "direct"
    if name == "measure":
        key = (spec, kernel.dtype.char)
        if key not in _measured:
            _measured[key] = _fastest(spec, kernel)
        return _measured[key]
    return name


def usable() -> tuple[str, ...]:
    """Names of the engines that work on the GPU in use."""
    return tuple(name for name in NAMES if name != "torch" or _torch_has_gpu())


def _fastest(spec: ConvSpec, kernel: Array) -> str:
    cupy = gpu()
    x, y = (cupy.ones(n, kernel.dtype) for n in (spec.shape[1], spec.shape[0]))
    seconds: dict[str, list[float]] = {}
    names = [name for name in usable() if name != "csr" or spec.nnz <= _MATRIX_ENTRIES]
    engines = {}
    for name in names:
        engine = _ENGINES[name](spec, kernel)
        try:
            engine.forward(x), engine.adjoint(y)  # compiled and prepared
        except MemoryError:
            continue
        engines[name] = engine
    for _ in range(_ROUNDS):
        for name, engine in engines.items():  # in turn, so that a disturbance meets all
            for _ in range(_CALLS):
                cupy.cuda.get_current_stream().synchronize()
                start = time.perf_counter()
                engine.forward(x), engine.adjoint(y)
                cupy.cuda.get_current_stream().synchronize()
                seconds.setdefault(name, []).append(time.perf_counter() - start)
    return min(seconds, key=lambda name: statistics.median(seconds[name]))
