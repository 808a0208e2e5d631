"""Singular values and eigenvalues by solvers of SciPy."""

import numpy as np
import pytest
import scipy.sparse.linalg as sla
from numpy.testing import assert_allclose
from solver_cases import CATALOGUE, NOTICED, RIGHT, WRONG, assert_near, combine, random_normal, trials


def check_largest(values, expected, claim):
    assert_allclose(np.sort(values)[::-1], expected[: len(values)], rtol=1e-5 if claim.is_single else 1e-12)


def check_singular_triplets(u, s, vh, claim):
    """Checks the largest values, and that left and right vectors are orthonormal and mapped to each other.

    The error of a value is about the square of the error of its vectors.
    """
    v, atol = vh.conj().T, 1e-4 if claim.is_single else 1e-8
    check_largest(s, np.linalg.svd(claim.matrix, compute_uv=False), claim)
    for vectors in (u, v):
        assert_near(vectors.conj().T @ vectors, np.eye(len(s)), atol=atol)
    assert_near(claim.matrix @ v, u * s, atol=atol * s.max())
    assert_near(claim.matrix.conj().T @ u, v * s, atol=atol * s.max())


def check_svds_arpack(claim):
    A = claim.operator
    check_singular_triplets(*sla.svds(A, k=3, solver="arpack", v0=random_normal(2, min(A.shape), A.dtype)), claim)


def check_svds_propack(claim):
    A = claim.operator
    v0 = random_normal(2, A.shape[0], A.dtype)
    # By default PROPACK stops after 10 k steps; it never takes more steps than the smaller dimension.
    check_singular_triplets(*sla.svds(A, k=3, solver="propack", v0=v0, maxiter=1000), claim)


def check_svds_lobpcg(claim):
    A = claim.operator
    # LOBPCG squares its tolerance and compares it with absolute residuals of A^H A.
    tolerance = np.linalg.norm(claim.matrix, 2) * (3e-3 if claim.is_single else 1e-5)
    v0 = random_normal(2, min(A.shape), A.dtype)
    check_singular_triplets(*sla.svds(A, k=1, solver="lobpcg", v0=v0, tol=tolerance, maxiter=500), claim)


def check_eigsh(claim):
    A = claim.operator
    values, vectors = sla.eigsh(A.H @ A, k=3, v0=random_normal(2, A.shape[1], A.dtype))
    check_largest(np.sqrt(values), np.linalg.svd(claim.matrix, compute_uv=False), claim)
    products = claim.matrix.conj().T @ (claim.matrix @ vectors)
    assert_near(products, vectors * values, atol=(1e-4 if claim.is_single else 1e-8) * values.max())


SPECTRAL_CHECKS = (check_svds_arpack, check_svds_propack, check_svds_lobpcg, check_eigsh)


@pytest.mark.parametrize(("check", "claim"), combine(SPECTRAL_CHECKS, CATALOGUE))
def test_singular_values(check, claim):
    check(claim)


CHECKS = {check.__name__: check for check in SPECTRAL_CHECKS}


@pytest.mark.parametrize(("check", "claim"), trials(CHECKS, RIGHT))
def test_checks_pass_right_operators(check, claim):
    check(claim)


@pytest.mark.thinned
@pytest.mark.parametrize(("check", "claim"), trials(CHECKS, WRONG))
def test_checks_notice_wrong_operators(check, claim):
    with pytest.raises(NOTICED):
        check(claim)
