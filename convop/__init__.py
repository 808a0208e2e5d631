"""Convolution as a sparse linear map: its matrix, its operators, and their exact transposes."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .matrix import kernel2matrix
from .parallel import set_num_threads
from .spec import ConvSpec

if TYPE_CHECKING:
    from . import engines, spectrum, testing
    from .filter_operator import ConvFilter
    from .inverse import tikhonov
    from .operators import Conv, ConvTranspose
    from .preconditioning import preconditioner

__all__ = [
    "Conv",
    "ConvFilter",
    "ConvSpec",
    "ConvTranspose",
    "engines",
    "kernel2matrix",
    "preconditioner",
    "set_num_threads",
    "spectrum",
    "testing",
    "tikhonov",
]

__version__ = "0.1.0"

# PyLops takes seconds to import where PyTorch is installed: what needs it is loaded on first use.
_LAZY = {
    "Conv": "operators",
    "ConvFilter": "filter_operator",
    "ConvTranspose": "operators",
    "preconditioner": "preconditioning",
    "tikhonov": "inverse",
}
_MODULES = ("damping", "deconvnet", "engines", "kernels", "plot", "spectrum", "storage", "testing", "torch")


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f".{_LAZY[name]}", __name__), name)
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
