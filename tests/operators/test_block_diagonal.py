import numpy as np
import pytest

import convop
from convop import Conv, preconditioner, spectrum
from convop.operators.block_diagonal import to_precision


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
def test_block_operators_obey_the_laws(dtype):
    kernel = (np.array([[3.0, 1.0], [0.5, 0.2]]) * (1 + 0.5j if np.dtype(dtype).kind == "c" else 1)).astype(dtype)
    A = Conv(kernel, (6, 8), padding="same", padding_mode="circular")
    for operator in (spectrum.pinv(A), spectrum.pinv(A.T), preconditioner(A, 0.1)):
        assert operator.dtype == A.dtype
        convop.testing.check_operator(operator)
        np.testing.assert_allclose(operator.tosparse().toarray(), operator.todense())


def test_to_precision_keeps_real_values_real():
    for values, narrow in ((np.ones(3), np.float32), (np.ones(3, complex), np.complex64)):
        for dtype in ("float32", "complex64"):
            assert to_precision(values, np.dtype(dtype)).dtype == narrow
        for dtype in ("float64", "complex128"):
            assert to_precision(values, np.dtype(dtype)) is values
