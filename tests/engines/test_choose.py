"""The choice of an engine on the CPU: by predicted costs, by measurement, and the candidates."""

import numpy as np
import pytest

import convop
from convop import Conv, ConvSpec
from convop.engines import choose, costs, make, make_filter


def test_auto_chooses_matrix_for_tiny_problems_direct_for_small_kernels_and_fft_for_large_kernels():
    assert Conv([[1, 2], [3, 4]], (3, 3)).engine == "csr"
    assert Conv(np.random.default_rng(0).standard_normal((3, 3)), (512, 512)).engine == "direct"
    assert Conv(np.random.default_rng(0).standard_normal((101, 101)), (900, 900)).engine == "fft"


@pytest.mark.parametrize("space", [(64, 64, 64), (512, 512), (30, 20, 10, 10)])
def test_worthwhile_rank_is_the_highest_rank_whose_sweeps_are_faster(space):
    """The time of sweeps grows with the square of the rank where three axes or more are swept."""
    spec, dtype = ConvSpec(space, (5,) * len(space), padding="same"), np.dtype(float)
    for factor in (1, 3, 10, 30):
        seconds = factor * costs.sweeps_seconds(spec, 1, dtype) * 1.01
        rank = choose._worthwhile_rank(spec, dtype, seconds)
        assert rank >= 1
        assert costs.sweeps_seconds(spec, rank, dtype) < seconds
        assert rank == choose._HIGHEST_RANK or costs.sweeps_seconds(spec, rank + 1, dtype) >= seconds
    kernel = np.random.default_rng(0).standard_normal(spec.kernel_shape)
    assert make("auto", spec, kernel).name != "separable"


def test_auto_chooses_engine_for_kernels_that_are_zero_huge_or_not_finite():
    for value in (0.0, np.nan, np.inf):
        A = Conv(np.full((31, 31), value), (300, 300), padding="same")
        y = A @ np.ones((300, 300))
        assert (y == 0).all() if value == 0 else not np.isfinite(y).any()
    for scale in (1e-300, 1e300):
        A = Conv(np.full((31, 31), scale), (300, 300), padding="same")
        assert A.engine == "separable"
        np.testing.assert_allclose((A @ np.ones((300, 300)))[150, 150], 961 * scale, rtol=1e-12)


def test_measure_times_engines_once_per_spec(monkeypatch):
    monkeypatch.setattr(choose._CPU, "_winners", {})
    measured = []
    original = choose._CPU._measure
    monkeypatch.setattr(choose._CPU, "_measure", lambda *args: measured.append(1) or original(*args))
    K = np.random.default_rng(0).standard_normal((11, 11))
    A = Conv(K, (200, 200), engine="measure")
    assert A.engine in convop.engines.available()
    assert Conv(2 * K, (200, 200), engine="measure").engine == A.engine
    assert A.with_kernel(3 * K).engine == A.engine
    assert len(measured) == 1


def test_candidates_leave_out_large_matrices_and_transforms_that_do_not_fit(monkeypatch):
    small, large = ConvSpec((20, 20), (3, 3)), ConvSpec((2000, 2000), (3, 3))
    assert {"csr", "direct", "fft", "gemm"} <= set(choose.candidates(small, np.dtype(float)))
    assert "csr" not in choose.candidates(large, np.dtype(float))  # 9 * 1998^2 entries
    assert "separable" not in choose.candidates(small, np.dtype(float))  # depends on the kernel
    # A spectrum of 2001^2 complex numbers is 64 MB, more than a quarter of what is free.
    monkeypatch.setattr(convop.arrays.memory, "available", lambda: 2 * 10**8)
    assert "fft" not in choose.candidates(large, np.dtype(float))
    assert "fft" in choose.candidates(small, np.dtype(float))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_auto_chooses_short_transforms_for_many_channels(dtype):
    kernel = np.random.default_rng(0).standard_normal((64, 64, 3, 3)).astype(dtype)
    spec = ConvSpec((64, 56, 56), kernel.shape, padding=1)
    assert make("auto", spec, kernel).name == "winograd"
    assert "winograd" in choose._CPU.measured_candidates(spec, kernel)
    # A filter meets a new kernel in every product, which would be transformed anew.
    assert make_filter("auto", spec, np.ones(spec.input_shape, dtype)).name != "winograd"


@pytest.mark.parametrize("value", [3e38, np.inf, np.nan])
def test_auto_leaves_taps_that_are_huge_or_not_finite_to_other_engines(value):
    kernel = np.ones((64, 64, 3, 3), "float32")
    kernel[1, 2, 0, 1] = value
    spec = ConvSpec((64, 56, 56), kernel.shape, padding=1)
    assert make("auto", spec, kernel).name != "winograd"
    assert "winograd" not in choose._CPU.measured_candidates(spec, kernel)


@pytest.mark.parametrize(
    ("spec", "is_candidate"),
    [
        (ConvSpec((4, 60, 60), (4, 4, 3, 3)), True),
        (ConvSpec((3, 60, 60), (64, 3, 7, 7), stride=2), True),
        (ConvSpec((3, 60, 60), (3, 3, 3, 3)), False),  # 9 pairs of channels
        (ConvSpec((8, 60, 60), (8, 2, 3, 3), groups=4), False),  # 4 in a group
        (ConvSpec((16, 60, 60), (16, 16, 1, 3)), False),  # nothing to transform along the first axis
        (ConvSpec((16, 60, 60), (16, 16, 3, 3), stride=(3, 1)), False),
        (ConvSpec((16, 60), (16, 16, 3)), False),  # nor along the only one, which vectors run along
    ],
)
def test_short_transforms_are_a_candidate_where_they_may_save_multiplications(spec, is_candidate):
    assert ("winograd" in choose.candidates(spec, np.dtype(float))) == is_candidate
