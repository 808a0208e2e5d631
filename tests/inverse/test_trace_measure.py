"""Traces from frequencies and the ends of axes, against dense decompositions."""

import numpy as np
import pytest
from inverse_cases import skewed_blur
from spectral_cases import one_blas_thread  # noqa: F401

from convop import Conv, kernels
from convop.geometry.axis import PADDING_MODES
from convop.inverse.trace_measure import trace_measure

DAMPS = np.array([0.01, 0.03, 0.1, 0.3])
CASES = {
    **{
        mode: lambda mode=mode: Conv(skewed_blur(2), (34, 35), padding="same", padding_mode=mode)
        for mode in PADDING_MODES
    },
    "stride": lambda: Conv(skewed_blur(4), (64, 66), stride=2, padding="same", padding_mode="reflect"),
    "transposed stride": lambda: Conv(skewed_blur(4), (64, 66), stride=2, padding="same").T,
    "dilation": lambda: Conv(skewed_blur(2), (48, 49), dilation=2, padding="same"),
    "complex": lambda: Conv(skewed_blur(2) * (1 + 1j) + 0.1j * np.eye(2), (34, 35), padding="full"),
    "groups": lambda: Conv(
        np.stack([skewed_blur(2), skewed_blur(2)[::-1]])[:, None], (2, 34, 34), groups=2, padding="same"
    ),
    "signal": lambda: Conv(skewed_blur(9)[2], (900,), padding="same"),
}
QUICK = ["zeros", "transposed stride", "signal"]


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in CASES])
def test_trace_agrees_with_the_dense_decomposition(name):
    A = CASES[name]()
    matrix = A.todense()
    matrix = matrix if matrix.shape[0] < matrix.shape[1] else matrix.conj().T  # the other squares are zero
    squares = np.maximum(np.linalg.eigvalsh(matrix @ matrix.conj().T), 0)
    degrees_of_freedom = np.array([(squares / (squares + c)).sum() for c in DAMPS**2])
    spec, taps = A.convolution()
    found = trace_measure(spec, taps, A.shape[0])
    errors = (A.shape[0] - found.residual_products(DAMPS)) / degrees_of_freedom - 1
    assert np.abs(errors).max() < 0.007
    assert found.masses.sum() == pytest.approx(A.shape[0])


def test_trace_without_the_ends_is_wrong():
    """The tolerance above detects an estimate that ignores the boundary: here the one of the circular convolution."""
    traces = []
    for mode in ("zeros", "circular"):
        A = CASES[mode]()
        traces.append(A.shape[0] - trace_measure(*A.convolution(), A.shape[0]).residual_products(DAMPS))
    assert (np.abs(traces[1] / traces[0] - 1) > 0.04).all()


def test_small_domains_and_several_channels_have_no_trace_measure():
    for A in (
        Conv(skewed_blur(5), (48, 48), padding="same"),
        Conv(np.ones((2, 1, 3, 3)), (1, 64, 64), padding="same"),
        Conv(kernels.gaussian(30.0), (5000, 5000), padding="same"),
        Conv(np.full((3, 3), np.nan), (64, 64), padding="same"),
    ):
        assert trace_measure(*A.convolution(), A.shape[0]) is None
