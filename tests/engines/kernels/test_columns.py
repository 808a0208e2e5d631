"""Transforms along the first axis of planes, against numpy.fft."""

import numpy as np
import pytest
from numba import njit
from numpy.testing import assert_allclose

from convop.engines.cpu.components import read_only
from convop.engines.kernels.columns import _forward_transform, _inverse_transform


@njit
def forward(z, at, imaginary, row, length, columns, twiddles):
    _forward_transform(z, at, imaginary, row, length, columns, twiddles)


@njit
def inverse(z, at, imaginary, row, length, columns, twiddles):
    _inverse_transform(z, at, imaginary, row, length, columns, twiddles)


def twiddles_of(length):
    """Returns w, w^2, w^3 with w = exp(-2 pi i n / span) for n < span / 4, for spans length, length/4, ..."""
    factors = []
    while length >= 4:
        factors.extend(np.exp(-2j * np.pi * n * power / length) for n in range(length // 4) for power in (1, 2, 3))
        length //= 4
    return np.array(factors, complex).view(float)


def digit_reversed(length):
    """Returns the frequency of each row: digits to base 4, the last of them to base 2 if the length is 2 times a power of 4."""
    bases, rest = [], length
    while rest > 1:
        bases.append(min(4, rest))
        rest //= bases[-1]
    order = np.zeros(length, int)
    for row in range(length):
        rest, digits = row, []
        for base in reversed(bases):
            rest, digit = divmod(rest, base)
            digits.append(digit)
        weight = 1
        for base, digit in zip(bases, reversed(digits), strict=True):
            order[row] += digit * weight
            weight *= base
    return order


def test_digit_reversed_order_by_hand():
    assert digit_reversed(4).tolist() == [0, 1, 2, 3]
    assert digit_reversed(8).tolist() == [0, 4, 1, 5, 2, 6, 3, 7]
    assert digit_reversed(16).tolist() == [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15]


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-5), ("float64", 1e-13)])
@pytest.mark.parametrize("length", [2, 4, 8, 16, 32, 64])
def test_transforms_equal_numpy_in_digit_reversed_order(length, dtype, bound):
    """Columns are transformed by whole cache lines: 20 columns are 24 or 32."""
    rng = np.random.default_rng(length)
    at, row, columns = 3, 35, 20
    transformed = 24 if dtype == "float64" else 32
    imaginary = length * row + 9
    z = rng.standard_normal(at + imaginary + length * row).astype(dtype)
    before = z.copy()
    planes = [z[at + n * imaginary :][: length * row].reshape(length, row)[:, :transformed] for n in (0, 1)]
    values = planes[0] + 1j * planes[1]
    twiddles = read_only(twiddles_of(length).astype(dtype))
    forward(z, at, imaginary, row, length, columns, twiddles)
    expected = np.fft.fft(values.astype(complex), axis=0)[digit_reversed(length)]
    assert_allclose(planes[0] + 1j * planes[1], expected, rtol=0, atol=bound * np.abs(expected).max())
    inverse(z, at, imaginary, row, length, columns, twiddles)
    assert_allclose(planes[0] + 1j * planes[1], length * values, rtol=0, atol=bound * length * np.abs(values).max())
    for n, plane in enumerate(planes):
        plane[:] = before[at + n * imaginary :][: length * row].reshape(length, row)[:, :transformed]
    assert (z == before).all()  # nothing else has changed
