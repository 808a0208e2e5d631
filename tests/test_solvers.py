"""Other people's solvers run on convop's operators and find what the dense matrix says.

A `Claim` is an operator together with the matrix that it is claimed to be. A check takes a claim, lets a solver of SciPy,
PyLops or PyProximal work with the operator alone, and compares what it finds with what the matrix alone says, so no
answer comes from the code under test. The matrices of the catalogue are those of `oracle.dense_matrix`. At the end every
check is given operators that are wrong, and has to fail.
"""

from dataclasses import dataclass
from functools import cache, partial, reduce
from typing import Any

import numpy as np
import oracle
import pylops
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as sla
from numpy.testing import assert_allclose
from pylops.optimization.basic import cg, cgls, lsqr
from pylops.optimization.leastsquares import (
    normal_equations_inversion,
    preconditioned_inversion,
    regularized_inversion,
)
from pylops.optimization.sparsity import fista, ista, splitbregman

from convop import Conv, ConvTranspose
from convop.testing import dottest


@dataclass(frozen=True, eq=False)
class Claim:
    """An operator, and the matrix that it is claimed to be."""

    operator: Any
    matrix: Any

    @property
    def is_complex(self):
        return self.operator.dtype.kind == "c"

    @property
    def is_single(self):
        return self.operator.dtype.name in ("float32", "complex64")


def normal(seed, shape, dtype=float):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    return (x + 1j * rng.standard_normal(shape) if np.dtype(dtype).kind == "c" else x).astype(dtype)


