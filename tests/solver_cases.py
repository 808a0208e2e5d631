"""Operators with the matrices that they are claimed to be, for solvers of SciPy, PyLops and PyProximal.

A check takes a `Claim`, lets a solver of another library work with the operator alone, and compares the result with one
computed from the matrix alone, so that no expected value comes from the code under test. The matrices of the catalogue
are those of `oracle.dense_matrix`. `RIGHT` and `WRONG` serve the negative tests: every check has to pass the former and
to notice the latter.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import oracle
import pylops
import pytest
import scipy.sparse.linalg as sla
from numpy.testing import assert_allclose

from convop import Conv, ConvTranspose


def import_pyproximal():
    return pytest.importorskip(
        "pyproximal", minversion="0.13"
    )  # earlier versions compute wrong moduli of complex gradients


@dataclass(frozen=True, eq=False)
class Claim:
    """An operator and the matrix that it is claimed to be."""

    operator: Any
    matrix: Any

    @property
    def is_complex(self):
        return self.operator.dtype.kind == "c"

    @property
    def is_single(self):
        return self.operator.dtype.name in ("float32", "complex64")


def random_normal(seed, shape, dtype=float):
    """Returns independent standard normal numbers, real or complex."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    return (x + 1j * rng.standard_normal(shape) if np.dtype(dtype).kind == "c" else x).astype(dtype)


def claim_convolution(
    kernel, input_shape, dtype="float64", *, transposed=False, flip=False, engine="auto", central=0.0, **parameters
):
    """Returns the claim of a convolution or of its transpose; `kernel` is its taps or their shape.

    `central` is added to the central tap, which makes a convolution with inputs and outputs of equal size well
    conditioned.
    """
    if isinstance(kernel, tuple):
        kernel = random_normal(7, kernel, dtype)
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
    "1d-full-stride": claim_convolution((5,), (17,), stride=3, padding="full"),
    "1d-reflect-complex": claim_convolution(
        (4,), (30,), "complex128", padding=((2, 6),), dilation=3, padding_mode="reflect"
    ),
    "2d-zeros-even": claim_convolution((4, 3), (7, 8), padding="same", engine="direct"),
    "2d-valid-complex": claim_convolution((2, 3), (6, 7), "complex128", flip=True, engine="fft"),
    "2d-circular-complex": claim_convolution((3, 4), (7, 6), "complex128", padding="same", padding_mode="circular"),
    "2d-reflect-stride-dilation": claim_convolution(
        (3, 2), (8, 9), stride=(2, 1), dilation=(1, 2), padding=PAIRS, padding_mode="reflect", engine="fft"
    ),
    "2d-symmetric-flipped": claim_convolution((4, 4), (8, 7), flip=True, padding=PAIRS, padding_mode="symmetric"),
    "2d-replicate-single": claim_convolution((3, 3), (7, 8), "float32", padding="same", padding_mode="replicate"),
    "2d-separable": claim_convolution(
        np.outer([1.0, 3, -1], [2.0, 1, 0.5, 0.25]),
        (8, 7),
        padding="same",
        padding_mode="symmetric",
        engine="separable",
    ),
    "2d-groups": claim_convolution((4, 2, 3, 2), (4, 5, 4), groups=2, stride=(2, 1), padding=1, engine="gemm"),
    "2d-groups-complex": claim_convolution(
        (2, 1, 3, 2), (2, 6, 5), "complex128", groups=2, padding=PAIRS, padding_mode="symmetric", engine="direct"
    ),
    "3d-replicate": claim_convolution((2, 3, 2), (4, 5, 3), padding="same", padding_mode="replicate"),
    "3d-channels-complex": claim_convolution((3, 1, 2, 3, 2), (1, 4, 4, 3), "complex128", stride=2, padding=1),
    "1d-transposed-reflect": claim_convolution(
        (4,), (24,), transposed=True, stride=2, padding=((3, 2),), padding_mode="reflect", flip=True
    ),
    "2d-transposed-stride-dilation": claim_convolution(
        (3, 2), (8, 9), transposed=True, stride=(2, 1), dilation=(2, 1), padding=PAIRS, engine="direct"
    ),
    "2d-transposed-circular-complex": claim_convolution(
        (3, 4), (6, 7), "complex128", transposed=True, padding=PAIRS, padding_mode="circular", engine="fft"
    ),
    "2d-transposed-symmetric-complex": claim_convolution(
        (2, 3), (6, 6), "complex128", transposed=True, stride=(1, 2), padding="same", padding_mode="symmetric"
    ),
    "2d-transposed-single": claim_convolution((4, 3), (7, 8), "float32", transposed=True, padding="same"),
    "2d-transposed-groups-complex": claim_convolution(
        (4, 1, 2, 3), (2, 5, 5), "complex128", transposed=True, groups=2, padding_mode="replicate", padding=1
    ),
    "3d-transposed-replicate": claim_convolution(
        (3, 2, 2), (4, 4, 3), transposed=True, stride=(1, 2, 1), padding=1, padding_mode="replicate"
    ),
}


