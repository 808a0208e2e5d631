"""Blur kernels by name."""

import numpy as np
import pytest

from convop import kernels


def test_named_kernels():
    G = kernels.gaussian(1.5)
    assert G.shape == (13, 13)
    assert G.sum() == pytest.approx(1)
    assert G[6, 6 + 3] / G[6, 6] == pytest.approx(np.exp(-2))
    assert kernels.motion(5, 0).tolist() == [[0.2] * 5]
    assert kernels.motion(5, 90).shape == (5, 1)
    assert kernels.motion(1, 33).tolist() == [[1.0]]
    slanted = kernels.motion(15, 30)
    assert slanted.sum() == pytest.approx(1)
    np.testing.assert_allclose(slanted, np.flip(slanted), atol=0.01)
    # Angles are counterclockwise on the screen: the line begins at the lower left.
    rows, columns = slanted.shape
    assert slanted[rows // 2 + 1 :, : columns // 2].sum() > 0.3
    assert slanted[: rows // 2, : columns // 2].sum() == 0
    for wrong in (0, -1, np.nan, np.inf):
        with pytest.raises(ValueError, match="sigma must be a positive number"):
            kernels.gaussian(wrong)
    with pytest.raises(ValueError, match="length must be at least 1"):
        kernels.motion(0.5, 0)
    with pytest.raises(ValueError, match="angle must be a number"):
        kernels.motion(3, np.nan)
