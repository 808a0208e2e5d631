import math

import numpy as np
import pytest
import strategies
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spectral_cases import assert_singular_values, oracle_values

from convop import Conv, spectrum


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(case=strategies.cases(values="normal"), transposed=st.booleans())
def test_all_values_of_any_convolution(case, transposed):
    A = Conv(case.kernel, case.input_shape, flip=case.flip, **case.parameters)
    # Single-precision kernels are decomposed in double precision by the package, in single precision by the oracle.
    tolerance = 1e-6 if A.dtype in (np.float32, np.complex64) else 1e-13
    got = spectrum.singular_values(A.T if transposed else A)
    assert_singular_values(got, oracle_values(A).astype(np.float64), tolerance)


def test_small_values_keep_their_digits():
    """Squared values would lose those below 1e-8 of the largest."""
    A = Conv([1.0, 1 - 1e-11], 64, padding="same", padding_mode="circular")
    # |1 + r exp(i theta)| at theta = pi is 1 - r
    assert spectrum.singular_values(A)[-1] == pytest.approx(1e-11, rel=1e-4)
    assert spectrum.cond(A) == pytest.approx(2e11, rel=1e-4)


def test_iterations_on_zero_and_non_finite_operators(use_iterations):
    use_iterations()
    zero = Conv(np.zeros((3, 3)), (12, 12))
    assert spectrum.norm(zero) == 0
    assert spectrum.singular_values(zero, 2, "SM").tolist() == [0, 0]
    broken = Conv([[1.0, np.nan], [0.0, 1.0]], (12, 12))
    assert math.isnan(spectrum.norm(broken))
    assert np.isnan(spectrum.singular_values(broken, 2, "SM")).all()


def test_non_finite_taps_give_nan():
    for bad in (np.nan, np.inf):
        A = Conv([[1.0, bad], [0.0, 1.0]], (6, 6))
        assert np.isnan(spectrum.singular_values(A)).all()
        assert math.isnan(spectrum.norm(A))
        assert math.isnan(spectrum.cond(A))
        assert all(math.isnan(bound) for bound in spectrum.norm(A, bounds=True))


def test_memory_is_checked_before_allocation(monkeypatch):
    A = Conv(np.ones((64, 64, 3, 3)), (64, 256, 256), padding="same", padding_mode="circular")
    monkeypatch.setattr("convop.arrays.memory.available", lambda: 10**9)
    with pytest.raises(MemoryError, match=r"the diagonal blocks of ConvSpec.*GiB"):
        spectrum.singular_values(A)


@pytest.mark.parametrize("power", [-1000, -664, 660, 990])
def test_results_scale_exactly_with_powers_of_two(power, use_iterations):
    """The squares of these kernels overflow or underflow. Scaling by a power of two must not change a digit."""
    rng = np.random.default_rng(0)
    for mode, kernel in (("circular", rng.standard_normal((3, 3))), ("symmetric", np.outer([1, 3, 1], [2, 5, 2]))):
        A = Conv(kernel, (8, 9), padding="same", padding_mode=mode)
        B = A.with_kernel(np.ldexp(np.asarray(kernel, dtype=float), power))
        np.testing.assert_array_equal(spectrum.singular_values(B), np.ldexp(spectrum.singular_values(A), power))
        assert spectrum.cond(B) == spectrum.cond(A)
        np.testing.assert_array_equal(spectrum.norm(B, bounds=True), np.ldexp(spectrum.norm(A, bounds=True), power))
        assert spectrum.logabsdet(B) == pytest.approx(spectrum.logabsdet(A) + 72 * power * math.log(2), rel=1e-12)
        np.testing.assert_array_equal(spectrum.pinv(B).todense(), np.ldexp(spectrum.pinv(A).todense(), -power))
    use_iterations()
    A = Conv(rng.random((3, 4)), (20, 20), padding="same")
    low, high = spectrum.norm(A.with_kernel(np.ldexp(A.kernel, power)), bounds=True, rtol=1e-2)
    truth = np.linalg.norm(A.todense(), 2)
    assert math.ldexp(low, -power) <= truth * (1 + 1e-14)
    assert math.ldexp(high, -power) >= truth
