"""The choice of an engine on the GPU, by the numbers of taps and channels or by measurement."""

from __future__ import annotations

import math
from functools import lru_cache

from ...arrays.backend import Array, gpu
from ...geometry.spec import ConvSpec
from ..cpu.filters import Filter
from ..selection import Selector, torch_engine, torch_is_installed
from .csr import CsrEngine
from .direct import DirectEngine
from .fft import FftEngine
from .filters import GpuFilter

# From this number of taps on transforms are ahead. They take a dozen passes over complex planes, at some 4 TB/s 25 ps for
# each element in single precision; a multiplication takes 0.1 ps where a third of the peak is reached.
_MANY_TAPS = 256
# From this number of channels of a group on PyTorch's matrix products are ahead of gather kernels.
_MANY_CHANNELS = 8
# Above this number of entries the matrix is used on request only.
_MATRIX_ENTRIES = 2**24


@lru_cache(maxsize=1)
def _torch_has_gpu() -> bool:
    if not torch_is_installed():
        return False
    from ..torch import has_gpu

    return has_gpu()


def usable() -> tuple[str, ...]:
    """Names of the engines that work on the GPU in use."""
    return tuple(name for name in NAMES if name != "torch" or _torch_has_gpu())


class _GpuSelector(Selector):
    """The engines of the GPU."""

    def predicted(self, spec: ConvSpec, kernel: Array) -> str:  # noqa: ARG002 - the CPU's choice depends on it
        if min(spec.c_in, spec.c_out) // spec.groups >= _MANY_CHANNELS and _torch_has_gpu():
            return "torch"
        return "fft" if math.prod(axis.taps for axis in spec.axes) >= _MANY_TAPS else "direct"

    def measured_candidates(self, spec: ConvSpec, kernel: Array) -> tuple[str, ...]:  # noqa: ARG002
        return tuple(name for name in usable() if name != "csr" or spec.nnz <= _MATRIX_ENTRIES)


SELECTOR = _GpuSelector(
    {"csr": CsrEngine, "direct": DirectEngine, "fft": FftEngine, "torch": torch_engine},
    "engine of an operator on the GPU",
    synchronize=lambda: gpu().cuda.get_current_stream().synchronize(),
)
NAMES = tuple(SELECTOR.engines)


def make_filter(name: str, spec: ConvSpec, data: Array) -> Filter:
    """The engine of a name with a fixed input on the GPU, to be applied to kernels.

    ``"measure"`` stands for ``"direct"``, as a measurement would depend on the kernel.
    """
    name = SELECTOR.check(name)
    name = "direct" if name == "measure" else SELECTOR.resolve(name, spec, data)
    return GpuFilter(spec, data, name, SELECTOR.engines[name])
