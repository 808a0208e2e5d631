"""Preconditioners: definiteness, bases that follow the boundary, and fewer iterations of `tikhonov`."""

import math

import numpy as np
import pytest
import scipy.sparse.linalg as sla
import strategies
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from inverse_cases import count_iterations, skewed_blur, tikhonov_by_svd
from spectral_cases import oracle_matrix, random_kernel

from convop import Conv, ConvFilter, kernels, preconditioner, tikhonov
from convop.geometry.axis import PADDING_MODES
from convop.testing import check_operator


def basis_letters(P):
    """Returns the bases of the axes of each term: F for Fourier, C for cosine, I for identity, E for eigenvectors."""
    return ["".join(type(basis).__name__[0] for basis in term.source.axes) for term in P.terms]


# Among more examples are problems on which the iteration stalls: see the test below.
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(case=strategies.cases(values="normal"), transposed=st.booleans(), damp=st.floats(0.01, 2))
def test_preconditioner_is_positive_definite_and_solution_exact(case, transposed, damp):
    A = Conv(case.kernel, case.input_shape, flip=case.flip, **case.parameters)
    A = A.T if transposed else A
    matrix = oracle_matrix(A).astype(np.result_type(A.dtype, "float64"))
    single = A.dtype in (np.float32, np.complex64)
    damp *= np.linalg.norm(matrix, 2) or 1
    P = preconditioner(A, damp)
    assert P.shape == (A.shape[1],) * 2
    assert (P.dims, P.dimsd, P.dtype) == (A.dims, A.dims, A.dtype)
    inverse = P.todense().astype(matrix.dtype)
    assert np.abs(inverse - inverse.conj().T).max() <= (1e-5 if single else 1e-12) * np.abs(inverse).max()
    assert np.linalg.eigvalsh(inverse + inverse.conj().T)[0] > 0
    rng = np.random.default_rng(0)
    y = rng.standard_normal(A.dimsd).astype(A.dtype)
    solution = tikhonov(A, y, damp, rtol=1e-5 if single else 1e-11)
    if single and not solution.converged:  # see the test below
        # In the dual system x = A^H u with u = (y - A x)/damp^2, whose rounding errors limit the gradient.
        error = np.finfo(A.dtype).eps * np.linalg.norm(matrix, 2) ** 3 * solution.residual_norm / damp**2
        assert solution.gradient_norm <= error / np.linalg.norm(A.H @ y), solution.reason
    else:
        assert solution.converged, solution.reason
    assert solution.x.shape == A.dims
    assert solution.x.dtype == A.dtype
    expected = tikhonov_by_svd(matrix, y.ravel(), damp).reshape(A.dims)
    assert np.abs(solution.x - expected).max() <= (1e-2 if single else 1e-7) * np.abs(expected).max(initial=0)


@pytest.mark.xfail(reason="rounding errors of the dual system limit the gradient")
@pytest.mark.parametrize(
    ("kernel", "input_shape", "parameters", "damp", "rtol"),
    [
        (random_kernel(1, "float32"), (3,), {"stride": 3, "padding": ((0, 1),)}, 0.25, 1e-5),
        (random_kernel(1, "float64"), (3,), {"stride": 3, "padding": ((0, 1),)}, 0.01, 1e-11),
    ],
)
def test_solution_of_small_problems_reaches_its_tolerance(kernel, input_shape, parameters, damp, rtol):
    A = Conv(kernel, input_shape, padding_mode="circular", **parameters)
    y = np.random.default_rng(0).standard_normal(A.dimsd).astype(A.dtype)
    assert tikhonov(A, y, damp * float(A.norm()), rtol=rtol).converged


# By padding mode, the least factor between the iterations without and with the preconditioner; None for a direct solve.
FACTORS = {"zeros": 8, "symmetric": 8, "reflect": 8, "replicate": 6, "circular": None}


@pytest.mark.parametrize("mode", PADDING_MODES)
def test_preconditioner_reduces_iterations_in_every_mode(mode):
    """Only the iterations show whether the preconditioner follows the boundary: any definite one gives the solution."""
    fewer = FACTORS[mode]
    A = Conv(skewed_blur(9), (128, 128), padding="same", padding_mode=mode)
    plain, fast = count_iterations(A, 1e-2, False), count_iterations(A, 1e-2, True)
    if fewer is None:
        assert fast == 0
    else:
        assert fast * fewer <= plain


@pytest.mark.thinned
@pytest.mark.parametrize(
    ("input_shape", "kernel_shape", "parameters", "fewer"),
    [
        ((3000,), (31,), {}, 8),
        ((128, 96), (9, 9), {"stride": 2}, 10),
        ((128, 96), (7, 7), {"dilation": 2}, 2),
        pytest.param((40, 36, 30), (5, 5, 5), {}, 1.2, marks=pytest.mark.slow),
        ((3, 80, 80), (3, 3, 5, 5), {}, 5),
        ((4, 80, 80), (8, 2, 3, 3), {"groups": 2}, 8),
    ],
)
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate"])
def test_preconditioner_reduces_iterations_for_every_geometry(input_shape, kernel_shape, parameters, fewer, mode):
    rng = np.random.default_rng(0)
    ndim = len(kernel_shape) - (len(kernel_shape) > len(input_shape))
    K = rng.random(kernel_shape)
    for axis in range(-ndim, 0):  # smooths the taps to a blur
        K = K + np.roll(K, 1, axis)
    K /= K.sum() / math.prod(kernel_shape[:-ndim])
    A = Conv(K, input_shape, padding="same", padding_mode=mode, **parameters)
    for operator in (A, A.T):
        assert fewer * count_iterations(operator, 1e-2, True) <= count_iterations(operator, 1e-2, False)


