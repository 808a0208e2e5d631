"""The symbol of a convolution against its formula, plane waves and singular values."""

import numpy as np
import pytest
import strategies
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spectral_cases import circular_operator, random_kernel

from convop import Conv, spectrum


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(case=strategies.cases(values="normal"), seed=st.integers(0, 2**32 - 1))
def test_symbol_equals_its_formula(case, seed):
    """``sum_t K[t] exp(+i theta . t d)``, by plain loops."""
    A = Conv(case.kernel, case.input_shape, flip=case.flip, **case.parameters)
    spec, ndim = A.spec, A.spec.ndim
    theta = np.random.default_rng(seed).uniform(-4, 4, (2, ndim))
    got = spectrum.symbol(A, theta)
    taps = case.kernel.reshape(spec.c_out, -1, *case.kernel.shape[-ndim:])
    expected = np.zeros((2, spec.c_out, spec.c_in), dtype=complex)
    inputs = spec.c_in // spec.groups
    for (co, ci, *t), value in np.ndenumerate(taps):
        tap = [k - 1 - i if case.flip else i for i, k in zip(t, case.kernel.shape[-ndim:], strict=True)]
        group = co // (spec.c_out // spec.groups)
        for z in range(2):
            angle = sum(a * i * d for a, i, d in zip(theta[z], tap, spec.dilation, strict=True))
            expected[z, co, group * inputs + ci] += value * np.exp(1j * angle)
    if not spec.channels:
        expected = expected[:, 0, 0]
    np.testing.assert_allclose(got, expected, atol=1e-5 if A.dtype.char in "fF" else 1e-12)
    np.testing.assert_allclose(
        spectrum.symbol(A.T, -theta), expected if not spec.channels else expected.swapaxes(-1, -2), atol=1e-5
    )


def test_symbol_is_the_factor_of_plane_waves():
    K = random_kernel((2, 3), "float64")
    n = (12, 10)
    A = Conv(K, n, padding=((1, 0), (0, 2)), padding_mode="circular")
    theta = 2 * np.pi * np.array([2 / 12, -3 / 10])
    rows, columns = np.mgrid[:12, :10]
    wave = np.exp(1j * (theta[0] * rows + theta[1] * columns))
    lo = np.array([1, 0])
    np.testing.assert_allclose(A @ wave, spectrum.symbol(A, theta) * np.exp(-1j * theta @ lo) * wave, atol=1e-12)


def test_symbol_accepts_angles_of_any_shape():
    A = Conv([1.0, 2.0], 8)
    assert spectrum.symbol(A, 0.0) == 3
    assert spectrum.symbol(A, [0.0]) == 3
    assert spectrum.symbol(A, np.zeros((4, 3))).shape == (4, 3)
    assert spectrum.symbol(A, np.zeros((4, 1))).shape == (4,)
    B = Conv(np.ones((3, 2, 2, 2)), (2, 8, 8))
    assert spectrum.symbol(B, np.zeros((5, 4, 2))).shape == (5, 4, 3, 2)
    assert spectrum.symbol(B.T, np.zeros(2)).shape == (2, 3)
    with pytest.raises(ValueError, match=r"theta must have 2 angles in its last axis.*got \(3,\)"):
        spectrum.symbol(B, np.zeros(3))
    with pytest.raises(TypeError, match="A must be a Conv"):
        spectrum.symbol(np.eye(3), 0.0)


@pytest.mark.parametrize("mode", strategies.MODES)
def test_singular_values_approach_the_symbol_as_the_input_grows(mode):
    """The mean difference of both, sorted, decreases as the input grows."""
    K = random_kernel((3, 3), "float64")
    distances = []
    for n in (8, 16, 32):
        A = Conv(K, (n, n), padding="same", padding_mode=mode)
        distances.append(np.abs(spectrum.singular_values(A) - spectrum.symbol_values(A)).mean())
    if mode == "circular":
        assert max(distances) < 1e-12
    else:
        assert distances[0] > distances[1] > distances[2]
        assert distances[2] < 0.4 * distances[0]


def test_symbol_values_with_strides_and_channels():
    for name in ("image, strides", "channels, stride", "groups"):
        A = circular_operator(name)
        np.testing.assert_allclose(spectrum.symbol_values(A), spectrum.singular_values(A), atol=1e-12)
        np.testing.assert_allclose(spectrum.symbol_values(A.T), spectrum.singular_values(A), atol=1e-12)
    with pytest.raises(TypeError, match="A must be a Conv"):
        spectrum.symbol_values(np.eye(3))
