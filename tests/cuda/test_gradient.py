import numpy as np
from engine_cases import integers
from numpy.testing import assert_array_equal

from convop import ConvFilter


def test_gradient_of_several_chunks_agrees_with_cpu(cupy):
    """There are so many outputs that several threads sum them."""
    rng = np.random.default_rng(0)
    data, y = integers(rng, (3, 60, 61), "float64"), integers(rng, (4, 60, 61), "float64")
    arguments = {"padding": "same", "padding_mode": "reflect"}
    F = ConvFilter(cupy.asarray(data), (4, 3, 3, 3), **arguments)
    assert_array_equal((F.H @ cupy.asarray(y)).get(), ConvFilter(data, (4, 3, 3, 3), **arguments).H @ y)
