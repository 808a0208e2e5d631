"""The ways to apply the map of a spec and a kernel on the GPU."""

from .choose import NAMES, make, make_filter, renew, usable

__all__ = ["NAMES", "make", "make_filter", "renew", "usable"]
