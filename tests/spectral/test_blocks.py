import math

import numpy as np
import pytest
from spectral_cases import oracle_matrix, random_kernel

from convop import Conv, spectrum


def test_block_multiplicities_count_conjugate_frequencies():
    """A wrong count at the first or the middle frequency would change the Frobenius norm, the sum of squared values."""
    for n in range(1, 9):
        for shape in ((n,), (3, n), (n, 3)):
            K = random_kernel((2,) * len(shape), "float64")
            A = Conv(K, shape, padding="same", padding_mode="circular")
            values = spectrum.singular_values(A)
            assert len(values) == math.prod(shape)
            assert (values**2).sum() == pytest.approx(np.linalg.norm(oracle_matrix(A)) ** 2)
