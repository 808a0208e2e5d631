"""Square systems by solvers of SciPy, and the methods that operators inherit from PyLops."""

from functools import partial

import numpy as np
import pylops
import pytest
import scipy.sparse.linalg as sla
from numpy.testing import assert_allclose
from solver_cases import (
    NOTICED,
    RIGHT,
    SQUARE,
    WRONG,
    Claim,
    assert_near,
    assert_solution,
    claim_convolution,
    combine,
    data,
    trials,
)


def solve_by_gmres(claim):
    x, info = sla.gmres(claim.operator, data(claim), rtol=1e-13, restart=len(claim.matrix))
    assert info == 0
    return x


def solve_by_bicg(claim):
    x, info = sla.bicg(claim.operator, data(claim), rtol=1e-13)
    assert info == 0
    return x


SQUARE_SOLVERS = (solve_by_gmres, solve_by_bicg)


def check_square(solver, claim):
    assert_solution(solver(claim), np.linalg.solve(claim.matrix, data(claim)), claim)


@pytest.mark.parametrize(("solver", "claim"), combine(SQUARE_SOLVERS, SQUARE))
def test_square_systems(solver, claim):
    check_square(solver, claim)


SYMMETRIC = {
    mode: claim_convolution(np.array([[1.0, 4, 1], [2, -3, 2], [1, 4, 1]]), (6, 7), padding="same", padding_mode=mode)
    for mode in ("zeros", "circular", "symmetric", "replicate")
}


def check_minres(claim):
    x, info = sla.minres(claim.operator, data(claim), rtol=1e-14, maxiter=2000)
    assert info == 0
    expected = np.linalg.solve(claim.matrix, data(claim))
    error = np.linalg.norm(x - expected) / np.linalg.norm(expected)
    assert error <= 1e-12 * np.linalg.cond(claim.matrix)


@pytest.mark.parametrize("claim", SYMMETRIC.values(), ids=SYMMETRIC)
def test_minres_with_even_kernel(claim):
    values = np.linalg.eigvalsh(claim.matrix)
    assert np.array_equal(claim.matrix, claim.matrix.T)
    assert values[0] < 0 < values[-1]  # indefinite, beyond the scope of conjugate gradients
    check_minres(claim)


def check_inherited(claim):
    """Checks division, trace, eigenvalues, columns, real and imaginary parts, and PyLops' own dot-product test."""
    A, M, y = claim.operator, claim.matrix, data(claim)
    expected = np.linalg.solve(M, y)
    # PyLops divides with a tolerance of 1e-8.
    assert np.linalg.norm(A / y - expected) <= 1e-6 * np.linalg.norm(expected)
    assert_allclose(A.trace(method="explicit"), np.trace(M), rtol=1e-12)
    values = (A.H @ A).eigs(3, symmetric=True)
    assert_allclose(np.sort(values), np.sort(np.linalg.svd(M, compute_uv=False)[:3] ** 2), rtol=1e-11)
    assert_near(A.apply_columns([4, 1]) @ np.eye(2), M[:, [4, 1]], atol=1e-12)
    assert_near(A.toreal() @ np.eye(len(M)), M.real, atol=1e-12)
    assert_near(A.toimag() @ np.eye(len(M)), M.imag, atol=1e-12)
    assert pylops.utils.dottest(A, *A.shape, complexflag=3 * claim.is_complex, raiseerror=False)


@pytest.mark.parametrize("claim", SQUARE.values(), ids=SQUARE)
def test_methods_inherited_from_pylops(claim):
    check_inherited(claim)


CHECKS = {
    **{solver.__name__: partial(check_square, solver) for solver in SQUARE_SOLVERS},
    "inherited": check_inherited,
}


@pytest.mark.parametrize(("check", "claim"), trials(CHECKS, RIGHT))
def test_checks_pass_right_operators(check, claim):
    check(claim)


@pytest.mark.parametrize(("check", "claim"), trials(CHECKS, WRONG))
def test_checks_notice_wrong_operators(check, claim):
    with pytest.raises(NOTICED):
        check(claim)


@pytest.mark.parametrize("mode", [mode for mode in SYMMETRIC if mode != "zeros"])
def test_minres_notices_another_boundary(mode):
    with pytest.raises(AssertionError):
        check_minres(Claim(SYMMETRIC["zeros"].operator, SYMMETRIC[mode].matrix))
