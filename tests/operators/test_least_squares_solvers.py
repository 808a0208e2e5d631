"""Damped, regularised and preconditioned least squares by solvers of SciPy and PyLops."""

from functools import partial

import numpy as np
import pylops
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as sla
from pylops.optimization.basic import cg, cgls, lsqr
from pylops.optimization.leastsquares import (
    normal_equations_inversion,
    preconditioned_inversion,
    regularized_inversion,
)
from solver_cases import (
    CATALOGUE,
    NOTICED,
    RIGHT,
    WRONG,
    assert_solution,
    claim_convolution,
    combine,
    damped_solution,
    damping,
    data,
    random_normal,
    solve_tolerance,
    stacked_solution,
    trials,
)


def normal_equations(claim):
    """Returns the damped normal equations in PyLops' operator algebra."""
    A, damp = claim.operator, damping(claim)
    return A.H @ A + damp**2 * pylops.Identity(A.shape[1], dtype=A.dtype)


def solve_by_scipy_cg(claim):
    y = data(claim)
    x, info = sla.cg(normal_equations(claim), claim.operator.H @ y, rtol=solve_tolerance(claim))
    assert info == 0
    return x


def solve_by_scipy_cg_with_scipy_algebra(claim):
    y, damp = data(claim), damping(claim)
    A = sla.aslinearoperator(claim.operator)
    identity = sla.aslinearoperator(sp.eye_array(A.shape[1], dtype=A.dtype))
    x, info = sla.cg(A.H @ A + damp**2 * identity, A.H @ y, rtol=solve_tolerance(claim))
    assert info == 0
    return x


def solve_by_scipy_lsqr(claim):
    tolerance = solve_tolerance(claim)
    return sla.lsqr(claim.operator, data(claim), damp=damping(claim), atol=tolerance, btol=tolerance)[0]


def solve_by_scipy_lsmr(claim):
    tolerance = solve_tolerance(claim)
    # SciPy's LSMR overflows if everything is in single precision, and stops after min(M, N) steps, which are too few
    # because of rounding.
    y = data(claim).astype(np.result_type(claim.operator.dtype, float))
    return sla.lsmr(claim.operator, y, damp=damping(claim), atol=tolerance, btol=tolerance, maxiter=500)[0]


def solve_by_scipy_minres(claim):
    """Solves ``r + A x = y, A^H r - damp^2 x = 0``, a symmetric indefinite system that PyLops composes."""
    A, y, damp = claim.operator, data(claim), damping(claim)
    m, n = A.shape
    rows = [
        [pylops.Identity(m, dtype=A.dtype), A],
        [A.H, -(damp**2) * pylops.Identity(n, dtype=A.dtype)],
    ]
    right_hand_side = np.concatenate([y, np.zeros(n, A.dtype)])
    solution, info = sla.minres(pylops.Block(rows), right_hand_side, rtol=solve_tolerance(claim), maxiter=2000)
    assert info == 0
    return solution[m:]


def solve_by_pylops_cg(claim):
    y = data(claim)
    return cg(normal_equations(claim), claim.operator.H @ y, niter=300, tol=solve_tolerance(claim) ** 2)[0]


def solve_by_pylops_cgls(claim):
    """PyLops' solvers take and return arrays of the operator's shapes."""
    A = claim.operator
    x = cgls(A, data(claim).reshape(A.dimsd), damp=damping(claim), niter=300, tol=solve_tolerance(claim) ** 2)[0]
    assert x.shape == A.dims
    return x


def solve_by_pylops_lsqr(claim):
    A, tolerance = claim.operator, solve_tolerance(claim)
    y = data(claim).reshape(A.dimsd)
    x = lsqr(A, y, damp=damping(claim), niter=300, atol=tolerance, btol=tolerance)[0]
    assert x.shape == A.dims
    return x


DAMPED_SOLVERS = (
    solve_by_scipy_cg,
    solve_by_scipy_cg_with_scipy_algebra,
    solve_by_scipy_lsqr,
    solve_by_scipy_lsmr,
    solve_by_scipy_minres,
    solve_by_pylops_cg,
    solve_by_pylops_cgls,
    solve_by_pylops_lsqr,
)


def check_damped(solver, claim):
    assert_solution(solver(claim), damped_solution(claim.matrix, data(claim), damping(claim)), claim)


@pytest.mark.thinned
@pytest.mark.parametrize(("solver", "claim"), combine(DAMPED_SOLVERS, CATALOGUE))
def test_damped_least_squares(solver, claim):
    check_damped(solver, claim)


