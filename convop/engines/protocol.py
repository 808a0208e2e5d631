"""The protocol of an engine: an algorithm that applies the map of a spec and a kernel, forward and adjoint."""

from __future__ import annotations

from typing import Protocol

from ..arrays.backend import Array


class Engine(Protocol):
    """The map of a spec and a kernel, and everything that is prepared once for it.

    Engines are made as ``SomeEngine(spec, kernel)``, the kernel in the dtype of the map and not flipped.
    Calls do not change their results: several threads may use one engine at once.
    """

    name: str

    def forward(self, x: Array) -> Array:
        """Apply the matrix.

        Parameters
        ----------
        x : ndarray of shape ``(columns,)`` or ``(columns, P)``
            One input or P inputs, in any memory order, of the kernel's dtype or wider. Never written to.

        Returns
        -------
        ndarray of shape ``(rows,)`` or ``(rows, P)``
        """

    def adjoint(self, y: Array) -> Array:
        """Apply the conjugate transpose.

        Parameters
        ----------
        y : ndarray of shape ``(rows,)`` or ``(rows, P)``
            As in `forward`.

        Returns
        -------
        ndarray of shape ``(columns,)`` or ``(columns, P)``
        """

    def with_kernel(self, kernel: Array) -> Engine:
        """The engine of the same spec and another kernel, which shares everything that does not depend on values.

        Parameters
        ----------
        kernel : ndarray
            New taps, of the same shape.

        Returns
        -------
        Engine
        """
