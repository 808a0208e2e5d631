"""Steps of Fourier transforms against the formulas in the module's docstring, with numbers that are exact."""

from functools import cache

import numpy as np
import pytest
from numba import njit
from numpy.testing import assert_array_equal

from convop.engines.cpu.components import read_only
from convop.engines.kernels import butterflies

GUARD = 0.5  # no sum of integers
STEPS = ("forward_2", "inverse_2", "forward_4", "inverse_4", "forward_plain_4", "inverse_plain_4")


@cache
def compiled(name):
    step = getattr(butterflies, name)

    @njit
    def call(z, at, row, imaginary, twiddles, t_at):
        step(z, at, row, imaginary, twiddles, t_at)

    return call


def forward(z, factors):
    """The step of radix 2 or 4, and the factors of all rows but the first after it."""
    if len(z) == 2:
        return np.array([z[0] + z[1], z[0] - z[1]])
    z0, z1, z2, z3 = z
    rows = np.array([z0 + z2 + (z1 + z3), z0 - z2 - 1j * (z1 - z3), z0 + z2 - (z1 + z3), z0 - z2 + 1j * (z1 - z3)])
    return rows * factors[:, None]


def inverse(z, factors):
    """Conjugate factors, and then the step with +i in place of -i."""
    if len(z) == 2:
        return np.array([z[0] + z[1], z[0] - z[1]])
    z0, z1, z2, z3 = z * factors.conj()[:, None]
    return np.array([z0 + z2 + (z1 + z3), z0 - z2 + 1j * (z1 - z3), z0 + z2 - (z1 + z3), z0 - z2 - 1j * (z1 - z3)])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", STEPS)
def test_step_transforms_a_cache_line_of_columns(name, dtype):
    """Rows lie `row` apart, and imaginary components `imaginary` on; nothing between them is read or written."""
    rng = np.random.default_rng(0)
    radix, columns = int(name[-1]), 64 // np.dtype(dtype).itemsize
    at, row = 5, columns + 3
    imaginary = radix * row + 11
    values = rng.integers(-9, 10, (2, radix, columns))
    z = np.full(at + imaginary + radix * row, GUARD, dtype)
    expected = z.copy()
    factors = np.array([1, 2 + 3j, -4 + 1j, 5 - 2j]) if name in ("forward_4", "inverse_4") else np.ones(4)
    results = (forward if name.startswith("forward") else inverse)(values[0] + 1j * values[1], factors)
    for n in range(radix):
        for component, (before, after) in enumerate(((values[0], results.real), (values[1], results.imag))):
            to = at + component * imaginary + n * row
            z[to : to + columns], expected[to : to + columns] = before[n], after[n]
    # Steps without factors read none.
    twiddles = np.full(8, np.nan, dtype)
    if name in ("forward_4", "inverse_4"):
        twiddles[1:7] = np.column_stack([factors[1:].real, factors[1:].imag]).ravel()
    compiled(name)(z, at, row, imaginary, read_only(twiddles), 1)
    assert_array_equal(z, expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("there", "back"), [("forward_2", "inverse_2"), ("forward_4", "inverse_4")])
def test_inverse_step_undoes_forward_step_but_for_the_radix(there, back, dtype):
    """With factors of modulus one: 1, i, -1, -i."""
    radix, columns = int(there[-1]), 64 // np.dtype(dtype).itemsize
    z = np.arange(2 * radix * columns).astype(dtype)
    before = z.copy()
    twiddles = read_only(np.array([0, 1, -1, 0, 0, -1], dtype))
    for name in (there, back):
        compiled(name)(z, 0, columns, radix * columns, twiddles, 0)
    assert_array_equal(z, radix * before)


@pytest.mark.parametrize("name", STEPS)
def test_step_keeps_nan_in_its_column(name):
    """Columns are lanes of a vector, and no element crosses them."""
    radix = int(name[-1])
    z = np.ones((2 * radix, 8))
    z[0, 3] = np.nan
    compiled(name)(z.reshape(-1), 0, 8, radix * 8, read_only(np.ones(6)), 0)
    assert np.isnan(z).any(axis=0).tolist() == [column == 3 for column in range(8)]


def test_module_lists_every_step():
    assert set(STEPS) == {name for name in vars(butterflies) if name[-1].isdigit()}
