"""Engines and filters at sizes with many blocks and three threads, against the matrix engine."""

import math

import numpy as np
import pytest
import strategies
from engine_cases import LARGE, TRANSFORM_KINDS, assert_close, integers, many_blocks, tolerance, with_transforms

from convop import ConvSpec
from convop.engines import make, make_filter
from convop.engines.cpu.direct import DirectEngine
from convop.engines.cpu.fft import FftEngine
from convop.engines.cpu.fft_filter import FftFilter
from convop.engines.cpu.filters import DirectFilter, GemmFilter
from convop.engines.cpu.gemm import GemmEngine
from convop.engines.cpu.separable import SeparableEngine
from convop.engines.cpu.winograd import WinogradEngine
from convop.threads import sizes

TUNING = many_blocks()
ENGINES = [
    (DirectEngine, TUNING),
    (GemmEngine, TUNING),
    (SeparableEngine, TUNING),
    (WinogradEngine, TUNING),
    *((FftEngine, with_transforms(kind, tuning=TUNING)) for kind in TRANSFORM_KINDS),
]


@pytest.fixture(autouse=True)
def three_threads(monkeypatch):
    """Divides work of any size among three threads."""
    monkeypatch.setattr(sizes, "_SMALL_WORK", 0)
    monkeypatch.setattr(sizes, "thread_count", lambda: 3)


@pytest.mark.thinned
@pytest.mark.parametrize("dtype", ["float64", "complex64"])
@pytest.mark.parametrize("mode", strategies.MODES)
@pytest.mark.parametrize("case", LARGE)
def test_engines_equal_matrix(case, mode, dtype):
    input_shape, kernel_shape, parameters = LARGE[case]
    spec = ConvSpec(input_shape, kernel_shape, padding_mode=mode, **parameters)
    rng = np.random.default_rng(0)
    kernel = integers(rng, kernel_shape, dtype)
    x, y = (integers(rng, (n, 2), dtype) for n in (spec.shape[1], spec.shape[0]))
    matrix = make("csr", spec, kernel)
    forward, adjoint = matrix.forward(x), matrix.adjoint(y)
    for kind, tuning in ENGINES:
        engine = kind(spec, kernel, tuning)
        assert_close(engine.forward(x), forward, tolerance(engine.name, dtype))
        assert_close(engine.adjoint(y), adjoint, tolerance(engine.name, dtype))


@pytest.mark.thinned
@pytest.mark.parametrize("mode", strategies.MODES)
@pytest.mark.parametrize("case", LARGE)
def test_filters_equal_data_matrix(case, mode):
    input_shape, kernel_shape, parameters = LARGE[case]
    spec = ConvSpec(input_shape, kernel_shape, padding_mode=mode, **parameters)
    rng = np.random.default_rng(0)
    data = integers(rng, input_shape, "complex64")
    k, y = (integers(rng, (n, 2), "complex64") for n in (math.prod(kernel_shape), spec.shape[0]))
    exact = make_filter("csr", spec, data)
    forward, adjoint = exact.forward(k), exact.adjoint(y)
    for kind in (DirectFilter, GemmFilter, FftFilter):
        one = kind(spec, data, TUNING)
        assert_close(one.forward(k), forward, tolerance(one.name, "complex64"))
        assert_close(one.adjoint(y), adjoint, tolerance(one.name, "complex64"))
