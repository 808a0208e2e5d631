"""Operators that PyLops composes from convolutions and other operators."""

import numpy as np
import pylops
import pytest
import scipy.sparse.linalg as sla
from solver_cases import NOTICED, RIGHT, SQUARE, WRONG, assert_near, claim_convolution, random_normal, trials

from convop import Conv
from convop.testing import dottest


def compositions(A):
    """Returns compositions of a square operator with others by PyLops, and the same compositions of the matrices."""
    n = A.matrix.shape[0]
    B = claim_convolution(
        (3, 2), A.operator.dims, stride=(2, 1), padding="same", padding_mode="symmetric", engine="direct"
    )
    C = claim_convolution(
        (2, 3), A.operator.dims, "complex128", padding="same", padding_mode="reflect", transposed=True
    )
    small = claim_convolution((2,), (3,), "complex128", transposed=True, padding="full")
    a, b, c, k = A.operator, B.operator, C.operator, small.operator
    M, N, Q, K = A.matrix, B.matrix, C.matrix, small.matrix
    identity, eye = pylops.Identity(n, dtype=a.dtype), np.eye(n)
    d, rows, adjoint = random_normal(5, n, a.dtype), [0, 3, 4, n - 1], M.conj().T
    return {
        "product": (b @ a, N @ M),
        "product-of-three": (b @ c @ a.T, N @ Q @ M.T),
        "normal": (a.H @ a, adjoint @ M),
        "product-with-scipys": (a @ sla.aslinearoperator(c), M @ Q),
        "sum": (a + c, M + Q),
        "difference": (a - c.H, M - Q.conj().T),
        "negative": (-a, -M),
        "scaled": (2.5 * a, 2.5 * M),
        "scaled-complex": (a * (1 - 2j), (1 - 2j) * M),
        "power": (a**3, M @ M @ M),
        "power-of-a-sum": ((a + 2 * identity) ** 2, (M + 2 * eye) @ (M + 2 * eye)),
        "identity": (a - 0.5 * identity, M - 0.5 * eye),
        "diagonal": (pylops.Diagonal(d) @ a @ pylops.Diagonal(1 + d), d[:, None] * M * (1 + d)),
        "restriction": (pylops.Restriction(n, rows, dtype=a.dtype) @ a, M[rows]),
        "vertical": (pylops.VStack([a, b, -c]), np.vstack([M, N, -Q])),
        "horizontal": (pylops.HStack([a, b.H, c]), np.hstack([M, N.T, Q])),
        "block-diagonal": (
            pylops.BlockDiag([b, a.T]),
            np.block([[N, np.zeros((len(N), n))], [np.zeros((n, n)), M.T]]),
        ),
        "block": (pylops.Block([[a, c], [a.H @ c, identity]]), np.block([[M, Q], [adjoint @ Q, eye]])),
        "kronecker": (pylops.Kronecker(k, a), np.kron(K, M)),
        "kronecker-from-the-right": (pylops.Kronecker(a, k), np.kron(M, K)),
        "nested": (
            pylops.VStack([2 * (b @ a), pylops.HStack([a, c]) @ pylops.VStack([c, a.T])]),
            np.vstack([2 * N @ M, M @ Q + Q @ M.T]),
        ),
    }


def check_composition(operator, matrix):
    """Checks the operator, its adjoint, transpose and conjugate: as a matrix, on vectors, and by dot products."""
    adjoint = matrix.conj().T
    for variant, expected in (
        (operator, matrix),
        (operator.H, adjoint),
        (operator.T, matrix.T),
        (operator.conj(), matrix.conj()),
        (operator.T.conj(), adjoint),
        (operator.H.T, matrix.conj()),
        (operator.H.H, matrix),
    ):
        assert variant.shape == expected.shape
        rounding = 1e-13 * np.linalg.norm(expected, 2)  # of sums of some hundred products of three factors
        x = random_normal(6, expected.shape[1], expected.dtype)
        assert_near(variant.todense(), expected, atol=rounding)
        assert_near(variant.matmat(np.eye(expected.shape[1])), expected, atol=rounding)
        assert_near(variant.rmatmat(np.eye(len(expected))), expected.conj().T, atol=rounding)
        assert_near(variant.matvec(x), expected @ x, atol=rounding * np.linalg.norm(x))
    dottest(operator)
    dottest(operator.T)


COMPOSED = {claim: compositions(SQUARE[claim]) for claim in ("2d-reflect-complex", "2d-transposed-symmetric")}


@pytest.mark.thinned
@pytest.mark.parametrize("claim", COMPOSED)
@pytest.mark.parametrize("name", compositions(RIGHT["float64"]))
def test_compositions(name, claim):
    check_composition(*COMPOSED[claim][name])


def test_compositions_keep_the_shapes_of_images():
    A, b = SQUARE["2d-reflect-complex"].operator, Conv(random_normal(7, (3, 3)), (6, 6), stride=2)
    x = random_normal(8, (6, 6), complex)
    for operator, shape in (
        (b @ A, (2, 2)),
        (A.H @ A + 0.25 * pylops.Identity(36, dtype=A.dtype), (6, 6)),
        (A - 2j * A.T, (6, 6)),
        ((b @ A).H @ b, (6, 6)),
        (A**2, (6, 6)),
        (b.conj() @ A.conj(), (2, 2)),
    ):
        assert_near(operator @ x, (operator.todense() @ x.ravel()).reshape(shape), atol=1e-10)


CHECKS = {"composition": lambda claim: check_composition(claim.operator, claim.matrix)}


@pytest.mark.parametrize(("check", "claim"), trials(CHECKS, RIGHT))
def test_checks_pass_right_operators(check, claim):
    check(claim)


@pytest.mark.parametrize(("check", "claim"), trials(CHECKS, WRONG))
def test_checks_notice_wrong_operators(check, claim):
    with pytest.raises(NOTICED):
        check(claim)


@pytest.mark.thinned
@pytest.mark.parametrize("claim", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("name", compositions(RIGHT["float64"]))
def test_compositions_of_wrong_operators_are_noticed(name, claim):
    with pytest.raises(AssertionError):
        check_composition(*compositions(claim)[name])
