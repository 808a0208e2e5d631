"""Tikhonov regularisation: directly where fast transforms diagonalise the operator, by conjugate gradients elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..arrays.backend import Array
from ..arrays.progress import convergence_bar
from ..geometry.arguments import boolean, integer
from ..operators.block_diagonal import BlockOperator
from ..operators.conv import Conv, ConvTranspose
from .choice import Comparison, compare
from .exact_inverse import exact_inverse
from .normal_equations import NormalEquations
from .preconditioner import PreconditionerPlan, is_preconditionable, validate_damp
from .scaled_problem import ScaledProblem, Solution


def tikhonov(
    A: Any,
    y: npt.ArrayLike,
    damp: float,
    *,
    precondition: bool | str = "auto",
    x0: npt.ArrayLike | None = None,
    rtol: float = 1e-6,
    maxiter: int | None = None,
    progress: bool = False,
    callback: Callable[[Array], object] | None = None,
) -> Solution:
    r"""Solves a linear inverse problem by Tikhonov regularisation: minimises ``norm(A x - y)^2 + damp^2 norm(x)^2``.

    Parameters
    ----------
    A : LinearOperator
        A `Conv` or `ConvTranspose`, or any operator of PyLops or SciPy; the latter have no preconditioner.
    y : array_like of shape ``A.dimsd``, ``(*A.dimsd, P)``, ``(M,)`` or ``(M, P)``
        The data, or P data that are solved together, on the CPU or the GPU as `A` is.
    damp : float
        Damping, at least 0. With 0, the result is the least-squares solution of least norm, unless `x0` is given.
    precondition : {"auto", True, False}
        Whether to solve systems that fast transforms diagonalise directly, and to precondition conjugate gradients for the
        others. ``"auto"`` does so where it is predicted to save time, its set-up included, and goes on without a
        preconditioner that does not.
    x0 : array_like, optional
        Start of the iteration, in the shape of the solution; by default zeros.
    rtol : float
        The iteration ends when the gradient ``g = A^H (y - A x) - damp^2 x`` is at most `rtol` times ``A^H y`` in the
        Euclidean norm, with and without a preconditioner. The error of x is then at most ``norm(g)/damp^2``.
    maxiter : int, optional
        Most iterations; by default ten for each unknown.
    progress : bool
        Whether to show a progress bar on standard error; needs rich (``pip install 'convop[cli]'``).
    callback : callable, optional
        Called with the current solution after each iteration.

    Returns
    -------
    Solution
        With ``.x``, ``.iterations``, ``.converged``, ``.reason``, ``.residual_norm`` and ``.gradient_norm``.

    Raises
    ------
    ValueError, TypeError
        If an argument is invalid, or the shapes of `A`, `y` and `x0` do not match.
    ModuleNotFoundError
        If `progress` is set and rich is not installed.

    See Also
    --------
    preconditioner : The approximate inverse that makes conjugate gradients converge fast.
    convop.damping : Choices of `damp` from the data.

    Notes
    -----
    Where the transforms of `preconditioner` are exact (circular axes, symmetric axes with symmetric kernels, kernels
    no longer than their stride), the solution takes one small linear system for each frequency,

        X = (B^H B + damp^2)^-1 B^H Y.

    Otherwise conjugate gradients run on the normal equations in the form that keeps the residual of the data, as LSQR
    and CGLS do (Bjoerck, Numerical Methods for Least Squares Problems, 1996, section 7.4). Each iteration computes the
    gradient from that residual and not by a recurrence, so that the gradient is accurate. With fewer data than unknowns, as in
    super-resolution, they run on the dual equations ``(A A^H + damp^2) u = y``, and ``x = A^H u``. A damping below 1e-5
    of the largest gain (1e-4 in single precision) leaves so many components undetermined that no preconditioner is used.

    ``precondition="auto"`` forecasts the iterations without a preconditioner, which start with zeros, from the symbol of `A`
    and the spectrum of ``A^H y``, and compares their predicted time with that of the preconditioner. It gives the
    preconditioner up if the gradient falls so slowly that plain iterations would be done sooner, or if it cannot fall
    further, and tries it after all if plain iterations take more than twice their forecast. The choice is a function of the problem, and does not depend on measured times. On the GPU, the preconditioner
    is always used.

    Examples
    --------
    >>> import numpy as np
    >>> from convop import Conv, tikhonov
    >>> A = Conv(np.ones((3, 3)) / 9, (32, 32), padding="same", padding_mode="reflect")
    >>> x = np.random.default_rng(0).random((32, 32))
    >>> solution = tikhonov(A, A @ x, 1e-3)
    >>> solution.converged, solution.x.shape
    (True, (32, 32))
    """
    damp, rtol = validate_damp(damp), _validate_rtol(rtol)
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be callable, got {callback!r}")
    is_automatic, shows_progress = _is_automatic(precondition), boolean("progress", progress)
    problem = ScaledProblem.of(A, y, damp)
    A, damp = problem.A, problem.damp
    rows, columns = A.shape
    limit = 10 * columns if maxiter is None else integer("maxiter", maxiter)
    if limit < 0:
        raise ValueError(f"maxiter must be at least 0, got {maxiter}")
    start = None if x0 is None else problem.scale_start(x0)
    equations = NormalEquations(problem, is_dual=x0 is None and rows < columns)
    P: BlockOperator | None = None
    comparison: Comparison | None = None
    rescue: Callable[[], BlockOperator] | None = None
    if precondition and isinstance(A, Conv | ConvTranspose) and not problem.has_zero_data:
        inverse = exact_inverse(A, damp, np.result_type(A.dtype, problem.y.real.dtype))  # complex data are split
        if inverse is not None:
            return _solve_directly(problem, inverse, start, rtol)
        if is_preconditionable(A, damp):
            B = A.H if equations.is_dual else A
            plan = PreconditionerPlan.of(B, damp)
            if is_automatic and not A.on_gpu:
                comparison = compare(plan, equations, rtol)
            if comparison is None or comparison.pays():
                P = plan.build()
            else:
                rescue = plan.build

    def report(x: Array, reduction: float) -> None:
        if update is not None:
            update(reduction)
        if callback is not None:
            callback(problem.unscale_solution(x))

    with convergence_bar("gradient", rtol) if shows_progress else nullcontext() as update:
        return equations.solve(start, P, rtol, limit, report, comparison, rescue)


def _is_automatic(precondition: object) -> bool:
    """Returns whether an argument is ``"auto"``; otherwise it must be a bool."""
    if isinstance(precondition, bool | np.bool_):
        return False
    if not isinstance(precondition, str) or precondition != "auto":
        error = ValueError if isinstance(precondition, str) else TypeError
        raise error(f'precondition must be "auto", True or False, got {precondition!r}')
    return True


def _validate_rtol(rtol: float) -> float:
    """Returns a relative tolerance as a float, in [0, 1)."""
    try:
        value = float(rtol)
    except (TypeError, ValueError):
        raise TypeError(f"rtol must be a number, got {rtol!r}") from None
    if not 0 <= value < 1:
        raise ValueError(f"rtol must be at least 0 and less than 1, got {rtol!r}")
    return value


def _solve_directly(problem: ScaledProblem, inverse: BlockOperator, start: Array | None, rtol: float) -> Solution:
    """Applies the exact inverse; without damping, to the residual of the start, so that x is the solution nearest to it."""
    if start is None or problem.damp:
        x = inverse.matmat(problem.y)
    else:
        x = start + inverse.matmat(problem.y - problem.A.matmat(start))
    solution = problem.solution(x, 0, True, "solved directly, by fast transforms")
    reached = float(np.max(solution.gradient_norm, initial=0.0))
    if reached <= rtol:
        return solution
    reason = f"{solution.reason}, to the precision of {x.dtype.name}: gradient {reached:.2g}"
    return replace(solution, converged=False, reason=reason)
