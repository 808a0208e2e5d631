"""Some of the largest and smallest singular values, by iterations, against dense decompositions."""

import math

import numpy as np
import pytest
import strategies
from spectral_cases import assert_singular_values, oracle_values, random_kernel

from convop import Conv, spectrum
from convop.spectral import singular_values


@pytest.mark.thinned
@pytest.mark.parametrize("which", ["LM", "SM"])
@pytest.mark.parametrize("mode", strategies.MODES)
@pytest.mark.parametrize("method", ["dense", "iterations"])
def test_k_largest_or_smallest_values(mode, which, method, use_iterations):
    if method == "iterations":
        use_iterations()
    for A in (
        Conv(random_kernel((3, 4), "float64"), (12, 13), padding="same", padding_mode=mode),
        Conv(random_kernel((3, 3), "complex128"), (12, 13), padding=2, padding_mode=mode),
        Conv(random_kernel((4, 2, 3, 3), "float64"), (2, 12, 13), padding=1, padding_mode=mode).T,
    ):
        values = oracle_values(A)
        for k in (1, 3):
            got = spectrum.singular_values(A, k, which)
            expected = values[:k] if which == "LM" else values[-k:]
            assert_singular_values(got, expected, 1e-5 if (which, method) == ("SM", "iterations") else 1e-9)


def test_smallest_values_of_square_operators_come_from_the_inverse(use_iterations, monkeypatch):
    use_iterations()
    t = np.arange(-3, 4)
    A = Conv(np.exp(-(t[:, None] ** 2 + t**2) / 4.0), (30, 31), padding="same")
    values = oracle_values(A)
    assert values[-1] < 1e-6 * values[0]  # lost in the square of the operator
    np.testing.assert_allclose(spectrum.singular_values(A, 3, "SM"), values[-3:], rtol=1e-6)
    monkeypatch.setattr(singular_values, "DENSE_SIDE", 100)
    assert spectrum.cond(A) == pytest.approx(values[0] / values[-1], rel=1e-6)


@pytest.mark.parametrize("which", ["LM", "SM"])
def test_equal_values_of_several_groups_are_counted(which, use_iterations):
    kernel = np.repeat(np.random.default_rng(0).random((1, 1, 3, 3)), 8, 0)
    A = Conv(kernel, (8, 12, 13), padding=1, groups=8)
    truth = np.linalg.svd(A.todense(), compute_uv=False)
    use_iterations()
    for B in (A, A.T):
        for k in (1, 8, 10):
            expected = truth[:k] if which == "LM" else truth[len(truth) - k :]
            np.testing.assert_allclose(spectrum.singular_values(B, k, which), expected, rtol=1e-8, atol=1e-9)


@pytest.mark.slow
def test_cond_of_large_singular_operators():
    kernel = np.random.default_rng(0).standard_normal((3, 2, 3, 3))
    kernel[:, 1] = kernel[:, 0]
    with pytest.raises(RuntimeError, match=r"condition number of this operator of shape .* is more than 1e\+05"):
        spectrum.cond(Conv(kernel, (2, 48, 48), padding=1))
    assert spectrum.cond(Conv([1.0, 2.0], 5000, padding=((0, 1),))) == math.inf  # 2^5000
