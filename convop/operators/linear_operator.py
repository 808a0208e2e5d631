"""PyLops' operator, from which all operators of the package derive, imported with or without a GPU.

PyLops imports CuPy and some of CUDA's libraries where CuPy is installed, and fails with them where those are missing.
"""

from __future__ import annotations

import os
from importlib.util import find_spec

from ..arrays.backend import gpu

__all__ = ["LinearOperator", "pylops"]

_SETTING = "CUPY_PYLOPS"


def _usable() -> bool:
    try:
        gpu()
    except RuntimeError:
        return False
    return True


if _SETTING not in os.environ and find_spec("cupy") is not None and not _usable():
    os.environ[_SETTING] = "0"
    try:
        import pylops
    finally:
        del os.environ[_SETTING]  # it is for this process alone
else:
    import pylops

from pylops import LinearOperator
