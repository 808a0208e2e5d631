import numpy as np
import pytest

from convop import ConvSpec
from convop.spectral.axis_bases import Cosine, Fourier, Identity
from convop.spectral.transform_basis import TransformBasis

SPEC = ConvSpec((4, 6, 5), (2, 2, 3, 3), groups=2, padding=1)
BASES = {
    "fourier": (Fourier(6, 1), Fourier(5, 1)),
    "fourier with stride": (Fourier(3, 2), Fourier(5, 1)),
    "fourier, extended": (Fourier(8, 1), Fourier(6, 1)),
    "cosine": (Cosine(6), Cosine(5)),
    "identity": (Identity(0, 6), Identity(0, 5)),
    "subdomain": (Identity(1, 4), Fourier(5, 1)),
    "mixed": (Cosine(6), Identity(2, 5)),
}


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("axes", BASES.values(), ids=BASES)
def test_inverse_undoes_forward_on_the_subdomain(axes, dtype):
    basis = TransformBasis.of(SPEC, axes, np.dtype(dtype), outputs=False)
    rng = np.random.default_rng(0)
    shape = (3, 4, *(samples.stop - samples.start for samples in basis.subdomain))
    planes = rng.standard_normal(shape) + (1j * rng.standard_normal(shape) if np.dtype(dtype).kind == "c" else 0)
    planes = planes.astype(dtype)
    restored = basis.inverse(basis.forward(planes))
    assert restored.dtype == planes.dtype
    np.testing.assert_allclose(restored, planes, atol=1e-5 if planes.real.dtype == np.float32 else 1e-13)


@pytest.mark.parametrize("axes", BASES.values(), ids=BASES)
def test_inverse_is_the_conjugate_transpose_of_forward(axes):
    basis = TransformBasis.of(SPEC, axes, np.dtype(complex), outputs=False)
    rng = np.random.default_rng(0)
    shape = (1, 4, *(samples.stop - samples.start for samples in basis.subdomain))
    x = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    coefficients = basis.forward(x)
    y = rng.standard_normal(coefficients.shape) + 1j * rng.standard_normal(coefficients.shape)
    np.testing.assert_allclose(np.vdot(y, coefficients), np.vdot(basis.inverse(y), x))
