"""Preconditioned conjugate gradients for one or several Hermitian positive definite systems, on NumPy or CuPy arrays.

Two forms share one iteration. Comments number the steps of algorithm 9.1 of Saad, Iterative Methods for Sparse Linear
Systems, 2nd edition, 2003, for ``M x = b`` with the preconditioner P in place of ``M^-1``:

- ``M = B + shift I``: the residual follows a recurrence, as in Hestenes and Stiefel,
  doi:10.6028/jres.049.044.
- ``M = B^H B + shift I``, the normal equations (CGNR, algorithm 8.4; Bjoerck, Numerical Methods for Least Squares
  Problems, 1996, section 7.4): the caller computes the residual from x and ``B x``, and ``<p, M p>`` is
  ``norm(B p)^2 + shift norm(p)^2``, a sum of squares that rounding cannot make negative.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..arrays.backend import Array, namespace, to_cpu


class ConjugateGradients:
    """The state of a conjugate-gradient iteration, which `step` advances; the caller decides when to stop.

    By default, vectors are the columns of arrays of shape ``(n, P)``, one for each of P independent systems with the same
    operator. With an `inner` that sums over all elements, an array of any shape is a single vector.

    Parameters
    ----------
    operator : callable
        Maps an array of vectors ``v`` to ``B v``.
    x : ndarray
        Start vectors, real or complex.
    residual : ndarray
        ``b - M x``, of the shape and the dtype of `x`.
    shift : float
        Multiple of the identity in M.
    image : ndarray, optional
        ``B x``; the normal equations need it. By default zeros: the attribute `image` is then ``B (x - start)``.
    preconditioner : callable, optional
        Maps residuals ``r`` to ``P r``, with P Hermitian and positive definite; by default the identity.
    normal_residual : callable, optional
        Maps ``(x, B x)`` to the residual ``b - M x``; selects ``M = B^H B + shift I``.
    inner : callable, optional
        Maps two arrays of vectors to the real parts of their inner products, on the CPU; by default those of columns, in
        double precision.
    dtype : dtype, optional
        The precision of the step lengths alpha and beta; by default the dtype of `x`.

    Attributes
    ----------
    x, image, residual, preconditioned : ndarray
        The current x, ``B x``, ``r = b - M x`` and ``P r``. No array is ever written to; `step` makes new ones.
    energy : ndarray of shape ``(P,)``
        ``<r, P r>``, about the square of the error in the norm of M.
    iterations : int
        Steps so far.
    gain : float
        The largest ``norm(B p)/norm(p)`` of a direction p so far, a lower bound of the norm of B. Only the normal
        equations have it; otherwise it is 0.

    Examples
    --------
    >>> import numpy as np
    >>> from convop.inverse.conjugate_gradients import ConjugateGradients
    >>> M, b = np.array([[4.0, 1.0], [1.0, 3.0]]), np.array([[1.0], [2.0]])
    >>> cg = ConjugateGradients(lambda v: M @ v, np.zeros((2, 1)), b)
    >>> while cg.energy.max() > 1e-20:
    ...     cg.step()
    >>> cg.iterations, np.allclose(M @ cg.x, b)
    (2, True)
    """

    def __init__(
        self,
        operator: Callable[[Array], Array],
        x: Array,
        residual: Array,
        *,
        shift: float = 0.0,
        image: Array | None = None,
        preconditioner: Callable[[Array], Array] | None = None,
        normal_residual: Callable[[Array, Array], Array] | None = None,
        inner: Callable[[Array, Array], Array] | None = None,
        dtype: np.dtype[Any] | None = None,
    ) -> None:
        self._operator, self._shift, self._normal_residual = operator, shift, normal_residual
        self._preconditioner = preconditioner
        self._inner = column_products if inner is None else inner
        self._real = (dtype or x.dtype).type(0).real.dtype
        self.x = x
        self.iterations, self.gain = 0, 0.0
        self.restart(residual, namespace(x).zeros_like(x) if image is None else image)

    def restart(self, residual: Array, image: Array) -> None:
        """Replaces residual and image, which recurrences have made inexact, and restarts in the direction ``P r``.

        Parameters
        ----------
        residual, image : ndarray
            ``b - M x`` and ``B x`` of the current x.
        """
        self.residual, self.image = residual, image
        # Step 1: z = P r, p = z.
        self._precondition()
        self._direction = self.preconditioned
        self._previous_energy: Array | None = None

    def step(self, active: Array | None = None) -> None:
        """Runs one iteration.

        Parameters
        ----------
        active : ndarray of bool of shape ``(P,)``, optional
            Systems to advance; the others keep their x. By default all.
        """
        if self._previous_energy is not None:
            # Steps 7 and 8 of the iteration before: beta = <r, z>/<r_before, z_before>, p = z + beta p.
            beta = self._step_lengths(divide_or_zero(self.energy, self._previous_energy))
            self._direction = _plus(beta * self._direction, self.preconditioned)
        p = self._direction
        # Step 3: alpha = <r, z>/<M p, p>.
        image = self._operator(p)
        shifted = image
        if self._normal_residual is None:
            if self._shift:
                shifted = image + self._shift * p
            curvature = self._inner(p, shifted)
        else:
            image_square, square = self._inner(image, image), self._inner(p, p)
            self.gain = max(self.gain, float(np.sqrt(divide_or_zero(image_square, square)).max()))
            curvature = image_square + self._shift * square
        alpha = divide_or_zero(self.energy, curvature)
        alpha = self._step_lengths(alpha if active is None else np.where(active, alpha, 0.0))
        # Step 4: x = x + alpha p. Step 5: r = r - alpha M p, or from x and B x. Step 6: z = P r.
        self.x = _plus(alpha * p, self.x)
        self.image = _plus(alpha * image, self.image)
        if self._normal_residual is None:
            self.residual = self.residual - alpha * shifted
        else:
            self.residual = self._normal_residual(self.x, self.image)
        self.iterations += 1
        self._previous_energy = self.energy
        self._precondition()

    def _precondition(self) -> None:
        """Computes z = P r and <r, z>."""
        P = self._preconditioner
        self.preconditioned: Array = self.residual if P is None else P(self.residual)
        self.energy: Array = self._inner(self.residual, self.preconditioned)

    def _step_lengths(self, factors: Array) -> Array:
        """Returns step lengths in a real dtype and in the library of the vectors, so that products keep their dtype."""
        lengths: Array = namespace(self.x).asarray(factors.astype(self._real))
        return lengths


def _plus(own: Array, other: Array) -> Array:
    """Returns the sum in the first array, which nobody else has: a new one takes as long as an addition."""
    own += other
    return own


def column_products(a: Array, b: Array) -> Array:
    """Returns the real parts of the inner products of columns, on the CPU, in double precision.

    Parameters
    ----------
    a, b : ndarray of shape ``(n, P)``
        Vectors.

    Returns
    -------
    ndarray of float64 of shape ``(P,)``
    """
    xp = namespace(a)
    if a.shape[1] == 1:  # by BLAS
        return np.array([float(xp.vdot(a, b).real)])
    return np.asarray(to_cpu((a.conj() * b).sum(axis=0).real), dtype=np.float64)


def divide_or_zero(a: Array, b: Array) -> Array:
    """Returns ``a/b``, 0 where b is 0 or negative, and NaN where b is NaN.

    Parameters
    ----------
    a, b : ndarray
        Of the same shape, on the CPU.

    Returns
    -------
    ndarray
    """
    return np.asarray(np.divide(a, b, out=np.zeros_like(b), where=~(b <= 0)))
