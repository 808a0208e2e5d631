"""Factors of kernels of low rank: their ranks and precision, and numbers near the ends of the range."""

import numpy as np
import pytest
from engine_cases import assert_close

from convop import Conv, ConvSpec
from convop.engines import make
from convop.engines.cpu.separable import SeparableEngine, is_low_rank


def gaussian(k, sigma=3.0):
    t = np.arange(k) - k // 2
    return np.exp(-(t**2) / (2 * sigma**2))


def test_auto_chooses_separable_for_outer_product():
    g = gaussian(31, 5)
    kernel = np.outer(g, g)
    A = Conv(kernel, (300, 310), padding="same")
    assert A.engine == "separable"
    assert [factor.shape for factor in A._engine.factors(np.dtype(float))] == [(1, 1, 1, 31)] * 2
    x = np.random.default_rng(0).standard_normal(A.dims)
    for name in ("direct", "fft"):
        y = Conv(kernel, (300, 310), padding="same", engine=name) @ x
        assert np.abs(A @ x - y).max() <= 1e-13 * np.abs(y).max()
    rough = kernel + 1e-9 * np.random.default_rng(1).standard_normal(kernel.shape)  # not to rounding
    B = A.with_kernel(rough)
    assert B.engine == Conv(rough, (300, 310), padding="same").engine != "separable"
    assert B.with_kernel(kernel).engine == "separable"
    assert Conv(kernel.astype("float32"), (300, 310), padding="same").engine == "separable"


def test_auto_chooses_separable_for_channels_that_share_few_planes():
    rng = np.random.default_rng(0)
    shape = (64, 56, 56)
    few = np.einsum("or,rc,ri,rj->ocij", *(rng.standard_normal(s) for s in ((64, 3), (3, 64), (3, 7), (3, 7))))
    A = Conv(few, shape, padding=3)
    assert A.engine == "separable"
    x = rng.standard_normal(shape)
    assert_close(A @ x, Conv(few, shape, padding=3, engine="direct") @ x, 1e-13)
    assert Conv(few + 1e-9 * rng.standard_normal(few.shape), shape, padding=3).engine != "separable"
    assert Conv(rng.standard_normal(few.shape), shape, padding=3).engine != "separable"


def test_auto_chooses_separable_for_sum_of_outer_products_along_three_axes():
    rng = np.random.default_rng(0)
    u, v, w = rng.standard_normal((3, 2, 15))
    spec = ConvSpec((40, 41, 42), (15, 15, 15), padding="same", padding_mode="reflect")
    kernel = np.einsum("ri,rj,rk->ijk", u, v, w)
    engine = make("auto", spec, kernel)
    assert isinstance(engine, SeparableEngine)
    x = rng.standard_normal(spec.shape[1])
    expected = make("fft", spec, kernel)
    assert_close(engine.forward(x), expected.forward(x), 1e-12)
    assert_close(engine.adjoint(x), expected.adjoint(x), 1e-12)
    assert [factor.shape[1:3] for factor in engine.factors(x.dtype)] == [(1, 2), (2, 2), (2, 1)]


def test_factors_multiply_to_the_kernel():
    """K[t1, t2] = sum_a G1[t1, a] G2[a, t2] = 1*2, 1*3; 4*2, 4*3 has rank 1."""
    kernel = np.array([[2.0, 3.0], [8.0, 12.0]])
    first, last = SeparableEngine(ConvSpec((5, 5), (2, 2)), kernel).factors(np.dtype(float))
    assert first.shape == last.shape == (1, 1, 1, 2)
    np.testing.assert_allclose(np.outer(first.ravel(), last.ravel()), kernel, rtol=1e-14)
    assert abs(first.ravel()[1] / first.ravel()[0] - 4) < 1e-14
    assert abs(last.ravel()[1] / last.ravel()[0] - 1.5) < 1e-14


@pytest.mark.parametrize(("kernel", "rank"), [([[2, 3], [8, 12]], 1), ([[2, 3], [8, 13]], 2), ([[1, 0], [0, 1]], 2)])
def test_is_low_rank_needs_at_least_the_rank_of_the_matrix(kernel, rank):
    spec, kernel = ConvSpec((5, 5), (2, 2)), np.array(kernel, float)
    assert is_low_rank(spec, kernel, rank)
    assert rank == 1 or not is_low_rank(spec, kernel, rank - 1)
    # All unfoldings count: along (1, 2, 2) taps the first has one row, and the second is the kernel.
    deep = ConvSpec((1, 5, 5), (1, 2, 2))
    assert is_low_rank(deep, kernel[None], 1) == (rank == 1)


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e150, 1e300])
def test_factors_neither_overflow_nor_underflow(scale):
    kernel = np.outer(gaussian(9), gaussian(9)) * scale
    y = make("separable", ConvSpec((20, 20), (9, 9)), kernel).forward(np.ones(400))
    np.testing.assert_allclose(y, kernel.sum(), rtol=1e-13)


def test_factors_of_numbers_whose_modulus_overflows():
    kernel = np.full((9, 9), 1.7e308 * (1 + 1j))
    y = make("separable", ConvSpec((64, 64), (9, 9)), kernel).forward(np.full(4096, 1e-300))
    np.testing.assert_allclose(y, 81 * 1.7e8 * (1 + 1j), rtol=1e-12)


def test_separable_engine_refuses_kernel_that_is_not_finite():
    with pytest.raises(ValueError, match="kernel must be finite for engine='separable'"):
        Conv([[np.nan, 1.0]], (5, 5), engine="separable")
