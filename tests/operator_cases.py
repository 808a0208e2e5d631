"""Operators of random cases, and vectors of small integers, with which every sum is exact."""

import numpy as np

from convop import Conv


def case_operator(case):
    return Conv(case.kernel, case.input_shape, flip=case.flip, **case.parameters)


def random_integers(rng, shape, dtype):
    """Returns integers from -4 to 4, for complex dtypes as both components."""
    x = rng.integers(-4, 5, shape)
    return (x + 1j * rng.integers(-4, 5, shape) if np.dtype(dtype).kind == "c" else x).astype(dtype)
