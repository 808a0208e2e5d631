"""Norm and condition number as methods of operators."""

import numpy as np
import pytest
import scipy.sparse.linalg as sla

from convop import Conv


@pytest.mark.parametrize("padding_mode", ["zeros", "reflect", "symmetric"])
def test_norm_and_cond_equal_those_of_the_dense_matrix(padding_mode):
    A = Conv([[4.0, 1.0], [-1.5, 0.25]], (9, 8), padding=((0, 1), (1, 0)), padding_mode=padding_mode)
    values = np.linalg.svd(A.todense(), compute_uv=False)
    assert A.cond() == pytest.approx(values[0] / values[-1], rel=1e-10)
    assert A.norm() == pytest.approx(values[0], rel=1e-12)
    assert A.T.cond() == pytest.approx(A.cond(), rel=1e-8)  # rounding moves it by eps*cond
    # The ratio of the eigenvalues, which PyLops uses by default, differs.
    eigenvalues = np.abs(np.linalg.eigvals(A.todense()))
    assert abs(A.cond() / (eigenvalues.max() / eigenvalues.min()) - 1) > 0.01


def test_cond_of_a_singular_operator_is_infinite():
    assert Conv([1.0, -1.0], 16, padding=((0, 1),), padding_mode="circular").cond() == np.inf
    assert Conv(np.zeros(3), 5).cond() == np.inf


def test_norm_and_cond_of_zero_non_finite_and_mostly_unread_operators():
    for size in (3, 40):
        assert Conv(np.zeros((3, 3)), (size, size)).norm() == 0
    broken = Conv([[1.0, np.nan], [0.0, 1.0]], (6, 6))
    assert np.isnan(broken.norm())
    assert np.isnan(broken.cond())
    sparse = Conv(np.arange(1.0, 10).reshape(3, 3), (2000, 2000), stride=1000)
    assert sparse.norm() == pytest.approx(np.linalg.norm(np.arange(1.0, 10)))
    assert sparse.cond() == pytest.approx(1)
    assert Conv(np.ones(2), 9, stride=4).T.cond() == pytest.approx(1)
    assert Conv(np.ones(1), 4, padding=2).cond() == pytest.approx(1)  # some rows read nothing, every column is read
    assert Conv(np.ones(1), 9, stride=4, padding=((4, 0),)).cond() == np.inf  # one of four rows reads nothing
    assert Conv(np.ones(2), 9, stride=4, padding=((0, 9),)).cond() == np.inf


def test_cond_in_single_precision_is_computed_in_double():
    K = np.array([1.0, -0.999], dtype=np.float32)
    single, double = (Conv(K.astype(d), 400, padding=((0, 1),)) for d in ("float32", "float64"))
    assert single.cond() == pytest.approx(double.cond(), rel=1e-6)


@pytest.mark.thinned
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e-6, 1.0, 1e18, 1e160])
def test_norm_beyond_dense_size_is_proportional_to_the_scale_of_the_kernel(dtype, scale):
    K = np.random.default_rng(0).standard_normal((3, 3))
    if dtype == "float32":
        scale = min(max(scale, 1e-30), 1e30)
    A = Conv((K * scale).astype(dtype), (26, 26))
    # The norm of K itself by svds, which is accurate at this scale.
    (expected,) = sla.svds(Conv(K, (26, 26)).tosparse(), k=1, return_singular_vectors=False)
    assert A.norm() / scale == pytest.approx(expected, rel=1e-8 if dtype != "float32" else 1e-6)


@pytest.mark.slow
def test_norm_where_singular_values_lie_close_together():
    """The values are ``2 cos(pi k/(2 n))``; for n = 20000 the largest two are closer than 1e-8."""
    n = 20000
    assert Conv([1.0, 1.0], n).norm() == pytest.approx(2 * np.cos(np.pi / (2 * n)), rel=1e-6)


def test_norm_and_cond_beyond_dense_size():
    """A circular convolution with a positive kernel has the norm of its sum."""
    A = Conv(np.ones((3, 3)) / 9, (96, 96), padding="same", padding_mode="circular")
    assert A.norm() == pytest.approx(1, rel=1e-10)
    assert A.cond() == np.inf  # from small blocks
    with pytest.raises(ValueError, match="all singular values are computed of matrices"):
        Conv(np.ones((3, 3)), (96, 96), padding="same").cond()