def test_preconditioner_bases_follow_the_boundary():
    K = skewed_blur(5)
    assert basis_letters(preconditioner(Conv(K, (200, 200), padding="same", padding_mode="circular"), 0.1)) == ["FF"]
    G = kernels.gaussian(1.0)
    assert basis_letters(preconditioner(Conv(G, (200, 200), padding="same", padding_mode="symmetric"), 0.1)) == ["CC"]
    nearly = G * (1 + 0.02 * np.random.default_rng(0).random((9, 9)))
    assert basis_letters(preconditioner(Conv(nearly, (200, 200), padding="same", padding_mode="symmetric"), 1e-3)) == [
        "CC"
    ]
    for mode in ("zeros", "reflect", "symmetric", "replicate"):
        P = preconditioner(Conv(skewed_blur(17), (200, 200), padding="same", padding_mode=mode), 1e-2)
        assert sorted(basis_letters(P)) == ["FF", *["FI"] * 2, *["IF"] * 2, *["II"] * 4]
    # One subdomain covers a short axis, and the Fourier basis covers an axis without a boundary.
    assert basis_letters(preconditioner(Conv(K, (12, 12), padding="same"), 0.1)) == ["II"]
    channels = np.stack([[K[:1]], [2 * K[:1]]])  # not a separable kernel
    assert sorted(basis_letters(preconditioner(Conv(channels, (1, 90, 2000), padding="same"), 0.1))) == [
        "FF",
        "FI",
        "FI",
    ]
    # With many channels, exact subdomains at the ends cost too much.
    K = np.random.default_rng(0).standard_normal((64, 64, 5, 5))
    P = preconditioner(Conv(K, (64, 40, 40), padding="same"), 1.0)
    assert basis_letters(P) == ["FF"]
    assert P.terms[0].source.axes[0].count > 40


def test_preconditioner_of_off_centre_kernel_has_no_cosine_basis():
    """The spectrum of such a kernel has the symmetry of cosines, but its boundary does not."""
    t = np.arange(9)
    K = np.outer(np.exp(-t / 2), np.exp(-t / 3))
    assert "CC" not in basis_letters(preconditioner(Conv(K, (96, 96), padding="same", padding_mode="symmetric"), 1e-2))


@pytest.mark.thinned
@pytest.mark.parametrize(("mode", "shape"), [("zeros", (60, 61)), ("circular", (12, 10)), ("symmetric", (30,))])
@pytest.mark.parametrize("dtype", strategies.DTYPES)
def test_preconditioner_passes_check_operator(dtype, mode, shape):
    K = random_kernel((3,) * len(shape), dtype)
    check_operator(preconditioner(Conv(K, shape, padding="same", padding_mode=mode), 0.5))


@pytest.mark.slow
def test_circular_preconditioner_hardly_reduces_iterations_with_zero_padding():
    """The tests of iterations above catch a preconditioner of the wrong boundary: it needs more than half as many."""
    A = Conv(skewed_blur(17), (128, 128), padding="same")
    plain, fast = count_iterations(A, 1e-2, False), count_iterations(A, 1e-2, True)
    circulant = preconditioner(Conv(skewed_blur(17), (128, 128), padding="same", padding_mode="circular"), 1e-2)
    b = (A.T @ (A @ np.random.default_rng(1).random(A.dims))).ravel()
    count = [0]
    H = sla.LinearOperator(A.shape, matvec=lambda x: A.rmatvec(A.matvec(x)) + 1e-4 * x, dtype=float)
    M = sla.LinearOperator(A.shape, matvec=circulant.matvec, dtype=float)

    def count_iteration(_):
        count[0] += 1

    sla.cg(H, b, rtol=1e-6, M=M, callback=count_iteration, maxiter=1000)
    assert fast < plain / 5
    assert count[0] > plain / 2


@pytest.mark.parametrize("channels", [1, 8, 16])
@pytest.mark.parametrize("damp", [0.0, 1e-4, 1e-3])
def test_preconditioner_in_single_precision_is_positive_definite(channels, damp):
    A = Conv(np.ones((1, channels, 3, 3), np.float32), (channels, 8, 8), padding=1)
    P = preconditioner(A, damp * A.norm()).todense().astype(np.float64)
    values = np.linalg.eigvalsh((P + P.T) / 2)
    assert values[0] > 0
    np.testing.assert_allclose(P, P.T, atol=1e-6 * values[-1])


def test_preconditioner_rejects_invalid_arguments():
    A = Conv(skewed_blur(3), (9, 9), padding="same")
    with pytest.raises(TypeError, match="A must be a Conv or a ConvTranspose, got ConvFilter"):
        preconditioner(ConvFilter(np.ones((9, 9)), (3, 3)), 0.1)
    for bad in (-1, np.nan, np.inf):
        with pytest.raises(ValueError, match="damp must be finite and at least 0"):
            preconditioner(A, bad)
    with pytest.raises(ValueError, match="finite taps"):
        preconditioner(Conv([[1.0, np.inf]], (9, 9)), 0.1)


def test_preconditioner_rejects_squares_beyond_the_range():
    A = Conv(np.random.default_rng(0).standard_normal((3, 3)), (8, 8), padding="same")
    for B, damp in ((A, 1e200), (A.with_kernel(A.kernel * 1e200), 1.0), (A.with_kernel(A.kernel * 1e-200), 1e-200)):
        with pytest.raises(ValueError, match="squares within the range of float64"):
            preconditioner(B, damp)
