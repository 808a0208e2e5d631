"""The public functions of `convop.spectrum` against dense decompositions and closed forms."""

import math

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as sla
from spectral_cases import (
    CIRCULAR,
    assert_singular_values,
    circular_operator,
    one_blas_thread,  # noqa: F401
    oracle_matrix,
    oracle_values,
    random_kernel,
)

import convop
from convop import Conv, ConvFilter, spectrum


def test_scipy_operators_and_matrices():
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((7, 5))
    expected = np.linalg.svd(matrix, compute_uv=False)
    A = Conv(rng.standard_normal(3), 8)
    for op in (matrix, sp.csr_array(matrix), sla.aslinearoperator(matrix)):
        assert_singular_values(spectrum.singular_values(op), expected)
        assert spectrum.cond(op) == pytest.approx(expected[0] / expected[-1])
        assert spectrum.norm(op) == pytest.approx(expected[0])
    assert_singular_values(spectrum.singular_values(A.T @ A), np.append(oracle_values(A) ** 2, [0, 0]))
    X = ConvFilter(rng.standard_normal((2, 6, 7)), (3, 2, 3, 2))
    assert_singular_values(spectrum.singular_values(X), np.linalg.svd(X.todense(), compute_uv=False))


def test_cond_is_a_ratio_of_singular_values_and_not_of_eigenvalues():
    # The matrix is triangular: all eigenvalues are 1.
    A = Conv([1.0, -0.9], 12, padding=((0, 1),))
    assert np.allclose(np.linalg.eigvals(A.todense()), 1)
    values = oracle_values(A)
    assert spectrum.cond(A) == pytest.approx(values[0] / values[-1])
    assert spectrum.cond(A) > 9
    assert A.cond() == spectrum.cond(A)
    assert spectrum.cond(Conv([1.0, -1.0], 12, padding="same", padding_mode="circular")) == math.inf


@pytest.mark.thinned
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
@pytest.mark.parametrize("name", CIRCULAR)
def test_pinv_of_circular_operators(name, dtype):
    A = circular_operator(name, dtype)
    for operator in (A, A.T):
        inverse = spectrum.pinv(operator)
        expected = np.linalg.pinv(oracle_matrix(operator).astype(np.result_type(dtype, "float64")))
        assert inverse.shape == expected.shape
        assert inverse.dtype == operator.dtype
        assert (inverse.dims, inverse.dimsd) == (operator.dimsd, operator.dims)
        bound = 1e-5 if dtype == "float32" else 1e-12
        scale = np.abs(expected).max() * np.linalg.cond(expected)
        assert np.abs(inverse.todense() - expected).max() <= bound * scale
        convop.testing.check_operator(inverse)


def test_pinv_of_singular_operators():
    A = Conv([1.0, -1.0], 16, padding="same", padding_mode="circular")
    np.testing.assert_allclose(spectrum.pinv(A).todense(), np.linalg.pinv(oracle_matrix(A)), atol=1e-13)
    K = np.ones((2, 2, 3, 3))  # of rank one or zero at each frequency
    A = Conv(K, (2, 6, 6), padding="same", padding_mode="circular")
    np.testing.assert_allclose(spectrum.pinv(A).todense(), np.linalg.pinv(oracle_matrix(A)), atol=1e-13)
    zero = Conv(np.zeros((2, 2)), (4, 4), padding="same", padding_mode="circular")
    assert not spectrum.pinv(zero).todense().any()


def test_pinv_of_symmetric_and_mixed_axes():
    K = random_kernel((3, 4), "float64")
    K = K + np.flip(K, 0)
    A = Conv(K[:, :1], (8, 9), padding=((1, 1), (0, 0)), padding_mode="symmetric")
    np.testing.assert_allclose(spectrum.pinv(A).todense(), np.linalg.pinv(oracle_matrix(A)), atol=1e-11)
    with pytest.raises(ValueError, match=r"spatial axis 1 \(symmetric, 9 inputs, 9 outputs, stride 1\)"):
        spectrum.pinv(Conv(K, (8, 9), padding="same", padding_mode="symmetric"))
    with pytest.raises(TypeError, match="A must be a Conv"):
        spectrum.pinv(K)