def regularisation(claim):
    """Returns derivatives and the identity as regularisation operators, with their weights and data."""
    A = claim.operator
    second = (
        pylops.SecondDerivative(A.dims[0], dtype=A.dtype)
        if len(A.dims) == 1
        else pylops.Laplacian(A.dims, axes=(-2, -1), dtype=A.dtype)
    )
    operators = [
        pylops.FirstDerivative(A.dims, axis=-1, kind="forward", dtype=A.dtype),
        second,
        pylops.Identity(A.shape[1], dtype=A.dtype),
    ]
    weights = [0.3 * damping(claim), 0.2 * damping(claim), damping(claim)]
    targets = [random_normal(10 + i, op.shape[0], A.dtype) for i, op in enumerate(operators)]
    return operators, weights, targets


def regularised_solution(claim):
    operators, weights, targets = regularisation(claim)
    # PyLops' derivatives contain no code of convop, so their own matrices serve as the reference.
    return stacked_solution(
        [claim.matrix, *(w * op.todense() for w, op in zip(weights, operators, strict=True))],
        [data(claim), *(w * target for w, target in zip(weights, targets, strict=True))],
    )


def solve_by_regularized_inversion(claim):
    operators, weights, targets = regularisation(claim)
    tolerance = solve_tolerance(claim)
    return regularized_inversion(
        claim.operator,
        data(claim),
        operators,
        dataregs=targets,
        epsRs=weights,
        atol=tolerance,
        btol=tolerance,
        iter_lim=500,
    )[0]


def solve_by_regularized_inversion_of_pylops(claim):
    """Uses PyLops' own solver in place of SciPy's."""
    operators, weights, targets = regularisation(claim)
    return regularized_inversion(
        claim.operator,
        data(claim),
        operators,
        dataregs=targets,
        epsRs=weights,
        engine="pylops",
        niter=300,
        tol=solve_tolerance(claim) ** 2,
    )[0]


def solve_by_normal_equations_inversion(claim):
    operators, weights, targets = regularisation(claim)
    return normal_equations_inversion(
        claim.operator,
        data(claim),
        operators,
        dataregs=targets,
        epsRs=weights,
        rtol=solve_tolerance(claim),
    )[0]


REGULARISED_SOLVERS = (
    solve_by_regularized_inversion,
    solve_by_regularized_inversion_of_pylops,
    solve_by_normal_equations_inversion,
)


def check_regularised(solver, claim):
    assert_solution(solver(claim), regularised_solution(claim), claim)


@pytest.mark.thinned
@pytest.mark.parametrize(("solver", "claim"), combine(REGULARISED_SOLVERS, CATALOGUE))
def test_regularised_least_squares(solver, claim):
    check_regularised(solver, claim)


def smoothing(claim):
    """Returns the claim of a smoothing convolution over all axes."""
    A = claim.operator
    taps = np.ones((3,) * len(A.dims), A.dtype)
    taps[(1,) * len(A.dims)] = 3 ** len(A.dims)
    return claim_convolution(taps / taps.sum(), A.dims, padding="same", padding_mode="replicate")


def check_preconditioned(claim):
    P = smoothing(claim)
    y, damp, tolerance = data(claim), damping(claim), solve_tolerance(claim)
    x = preconditioned_inversion(claim.operator, y, P.operator, damp=damp, atol=tolerance, btol=tolerance)[0]
    assert_solution(x, P.matrix @ damped_solution(claim.matrix @ P.matrix, y, damp), claim)


@pytest.mark.parametrize("claim", CATALOGUE.values(), ids=CATALOGUE)
def test_preconditioned_least_squares(claim):
    check_preconditioned(claim)


CHECKS = {
    **{solver.__name__: partial(check_damped, solver) for solver in DAMPED_SOLVERS},
    **{solver.__name__: partial(check_regularised, solver) for solver in REGULARISED_SOLVERS},
    "preconditioned": check_preconditioned,
}


@pytest.mark.parametrize(("check", "claim"), trials(CHECKS, RIGHT))
def test_checks_pass_right_operators(check, claim):
    check(claim)


@pytest.mark.thinned
@pytest.mark.parametrize(("check", "claim"), trials(CHECKS, WRONG))
def test_checks_notice_wrong_operators(check, claim):
    with pytest.raises(NOTICED):
        check(claim)
