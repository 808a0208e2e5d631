"""The choice of the engine that an operator uses: by name, by predicted costs, or by measurement."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np

from ..arrays import memory
from ..arrays.backend import Array, on_gpu
from ..geometry.spec import ConvSpec
from . import costs, gpu
from .cpu.csr import CsrEngine
from .cpu.direct import DirectEngine
from .cpu.fft import FftEngine, cheapest_transforms
from .cpu.fft_filter import FftFilter
from .cpu.filters import CsrFilter, DirectFilter, Filter, GemmFilter, SeparableFilter, WinogradFilter
from .cpu.gemm import GemmEngine
from .cpu.separable import SeparableEngine, is_low_rank
from .cpu.transforms import TransformLengths
from .cpu.tuning import Tuning
from .cpu.winograd import WinogradEngine
from .protocol import Engine
from .selection import AUTOMATIC, Selector, torch_engine

# Up to this number of entries the matrix is faster than any other engine, whose call overhead dominates: no cost is
# estimated.
_TINY = 2**14
# Above this number of entries the matrix is used on request only.
_MATRIX_ENTRIES = 2**20
# PyTorch is a candidate for float32 with at least this number of channels on both sides of a group.
_MANY_CHANNELS = 8
# Short transforms along the first axis are a candidate from this number of pairs of channels in a group on: with fewer, they
# take longer than what they save.
_PAIRS_OF_CHANNELS = 16
# Kernels with taps beyond this share of the largest number are left to engines that add no taps to each other.
_ROOM = 2.0**-20
# The fft engine's rounding errors are relative to the largest result, and NaN spreads over all: it has to take at most
# this share of the time of engines that round each result by itself.
_FFT_SHARE = 0.9
# A low rank of the kernel is searched for where sweeps would take at most this share of the time of the best other
# engine, up to this rank.
_SWEEPS_SHARE, _HIGHEST_RANK = 0.9, 16
# Engines are measured whose predicted time is at most this multiple of the shortest.
_MEASURED_RATIO = 4.0
# Seconds for which the BLAS keeps its threads spinning after a product, while they wait for more work.
_BLAS_SPIN = 0.1


def _torch_filter(spec: ConvSpec, data: Array) -> Filter:
    from .torch import TorchFilter

    return TorchFilter(spec, data)


_FILTERS: dict[str, Callable[[ConvSpec, Array], Filter]] = {
    "csr": CsrFilter,
    "direct": DirectFilter,
    "fft": FftFilter,
    "gemm": GemmFilter,
    "separable": SeparableFilter,
    "torch": _torch_filter,
    "winograd": WinogradFilter,
}


class _CpuSelector(Selector):
    """The engines of the CPU."""

    def predicted(self, spec: ConvSpec, kernel: Array) -> str:
        seconds, name = next(_ranking_for(spec, kernel))
        return "separable" if _is_separable(spec, kernel, seconds * _SWEEPS_SHARE) else name

    def measured_candidates(self, spec: ConvSpec, kernel: Array) -> tuple[str, ...]:
        ranking = list(_ranking_for(spec, kernel))
        shortest = ranking[0][0]
        names = [name for seconds, name in ranking if seconds <= _MEASURED_RATIO * shortest]
        return (*names, *["separable"] * _is_separable(spec, kernel, shortest))


_CPU = _CpuSelector(
    {
        "csr": CsrEngine,
        "direct": DirectEngine,
        "fft": FftEngine,
        "gemm": GemmEngine,
        "separable": SeparableEngine,
        "torch": torch_engine,
        "winograd": WinogradEngine,
    },
    "engine",
    rest={"gemm": _BLAS_SPIN},
)


def available() -> tuple[str, ...]:
    """Names of the engines that can be used on this machine's CPU.

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
    return _CPU.available()


def _selector(array: Array) -> Selector:
    return gpu.SELECTOR if on_gpu(array) else _CPU


def make(name: str, spec: ConvSpec, kernel: Array) -> Engine:
    """The engine of a name, for a spec and a kernel.

    Parameters
    ----------
    name : str
        Name of an available engine, ``"auto"`` for the engine with the lowest predicted costs, or ``"measure"`` for
        the engine with the shortest measured time of forward and adjoint.
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
        If there is no engine of that name.
    """
    return _selector(kernel).make(name, spec, kernel)


