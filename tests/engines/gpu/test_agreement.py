"""The engines and filters of the GPU compute the maps of the oracle and of the CPU."""

import numpy as np
import oracle
import pytest
import strategies
from engine_cases import integers
from gpu_cases import ENGINES, assert_close, tolerance
from hypothesis import given
from hypothesis import strategies as st

from convop import Conv, ConvFilter


def assert_agrees_with_oracle(case, engine, columns, seed, cupy):
    """With the plain loops of the oracle: forward, transposed and adjoint, one vector and a batch."""
    rng = np.random.default_rng(seed)
    dtype = case.kernel.dtype
    dense, _ = oracle.dense_matrix(case.kernel, case.input_shape, flip=case.flip, **case.parameters)
    A = Conv(cupy.asarray(case.kernel), case.input_shape, flip=case.flip, engine=engine, **case.parameters)
    assert A.engine == engine
    assert A.on_gpu
    assert A.shape == dense.shape
    for operator, matrix in ((A, dense), (A.T, dense.T), (A.H, dense.conj().T)):
        for shape in ((matrix.shape[1],), (matrix.shape[1], columns)):
            x = integers(rng, shape, dtype)
            apply = operator.matvec if x.ndim == 1 else operator.matmat
            assert_close(apply(cupy.asarray(x)).get(), (matrix @ x).astype(dtype), tolerance(engine, dtype))


@pytest.mark.parametrize("engine", ENGINES)
@given(case=strategies.cases(), columns=st.integers(1, 3), seed=st.integers(0, 2**32 - 1))
def test_engine_agrees_with_oracle(cupy, engine, case, columns, seed):
    assert_agrees_with_oracle(case, engine, columns, seed, cupy)


@pytest.mark.parametrize("engine", ENGINES)
def test_empty_batch_gives_empty_batch(cupy, engine):
    A = Conv(cupy.asarray(np.ones((2, 3, 3), "float32")), (5, 6, 7), padding=1, engine=engine)
    assert (A @ cupy.zeros((210, 0))).shape == (A.shape[0], 0)
    assert (A.H @ cupy.zeros((A.shape[0], 0), "float32")).shape == (210, 0)
    F = ConvFilter(cupy.asarray(np.ones((6, 7))), (3, 3), engine=engine)
    assert F.matmat(cupy.zeros((9, 0))).shape == (F.shape[0], 0)
    assert F.H.matmat(cupy.zeros((F.shape[0], 0))).shape == (9, 0)


@given(
    case=strategies.cases(), columns=st.integers(1, 3), seed=st.integers(0, 2**32 - 1), engine=st.sampled_from(ENGINES)
)
def test_filter_agrees_with_cpu(cupy, case, columns, seed, engine):
    rng = np.random.default_rng(seed)
    dtype = case.kernel.dtype
    data = integers(rng, case.input_shape, dtype)
    arguments = {"flip": case.flip, **case.parameters}
    F = ConvFilter(cupy.asarray(data), case.kernel.shape, engine=engine, **arguments)
    exact = ConvFilter(data, case.kernel.shape, engine="csr", **arguments)
    assert (F.engine, F.on_gpu, F.H.on_gpu) == (engine, True, True)
    for gpu, cpu, part in ((F, exact, tolerance(engine, dtype)), (F.H, exact.H, 0), (F.T, exact.T, 0)):
        for shape in ((cpu.shape[1],), (cpu.shape[1], columns)):
            k = integers(rng, shape, dtype)
            got, expected = (gpu.matvec, cpu.matvec) if k.ndim == 1 else (gpu.matmat, cpu.matmat)
            assert_close(got(cupy.asarray(k)).get(), expected(k), part)


def test_real_kernel_takes_complex_input(cupy):
    rng = np.random.default_rng(0)
    kernel, x = integers(rng, (3, 3), "float32"), integers(rng, (7, 6, 2), "complex128")
    for engine in ENGINES:
        A = Conv(cupy.asarray(kernel), (7, 6), padding=1, engine=engine)
        assert_close((A @ cupy.asarray(x)).get(), Conv(kernel, (7, 6), padding=1, engine="csr") @ x, 1e-13)
