"""Power-of-two scaling: which arrays need it, and that it is exact."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from convop.arrays.scaling import power_of_two_scale, scale_by_power_of_two, to_unit_scale

# By dtype, powers of the largest ordinary modulus and of the least scaled one: fourth powers stay in range.
ENDS = {"float32": (24, 25), "complex64": (24, 25), "float64": (200, 201), "complex128": (200, 201)}


@pytest.mark.parametrize("dtype", ENDS)
def test_arrays_of_ordinary_size_have_the_power_zero(dtype):
    ordinary, scaled = ENDS[dtype]
    for sign in (1, -1):
        assert power_of_two_scale(np.array([0, 2.0 ** (sign * ordinary)], dtype)) == 0
        assert power_of_two_scale(np.array([0, 2.0 ** (sign * ordinary)], dtype), always=True) == sign * ordinary
        assert power_of_two_scale(np.array([0, -1.5 * 2.0 ** (sign * scaled)], dtype)) == sign * scaled


@pytest.mark.parametrize("dtype", ENDS)
def test_fourth_powers_of_unscaled_and_of_scaled_arrays_are_in_range(dtype):
    for power in range(-120, 121):
        scaled, _ = to_unit_scale(np.array([1.5 * 2.0**power], dtype))
        fourth = (np.abs(scaled) ** 2 * 1e3) ** 2
        assert np.isfinite(fourth).all()
        assert (fourth >= np.finfo(dtype).tiny).all()


def test_larger_of_real_and_imaginary_parts_decides():
    assert power_of_two_scale(np.array([2.0**-300 + 2.0**300 * 1j])) == 300


@pytest.mark.parametrize("values", [[], [0.0], [np.inf, 1e300], [np.nan, 1e300]])
def test_zeros_and_values_that_are_not_finite_have_the_power_zero(values):
    assert power_of_two_scale(np.array(values), always=True) == 0


@pytest.mark.parametrize("dtype", ENDS)
@pytest.mark.parametrize("power", [-90, 90])
def test_scaling_and_unscaling_returns_the_same_bits(dtype, power):
    rng = np.random.default_rng(0)
    array = (rng.standard_normal((3, 4)) * 2.0**power).astype(dtype)
    scaled, found = to_unit_scale(array, always=True)
    assert 1 <= np.abs(scaled).max() < 4
    assert scaled.dtype == array.dtype
    assert_array_equal(scale_by_power_of_two(scaled, found), array)


def test_power_zero_returns_the_array_itself():
    array = np.ones(3)
    assert scale_by_power_of_two(array, 0) is array
