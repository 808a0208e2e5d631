"""What tests of the GPU share: engines, tolerances, and geometries large enough for register tiles."""

from importlib.util import find_spec

import engine_cases
import numpy as np

ENGINES = ["csr", "direct", "fft", *(["torch"] if find_spec("torch") else [])]


def tolerance(engine, dtype):
    """Returns the error that an engine may make with integers, relative to the largest result."""
    return 100 * np.finfo(dtype).eps if engine == "fft" else 0


def assert_close(got, expected, bound):
    """Asserts equal dtypes and shapes, and errors of at most `bound` times the largest expected value."""
    assert got.dtype == expected.dtype
    engine_cases.assert_close(got, expected, bound)


# Large enough for tiles of rows in both directions, with what is left of them.
TILED = [
    ((37, 41), (3, 3), {"padding": 1}),
    ((70, 19), (5, 4), {"padding": 2, "stride": (1, 3)}),
    ((90, 23), (7, 3), {"padding": (3, 1), "stride": (2, 1)}),
    ((120, 23), (7, 3), {"padding": (3, 1), "stride": (3, 2), "dilation": (2, 1)}),
    ((150, 9), (4, 2), {"padding": 5, "stride": (4, 1), "dilation": (6, 1)}),
    ((100, 9), (2, 2), {"stride": (5, 1)}),
    ((5, 40, 21), (2, 3, 3), {"padding": 1, "stride": (2, 1, 1)}),
    ((6, 60, 11), (4, 3, 3, 3), {"padding": 1, "groups": 2}),
    ((33, 12), (9, 9), {"padding": "full", "dilation": 2}),
    ((60, 12), (40, 3), {"padding": "same"}),
    ((60, 200), (1, 3), {"padding": ((0, 0), (-2, -3))}),
    ((500,), (9,), {"padding": 4, "stride": 2}),
    ((1, 300), (1, 5), {}),
    ((9, 33, 7, 5), (2, 3, 2, 1), {"padding": "same"}),
]
