"""Complex numbers as pairs of real ones, with numbers written out."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from convop import ConvSpec
from convop.engines.cpu.components import (
    as_columns,
    complex_products,
    component_count,
    grouped_kernel,
    read_only,
    real_dtype,
    real_weights,
)


@pytest.mark.parametrize(
    ("dtype", "real", "count"),
    [("float32", "float32", 1), ("float64", "float64", 1), ("complex64", "float32", 2), ("complex128", "float64", 2)],
)
def test_components_of_each_dtype(dtype, real, count):
    assert real_dtype(dtype) == np.dtype(real)
    assert component_count(dtype) == count


def test_real_weights_are_the_matrix_of_a_complex_product():
    """(3 + 4i)(x + iy) = (3x - 4y) + i(4x + 3y)."""
    weights = real_weights(np.full((1, 1, 1, 1), 3 + 4j))
    assert weights[0, :, :, 0].tolist() == [[3, -4], [4, 3]]
    assert weights.dtype == np.float64
    assert (weights[0, :, :, 0] @ [5, 6]).tolist() == [-9, 38]  # (3 + 4i)(5 + 6i)


def test_real_weights_number_planes_by_channel_then_component():
    """Two channels that are written, three that are read, two taps: weight 1000*o + 10*i + t, and 1 more as imaginary."""
    taps = 1000.0 * np.arange(2)[:, None, None] + 10.0 * np.arange(3)[:, None] + np.arange(2)
    weights = real_weights((taps + 1j * (taps + 1))[None])
    assert weights.shape == (1, 4, 6, 2)
    assert weights[0, 2:4, 4:6, 1].tolist() == [[1021, -1022], [1022, 1021]]
    real = np.ones((2, 3, 4, 5))
    assert real_weights(real) is real


def test_complex_products_are_conjugate_in_the_input():
    """conj(3 + 4i)(5 + 6i) = 39 - 2i from 5*3, 5*4, 6*3, 6*4 (component of y, component of x)."""
    products = np.array([[15.0, 20.0], [18.0, 24.0]]).reshape(1, 1, 1, 2, 1, 2, 1)
    assert complex_products(products, 2).ravel().tolist() == [39 - 2j]
    assert np.conj(3 + 4j) * (5 + 6j) == 39 - 2j
    real = np.array([[7.0, 8.0]]).reshape(1, 1, 1, 1, 1, 1, 2)
    assert complex_products(real, 1).ravel().tolist() == [7, 8]


def test_grouped_kernel_of_the_adjoint_is_transposed_and_conjugate():
    """Two groups, each of one channel that is written and two that are read."""
    spec = ConvSpec((4, 9), (2, 2, 3), groups=2)
    kernel = np.arange(12).reshape(2, 2, 3) * 1j
    forward, adjoint = (grouped_kernel(spec, kernel, direction) for direction in (False, True))
    assert forward.shape == (2, 1, 2, 3)
    assert adjoint.shape == (2, 2, 1, 3)
    assert forward[1, 0, 1].tolist() == [9j, 10j, 11j]
    assert adjoint[1, 1, 0].tolist() == [-9j, -10j, -11j]


def test_as_columns_returns_inputs_as_contiguous_rows():
    x = np.array([[1, 2], [3, 4], [5, 6]], np.float32)
    columns = as_columns(x, np.dtype(complex))
    assert columns.tolist() == [[1, 3, 5], [2, 4, 6]]
    assert columns.flags.c_contiguous
    assert columns.dtype == complex
    assert as_columns(np.arange(3.0), np.dtype(float)).tolist() == [[0, 1, 2]]


def test_as_columns_returns_aligned_numbers():
    memory = np.zeros(33, np.uint8)
    x = memory[1:].view(np.float64)
    x[:] = [1, 2, 3, 4]
    assert not x.flags.aligned
    columns = as_columns(x, np.dtype(float))
    assert columns.flags.aligned
    assert columns.tolist() == [[1, 2, 3, 4]]


def test_read_only_is_a_view_and_leaves_the_array_writable():
    array = np.zeros(3)
    view = read_only(array)
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 1
    array[0] = 1
    assert_array_equal(view, [1, 0, 0])