# Well conditioned convolutions with inputs and outputs of equal size: for solvers that need an inverse, and for total
# variation, whose methods take many steps if the condition is bad.
SQUARE = {
    "1d-circular": claim_convolution((4,), (24,), central=4, padding="same", padding_mode="circular"),
    "2d-zeros": claim_convolution((3, 3), (7, 6), central=6, padding="same", engine="fft"),
    "2d-reflect-complex": claim_convolution(
        (2, 3), (6, 6), "complex128", central=6 - 2j, padding="same", padding_mode="reflect"
    ),
    "2d-transposed-symmetric": claim_convolution(
        (3, 4), (6, 7), transposed=True, central=6, padding="same", padding_mode="symmetric"
    ),
    "2d-transposed-replicate-complex": claim_convolution(
        (3, 3), (5, 6), "complex128", transposed=True, central=8j, padding="same", padding_mode="replicate"
    ),
    "2d-dilated": claim_convolution((3, 3), (8, 8), central=7, dilation=2, padding="same", padding_mode="reflect"),
    "3d-zeros": claim_convolution((2, 3, 2), (3, 4, 4), central=7, padding="same"),
}


def data(claim):
    """Returns a random vector, outside the range of the operator if it has more rows than columns."""
    return random_normal(1, claim.matrix.shape[0], claim.operator.dtype)


def damping(claim):
    """Returns a tenth of the norm: the condition number of the damped normal equations is at most 101."""
    return 0.1 * float(np.linalg.norm(claim.matrix, 2))


def squared_norm(claim):
    """Returns the square of the norm, whose inverse is the largest step of a gradient method."""
    return float(np.linalg.norm(claim.matrix, 2)) ** 2


def solve_tolerance(claim):
    return 1e-6 if claim.is_single else 1e-13


def assert_solution(x, expected, claim):
    """Asserts equality up to `solve_tolerance` times the condition number of 101, with a margin."""
    error = np.linalg.norm(np.ravel(x) - expected) / np.linalg.norm(expected)
    assert error <= (2e-4 if claim.is_single else 1e-10), f"relative error {error:.3g}"


assert_near = partial(assert_allclose, rtol=0)


def stacked_solution(blocks, right_hand_sides):
    return np.linalg.lstsq(np.vstack(blocks), np.concatenate(right_hand_sides), rcond=None)[0]


def damped_solution(matrix, y, damp):
    """Returns ``argmin |A x - y|^2 + damp^2 |x|^2``."""
    n = matrix.shape[1]
    return stacked_solution([matrix, damp * np.eye(n)], [y, np.zeros(n)])


def is_applicable(solver_name, claim):
    return not ("minres" in solver_name and claim.is_complex)  # SciPy's MINRES takes real matrices only


def combine(solvers, claims, quick=None):
    """Returns the combinations of solvers and named claims; all but those with the claims in `quick` are in the slow tier."""
    return [
        pytest.param(
            solver,
            claim,
            id=f"{solver.__name__}-{name}",
            marks=[] if quick is None or name in quick else pytest.mark.slow,
        )
        for solver in solvers
        for name, claim in claims.items()
        if is_applicable(solver.__name__, claim)
    ]


class MismatchedAdjoint(pylops.LinearOperator):
    """The forward map of one operator with the adjoint of another."""

    def __init__(self, forward, adjoint_of):
        super().__init__(dtype=forward.dtype, dims=forward.dims, dimsd=forward.dimsd)
        self.forward, self.adjoint_of = forward, adjoint_of

    def _matvec(self, x):
        return self.forward.matvec(x)

    def _rmatvec(self, x):
        return self.adjoint_of.rmatvec(x)


def right_and_wrong_claims(dtype):
    """Returns the right claim of a kernel, and wrong claims with the operators that typical mistakes give."""
    kernel = random_normal(7, (3, 3), dtype)
    kernel[1, 1] += 6
    make = partial(claim_convolution, kernel, (6, 6), padding="same")
    right = make(padding_mode="reflect")
    A, matrix = right.operator, right.matrix
    wrong = {
        "adjoint-not-flipped": MismatchedAdjoint(A, A.T),
        "adjoint-of-zeros": MismatchedAdjoint(A, make(padding_mode="zeros").operator),
        "another-boundary": make(padding_mode="symmetric").operator,
        "kernel-flipped": make(padding_mode="reflect", flip=True).operator,
    }
    if right.is_complex:
        wrong["adjoint-not-conjugated"] = MismatchedAdjoint(A, A.conj())
        wrong["kernel-conjugated"] = A.conj()
    return right, {name: Claim(operator, matrix) for name, operator in wrong.items()}


KERNELS = {dtype: right_and_wrong_claims(dtype) for dtype in ("float64", "complex128")}


RIGHT = {dtype: right for dtype, (right, _) in KERNELS.items()}


WRONG = {f"{name}-{dtype}": claim for dtype, (_, wrong) in KERNELS.items() for name, claim in wrong.items()}


# A comparison fails, or SciPy reports that it finds no singular values or diverges.
NOTICED = (AssertionError, np.linalg.LinAlgError, sla.ArpackError, UserWarning, RuntimeWarning)


def trials(checks, claims, slow=()):
    """Returns the combinations of named checks and claims, except those that cannot tell a wrong claim from the right one.

    Square systems are solved with the forward map alone, and some with a wrong adjoint. Checks named in `slow` are
    iterations that take long if they do not converge: they get two of the wrong claims.
    """
    selected = ("adjoint-not-conjugated-complex128", "another-boundary-float64")
    return [
        pytest.param(check, claim, id=f"{check_name}-{claim_name}")
        for claim_name, claim in claims.items()
        for check_name, check in checks.items()
        if not (check_name in ("solve_by_gmres", "solve_by_bicg") and claim_name.startswith("adjoint"))
        and not (check_name in slow and claim_name in WRONG and claim_name not in selected)
        and is_applicable(check_name, claim)
    ]
