"""The ways to apply the map of a spec and a kernel."""

from .choose import available, make, make_filter, renew
from .cpu.filters import Filter
from .gpu import NAMES
from .protocol import Engine

# What an operator on the GPU may be asked for.
GPU_ENGINES = ("auto", "measure", *NAMES)

__all__ = ["GPU_ENGINES", "Engine", "Filter", "available", "make", "make_filter", "renew"]
