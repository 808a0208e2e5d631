import numpy as np
import pytest
from spectral_cases import oracle_values, random_kernel

from convop import Conv, spectrum
from convop.spectral.lanczos import largest_by_lanczos
from convop.spectral.singular_values import as_double


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1.0, 1e30, 1e160])
def test_norm_is_proportional_to_the_scale_of_the_kernel(scale, use_iterations):
    K = random_kernel((3, 3), "float64")
    expected = oracle_values(Conv(K, (12, 12)))[0]
    use_iterations()
    assert spectrum.norm(Conv(K * scale, (12, 12)), rtol=1e-12) == pytest.approx(expected * scale, rel=1e-9)


@pytest.mark.parametrize(
    ("kernel_shape", "shape", "stride", "norm"),
    [((1, 1), (69, 69), 2, 1), ((2, 2), (71, 71), 2, 2), ((1,), 4085, 2, 1), ((1, 1), (141, 141), 3, 1)],
)
def test_lanczos_on_operators_with_equal_singular_values(kernel_shape, shape, stride, norm, use_iterations):
    """The Krylov space is exhausted after one step, and the remainder consists of rounding errors."""
    use_iterations()
    A = Conv(np.ones(kernel_shape), shape, stride=stride)
    for B in (A, A.T):
        assert largest_by_lanczos(as_double(B), 1e-12)[0] == pytest.approx(norm, rel=1e-13)
        assert spectrum.norm(B) == pytest.approx(norm, rel=1e-12)


@pytest.mark.parametrize("size", [89, 95, 121, 143])
def test_lanczos_on_kernels_as_long_as_their_stride(size):
    A = Conv(np.random.default_rng(0).random((3, 3)), (size, size), stride=3)
    truth = np.linalg.norm(A.kernel)
    assert largest_by_lanczos(as_double(A), 1e-12)[0] == pytest.approx(truth, rel=1e-12)
