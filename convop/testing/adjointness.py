"""The dot-product test: checks that an operator is linear and that its declared adjoint is correct.

Public in `convop.testing`. The test is that of J. F. Claerbout, Earth Soundings Analysis: Processing versus Inversion
(1992), with vectors and tolerances that catch every single wrong entry and accept every correct operator.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..arrays.backend import Array
from ..arrays.dtypes import kept_dtype
from .comparisons import DotTest, run_comparisons
from .maps import Maps, as_maps


def dottest(
    op: Any,
    *,
    rng: int | np.random.Generator = 0,
    trials: int = 3,
    rtol: float | None = None,
    raise_error: bool = True,
) -> DotTest:
    """Test that an operator is linear and that its declared adjoint is correct, ``<A x, y> == <x, A^H y>``.

    Parameters
    ----------
    op : LinearOperator of SciPy or PyLops, sparse matrix, array
        Anything with ``shape``, ``matvec`` and ``rmatvec``, or a matrix.
    rng : int or numpy.random.Generator
        Seed of the random vectors, or the generator that draws them.
    trials : int
        Number of comparisons with new dense vectors.
    rtol : float, optional
        Allowed relative error, for operators of limited precision (an inverse by iterations).
        By default the rounding error that the operator's dtype explains.
    raise_error : bool
        Raise on failure; if false, only return the result.

    Returns
    -------
    DotTest
        With ``.passed``, ``.error`` and ``.tolerance``; true if passed.

    Raises
    ------
    AssertionError
        If the test fails and `raise_error` is true; the message gives the figures.
    TypeError
        If `op` is not an operator.

    Notes
    -----
    The test checks superposition and ``A 0 == 0``, in both directions, so that an affine map fails. It compares ``<A x, y>``
    with ``<x, A^H y>`` on dense vectors, whose entries have moduli between 1/2 and 3/2 and random signs, so that one
    wrong entry shows wherever it is and none hides behind another; and the same on sparse vectors, each pair of one
    of 32 random subsets of `x` and one of 32 of `y`. In a small operator every subset is one entry.

    Rounding errors add up at random, so an inner product of n terms is compared to within a multiple of
    ``eps*norm(A x)*norm(y)/sqrt(n)`` and of the operator's own noise, which the superposition shows, and not to
    a fixed fraction. Sparse vectors have less noise, so that a single small entry counts. All
    comparisons are relative: the scale of the operator does not matter.

    The precision is that of the operator's results: an operator that claims float64 and returns float32 is tested as
    float32. An operator whose values are differences of terms a thousand times larger is noisier than the
    test allows for: give it an `rtol`.

    Operators that are linear over the reals only (PyLops' ``clinear=False``) are compared by the real parts of
    the products.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.sparse.linalg import LinearOperator
    >>> A = np.array([[1.0, 2.0], [3.0, 4.0]])
    >>> dottest(A).passed
    True
    >>> wrong = LinearOperator(A.shape, matvec=lambda x: A @ x, rmatvec=lambda y: A @ y, dtype=float)
    >>> dottest(wrong, raise_error=False).passed
    False
    """
    if trials < 1:
        raise ValueError(f"trials must be at least 1, got {trials}")
    result = run_comparisons(as_maps(op), rng, trials, rtol)
    if raise_error and not result.passed:
        shape = f" of shape {tuple(op.shape)}" if hasattr(op, "shape") else ""
        raise AssertionError(f"{type(op).__name__}{shape}: {result}")
    return result


def assert_adjoint(
    forward: Callable[[Any], Any],
    adjoint: Callable[[Any], Any],
    input_shape: int | Sequence[int],
    output_shape: int | Sequence[int],
    *,
    dtype: npt.DTypeLike = float,
    rng: int | np.random.Generator = 0,
) -> DotTest:
    """Test that two plain functions are linear and each other's adjoint.

    Parameters
    ----------
    forward : callable
        Takes an array of shape `input_shape` to an array of shape `output_shape`.
    adjoint : callable
        Takes an array of shape `output_shape` to an array of shape `input_shape`.
    input_shape, output_shape : int or sequence of int
        The shapes.
    dtype : dtype_like
        Type of the arrays; a complex dtype for functions that are linear over complex numbers.
    rng : int or numpy.random.Generator
        As in `dottest`.

    Returns
    -------
    DotTest
        The tightest comparison.

    Raises
    ------
    AssertionError
        If they are not; the message gives the figures.

    Examples
    --------
    >>> import numpy as np
    >>> assert_adjoint(np.diff, lambda y: -np.diff(y, prepend=0, append=0), 5, 4).passed
    True
    """
    inputs, outputs = (tuple(np.atleast_1d(np.asarray(s)).tolist()) for s in (input_shape, output_shape))

    def on_vectors(
        function: Callable[[Any], Any], from_shape: Any, to_shape: Any, name: str
    ) -> Callable[[Array], Array]:
        def apply(x: Array) -> Array:
            y = np.asarray(function(x.reshape(from_shape)))
            if y.shape != to_shape:
                raise AssertionError(f"{name} must return shape {to_shape}, got {y.shape}")
            return y.ravel()

        return apply

    maps = Maps(
        on_vectors(forward, inputs, outputs, "forward"),
        on_vectors(adjoint, outputs, inputs, "adjoint"),
        (math.prod(outputs), math.prod(inputs)),
        kept_dtype(np.dtype(dtype), "dtype"),
    )
    result = run_comparisons(maps, rng, 3, None)
    if not result.passed:
        raise AssertionError(f"forward and adjoint: {result}")
    return result
