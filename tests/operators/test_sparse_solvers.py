"""Sparse solutions by proximal solvers of PyLops and PyProximal."""

from functools import partial

import numpy as np
import pytest
from pylops.optimization.sparsity import fista, ista
from solver_cases import (
    CATALOGUE,
    NOTICED,
    RIGHT,
    WRONG,
    combine,
    data,
    import_pyproximal,
    random_normal,
    squared_norm,
    trials,
)


def sparse_problem(claim):
    """Returns noisy data of a sparse vector, and an l1 weight for which the solution is sparse but not zero."""
    x = random_normal(3, claim.matrix.shape[1], claim.operator.dtype) * (np.arange(claim.matrix.shape[1]) % 5 == 2)
    y = claim.matrix @ x + 0.1 * data(claim)
    return y, 0.2 * float(np.abs(claim.matrix.conj().T @ y).max())


def check_sparse(solver, claim):
    """Checks the optimality conditions of ``min |A x - y|^2 / 2 + weight |x|_1``.

    The gradient has the modulus `weight` and the sign of `x` where `x` is not zero, and a smaller modulus elsewhere.
    """
    y, weight = sparse_problem(claim)
    x = np.ravel(solver(claim, y, weight))
    gradient = claim.matrix.conj().T @ (y - claim.matrix @ x) / weight
    support = np.flatnonzero(x)
    assert 0 < support.size < x.size  # sparse, but not zero
    tolerance = 1e-5 if claim.is_single else 1e-8
    assert np.abs(gradient).max() <= 1 + tolerance
    assert np.abs(gradient[support] - x[support] / np.abs(x[support])).max() <= tolerance


def solve_by_ista(claim, y, weight):
    # PyLops does not halve the squared residual.
    return ista(claim.operator, y, niter=2000, eps=2 * weight, alpha=1 / squared_norm(claim), tol=1e-13)[0]


def solve_by_fista(claim, y, weight):
    return fista(claim.operator, y, niter=2000, eps=2 * weight, tol=1e-13)[0]  # PyLops computes the step


def solve_by_proximal_gradient(claim, y, weight, acceleration=None):
    px = import_pyproximal()
    return px.optimization.primal.ProximalGradient(
        px.L2(Op=claim.operator, b=y),
        px.L1(sigma=weight),
        x0=np.zeros(claim.operator.shape[1], claim.operator.dtype),
        tau=1 / squared_norm(claim),
        niter=1000,
        acceleration=acceleration,
    )


def solve_by_accelerated_proximal_gradient(claim, y, weight):
    return solve_by_proximal_gradient(claim, y, weight, acceleration="vandenberghe")


def solve_by_admm(claim, y, weight):
    """Each step solves with ``1 + tau A^H A``, by SciPy's LSQR with the operator that PyLops composes."""
    px = import_pyproximal()
    return px.optimization.primal.ADMM(
        px.L2(Op=claim.operator, b=y, niter=40, kwargs_solver={"atol": 1e-13, "btol": 1e-13}),
        px.L1(sigma=weight),
        x0=np.zeros(claim.operator.shape[1], claim.operator.dtype),
        tau=5 / squared_norm(claim),
        niter=200,
    )[1]


def solve_by_linearized_admm(claim, y, weight):
    """The operator is inside the second function, so that the method applies its adjoint."""
    px = import_pyproximal()
    return px.optimization.primal.LinearizedADMM(
        px.L1(sigma=weight),
        px.L2(b=y),
        claim.operator,
        x0=np.zeros(claim.operator.shape[1], claim.operator.dtype),
        tau=1.0,
        mu=0.99 / squared_norm(claim),
        niter=1000,
    )[0]


def solve_by_primal_dual(claim, y, weight):
    px = import_pyproximal()
    return px.optimization.primaldual.PrimalDual(
        px.L1(sigma=weight),
        px.L2(b=y),
        claim.operator,
        x0=np.zeros(claim.operator.shape[1], claim.operator.dtype),
        tau=0.99 / np.sqrt(squared_norm(claim)),
        mu=0.99 / np.sqrt(squared_norm(claim)),
        niter=1000,
    )


SPARSE_SOLVERS = (
    solve_by_ista,
    solve_by_fista,
    solve_by_proximal_gradient,
    solve_by_accelerated_proximal_gradient,
    solve_by_admm,
    solve_by_linearized_admm,
    solve_by_primal_dual,
)


@pytest.mark.thinned
@pytest.mark.parametrize(("solver", "claim"), combine(SPARSE_SOLVERS, CATALOGUE))
def test_sparse_solutions(solver, claim):
    check_sparse(solver, claim)


CHECKS = {solver.__name__: partial(check_sparse, solver) for solver in SPARSE_SOLVERS}


@pytest.mark.parametrize(("check", "claim"), trials(CHECKS, RIGHT))
def test_checks_pass_right_operators(check, claim):
    check(claim)


@pytest.mark.thinned
@pytest.mark.parametrize(("check", "claim"), trials(CHECKS, WRONG, slow=("solve_by_admm",)))
def test_checks_notice_wrong_operators(check, claim):
    with pytest.raises(NOTICED):
        check(claim)
