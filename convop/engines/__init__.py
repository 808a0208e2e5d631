"""The ways to apply the map of a spec and a kernel."""

from .choose import available, make
from .protocol import Engine

__all__ = ["Engine", "available", "make"]
