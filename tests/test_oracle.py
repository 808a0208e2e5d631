"""The oracle, which all other tests trust, agrees with NumPy's padding and correlation."""

import numpy as np
import oracle
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from strategies import MODES

NUMPY_MODE = {
    "zeros": "constant",
    "circular": "wrap",
    "reflect": "reflect",
    "symmetric": "symmetric",
    "replicate": "edge",
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_extended_index_agrees_with_numpy_pad(mode, n):
    x = np.arange(1, n + 1)
    for width in range(3 * n + 2):
        padded = np.pad(x, width, mode=NUMPY_MODE[mode])
        indices = [oracle.extended_index(i - width, n, mode) for i in range(n + 2 * width)]
        assert [0 if i is None else x[i] for i in indices] == padded.tolist()


@pytest.mark.parametrize("mode", MODES)
def test_dense_matrix_agrees_with_numpy_windows(mode):
    rng = np.random.default_rng(0)
    x, kernel = rng.integers(-9, 10, (5, 6)), rng.integers(-9, 10, (3, 2))
    windows = sliding_window_view(np.pad(x, ((2, 1), (0, 3)), mode=NUMPY_MODE[mode]), (5, 2))[::2, ::3, ::2]
    expected = np.einsum("ijkl,kl->ij", windows, kernel)
    matrix, shape = oracle.dense_matrix(
        kernel, (5, 6), stride=(2, 3), padding=((2, 1), (0, 3)), dilation=(2, 1), padding_mode=mode
    )
    assert shape == expected.shape
    assert np.array_equal((matrix @ x.ravel()).reshape(shape), expected)
