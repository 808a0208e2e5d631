import math

import numpy as np
import pytest
import scipy.sparse.linalg as sla
import strategies
from spectral_cases import circular_operator, oracle_values, random_kernel

from convop import Conv, ConvSpec, spectrum
from convop.spectral import norm_bounds


@pytest.mark.thinned
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("mode", strategies.MODES)
@pytest.mark.parametrize(
    ("input_shape", "kernel_shape", "parameters"),
    [
        ((24, 25), (5, 4), {"padding": "same"}),
        ((24, 25), (5, 4), {"padding": "full"}),
        ((24, 25), (5, 5), {"stride": 2, "padding": 2}),
        ((60,), (4,), {"stride": 3, "dilation": 2, "padding": 3}),
        ((3, 20, 20), (4, 3, 3, 3), {"padding": 1}),
        ((4, 20, 20), (4, 2, 3, 3), {"padding": 1, "groups": 2, "dilation": 2}),
    ],
)
def test_norm_lies_between_its_bounds(input_shape, kernel_shape, parameters, mode, signed, use_iterations):
    K = random_kernel(kernel_shape, "float64")
    A = Conv(K if signed else np.abs(K), input_shape, padding_mode=mode, **parameters)
    expected = oracle_values(A)[0]
    use_iterations()
    for operator in (A, A.T):
        lower, upper = spectrum.norm(operator, bounds=True)
        assert lower <= expected * (1 + 1e-14)
        assert upper >= expected * (1 - 1e-14)
        assert lower >= expected * (1 - 1e-6)
        if not signed or (mode == "zeros" and "dilation" not in parameters):
            assert upper <= 1.1 * expected


def test_bounds_are_tight_if_the_norm_is_exact():
    A = circular_operator("channels, stride")
    lower, upper = spectrum.norm(A, bounds=True)
    assert lower <= oracle_values(A)[0] <= upper
    assert upper - lower < 1e-10 * upper
    assert spectrum.norm(np.zeros((3, 4)), bounds=True) == (0, 0)


def test_symbol_bound_exceeds_the_supremum_by_at_most_one_percent():
    K = np.cos(np.pi / 17 * np.arange(4))
    spec = ConvSpec((400,), (4,), padding=0)
    theta = np.linspace(0, 2 * np.pi, 100_001)
    true = np.abs(np.exp(1j * np.outer(theta, np.arange(4))) @ K).max()
    bound = norm_bounds._symbol_bound(spec, K)
    assert true <= bound <= 1.01 * true


@pytest.mark.parametrize("mode", strategies.MODES)
def test_schur_and_symbol_bounds_each_hold(mode):
    """Each bound is tested by itself: `norm_bounds` returns at least the computed value, which hides a bound that is too low."""
    rng = np.random.default_rng(0)
    for number in range(30):
        shape, ndim = rng.integers(3, 12, 2), rng.integers(1, 3)
        taps = rng.integers(1, 5, ndim)
        kernel = rng.standard_normal(taps)
        if number % 3 == 0:
            kernel = (kernel + 1j * rng.standard_normal(taps)).astype(np.complex64)
        if number % 5 == 0:
            kernel = np.full(taps, np.complex64(0.18905339 - 0.5227485j))
        A = Conv(kernel, tuple(shape[:ndim] + 4), stride=int(rng.integers(1, 3)), padding="same", padding_mode=mode)
        exact = Conv(
            kernel.astype(np.complex128), A.dims, stride=A.spec.stride, padding=A.spec.padding, padding_mode=mode
        )
        truth = float(np.linalg.norm(exact.todense(), 2))
        assert norm_bounds._schur_bound(A) * (1 + 1e-14) >= truth
        if mode == "zeros":
            assert norm_bounds._symbol_bound(*A.convolution()) * (1 + 1e-14) >= truth


def test_symbol_bound_holds_for_a_maximum_between_grid_points():
    """For a wave whose frequency lies midway between two grid points, the bound without its factor fails."""
    taps = 9
    count = norm_bounds._GRID_POINTS_PER_DEGREE * taps
    for degrees in (1, 2, 5):
        theta = 2 * math.pi * (degrees + 0.5) / count
        A = Conv(np.exp(-1j * theta * np.arange(taps)), 4000, padding="same")
        assert norm_bounds._symbol_bound(*A.convolution()) >= taps  # the sum of the moduli, reached at theta
        assert spectrum.norm(A, bounds=True)[1] >= spectrum.norm(A)


def test_bounds_of_scipy_operators_and_matrices():
    A = Conv(np.random.default_rng(0).random((3, 4)), (30, 30), padding="same")
    truth = np.linalg.norm(A.todense(), 2)
    for B in (sla.aslinearoperator(A.tosparse()), A.tosparse(), A.todense()):
        low, high = spectrum.norm(B, bounds=True)
        assert low * (1 - 1e-12) <= truth <= high
