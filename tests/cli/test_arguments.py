"""Arguments that describe a convolution: kernels, paddings, channels."""

import numpy as np
import pytest
import scipy.sparse as sp
from command_line import run

from convop import kernel2matrix


@pytest.mark.parametrize(
    ("padding", "meant"),
    [("same", "same"), ("1", 1), ("1,2", (1, 2)), ("0:1,2", ((0, 1), 2)), ("-1:2,3:0", ((-1, 2), (3, 0)))],
)
def test_padding_in_every_notation(padding, meant):
    assert run("matrix", "[[1,2],[3,4]]", "--shape", "5,6", "-o", "m.npz", "--padding", padding).exit_code == 0
    assert (sp.load_npz("m.npz") != kernel2matrix([[1, 2], [3, 4]], (5, 6), padding=meant)).nnz == 0


@pytest.mark.parametrize("suffix", [".csv", ".txt", ".npy"])
def test_kernel_from_file(suffix):
    kernel = np.array([[1.0, -2.0], [0.5, 4.0]])
    if suffix == ".npy":
        np.save("k.npy", kernel)
    else:
        np.savetxt(f"k{suffix}", kernel, delimiter="," if suffix == ".csv" else " ")
    assert run("matrix", f"k{suffix}", "--shape", "4,5", "-o", "m.npz").exit_code == 0
    assert (sp.load_npz("m.npz") != kernel2matrix(kernel, (4, 5))).nnz == 0


def test_channels_and_groups():
    np.save("k.npy", np.ones((4, 1, 3)))
    result = run("info", "k.npy", "--shape", "2,9", "--groups", "2", "--padding", "same")
    assert result.exit_code == 0
    assert "4x9" in result.stdout
