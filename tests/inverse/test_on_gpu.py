"""Preconditioners, solutions, spectra and dampings of operators on the GPU agree with the CPU's."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import convop
from convop import Conv
from convop.geometry.axis import PADDING_MODES


@pytest.mark.thinned
@pytest.mark.parametrize("mode", PADDING_MODES)
@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow), "complex128"])
@pytest.mark.parametrize("transposed", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_preconditioner_and_solution_agree_with_cpu(cupy, mode, dtype, transposed):
    """The preconditioner is where the operator is."""
    rng = np.random.default_rng(0)
    K = rng.standard_normal((3, 4))
    K = (K + 1j * rng.standard_normal(K.shape) if dtype == "complex128" else K).astype(dtype)
    A = Conv(K, (70, 61), padding="same", padding_mode=mode)
    A = A.T if transposed else A
    G = A.to_gpu()
    P, Q = convop.preconditioner(A, 1.0), convop.preconditioner(G, 1.0)
    assert Q.on_gpu
    assert not P.on_gpu
    assert Q.to_cpu().dtype == P.dtype
    x = rng.standard_normal((A.shape[1], 2)).astype(dtype)
    single = dtype == "float32"
    np.testing.assert_allclose((Q @ cupy.asarray(x)).get(), P @ x, atol=1e-4 if single else 1e-12)
    y = rng.standard_normal((*A.dimsd, 2)).astype(dtype)
    rtol = 1e-4 if single else 1e-10
    on_cpu = convop.tikhonov(A, y, 1.0, rtol=rtol, precondition=True)
    on_gpu = convop.tikhonov(G, cupy.asarray(y), 1.0, rtol=rtol)  # always with a preconditioner
    assert on_gpu.converged, on_gpu.reason
    assert abs(on_gpu.iterations - on_cpu.iterations) <= 1
    assert on_gpu.x.shape == (*A.dims, 2)
    np.testing.assert_allclose(on_gpu.x.get(), on_cpu.x, atol=1e-3 if single else 1e-8)
    np.testing.assert_allclose(on_gpu.residual_norm, on_cpu.residual_norm, rtol=1e-4)
    with pytest.raises(TypeError, match="NumPy array"):
        convop.tikhonov(A, cupy.asarray(y), 1.0)


def test_exact_solution_and_spectrum_agree_with_cpu(cupy):
    K = np.random.default_rng(0).standard_normal((3, 2, 3, 3))
    A = Conv(K, (2, 12, 12), stride=2, padding="same", padding_mode="circular")
    G = A.to_gpu()
    y = np.random.default_rng(1).standard_normal(A.dimsd)
    solution = convop.tikhonov(G, cupy.asarray(y), 0.5)
    assert solution.iterations == 0
    np.testing.assert_allclose(solution.x.get(), convop.tikhonov(A, y, 0.5).x, atol=1e-12)
    np.testing.assert_allclose(
        (convop.spectrum.pinv(G) @ cupy.asarray(y)).get(), convop.spectrum.pinv(A) @ y, atol=1e-10
    )
    assert_array_equal(convop.spectrum.singular_values(G), convop.spectrum.singular_values(A))
    assert convop.spectrum.cond(G) == convop.spectrum.cond(A)
    assert_array_equal(convop.spectrum.symbol(G, [1.0, 2.0]), convop.spectrum.symbol(A, [1.0, 2.0]))
    even = Conv(K + np.flip(K, (2, 3)) + np.flip(K, 2) + np.flip(K, 3), (2, 9, 9), padding=1, padding_mode="symmetric")
    y = np.random.default_rng(1).standard_normal(even.dimsd)
    found = convop.tikhonov(even.to_gpu(), cupy.asarray(y), 0.5)
    assert found.iterations == 0
    np.testing.assert_allclose(found.x.get(), convop.tikhonov(even, y, 0.5).x, atol=1e-12)


def test_dampings_agree_with_cpu(cupy):
    rng = np.random.default_rng(0)
    A = Conv(np.ones((5, 5)) / 25, (48, 48), padding="same", padding_mode="symmetric")
    y = A @ rng.standard_normal((48, 48)).cumsum(0) + 0.3 * rng.standard_normal((48, 48))
    G, z = A.to_gpu(), cupy.asarray(y)
    assert convop.damping.gcv(G, z) == pytest.approx(convop.damping.gcv(A, y), rel=0.05)
    assert convop.damping.discrepancy(G, z, 0.3) == pytest.approx(convop.damping.discrepancy(A, y, 0.3), rel=1e-3)
    assert convop.damping.noise_level(z) == convop.damping.noise_level(y)
