"""What tests of the engines share: names, exact inputs, tolerances, large geometries, and a tuning with many blocks."""

from dataclasses import replace

import numpy as np
import pytest

import convop
from convop.engines.cpu.tuning import Tuning

ENGINES = [
    pytest.param(name, marks=[pytest.mark.torch] if name == "torch" else []) for name in convop.engines.available()
]
# Sums of products of small integers are exact unless the values pass through a transform or a decomposition.
INEXACT = {"fft", "separable", "winograd"}
TRANSFORM_KINDS = ("all axes", "first axis")

# Sizes with several blocks along both ends of the axes, remainders of every kind, and rows both longer and shorter than
# register tiles.
LARGE = {
    "image": ((210, 330), (5, 4), {"padding": "same"}),
    "long image": ((3000, 7), (3, 3), {"padding": 1}),
    "wide image": ((9, 16000), (3, 5), {"padding": "full"}),
    "dilated": ((150, 170), (3, 3), {"padding": 3, "dilation": (3, 2)}),
    "strided": ((231, 190), (6, 5), {"stride": (4, 2), "padding": 2}),
    "strided and dilated": ((140, 150), (4, 3), {"stride": (2, 3), "dilation": (3, 2), "padding": (3, 1)}),
    "cropped": ((120, 131), (3, 3), {"padding": ((-5, 2), (1, -7))}),
    "signal": ((30001,), (37,), {"padding": "same"}),
    "strided signal": ((20003,), (11,), {"stride": 3, "padding": 4}),
    "volume": ((23, 31, 40), (3, 2, 4), {"padding": "same"}),
    "four axes": ((7, 9, 8, 12), (3, 2, 3, 2), {"padding": 1, "stride": (1, 2, 1, 1)}),
    "pointwise": ((9, 41, 33), (7, 9, 1, 1), {}),
    "channels": ((5, 40, 37), (7, 5, 3, 3), {"padding": 1}),
    "strided channels": ((3, 61, 64), (6, 3, 7, 7), {"padding": 3, "stride": 2}),
    "groups": ((6, 35, 36), (4, 3, 3, 3), {"padding": 1, "groups": 2}),
    "depthwise": ((9, 50, 52), (9, 1, 5, 5), {"padding": 2, "groups": 9}),
}


def tolerance(name, dtype):
    """Returns the error that an engine may make, relative to the largest result."""
    if name not in INEXACT:
        return 0
    return 2e-5 if np.dtype(dtype).char in "fF" else 1e-12


def integers(rng, shape, dtype):
    """Returns random integers from -4 to 4, real or complex."""
    values = rng.integers(-4, 5, shape)
    if np.dtype(dtype).kind == "c":
        values = values + 1j * rng.integers(-4, 5, shape)
    return values.astype(dtype)


def assert_close(got, expected, bound):
    """Asserts equal shapes, and errors of at most `bound` times the largest expected value."""
    assert got.shape == expected.shape
    error = np.abs(got - expected).max(initial=0)
    assert error <= bound * max(1, np.abs(expected).max(initial=0))


def with_transforms(*kinds, tuning=None):
    """Returns a tuning whose fft engine has only these kinds of transforms, whatever they are predicted to cost."""
    return replace(tuning or Tuning.packaged(), transform_kinds=kinds)


def with_results(results):
    """Returns a tuning whose winograd engine computes so many results by a transform."""
    tuning = Tuning.packaged()
    return replace(tuning, winograd=replace(tuning.winograd, results=(results,)))


def many_blocks():
    """Returns a tuning that cuts planes into blocks far smaller than usual."""
    tuning, tiny = Tuning.packaged(), 2**14
    return replace(
        tuning,
        direct=replace(tuning.direct, cache_bytes=tiny, streamed_bytes=tiny),
        columns=replace(tuning.columns, lengths=(16,), cuts=(3,), least_width=3),
        sweeps=replace(tuning.sweeps, cuts=(3,), least_width=3),
        winograd=replace(tuning.winograd, tile_rows=(2,), cuts=(3,), least_width=1),
        # With these costs, more blocks are always cheaper.
        transforms=replace(tuning.transforms, block=-1.0, byte=0.0, product=0.0, cuts=(1, 2, 3), least_points=1),
        im2col=replace(tuning.im2col, panel_bytes=tiny),
        gradient=replace(tuning.gradient, cache_bytes=tiny),
    )
