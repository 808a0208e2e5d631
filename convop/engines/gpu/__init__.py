"""The engines of the GPU: each applies the map of a spec and a kernel to arrays of CuPy."""

from .choose import NAMES, SELECTOR, make_filter, usable

__all__ = ["NAMES", "SELECTOR", "make_filter", "usable"]
