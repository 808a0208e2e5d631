"""The gradient of a kernel by Fourier transforms: what is transformed again, and the memory it takes."""

import math
import tracemalloc

import numpy as np
import pytest
from engine_cases import assert_close

import convop
from convop import ConvFilter, ConvSpec
from convop.engines.cpu.planes import BlockGeometry
from convop.engines.cpu.transforms import TransformGeometry
from convop.engines.cpu.tuning import Tuning
from convop.threads import sizes


@pytest.mark.parametrize(("free", "reads"), [(2**40, 1), (2 * 10**6, 3)])
def test_input_is_transformed_once_if_its_transforms_fit(free, reads, monkeypatch):
    x = np.random.default_rng(0).standard_normal((300, 200))
    F = ConvFilter(x, (21, 20), engine="fft")
    expected = ConvFilter(x, (21, 20), engine="direct").H @ np.ones(F.dimsd)
    count = []
    read = BlockGeometry.read_block
    monkeypatch.setattr(BlockGeometry, "read_block", lambda *args: count.append(1) or read(*args))
    monkeypatch.setattr(convop.arrays.memory, "available", lambda: free)
    for _ in range(3):
        assert_close(F.H @ np.ones(F.dimsd), expected, 1e-12)
    geometry = TransformGeometry(ConvSpec((300, 200), (21, 20)), False, x.dtype, Tuning.packaged())
    assert len(count) == reads * geometry.block_count()


def test_gradient_keeps_one_sum_of_spectra_per_thread():
    """Each sum has a spectrum for every pair of channels, which outweighs all data."""
    x = np.random.default_rng(0).standard_normal((16, 200, 200))
    F = ConvFilter(x, (16, 16, 5, 5), padding=2, engine="fft")
    y = np.ones(F.shape[0])
    expected = ConvFilter(x, (16, 16, 5, 5), padding=2, engine="gemm").H @ y
    tracemalloc.start()
    assert_close(F.H @ y, expected, 1e-12)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    spec = ConvSpec((16, 200, 200), (16, 16, 5, 5), padding=2)
    geometry = TransformGeometry(spec, False, x.dtype, Tuning.packaged())
    sums = 16 * 16 * math.prod(geometry.spectrum) * 16
    assert peak < (sizes.thread_count() + 2) * sums + 8 * x.nbytes
