"""Which engine an operator uses: by name, or the best for its spec."""

from __future__ import annotations

from collections.abc import Callable

from ..arguments import one_of
from ..backend import Array
from ..spec import ConvSpec
from .csr import CsrEngine
from .protocol import Engine

__all__ = ["available", "make"]

_ENGINES: dict[str, Callable[[ConvSpec, Array], Engine]] = {"csr": CsrEngine}
_AUTOMATIC = ("auto", "measure")


def available() -> tuple[str, ...]:
    """Names of the engines that can be used here.

    Returns
    -------
    tuple of str

    Examples
    --------
    >>> import convop
    >>> "csr" in convop.engines.available()
    True
    """
    return tuple(_ENGINES)


def make(name: str, spec: ConvSpec, kernel: Array) -> Engine:
    """The engine of a name, for a spec and a kernel.

    Parameters
    ----------
    name : str
        One of `available`, or ``"auto"`` or ``"measure"`` for the best of them.
    spec : ConvSpec
        Geometry.
    kernel : ndarray
        Taps in the dtype of the map, not flipped.

    Returns
    -------
    Engine

    Raises
    ------
    ValueError
        If there is no engine of that name here.
    """
    name = one_of("engine", name, (*_AUTOMATIC, *available()))
    return _ENGINES["csr" if name in _AUTOMATIC else name](spec, kernel)
