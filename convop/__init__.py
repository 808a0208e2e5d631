"""Convolution as a sparse linear map: its matrix, its operators, and their exact transposes."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .geometry.spec import ConvSpec
from .matrix.build import kernel2matrix
from .threads.sizes import set_num_threads

if TYPE_CHECKING:
    from . import engines, spectrum
    from .inverse.preconditioner import preconditioner
    from .inverse.tikhonov import tikhonov
    from .operators.conv import Conv, ConvTranspose
    from .operators.conv_filter import ConvFilter
    from .testing import laws as testing

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

# PyLops takes seconds to import where PyTorch is installed, so names that need it are loaded on first use.
_LAZY = {
    "Conv": "operators.conv",
    "ConvFilter": "operators.conv_filter",
    "ConvTranspose": "operators.conv",
    "preconditioner": "inverse.preconditioner",
    "tikhonov": "inverse.tikhonov",
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
