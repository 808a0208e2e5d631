"""Engines: algorithms that apply the map of a spec and a kernel, on the CPU and on the GPU."""

from .choose import available, make, make_filter, with_kernel
from .cpu.filters import Filter
from .gpu import NAMES
from .protocol import Engine
from .selection import AUTOMATIC

# Values of `engine` that an operator on the GPU accepts.
GPU_ENGINES = (*AUTOMATIC, *NAMES)

__all__ = ["GPU_ENGINES", "Engine", "Filter", "available", "make", "make_filter", "with_kernel"]
