"""The laws of a linear operator, each a check that takes an operator of any maker.

`check_operator` runs all of them, and `parametrize_with_checks` makes a pytest test of each. Public in `convop.testing`.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import scipy.sparse as sp

from ..arrays.backend import Array, as_cpu_operator
from .adjointness import dottest
from .maps import as_maps

# Two computations of one vector differ by rounding: so many units in the last place of its norm.
_ULPS = 64
# Operators with fewer entries than this are compared with their dense matrix.
_DENSE = 2**22


def check_operator(op: Any, *, rng: int | np.random.Generator = 0) -> None:
    """Check every law that a linear operator has to keep.

    Parameters
    ----------
    op : LinearOperator of SciPy or PyLops, sparse matrix, array
        The operator.
    rng : int or numpy.random.Generator
        Seed of the random vectors, or the generator that draws them.

    Raises
    ------
    AssertionError
        At the first law that does not hold, with its name and the figures.

    See Also
    --------
    CHECKS : The laws, by name.

    Examples
    --------
    >>> import scipy.sparse
    >>> check_operator(scipy.sparse.eye_array(3))
    """
    rng = np.random.default_rng(rng)
    op = as_cpu_operator(op)
    if isinstance(op, np.matrix) or not (sp.issparse(op) or hasattr(op, "matvec")):
        op = np.asarray(op)
    as_maps(op)  # a TypeError for anything that is not an operator, before any law
    for name, check in CHECKS.items():
        try:
            check(op, rng)
        except Exception as error:  # any exception of a broken operator fails this law
            cause = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
            raise AssertionError(f"{name}: {cause}{error}") from error


def parametrize_with_checks(operators: Iterable[Any]) -> Any:
    """Decorator that makes a pytest test of every check and operator.

    Parameters
    ----------
    operators : iterable of operators
        The operators to check; or ``pytest.param(operator, id=...)`` to name them.

    Returns
    -------
    pytest.MarkDecorator
        For a test with the arguments ``operator`` and ``check``.

    Examples
    --------
    In a test file::

        @parametrize_with_checks([Conv(K, (8, 8)), Conv(K, (8, 8)).T])
        def test_laws(operator, check):
            check(operator)
    """
    import pytest

    parameters = []
    for number, given in enumerate(operators):
        named = hasattr(given, "values") and hasattr(given, "marks")  # a pytest.param
        operator = as_cpu_operator(given.values[0] if named else given)
        label = (given.id if named else None) or f"{type(operator).__name__}{number}"
        parameters += [pytest.param(operator, check, id=f"{label}-{name}") for name, check in CHECKS.items()]
    return pytest.mark.parametrize(("operator", "check"), parameters)


def _check_dot_products(op: Any, rng: int | np.random.Generator = 0) -> None:
    """The operator is linear and its declared adjoint is correct."""
    dottest(op, rng=rng)


def _check_shapes(op: Any, rng: int | np.random.Generator = 0) -> None:  # noqa: ARG001 - all checks have one signature
    """Vectors come back with the right shape, and wrong ones are refused with a ValueError."""
    maps = as_maps(op)
    for name, function, (rows, columns) in maps.named():
        y = function(np.ones(columns, maps.dtype))
        _require(np.shape(y) == (rows,), f"{name} of a ({columns},) vector has shape {np.shape(y)}, not ({rows},)")
        try:
            function(np.ones(columns + 1, maps.dtype))
        except ValueError:
            continue
        raise AssertionError(f"{name} accepts a vector of length {columns + 1} where {columns} is right")


def _check_batches(op: Any, rng: int | np.random.Generator = 0) -> None:
    """The image of a batch of columns consists of the images of its columns."""
    maps, rng = as_maps(op), np.random.default_rng(rng)
    if hasattr(op, "matmat"):
        many = (("matmat", op.matmat, maps.forward, 1), ("rmatmat", op.rmatmat, maps.adjoint, 0))
    else:
        many = (("op @", maps.forward, maps.forward, 1), ("op.conj().T @", maps.adjoint, maps.adjoint, 0))
    for name, batch, single, side in many:
        X = _normal(rng, (maps.shape[side], 3), maps.dtype)
        for order in ("C", "F"):
            Y = np.asarray(batch(np.asarray(X, order=order)))
            _assert_close(Y, np.stack([single(x) for x in X.T], axis=1), f"{name} of columns in {order} order")


def _check_transposes(op: Any, rng: int | np.random.Generator = 0) -> None:
    """``.H`` is the adjoint, ``.T`` its conjugate, and either twice is the operator."""
    maps, rng = as_maps(op), np.random.default_rng(rng)
    x, y = _normal(rng, (maps.shape[1],), maps.dtype), _normal(rng, (maps.shape[0],), maps.dtype)
    adjoint = op.H if hasattr(op, "H") and not sp.issparse(op) else op.conj().T
    transpose = op.T
    shapes = f"shapes of .H {adjoint.shape} and .T {transpose.shape} must be {maps.shape[::-1]}"
    _require(tuple(adjoint.shape) == tuple(transpose.shape) == maps.shape[::-1], shapes)
    _assert_close(adjoint @ y, maps.adjoint(y), ".H @ y and the adjoint of y")
    if maps.complex_linear:
        _assert_close(transpose @ y, maps.adjoint(y.conj()).conj(), ".T @ y and conj(.H @ conj(y))")
        _assert_close(transpose.T @ x, maps.forward(x), ".T.T @ x and A @ x")
    twice = adjoint.H if hasattr(adjoint, "H") and not sp.issparse(adjoint) else adjoint.conj().T
    _assert_close(twice @ x, maps.forward(x), ".H.H @ x and A @ x")


def _check_inputs_unchanged(op: Any, rng: int | np.random.Generator = 0) -> None:
    """Applying the operator never writes to its input, and results share no memory."""
    maps, rng = as_maps(op), np.random.default_rng(rng)
    for name, function, (_, n) in maps.named():
        x = _normal(rng, (n,), maps.dtype)
        before = x.copy()
        first = np.asarray(function(x))
        _require(np.array_equal(x, before), f"the {name} changed its input")
        kept = first.copy()
        function(-x)
        _require(np.array_equal(first, kept), f"a second call of the {name} changed the result of the first")


def _check_repeatable(op: Any, rng: int | np.random.Generator = 0) -> None:
    """The same input gives the same result, also from several threads at once."""
    maps, rng = as_maps(op), np.random.default_rng(rng)
    x = [_normal(rng, (maps.shape[1],), maps.dtype) for _ in range(4)]
    once = [np.array(maps.forward(v)) for v in x]
    with ThreadPoolExecutor(len(x)) as pool:
        for repeat in range(4):
            for y, again in zip(once, pool.map(maps.forward, x), strict=True):
                _assert_close(np.asarray(again), y, f"results of threads, repeat {repeat},")


def _check_dtype(op: Any, rng: int | np.random.Generator = 0) -> None:  # noqa: ARG001 - all checks have one signature
    """A real operator takes real vectors to real vectors, and keeps their precision."""
    maps = as_maps(op)
    if not maps.complex_linear:
        return
    for name, function, (_, n) in maps.named():
        got = np.asarray(function(np.ones(n, maps.dtype))).dtype
        _require(got.kind == maps.dtype.kind, f"the {name} of {maps.dtype} vectors gives {got}")
        _require(np.finfo(got).eps <= np.finfo(maps.dtype).eps, f"the {name} of {maps.dtype} vectors gives {got}")


def _check_algebra(op: Any, rng: int | np.random.Generator = 0) -> None:
    """Sums, multiples and products of the operator are the sums, multiples and products of its map, where it has them."""
    maps, rng = as_maps(op), np.random.default_rng(rng)
    if not hasattr(op, "matvec") or not maps.complex_linear:
        return
    x = _normal(rng, (maps.shape[1],), maps.dtype)
    y = maps.forward(x)
    _assert_close((op + op) @ x, 2 * y, "(A + A) @ x and 2*(A @ x)")
    _assert_close((3 * op) @ x, 3 * y, "(3*A) @ x and 3*(A @ x)")
    _assert_close((op.H @ op) @ x, maps.adjoint(y), "(A.H @ A) @ x and A.H @ (A @ x)")


def _check_matrix(op: Any, rng: int | np.random.Generator = 0) -> None:  # noqa: ARG001 - all checks have one signature
    """`todense` and `tosparse`, where a small operator has them, are the matrix of its map."""
    maps = as_maps(op)
    if not hasattr(op, "matvec") or maps.shape[0] * maps.shape[1] > _DENSE or not maps.complex_linear:
        return
    matrix = np.stack([maps.forward(e) for e in np.eye(maps.shape[1], dtype=maps.dtype)], axis=1)
    for name in ("todense", "tosparse"):
        if hasattr(op, name):
            stored = getattr(op, name)()
            dense = stored.toarray() if sp.issparse(stored) else np.asarray(stored)
            _assert_close(dense, matrix, f"{name}() and the operator")


def _check_pickle(op: Any, rng: int | np.random.Generator = 0) -> None:
    """An operator that can be pickled is the same afterwards. Operators of closures cannot be pickled, and pass."""
    maps, rng = as_maps(op), np.random.default_rng(rng)
    try:
        stored = pickle.dumps(op)
    except (pickle.PicklingError, AttributeError, TypeError):
        return
    again = as_maps(pickle.loads(stored))
    x = _normal(rng, (maps.shape[1],), maps.dtype)
    _require((again.shape, again.dtype) == (maps.shape, maps.dtype), "pickling changed the shape or the dtype")
    _assert_close(again.forward(x), maps.forward(x), "A @ x before and after pickling")


CHECKS: dict[str, Callable[..., None]] = {
    "dot_products": _check_dot_products,
    "shapes": _check_shapes,
    "batches": _check_batches,
    "transposes": _check_transposes,
    "inputs_unchanged": _check_inputs_unchanged,
    "repeatable": _check_repeatable,
    "dtype": _check_dtype,
    "algebra": _check_algebra,
    "matrix": _check_matrix,
    "pickle": _check_pickle,
}
"""The checks of `check_operator` by the names of their laws; each takes an operator and optionally a seed."""


def _require(holds: bool, message: str) -> None:
    """Assert a condition, under ``python -O`` too."""
    if not holds:
        raise AssertionError(message)


def _normal(rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    x = rng.standard_normal(shape)
    return (x + 1j * rng.standard_normal(shape) if dtype.kind == "c" else x).astype(dtype)


def _assert_close(got: Array, expected: Array, names: str) -> None:
    """Assert that two vectors are equal but for rounding, relative to the norm and not to each element."""
    got, expected = np.asarray(got), np.asarray(expected)
    _require(got.shape == expected.shape, f"{names} differ in shape: {got.shape} and {expected.shape}")
    eps = max(float(np.finfo(a.dtype).eps) if a.dtype.kind in "fc" else 0.0 for a in (got, expected))
    size = float(np.linalg.norm(expected))
    error = float(np.linalg.norm(got - expected))
    # Sums of n terms that are added in different orders differ by up to sqrt(n) units.
    allowed = eps * (_ULPS + np.sqrt(expected.size)) * size
    _require(error <= allowed, f"{names} differ by {error:.3g}, with a norm of {size:.3g}")