def convolution(
    kernel, input_shape, dtype="float64", *, transposed=False, flip=False, engine="auto", central=0.0, **parameters
):
    """The claim of a convolution, or of its transpose; `kernel` is its taps or their shape.

    `central` is added to the tap in the middle, which makes the map of an image to one of the same size well conditioned.
    """
    if isinstance(kernel, tuple):
        kernel = normal(7, kernel, dtype)
        kernel[tuple((n - 1) // 2 for n in kernel.shape)] += central
    # Kernels in single precision have a matrix in double precision, so that the oracle rounds nothing.
    exact = kernel.astype(np.result_type(kernel.dtype, float))
    matrix, output_shape = oracle.dense_matrix(exact, input_shape, flip=flip, **parameters)
    if transposed:
        operator = ConvTranspose(kernel, output_shape, output_shape=input_shape, flip=flip, engine=engine, **parameters)
        return Claim(operator, matrix.T)
    return Claim(Conv(kernel, input_shape, flip=flip, engine=engine, **parameters), matrix)


PAIRS = ((1, 2), (0, 1))

CATALOGUE = {
    "1d-full-stride": convolution((5,), (17,), stride=3, padding="full"),
    "1d-reflect-complex": convolution((4,), (30,), "complex128", padding=((2, 6),), dilation=3, padding_mode="reflect"),
    "2d-zeros-even": convolution((4, 3), (7, 8), padding="same", engine="direct"),
    "2d-valid-complex": convolution((2, 3), (6, 7), "complex128", flip=True, engine="fft"),
    "2d-circular-complex": convolution((3, 4), (7, 6), "complex128", padding="same", padding_mode="circular"),
    "2d-reflect-stride-dilation": convolution(
        (3, 2), (8, 9), stride=(2, 1), dilation=(1, 2), padding=PAIRS, padding_mode="reflect", engine="fft"
    ),
    "2d-symmetric-flipped": convolution((4, 4), (8, 7), flip=True, padding=PAIRS, padding_mode="symmetric"),
    "2d-replicate-single": convolution((3, 3), (7, 8), "float32", padding="same", padding_mode="replicate"),
    "2d-separable": convolution(
        np.outer([1.0, 3, -1], [2.0, 1, 0.5, 0.25]),
        (8, 7),
        padding="same",
        padding_mode="symmetric",
        engine="separable",
    ),
    "2d-groups": convolution((4, 2, 3, 2), (4, 5, 4), groups=2, stride=(2, 1), padding=1, engine="gemm"),
    "2d-groups-complex": convolution(
        (2, 1, 3, 2), (2, 6, 5), "complex128", groups=2, padding=PAIRS, padding_mode="symmetric", engine="direct"
    ),
    "3d-replicate": convolution((2, 3, 2), (4, 5, 3), padding="same", padding_mode="replicate"),
    "3d-channels-complex": convolution((3, 1, 2, 3, 2), (1, 4, 4, 3), "complex128", stride=2, padding=1),
    "1d-transposed-reflect": convolution(
        (4,), (24,), transposed=True, stride=2, padding=((3, 2),), padding_mode="reflect", flip=True
    ),
    "2d-transposed-stride-dilation": convolution(
        (3, 2), (8, 9), transposed=True, stride=(2, 1), dilation=(2, 1), padding=PAIRS, engine="direct"
    ),
    "2d-transposed-circular-complex": convolution(
        (3, 4), (6, 7), "complex128", transposed=True, padding=PAIRS, padding_mode="circular", engine="fft"
    ),
    "2d-transposed-symmetric-complex": convolution(
        (2, 3), (6, 6), "complex128", transposed=True, stride=(1, 2), padding="same", padding_mode="symmetric"
    ),
    "2d-transposed-single": convolution((4, 3), (7, 8), "float32", transposed=True, padding="same"),
    "2d-transposed-groups-complex": convolution(
        (4, 1, 2, 3), (2, 5, 5), "complex128", transposed=True, groups=2, padding_mode="replicate", padding=1
    ),
    "3d-transposed-replicate": convolution(
        (3, 2, 2), (4, 4, 3), transposed=True, stride=(1, 2, 1), padding=1, padding_mode="replicate"
    ),
}

# Maps of an image to one of the same size, well conditioned: for what has to be invertible, and for total variation,
# whose methods take many steps where the condition is bad.
SQUARE = {
    "1d-circular": convolution((4,), (24,), central=4, padding="same", padding_mode="circular"),
    "2d-zeros": convolution((3, 3), (7, 6), central=6, padding="same", engine="fft"),
    "2d-reflect-complex": convolution(
        (2, 3), (6, 6), "complex128", central=6 - 2j, padding="same", padding_mode="reflect"
    ),
    "2d-transposed-symmetric": convolution(
        (3, 4), (6, 7), transposed=True, central=6, padding="same", padding_mode="symmetric"
    ),
    "2d-transposed-replicate-complex": convolution(
        (3, 3), (5, 6), "complex128", transposed=True, central=8j, padding="same", padding_mode="replicate"
    ),
    "2d-dilated": convolution((3, 3), (8, 8), central=7, dilation=2, padding="same", padding_mode="reflect"),
    "3d-zeros": convolution((2, 3, 2), (3, 4, 4), central=7, padding="same"),
}


# ---------------------------------------------------------------------------------------------------------------------
# What the matrix says


def data(claim):
    """A vector of random numbers, which no input is mapped to where there are more rows than columns."""
    return normal(1, claim.matrix.shape[0], claim.operator.dtype)


def damping(claim):
    """A tenth of the norm: the condition number of the damped normal equations is 101, whatever the operator's."""
    return 0.1 * float(np.linalg.norm(claim.matrix, 2))


def solve_tolerance(claim):
    return 1e-6 if claim.is_single else 1e-13


def assert_solution(x, expected, claim):
    """Equal but for what the condition number of 101 makes of `solve_tolerance`, and some."""
    error = np.linalg.norm(np.ravel(x) - expected) / np.linalg.norm(expected)
    assert error <= (2e-4 if claim.is_single else 1e-10), f"relative error {error:.3g}"


assert_near = partial(assert_allclose, rtol=0)


def stacked_solution(blocks, right_hand_sides):
    return np.linalg.lstsq(np.vstack(blocks), np.concatenate(right_hand_sides), rcond=None)[0]


def damped_solution(matrix, y, damp):
    """``argmin |A x - y|^2 + damp^2 |x|^2``"""
    n = matrix.shape[1]
    return stacked_solution([matrix, damp * np.eye(n)], [y, np.zeros(n)])


# ---------------------------------------------------------------------------------------------------------------------
# Damped least squares: SciPy and PyLops


def normal_equations(claim):
    """As a user of PyLops writes them."""
    A, damp = claim.operator, damping(claim)
    return A.H @ A + damp**2 * pylops.Identity(A.shape[1], dtype=A.dtype)


def by_scipys_cg(claim):
    y = data(claim)
    x, info = sla.cg(normal_equations(claim), claim.operator.H @ y, rtol=solve_tolerance(claim))
    assert info == 0
    return x


def by_scipys_cg_composed_by_scipy(claim):
    y, damp = data(claim), damping(claim)
    A = sla.aslinearoperator(claim.operator)
    identity = sla.aslinearoperator(sp.eye_array(A.shape[1], dtype=A.dtype))
    x, info = sla.cg(A.H @ A + damp**2 * identity, A.H @ y, rtol=solve_tolerance(claim))
    assert info == 0
    return x


def by_scipys_lsqr(claim):
    tolerance = solve_tolerance(claim)
    return sla.lsqr(claim.operator, data(claim), damp=damping(claim), atol=tolerance, btol=tolerance)[0]


def by_scipys_lsmr(claim):
    tolerance = solve_tolerance(claim)
    # SciPy's overflows by itself where all is in single precision, and ends after min(M, N) steps, which rounding makes
    # too few.
    y = data(claim).astype(np.result_type(claim.operator.dtype, float))
    return sla.lsmr(claim.operator, y, damp=damping(claim), atol=tolerance, btol=tolerance, maxiter=500)[0]


def by_scipys_minres(claim):
    """Of ``r + A x = y, A^H r - damp^2 x = 0``: symmetric and indefinite, put together by PyLops."""
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


def by_pylops_cg(claim):
    y = data(claim)
    return cg(normal_equations(claim), claim.operator.H @ y, niter=300, tol=solve_tolerance(claim) ** 2)[0]


def by_pylops_cgls(claim):
    """PyLops' solvers take and return arrays of the operator's shapes."""
    A = claim.operator
    x = cgls(A, data(claim).reshape(A.dimsd), damp=damping(claim), niter=300, tol=solve_tolerance(claim) ** 2)[0]
    assert x.shape == A.dims
    return x


def by_pylops_lsqr(claim):
    A, tolerance = claim.operator, solve_tolerance(claim)
    y = data(claim).reshape(A.dimsd)
    x = lsqr(A, y, damp=damping(claim), niter=300, atol=tolerance, btol=tolerance)[0]
    assert x.shape == A.dims
    return x


DAMPED = (
    by_scipys_cg,
    by_scipys_cg_composed_by_scipy,
    by_scipys_lsqr,
    by_scipys_lsmr,
    by_scipys_minres,
    by_pylops_cg,
    by_pylops_cgls,
    by_pylops_lsqr,
)


def check_damped(solver, claim):
    assert_solution(solver(claim), damped_solution(claim.matrix, data(claim), damping(claim)), claim)


def fits(solver_name, claim):
    return not ("minres" in solver_name and claim.is_complex)  # SciPy's is for real matrices


def combined(solvers, claims):
    return [
        pytest.param(solver, claim, id=f"{solver.__name__}-{name}")
        for solver in solvers
        for name, claim in claims.items()
        if fits(solver.__name__, claim)
    ]


@pytest.mark.parametrize(("solver", "claim"), combined(DAMPED, CATALOGUE))
def test_damped_least_squares(solver, claim):
    check_damped(solver, claim)


# ---------------------------------------------------------------------------------------------------------------------
# Regularised and preconditioned least squares: PyLops


def regularisation(claim):
    """Derivatives along the last axes, with data of their own, and a multiple of the identity."""
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
    targets = [normal(10 + i, op.shape[0], A.dtype) for i, op in enumerate(operators)]
    return operators, weights, targets


def regularised_solution(claim):
    operators, weights, targets = regularisation(claim)
    # No code of convop is in PyLops' derivatives: their matrices are taken from themselves.
    return stacked_solution(
        [claim.matrix, *(w * op.todense() for w, op in zip(weights, operators, strict=True))],
        [data(claim), *(w * target for w, target in zip(weights, targets, strict=True))],
    )


def by_regularized_inversion(claim):
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


def by_regularized_inversion_of_pylops(claim):
    """By PyLops' own solver in place of SciPy's."""
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


def by_normal_equations_inversion(claim):
    operators, weights, targets = regularisation(claim)
    return normal_equations_inversion(
        claim.operator,
        data(claim),
        operators,
        dataregs=targets,
        epsRs=weights,
        rtol=solve_tolerance(claim),
    )[0]


REGULARISED = (by_regularized_inversion, by_regularized_inversion_of_pylops, by_normal_equations_inversion)


def check_regularised(solver, claim):
    assert_solution(solver(claim), regularised_solution(claim), claim)


@pytest.mark.parametrize(("solver", "claim"), combined(REGULARISED, CATALOGUE))
def test_regularised_least_squares(solver, claim):
    check_regularised(solver, claim)


def preconditioner(claim):
    """A smoothing, which is a convolution over all axes itself."""
    A = claim.operator
    taps = np.ones((3,) * len(A.dims), A.dtype)
    taps[(1,) * len(A.dims)] = 3 ** len(A.dims)
    return convolution(taps / taps.sum(), A.dims, padding="same", padding_mode="replicate")


def check_preconditioned(claim):
    P = preconditioner(claim)
    y, damp, tolerance = data(claim), damping(claim), solve_tolerance(claim)
    x = preconditioned_inversion(claim.operator, y, P.operator, damp=damp, atol=tolerance, btol=tolerance)[0]
    assert_solution(x, P.matrix @ damped_solution(claim.matrix @ P.matrix, y, damp), claim)


@pytest.mark.parametrize("claim", CATALOGUE.values(), ids=CATALOGUE)
def test_preconditioned_least_squares(claim):
    check_preconditioned(claim)


# ---------------------------------------------------------------------------------------------------------------------
# Singular values and eigenvalues: SciPy


def check_largest(values, expected, claim):
    assert_allclose(np.sort(values)[::-1], expected[: len(values)], rtol=1e-5 if claim.is_single else 1e-12)


def check_singular_triplets(u, s, vh, claim):
    """The largest values; and left and right vectors, orthonormal, that the matrix and its adjoint map to each other.

    Values are found to the square of the error of the vectors.
    """
    v, atol = vh.conj().T, 1e-4 if claim.is_single else 1e-8
    check_largest(s, np.linalg.svd(claim.matrix, compute_uv=False), claim)
    for vectors in (u, v):
        assert_near(vectors.conj().T @ vectors, np.eye(len(s)), atol=atol)
    assert_near(claim.matrix @ v, u * s, atol=atol * s.max())
    assert_near(claim.matrix.conj().T @ u, v * s, atol=atol * s.max())


def by_svds_arpack(claim):
    A = claim.operator
    check_singular_triplets(*sla.svds(A, k=3, solver="arpack", v0=normal(2, min(A.shape), A.dtype)), claim)


def by_svds_propack(claim):
    A = claim.operator
    v0 = normal(2, A.shape[0], A.dtype)
    # By default it gives up after 10 k steps; more than the smaller side has are never taken.
    check_singular_triplets(*sla.svds(A, k=3, solver="propack", v0=v0, maxiter=1000), claim)


def by_svds_lobpcg(claim):
    A = claim.operator
    # It squares its tolerance, and compares it with absolute residuals of A^H A.
    tolerance = np.linalg.norm(claim.matrix, 2) * (3e-3 if claim.is_single else 1e-5)
    v0 = normal(2, min(A.shape), A.dtype)
    check_singular_triplets(*sla.svds(A, k=1, solver="lobpcg", v0=v0, tol=tolerance, maxiter=500), claim)


def by_eigsh(claim):
    A = claim.operator
    values, vectors = sla.eigsh(A.H @ A, k=3, v0=normal(2, A.shape[1], A.dtype))
    check_largest(np.sqrt(values), np.linalg.svd(claim.matrix, compute_uv=False), claim)
    products = claim.matrix.conj().T @ (claim.matrix @ vectors)
    assert_near(products, vectors * values, atol=(1e-4 if claim.is_single else 1e-8) * values.max())


SPECTRAL = (by_svds_arpack, by_svds_propack, by_svds_lobpcg, by_eigsh)


@pytest.mark.parametrize(("check", "claim"), combined(SPECTRAL, CATALOGUE))
def test_singular_values(check, claim):
    check(claim)


# ---------------------------------------------------------------------------------------------------------------------
# Square systems: SciPy, and what PyLops' operators have by themselves


def by_gmres(claim):
    x, info = sla.gmres(claim.operator, data(claim), rtol=1e-13, restart=len(claim.matrix))
    assert info == 0
    return x


def by_bicg(claim):
    x, info = sla.bicg(claim.operator, data(claim), rtol=1e-13)
    assert info == 0
    return x


SQUARE_SOLVERS = (by_gmres, by_bicg)


def check_square(solver, claim):
    assert_solution(solver(claim), np.linalg.solve(claim.matrix, data(claim)), claim)


@pytest.mark.parametrize(("solver", "claim"), combined(SQUARE_SOLVERS, SQUARE))
def test_square_systems(solver, claim):
    check_square(solver, claim)


SYMMETRIC = {
    mode: convolution(np.array([[1.0, 4, 1], [2, -3, 2], [1, 4, 1]]), (6, 7), padding="same", padding_mode=mode)
    for mode in ("zeros", "circular", "symmetric", "replicate")
}


def check_minres(claim):
    x, info = sla.minres(claim.operator, data(claim), rtol=1e-14, maxiter=2000)
    assert info == 0
    expected = np.linalg.solve(claim.matrix, data(claim))
    error = np.linalg.norm(x - expected) / np.linalg.norm(expected)
    assert error <= 1e-12 * np.linalg.cond(claim.matrix)


@pytest.mark.parametrize("claim", SYMMETRIC.values(), ids=SYMMETRIC)
def test_minres_of_an_even_kernel(claim):
    values = np.linalg.eigvalsh(claim.matrix)
    assert np.array_equal(claim.matrix, claim.matrix.T)
    assert values[0] < 0 < values[-1]  # which conjugate gradients are not for
    check_minres(claim)


def check_inherited(claim):
    """What an operator of PyLops can do without a solver being named."""
    A, M, y = claim.operator, claim.matrix, data(claim)
    expected = np.linalg.solve(M, y)
    # PyLops divides to a tolerance of 1e-8.
    assert np.linalg.norm(A / y - expected) <= 1e-6 * np.linalg.norm(expected)
    assert_allclose(A.trace(method="explicit"), np.trace(M), rtol=1e-12)
    values = (A.H @ A).eigs(3, symmetric=True)
    assert_allclose(np.sort(values), np.sort(np.linalg.svd(M, compute_uv=False)[:3] ** 2), rtol=1e-11)
    assert_near(A.apply_columns([4, 1]) @ np.eye(2), M[:, [4, 1]], atol=1e-12)
    assert_near(A.toreal() @ np.eye(len(M)), M.real, atol=1e-12)
    assert_near(A.toimag() @ np.eye(len(M)), M.imag, atol=1e-12)
    assert pylops.utils.dottest(A, *A.shape, complexflag=3 * claim.is_complex, raiseerror=False)


@pytest.mark.parametrize("claim", SQUARE.values(), ids=SQUARE)
def test_what_is_inherited_from_pylops(claim):
    check_inherited(claim)


# ---------------------------------------------------------------------------------------------------------------------
# Sparse solutions: PyLops and PyProximal


def sparse_data(claim):
    """What few entries are mapped to, with noise; and a weight at which some of them are found and not all."""
    x = normal(3, claim.matrix.shape[1], claim.operator.dtype) * (np.arange(claim.matrix.shape[1]) % 5 == 2)
    y = claim.matrix @ x + 0.1 * data(claim)
    return y, 0.2 * float(np.abs(claim.matrix.conj().T @ y).max())


def steepest(claim):
    """The square of the norm: what the step sizes must not exceed the inverse of."""
    return float(np.linalg.norm(claim.matrix, 2)) ** 2


def check_sparse(solver, claim):
    """The optimality conditions of ``min |A x - y|^2 / 2 + weight |x|_1``.

    The gradient has the modulus `weight` and the sign of `x` where `x` is not zero, and is smaller elsewhere.
    """
    y, weight = sparse_data(claim)
    x = np.ravel(solver(claim, y, weight))
    gradient = claim.matrix.conj().T @ (y - claim.matrix @ x) / weight
    support = np.flatnonzero(x)
    assert 0 < support.size < x.size  # neither nothing nor everything
    tolerance = 1e-5 if claim.is_single else 1e-8
    assert np.abs(gradient).max() <= 1 + tolerance
    assert np.abs(gradient[support] - x[support] / np.abs(x[support])).max() <= tolerance


def by_ista(claim, y, weight):
    # PyLops does not halve the squares
    return ista(claim.operator, y, niter=2000, eps=2 * weight, alpha=1 / steepest(claim), tol=1e-13)[0]


def by_fista(claim, y, weight):
    return fista(claim.operator, y, niter=2000, eps=2 * weight, tol=1e-13)[0]  # it finds the step by itself


def pyproximal():
    return pytest.importorskip("pyproximal", minversion="0.13")  # before, moduli of complex gradients are wrong


def by_proximal_gradient(claim, y, weight, acceleration=None):
    px = pyproximal()
    return px.optimization.primal.ProximalGradient(
        px.L2(Op=claim.operator, b=y),
        px.L1(sigma=weight),
        x0=np.zeros(claim.operator.shape[1], claim.operator.dtype),
        tau=1 / steepest(claim),
        niter=1000,
        acceleration=acceleration,
    )


def by_accelerated_proximal_gradient(claim, y, weight):
    return by_proximal_gradient(claim, y, weight, acceleration="vandenberghe")


def by_admm(claim, y, weight):
    """Each step solves with ``1 + tau A^H A``, by SciPy's lsqr with the operator that PyLops composes."""
    px = pyproximal()
    return px.optimization.primal.ADMM(
        px.L2(Op=claim.operator, b=y, niter=40, kwargs_solver={"atol": 1e-13, "btol": 1e-13}),
        px.L1(sigma=weight),
        x0=np.zeros(claim.operator.shape[1], claim.operator.dtype),
        tau=5 / steepest(claim),
        niter=200,
    )[1]


def by_linearized_admm(claim, y, weight):
    """The operator inside the second function, so that its adjoint is part of the method."""
    px = pyproximal()
    return px.optimization.primal.LinearizedADMM(
        px.L1(sigma=weight),
        px.L2(b=y),
        claim.operator,
        x0=np.zeros(claim.operator.shape[1], claim.operator.dtype),
        tau=1.0,
        mu=0.99 / steepest(claim),
        niter=1000,
    )[0]


def by_primal_dual(claim, y, weight):
    px = pyproximal()
    return px.optimization.primaldual.PrimalDual(
        px.L1(sigma=weight),
        px.L2(b=y),
        claim.operator,
        x0=np.zeros(claim.operator.shape[1], claim.operator.dtype),
        tau=0.99 / np.sqrt(steepest(claim)),
        mu=0.99 / np.sqrt(steepest(claim)),
        niter=1000,
    )


SPARSE = (
    by_ista,
    by_fista,
    by_proximal_gradient,
    by_accelerated_proximal_gradient,
    by_admm,
    by_linearized_admm,
    by_primal_dual,
)


@pytest.mark.parametrize(("solver", "claim"), combined(SPARSE, CATALOGUE))
def test_sparse_solutions(solver, claim):
    check_sparse(solver, claim)


# ---------------------------------------------------------------------------------------------------------------------
# Total variation: PyLops and PyProximal

IMAGES = {name: claim for name, claim in SQUARE.items() if len(claim.operator.dims) > 1}


def differences(shape):
    """Forward differences along every axis, one after the other, with zeros at the ends."""
    blocks = []
    for axis, n in enumerate(shape):
        difference = np.eye(n, k=1) - np.eye(n)
        difference[-1] = 0
        factors = [difference if i == axis else np.eye(m) for i, m in enumerate(shape)]
        blocks.append(reduce(np.kron, factors))
    return np.vstack(blocks)


def gradient_operator(claim):
    return pylops.Gradient(claim.operator.dims, kind="forward", edge=False, dtype=claim.operator.dtype)


@dataclass(frozen=True, eq=False)
class TotalVariation:
    """``|M x - y|^2 / 2 + weight * sum_i |(D x)_i|``, with the modulus of the gradient or of each of its components."""

    matrix: Any
    D: Any
    y: Any
    weight: float
    groups: int

    def moduli(self, gradient):
        parts = gradient.reshape(self.groups, -1)
        return np.broadcast_to(np.linalg.norm(parts, axis=0), parts.shape).ravel()

    def __call__(self, x):
        lengths = self.moduli(self.D @ x).reshape(self.groups, -1)[0]
        return np.linalg.norm(self.matrix @ x - self.y) ** 2 / 2 + self.weight * lengths.sum()

    def minimum(self):
        """By the alternating direction method with dense matrices, and a lower bound of the minimal value.

        For every `p` with moduli of at most `weight`, ``min_x |M x - y|^2 / 2 + <p, D x>`` is such a bound.
        """
        M, D, y = self.matrix, self.D, self.y
        normal_matrix, backprojected = M.conj().T @ M, M.conj().T @ y
        rho = np.linalg.norm(M, 2)
        inverse = np.linalg.inv(normal_matrix + rho * D.T @ D)
        split = multiplier = np.zeros(len(D), M.dtype)
        for _ in range(5000):
            x = inverse @ (backprojected + rho * D.T @ (split - multiplier))
            moved = D @ x + multiplier
            moduli = np.maximum(self.moduli(moved), 1e-300)
            split = np.maximum(1 - self.weight / rho / moduli, 0) * moved
            multiplier = moved - split
        p = rho * multiplier
        assert self.moduli(p).max() <= self.weight * (1 + 1e-14)
        lowest = np.linalg.solve(normal_matrix, backprojected - D.T @ p)
        bound = np.linalg.norm(M @ lowest - y) ** 2 / 2 + np.vdot(p, D @ lowest).real
        return x, bound


@cache
def total_variation(claim, kind):
    """The problem of a blurred picture of two values, its minimum, and the bound of its minimal value."""
    shape, M = claim.operator.dims, claim.matrix
    picture = np.zeros(shape, M.dtype)
    picture[tuple(slice(n // 3, -1) for n in shape)] = 1 + 0.5j if claim.is_complex else 1
    y = M @ picture.ravel() + 0.5 * data(claim)
    weight = 0.1 * np.linalg.norm(M, 2)
    problem = TotalVariation(M, differences(shape), y, weight, len(shape) if kind == "isotropic" else 1)
    x, bound = problem.minimum()
    value = problem(x)
    assert -1e-13 <= (value - bound) / value <= 1e-11  # so it is the minimum
    lengths = problem.moduli(problem.D @ x)
    assert 0.05 < np.mean(lengths > 1e-6) < 0.95  # neither constant nor without constant parts
    return problem, x, value


def check_total_variation(solver, claim):
    problem, best, value = total_variation(claim, TOTAL_VARIATION[solver])
    x = np.ravel(solver(claim, problem))
    assert_near(x, best, atol=1e-8 * np.abs(best).max())
    assert abs(problem(x) - value) <= 1e-10 * value
    # What all of them start from, and what Tikhonov's squares of the gradient make of the same weight, is above it.
    squares = stacked_solution(
        [problem.matrix, np.sqrt(problem.weight) * problem.D], [problem.y, np.zeros(len(problem.D))]
    )
    for other in (np.zeros_like(best), squares):
        assert problem(x) < 0.999 * problem(other)


def by_split_bregman(claim, problem):
    """With the derivatives one by one, so that each component counts."""
    A = claim.operator
    # Derivatives times twenty, and data that count as much more: the same minimum, in fewer steps.
    scale = 20.0
    derivatives = [
        scale * pylops.FirstDerivative(A.dims, axis=axis, kind="forward", edge=False, dtype=A.dtype)
        for axis in range(len(A.dims))
    ]
    return splitbregman(
        A,
        problem.y,
        derivatives,
        niter_outer=300,
        niter_inner=1,
        mu=scale / problem.weight,
        epsRL1s=[1.0] * len(A.dims),
        tol=1e-12,
        iter_lim=30,
        atol=1e-13,
        btol=1e-13,
    )[0]


def by_primal_dual_total_variation(claim, problem):
    px = pyproximal()
    step = 0.99 / np.linalg.norm(problem.D, 2)
    balance = steepest(claim) / 4  # of primal and dual steps, as the data's curvature asks for
    return px.optimization.primaldual.PrimalDual(
        px.L2(Op=claim.operator, b=problem.y, niter=40, kwargs_solver={"atol": 1e-13, "btol": 1e-13}),
        px.L21(ndim=problem.groups, sigma=problem.weight),
        gradient_operator(claim),
        x0=np.zeros(claim.operator.shape[1], claim.operator.dtype),
        tau=step / balance,
        mu=step * balance,
        niter=300,
    )


def by_linearized_admm_total_variation(claim, problem):
    px = pyproximal()
    tau = 1 / np.linalg.norm(problem.matrix, 2)
    return px.optimization.primal.LinearizedADMM(
        px.L2(Op=claim.operator, b=problem.y, niter=40, kwargs_solver={"atol": 1e-13, "btol": 1e-13}),
        px.L21(ndim=problem.groups, sigma=problem.weight),
        gradient_operator(claim),
        x0=np.zeros(claim.operator.shape[1], claim.operator.dtype),
        tau=tau,
        mu=0.99 * tau / np.linalg.norm(problem.D, 2) ** 2,
        niter=300,
    )[0]


TOTAL_VARIATION = {
    by_split_bregman: "anisotropic",
    by_primal_dual_total_variation: "isotropic",
    by_linearized_admm_total_variation: "isotropic",
}


@pytest.mark.parametrize(("solver", "claim"), combined(TOTAL_VARIATION, IMAGES))
def test_total_variation(solver, claim):
    check_total_variation(solver, claim)


# ---------------------------------------------------------------------------------------------------------------------
# Operators put together by PyLops


def compositions(A):
    """What PyLops makes of a square operator and others, and the same of the matrices."""
    n = A.matrix.shape[0]
    B = convolution((3, 2), A.operator.dims, stride=(2, 1), padding="same", padding_mode="symmetric", engine="direct")
    C = convolution((2, 3), A.operator.dims, "complex128", padding="same", padding_mode="reflect", transposed=True)
    small = convolution((2,), (3,), "complex128", transposed=True, padding="full")
    a, b, c, k = A.operator, B.operator, C.operator, small.operator
    M, N, Q, K = A.matrix, B.matrix, C.matrix, small.matrix
    identity, eye = pylops.Identity(n, dtype=a.dtype), np.eye(n)
    d, rows, adjoint = normal(5, n, a.dtype), [0, 3, 4, n - 1], M.conj().T
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
    """The operator, its adjoint, transpose and conjugate: as a matrix, on vectors, and by dot products."""
    adjoint = matrix.conj().T
    for turned, expected in (
        (operator, matrix),
        (operator.H, adjoint),
        (operator.T, matrix.T),
        (operator.conj(), matrix.conj()),
        (operator.T.conj(), adjoint),
        (operator.H.T, matrix.conj()),
        (operator.H.H, matrix),
    ):
        assert turned.shape == expected.shape
        rounding = 1e-13 * np.linalg.norm(expected, 2)  # of sums of some hundred products of three factors
        x = normal(6, expected.shape[1], expected.dtype)
        assert_near(turned.todense(), expected, atol=rounding)
        assert_near(turned.matmat(np.eye(expected.shape[1])), expected, atol=rounding)
        assert_near(turned.rmatmat(np.eye(len(expected))), expected.conj().T, atol=rounding)
        assert_near(turned.matvec(x), expected @ x, atol=rounding * np.linalg.norm(x))
    dottest(operator)
    dottest(operator.T)


COMPOSED = {
    f"{kind}-{name}": pair
    for kind in ("2d-reflect-complex", "2d-transposed-symmetric")
    for name, pair in compositions(SQUARE[kind]).items()
}


@pytest.mark.parametrize(("operator", "matrix"), COMPOSED.values(), ids=COMPOSED)
def test_compositions(operator, matrix):
    check_composition(operator, matrix)


def test_compositions_keep_the_shapes_of_images():
    A, b = SQUARE["2d-reflect-complex"].operator, Conv(normal(7, (3, 3)), (6, 6), stride=2)
    x = normal(8, (6, 6), complex)
    for operator, shape in (
        (b @ A, (2, 2)),
        (A.H @ A + 0.25 * pylops.Identity(36, dtype=A.dtype), (6, 6)),
        (A - 2j * A.T, (6, 6)),
        ((b @ A).H @ b, (6, 6)),
        (A**2, (6, 6)),
        (b.conj() @ A.conj(), (2, 2)),
    ):
        assert_near(operator @ x, (operator.todense() @ x.ravel()).reshape(shape), atol=1e-10)


# ---------------------------------------------------------------------------------------------------------------------
# Operators that are wrong: every check notices


class Pretended(pylops.LinearOperator):
    """The forward map of one operator with the adjoint of another."""

    def __init__(self, forward, adjoint_of):
        super().__init__(dtype=forward.dtype, dims=forward.dims, dimsd=forward.dimsd)
        self.forward, self.adjoint_of = forward, adjoint_of

    def _matvec(self, x):
        return self.forward.matvec(x)

    def _rmatvec(self, x):
        return self.adjoint_of.rmatvec(x)


def claims_of_one_kernel(dtype):
    """The right one, and those that are made by mistake."""
    kernel = normal(7, (3, 3), dtype)
    kernel[1, 1] += 6
    make = partial(convolution, kernel, (6, 6), padding="same")
    right = make(padding_mode="reflect")
    A, matrix = right.operator, right.matrix
    wrong = {
        "adjoint-not-flipped": Pretended(A, A.T),
        "adjoint-of-zeros": Pretended(A, make(padding_mode="zeros").operator),
        "another-boundary": make(padding_mode="symmetric").operator,
        "kernel-flipped": make(padding_mode="reflect", flip=True).operator,
    }
    if right.is_complex:
        wrong["adjoint-not-conjugated"] = Pretended(A, A.conj())
        wrong["kernel-conjugated"] = A.conj()
    return right, {name: Claim(operator, matrix) for name, operator in wrong.items()}


CHECKS = {
    **{solver.__name__: partial(check_damped, solver) for solver in DAMPED},
    **{solver.__name__: partial(check_regularised, solver) for solver in REGULARISED},
    "preconditioned": check_preconditioned,
    **{check.__name__: check for check in SPECTRAL},
    **{solver.__name__: partial(check_square, solver) for solver in SQUARE_SOLVERS},
    "inherited": check_inherited,
    **{solver.__name__: partial(check_sparse, solver) for solver in SPARSE},
    **{solver.__name__: partial(check_total_variation, solver) for solver in TOTAL_VARIATION},
    "composition": lambda claim: check_composition(claim.operator, claim.matrix),
}


KERNELS = {dtype: claims_of_one_kernel(dtype) for dtype in ("float64", "complex128")}
RIGHT = {dtype: right for dtype, (right, _) in KERNELS.items()}
WRONG = {f"{name}-{dtype}": claim for dtype, (_, wrong) in KERNELS.items() for name, claim in wrong.items()}


# An iteration in every step makes these slow where it does not end: they are given two of the mistakes.
SLOW = ("by_admm", *(solver.__name__ for solver in TOTAL_VARIATION))
SELECTED = ("adjoint-not-conjugated-complex128", "another-boundary-float64")


def tells(check_name, claim_name, claim):
    """Whether a check has to tell this claim from the right one, and can in reasonable time."""
    if check_name in ("by_gmres", "by_bicg") and claim_name.startswith("adjoint"):
        return False  # square systems are solved with the forward map, and by some adjoints that are wrong
    if check_name in SLOW and claim_name in WRONG:
        return claim_name in SELECTED
    return fits(check_name, claim)


def trials(claims):
    return [
        pytest.param(check, claim, id=f"{check_name}-{claim_name}")
        for claim_name, claim in claims.items()
        for check_name, check in CHECKS.items()
        if tells(check_name, claim_name, claim)
    ]


@pytest.mark.parametrize(("check", "claim"), trials(RIGHT))
def test_checks_pass_what_is_right(check, claim):
    check(claim)


# A comparison that fails, or SciPy's own words that it finds no singular values, or diverges.
NOTICED = (AssertionError, np.linalg.LinAlgError, sla.ArpackError, UserWarning, RuntimeWarning)


@pytest.mark.parametrize(("check", "claim"), trials(WRONG))
def test_checks_notice_what_is_wrong(check, claim):
    with pytest.raises(NOTICED):
        check(claim)


@pytest.mark.parametrize("mode", [mode for mode in SYMMETRIC if mode != "zeros"])
def test_minres_notices_another_boundary(mode):
    with pytest.raises(AssertionError):
        check_minres(Claim(SYMMETRIC["zeros"].operator, SYMMETRIC[mode].matrix))


@pytest.mark.parametrize("claim", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("name", compositions(RIGHT["float64"]))
def test_compositions_of_wrong_operators_are_noticed(name, claim):
    with pytest.raises(AssertionError):
        check_composition(*compositions(claim)[name])