@pytest.mark.parametrize("name", ["signal", "image", "volume"])
def test_logabsdet(name):
    for dtype in ("float64", "complex128"):
        A = circular_operator(name, dtype)
        expected = np.linalg.slogdet(oracle_matrix(A)).logabsdet
        assert spectrum.logabsdet(A) == pytest.approx(expected, abs=1e-10)
        assert spectrum.logabsdet(A.T) == pytest.approx(expected, abs=1e-10)
    A = Conv(random_kernel((4, 1, 2, 2), "float64"), (1, 6, 6), stride=2)  # square by its channels
    assert spectrum.logabsdet(A) == pytest.approx(np.linalg.slogdet(oracle_matrix(A)).logabsdet)
    assert spectrum.logabsdet(Conv([1.0, -1.0], 8, padding="same", padding_mode="circular")) == -math.inf
    assert math.isnan(spectrum.logabsdet(Conv([1.0, np.nan], 8, padding="same", padding_mode="circular")))
    # Triangular, with a smallest singular value of 1e-18.
    assert spectrum.logabsdet(Conv([1.0, 2.0], 60, padding=((0, 1),))) == pytest.approx(0, abs=1e-10)
    assert spectrum.logabsdet(Conv([0.0, 2.0], 60, padding=((0, 1),))) == -math.inf
    assert spectrum.logabsdet(Conv([2.0], 8, stride=2, padding=((0, 7),))) == -math.inf
    with pytest.raises(TypeError, match="A must be a Conv"):
        spectrum.logabsdet(np.eye(3))
    with pytest.raises(ValueError, match=r"square to have a determinant, got shape \(4, 5\)"):
        spectrum.logabsdet(Conv([1.0, 2.0], 5))


def test_logabsdet_of_operators_that_are_triangular_along_an_axis():
    assert spectrum.logabsdet(Conv([[1.0], [2.0]], (60, 4), padding=((0, 1), (0, 0)))) == pytest.approx(0, abs=1e-10)
    ill = Conv([[1.0], [0.9999]], (30, 4), padding=((0, 1), (0, 0)))
    assert spectrum.logabsdet(ill) == pytest.approx(0, abs=1e-10)
    vanishing = Conv([[1.0, -1.0], [2.0, -2.0]], (20, 8), padding=((0, 1), (0, 1)), padding_mode="circular")
    assert spectrum.logabsdet(vanishing) == -math.inf
    # A condition number of 1e8 does not make the determinant zero.
    steep = Conv([1.0, 1 - 1e-8], 8, padding="same", padding_mode="circular")
    _, truth = np.linalg.slogdet(steep.todense())
    assert spectrum.logabsdet(steep) == pytest.approx(truth, rel=1e-6)


def test_errors_name_the_argument_and_the_remedy():
    A = Conv(np.ones((3, 3)), (80, 80))
    with pytest.raises(ValueError, match=r"up to 4096 rows or columns.*\(6084, 6400\) in blocks of 6084.*k largest"):
        spectrum.singular_values(A)
    with pytest.raises(ValueError, match=r"k must be from 1 to 6084.*got 0"):
        spectrum.singular_values(A, 0)
    with pytest.raises(ValueError, match="which must be one of"):
        spectrum.singular_values(A, 2, "LA")
    with pytest.raises(TypeError, match="k must be an integer"):
        spectrum.singular_values(A, 2.5)
    with pytest.raises(TypeError, match="linear operator or a matrix, got str"):
        spectrum.norm("A")
    with pytest.raises(ValueError, match="rtol must be between 0 and 1"):
        spectrum.norm(A, rtol=0)
    with pytest.raises(ValueError, match="got an array of shape"):
        spectrum.norm(np.ones(3))
