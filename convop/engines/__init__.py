"""The ways to apply the map of a spec and a kernel."""

from .choose import available, make, make_filter, renew
from .filters import Filter
from .protocol import Engine

__all__ = ["Engine", "Filter", "available", "make", "make_filter", "renew"]
