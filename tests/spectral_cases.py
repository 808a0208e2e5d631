"""Circular operators of many geometries, and their singular values by dense decompositions of the oracle's matrices."""

import numpy as np
import oracle
import pytest
import threadpoolctl

from convop import Conv, ConvTranspose

# (input shape, kernel shape, stride, dilation, groups): circular, and a whole number of strides long.
CIRCULAR = {
    "signal": ((12,), (5,), 1, 1, 1),
    "signal, wide kernel": ((6,), (11,), 1, 1, 1),
    "signal, stride": ((12,), (5,), 3, 1, 1),
    "image": ((8, 9), (3, 4), 1, 1, 1),
    "image, one row": ((8, 9), (1, 4), 1, 1, 1),
    "image, strides": ((8, 9), (3, 4), (2, 3), 1, 1),
    "image, dilation": ((10, 9), (3, 2), 1, (2, 3), 1),
    "image, stride beyond the kernel": ((12, 12), (2, 2), 4, 1, 1),
    "channels up": ((2, 6, 8), (5, 2, 3, 3), 1, 1, 1),
    "channels down": ((5, 6, 8), (2, 5, 3, 3), 1, 1, 1),
    "channels, stride": ((3, 6, 8), (5, 3, 3, 3), 2, 1, 1),
    "groups": ((4, 6, 8), (6, 2, 3, 3), (2, 1), (1, 2), 2),
    "depthwise": ((4, 6, 6), (4, 1, 3, 3), 1, 1, 4),
    "volume": ((4, 6, 5), (2, 3, 3), 1, 1, 1),
    "volume, channels, strides": ((2, 4, 6, 4), (3, 2, 3, 2, 2), (2, 3, 1), 1, 1),
}


@pytest.fixture(autouse=True)
def one_blas_thread():
    """Limits BLAS to one thread: its dense decompositions are slow if they compete with those of other test processes."""
    with threadpoolctl.threadpool_limits(1, "blas"):
        yield


def random_kernel(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape)
    return (values + 1j * rng.standard_normal(shape) if np.dtype(dtype).kind == "c" else values).astype(dtype)


def circular_operator(name, dtype="float64"):
    input_shape, kernel_shape, stride, dilation, groups = CIRCULAR[name]
    parameters = {"stride": stride, "dilation": dilation, "groups": groups}
    return Conv(random_kernel(kernel_shape, dtype), input_shape, padding="same", padding_mode="circular", **parameters)


def oracle_matrix(A):
    """Returns the matrix of an operator by the plain loops of the oracle."""
    matrix, _ = oracle.dense_matrix(A.kernel, A.spec.input_shape, flip=A.flip, **A.spec.parameters())
    return matrix.T if isinstance(A, ConvTranspose) else matrix


def oracle_values(A):
    """Returns the singular values of the oracle's matrix."""
    return np.linalg.svd(oracle_matrix(A), compute_uv=False)


def assert_singular_values(got, expected, tolerance=1e-13):
    """Checks shape, dtype, order and values; the tolerance is relative to the largest value, for each value."""
    assert got.shape == expected.shape
    assert got.dtype == np.float64
    assert (np.diff(got) <= 0).all()
    assert np.abs(got - expected).max(initial=0) <= tolerance * max(1, len(expected)) * expected.max(initial=0)