def with_kernel(name: str, engine: Engine, spec: ConvSpec, kernel: Array) -> Engine:
    """The engine of a name for another kernel, which shares tables with an engine of the same spec.

    Parameters
    ----------
    name : str
        As in `make`.
    engine : Engine
        An engine of the same spec.
    spec : ConvSpec
        Geometry.
    kernel : ndarray
        New taps.

    Returns
    -------
    Engine
    """
    return _selector(kernel).with_kernel(name, engine, spec, kernel)


def make_filter(name: str, spec: ConvSpec, data: Array) -> Filter:
    """The engine of a name with a fixed input, to be applied to kernels.

    Parameters
    ----------
    name : str
        As in `make`; ``"measure"`` means ``"auto"`` here, as a measurement would depend on the kernel.
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
        If there is no engine of that name.
    """
    if on_gpu(data):
        return gpu.make_filter(name, spec, data)
    name = _CPU.check(name)
    if name in AUTOMATIC:
        ranked = [name for _, name in _ranking(spec, data.dtype)]
        # Gradients of the kernel are transformed along all axes or not at all. Short transforms of the kernel would be computed
        # anew for every product.
        along_all = isinstance(cheapest_transforms(spec, False, data.dtype, Tuning.packaged()), TransformLengths)
        name = next(name for name in ranked if name != "winograd" and (name != "fft" or along_all))
    return _FILTERS[name](spec, data)


def candidates(spec: ConvSpec, dtype: np.dtype[Any]) -> list[str]:
    """Engines that may be the best for a spec; without ``"separable"``, which depends on the kernel.

    Parameters
    ----------
    spec : ConvSpec
        Geometry.
    dtype : dtype
        Dtype of the map.

    Returns
    -------
    list of str
    """
    names = [name for name in available() if name != "separable"]
    if spec.nnz > _MATRIX_ENTRIES:
        names.remove("csr")
    if "torch" in names and (dtype.char not in "fF" or min(spec.c_in, spec.c_out) // spec.groups < _MANY_CHANNELS):
        names.remove("torch")
    first, pairs = spec.axes[0], spec.c_in * spec.c_out // spec.groups**2
    if spec.ndim == 1 or first.extent <= first.stride or pairs < _PAIRS_OF_CHANNELS:
        names.remove("winograd")
    # Transformed kernels: a complex spectrum for each pair of channels.
    spectra = spec.c_out * (spec.c_in // spec.groups) * math.prod(axis.outputs + axis.extent for axis in spec.axes)
    free = memory.available()
    if free is not None and 16 * spectra > free / 4:
        names.remove("fft")
    return names


@lru_cache(maxsize=256)
def _ranking(spec: ConvSpec, dtype: np.dtype[Any]) -> list[tuple[float, str]]:
    """Predicted seconds and names of the candidates of a spec, best first."""
    if spec.nnz <= _TINY:
        return [(0.0, "csr")]
    bias = {"fft": 1 / _FFT_SHARE}
    return sorted((costs.predicted(name, spec, dtype) * bias.get(name, 1), name) for name in candidates(spec, dtype))


def _ranking_for(spec: ConvSpec, kernel: Array) -> Iterator[tuple[float, str]]:
    """The ranking without engines that add taps to each other, if such sums may overflow or are not finite."""
    for seconds, name in _ranking(spec, kernel.dtype):
        if name != "winograd" or np.abs(kernel).max() < np.finfo(kernel.dtype).max * _ROOM:
            yield seconds, name


def _is_separable(spec: ConvSpec, kernel: Array, seconds: float) -> bool:
    """Whether a kernel is of so low a rank that its sweeps are predicted to take less than the given time."""
    rank = _worthwhile_rank(spec, kernel.dtype, seconds) if spec.ndim > 1 and seconds else 0
    return rank > 0 and is_low_rank(spec, kernel, rank)


@lru_cache(maxsize=256)
def _worthwhile_rank(spec: ConvSpec, dtype: np.dtype[Any], seconds: float) -> int:
    """The highest rank whose sweeps are predicted to take less than the given time, which grows with the rank."""
    ranks = range(1, _HIGHEST_RANK + 1)
    return bisect_left(ranks, seconds, key=lambda rank: costs.sweeps_seconds(spec, rank, dtype))
