"""Total variation by solvers of PyLops and PyProximal."""

from dataclasses import dataclass
from functools import cache, partial, reduce
from typing import Any

import numpy as np
import pylops
import pytest
from pylops.optimization.sparsity import splitbregman
from solver_cases import (
    NOTICED,
    RIGHT,
    SQUARE,
    WRONG,
    assert_near,
    combine,
    data,
    import_pyproximal,
    squared_norm,
    stacked_solution,
    trials,
)

IMAGES = {name: claim for name, claim in SQUARE.items() if len(claim.operator.dims) > 1}


def differences(shape):
    """Returns the matrix of forward differences along every axis, stacked, with zeros at the ends."""
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
    """``|M x - y|^2 / 2 + weight * sum_i |(D x)_i|``, with moduli of gradients or of each of their components."""

    matrix: Any
    D: Any
    y: Any
    weight: float
    groups: int

    def moduli(self, gradient):
        components = gradient.reshape(self.groups, -1)
        return np.broadcast_to(np.linalg.norm(components, axis=0), components.shape).ravel()

    def __call__(self, x):
        lengths = self.moduli(self.D @ x).reshape(self.groups, -1)[0]
        return np.linalg.norm(self.matrix @ x - self.y) ** 2 / 2 + self.weight * lengths.sum()

    def minimum(self):
        """Returns the minimiser by ADMM with dense matrices, and a lower bound of the minimal value.

        For every `p` with moduli of at most `weight`, ``min_x |M x - y|^2 / 2 + <p, D x>`` is such a bound.
        """
        M, D, y = self.matrix, self.D, self.y
        normal_matrix, backprojected = M.conj().T @ M, M.conj().T @ y
        rho = np.linalg.norm(M, 2)
        inverse = np.linalg.inv(normal_matrix + rho * D.T @ D)
        split = multiplier = np.zeros(len(D), M.dtype)
        for _ in range(5000):
            x = inverse @ (backprojected + rho * D.T @ (split - multiplier))
            shifted = D @ x + multiplier
            moduli = np.maximum(self.moduli(shifted), 1e-300)
            split = np.maximum(1 - self.weight / rho / moduli, 0) * shifted
            multiplier = shifted - split
        p = rho * multiplier
        assert self.moduli(p).max() <= self.weight * (1 + 1e-14)
        lowest = np.linalg.solve(normal_matrix, backprojected - D.T @ p)
        bound = np.linalg.norm(M @ lowest - y) ** 2 / 2 + np.vdot(p, D @ lowest).real
        return x, bound


@cache
def total_variation(claim, kind):
    """Returns the problem of a blurred picture of two values, its minimiser and its minimal value."""
    shape, M = claim.operator.dims, claim.matrix
    picture = np.zeros(shape, M.dtype)
    picture[tuple(slice(n // 3, -1) for n in shape)] = 1 + 0.5j if claim.is_complex else 1
    y = M @ picture.ravel() + 0.5 * data(claim)
    weight = 0.1 * np.linalg.norm(M, 2)
    problem = TotalVariation(M, differences(shape), y, weight, len(shape) if kind == "isotropic" else 1)
    x, bound = problem.minimum()
    value = problem(x)
    assert -1e-13 <= (value - bound) / value <= 1e-11  # the duality gap
    lengths = problem.moduli(problem.D @ x)
    assert 0.05 < np.mean(lengths > 1e-6) < 0.95  # piecewise constant, but not constant
    return problem, x, value


def check_total_variation(solver, claim):
    problem, best, value = total_variation(claim, TOTAL_VARIATION[solver])
    x = np.ravel(solver(claim, problem))
    assert_near(x, best, atol=1e-8 * np.abs(best).max())
    assert abs(problem(x) - value) <= 1e-10 * value
    # The zero start and Tikhonov's solution with the same weight have larger objectives.
    squares = stacked_solution(
        [problem.matrix, np.sqrt(problem.weight) * problem.D], [problem.y, np.zeros(len(problem.D))]
    )
    for other in (np.zeros_like(best), squares):
        assert problem(x) < 0.999 * problem(other)


def solve_by_split_bregman(claim, problem):
    """Takes the derivatives as separate operators: anisotropic total variation."""
    A = claim.operator
    # With derivatives and the weight of the data times twenty, the minimiser is the same and takes fewer steps.
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


def solve_by_primal_dual_total_variation(claim, problem):
    px = import_pyproximal()
    step = 0.99 / np.linalg.norm(problem.D, 2)
    balance = squared_norm(claim) / 4  # of primal and dual steps, from the curvature of the data term
    return px.optimization.primaldual.PrimalDual(
        px.L2(Op=claim.operator, b=problem.y, niter=40, kwargs_solver={"atol": 1e-13, "btol": 1e-13}),
        px.L21(ndim=problem.groups, sigma=problem.weight),
        gradient_operator(claim),
        x0=np.zeros(claim.operator.shape[1], claim.operator.dtype),
        tau=step / balance,
        mu=step * balance,
        niter=300,
    )


def solve_by_linearized_admm_total_variation(claim, problem):
    px = import_pyproximal()
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
    solve_by_split_bregman: "anisotropic",
    solve_by_primal_dual_total_variation: "isotropic",
    solve_by_linearized_admm_total_variation: "isotropic",
}


@pytest.mark.parametrize(("solver", "claim"), combine(TOTAL_VARIATION, IMAGES, quick=["2d-zeros"]))
def test_total_variation(solver, claim):
    check_total_variation(solver, claim)


CHECKS = {solver.__name__: partial(check_total_variation, solver) for solver in TOTAL_VARIATION}


@pytest.mark.slow
@pytest.mark.parametrize(("check", "claim"), trials(CHECKS, RIGHT))
def test_checks_pass_right_operators(check, claim):
    check(claim)


@pytest.mark.slow
@pytest.mark.parametrize(("check", "claim"), trials(CHECKS, WRONG, slow=CHECKS))
def test_checks_notice_wrong_operators(check, claim):
    with pytest.raises(NOTICED):
        check(claim)
