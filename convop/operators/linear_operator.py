"""Imports PyLops, from whose `LinearOperator` all operators of the package derive, also where CuPy cannot be used.

Where CuPy is installed, PyLops imports it and some of CUDA's libraries, and fails if those are missing.
"""

from __future__ import annotations

import os
from importlib.util import find_spec

from ..arrays.backend import gpu

__all__ = ["LinearOperator", "pylops"]

_SETTING = "CUPY_PYLOPS"


def _gpu_is_usable() -> bool:
    try:
        gpu()
    except RuntimeError:
        return False
    return True


if _SETTING not in os.environ and find_spec("cupy") is not None and not _gpu_is_usable():
    os.environ[_SETTING] = "0"
    try:
        import pylops
    finally:
        del os.environ[_SETTING]  # child processes decide by themselves
else:
    import pylops

from pylops import LinearOperator
