"""Pointwise kernels, which are one matrix product, and those that only look like it."""

import numpy as np
import pytest

from convop import ConvSpec
from convop.engines.cpu.gemm import GemmEngine, is_pointwise


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (ConvSpec((3, 5, 6), (4, 3, 1, 1)), True),
        (ConvSpec((3, 5, 6), (4, 3, 1, 1), dilation=3), True),
        (ConvSpec((3, 5, 6), (4, 3, 1, 2)), False),
        (ConvSpec((3, 5, 6), (4, 3, 1, 1), stride=(1, 2)), False),
        (ConvSpec((3, 5, 6), (4, 3, 1, 1), padding=((0, 0), (1, -1))), False),  # shifts by one
    ],
)
def test_is_pointwise_needs_one_tap_and_neither_stride_nor_padding(spec, expected):
    assert is_pointwise(spec) is expected


def test_pointwise_product_of_groups_by_hand():
    """Two groups of one channel to two: weights 2, 3 and 5, 7 on (1, 10) and (100, 1000)."""
    engine = GemmEngine(ConvSpec((2, 2), (4, 1, 1), groups=2), np.array([2.0, 3, 5, 7]).reshape(4, 1, 1))
    assert engine.forward(np.array([1.0, 10, 100, 1000])).tolist() == [2, 20, 3, 30, 500, 5000, 700, 7000]
    assert engine.adjoint(np.array([1.0, 0, 10, 0, 0, 1, 0, 10])).tolist() == [32, 0, 0, 75]
