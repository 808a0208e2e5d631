"""Kernels that are outer products: how close, their eigenvectors, and preconditioners that are then exact."""

import numpy as np
import pytest
import strategies
from inverse_cases import skewed_blur
from spectral_cases import oracle_matrix, random_kernel

from convop import Conv, ConvSpec, kernels, preconditioner
from convop.inverse.separable import SeparableKernel, condition_bound, diagonalised
from convop.spectral.axis_bases import Cosine, Eigenvectors, Fourier, Identity


def outer(*vectors):
    product = np.ones(())
    for vector in vectors:
        product = np.multiply.outer(product, vector)
    return product


@pytest.mark.parametrize("dtype", strategies.DTYPES)
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_outer_product_is_recognised_up_to_rounding(ndim, dtype):
    rng = np.random.default_rng(ndim)
    complex_part = 1j if np.dtype(dtype).kind == "c" else 0
    factors = [rng.standard_normal(k) + complex_part * rng.standard_normal(k) for k in (3, 4, 2)[:ndim]]
    taps = outer(*factors).astype(dtype)
    found = SeparableKernel.of(ConvSpec((8,) * ndim, taps.shape), taps)
    rounding = 1e-5 if taps.real.dtype == np.float32 else 1e-13
    assert found.error <= rounding
    np.testing.assert_allclose(outer(found.scales, *found.factors)[0], taps, atol=rounding)


def test_groups_of_proportional_kernels_have_scales():
    blur = kernels.gaussian(1.0)
    taps = np.stack([blur, -2 * blur, 0 * blur])[:, None]
    found = SeparableKernel.of(ConvSpec((3, 20, 20), taps.shape, groups=3), taps)
    assert found.error < 1e-14
    np.testing.assert_allclose(found.scales / found.scales[0], [1, -2, 0], atol=1e-14)
    different = np.stack([blur, kernels.gaussian(1.0).T, np.roll(blur, 1, 0)])[:, None]
    assert SeparableKernel.of(ConvSpec((3, 20, 20), taps.shape, groups=3), different).error > 0.1


def test_kernels_with_several_channels_have_no_outer_product():
    for shape, groups in (((2, 1, 3, 3), 1), ((1, 2, 3, 3), 1), ((4, 2, 3, 3), 2)):
        spec = ConvSpec((shape[1] * groups, 9, 9), shape, groups=groups)
        assert SeparableKernel.of(spec, np.ones(shape)) is None


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_error_is_the_largest_symbol_of_the_difference(dtype):
    taps = random_kernel((5, 4), dtype)
    found = SeparableKernel.of(ConvSpec((20, 20), taps.shape), taps)
    difference = taps - outer(found.scales, *found.factors)[0]
    finely = np.abs(np.fft.fft2(difference, (256, 256))).max()
    assert 0.9 * finely <= found.error <= finely * (1 + 1e-12)
    # It bounds the norm of the difference of the operators without a boundary.
    norm = Conv(difference, (30, 30), padding="same", padding_mode="circular").norm()
    assert norm <= finely * (1 + 1e-9)


def test_condition_bound_holds():
    """Eigenvalues of ``A^H A + damp^2`` relative to the model's, with a circular boundary, where the error is the norm."""
    taps = kernels.gaussian(1.0) + 0.002 * np.random.default_rng(0).standard_normal((9, 9))
    A = Conv(taps, (24, 24), padding="same", padding_mode="circular")
    found = SeparableKernel.of(A.spec, taps)
    model = Conv(outer(found.scales, *found.factors)[0], (24, 24), padding="same", padding_mode="circular")
    damp = 2.5 * found.error
    true, modelled = ((B.H @ B).todense() + damp**2 * np.eye(576) for B in (A, model))
    half = np.linalg.inv(np.linalg.cholesky(modelled))
    values = np.linalg.eigvalsh(half @ true @ half.conj().T)
    assert 1.05 < values[-1] / values[0] <= condition_bound(found, damp)
    assert condition_bound(found, found.error) == np.inf
    assert condition_bound(found, 0.0) == np.inf


@pytest.mark.thinned
@pytest.mark.parametrize("mode", strategies.MODES)
@pytest.mark.parametrize("dtype", strategies.DTYPES)
@pytest.mark.parametrize("outputs", [False, True])
@pytest.mark.parametrize(("stride", "dilation", "padding"), [(1, 1, (2, 1)), (2, 1, (0, 3)), (3, 2, (4, -1))])
@pytest.mark.parametrize("part", [(0, 1), (0.3, 1), (0, 0.6), (0.4, 0.7)])
def test_diagonalised_samples_are_the_eigenvectors_of_the_gram_matrix(
    part, stride, dilation, padding, outputs, dtype, mode
):
    A = Conv(random_kernel(4, dtype), 17, stride=stride, dilation=dilation, padding=(padding,), padding_mode=mode)
    (axis,) = A.spec.axes
    n = axis.outputs if outputs else axis.inputs
    start, stop = (round(share * n) for share in part)
    basis, values = diagonalised(axis, A.convolution()[1], Identity(start, stop, outputs))
    matrix = oracle_matrix(A)
    gram = (matrix @ matrix.conj().T if outputs else matrix.conj().T @ matrix)[start:stop, start:stop]
    assert isinstance(basis, Eigenvectors)
    assert (basis.start, basis.stop, basis.count) == (start, stop, stop - start)
    assert (values >= 0).all()
    np.testing.assert_allclose((basis.vectors * values) @ basis.vectors.conj().T, gram, atol=1e-5)


def test_diagonalised_transforms_are_squares_of_the_symbol():
    taps = kernels.gaussian(1.0)[4]
    (axis,) = Conv(taps, 20, padding="same", padding_mode="circular").spec.axes
    basis, values = diagonalised(axis, taps, Fourier(20, 1))
    assert basis == Fourier(20, 1)
    np.testing.assert_allclose(values, np.abs(np.fft.fft(taps, 20)) ** 2, atol=1e-15)
    (axis,) = Conv(taps, 20, padding="same", padding_mode="symmetric").spec.axes
    assert diagonalised(axis, taps, Cosine(20))[0] == Cosine(20)


@pytest.mark.thinned
@pytest.mark.parametrize("mode", strategies.MODES)
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(
    ("shape", "taps", "parameters"),
    [
        ((40,), (5,), {"padding": 2}),
        ((40,), (5,), {"stride": 3, "padding": ((1, 2),)}),
        ((13, 12), (3, 4), {"padding": ((2, 0), (1, 3))}),
        ((12, 13), (3, 2), {"stride": (2, 3), "dilation": (1, 2), "padding": 1}),
        ((7, 6, 5), (3, 2, 2), {"padding": 1}),
    ],
)
def test_preconditioner_of_short_axes_and_outer_products_is_exact(shape, taps, parameters, transposed, dtype, mode):
    rng = np.random.default_rng(0)
    phase = 1j if dtype == "complex128" else 0
    K = outer(*(rng.standard_normal(k) + phase * rng.standard_normal(k) for k in taps))
    A = Conv(K, shape, padding_mode=mode, **parameters)
    A = A.T if transposed else A
    damp = 0.1 * float(A.norm())
    product = preconditioner(A, damp).todense() @ ((A.H @ A).todense() + damp**2 * np.eye(A.shape[1]))
    np.testing.assert_allclose(product, np.eye(A.shape[1]), atol=1e-11)


def test_bases_of_outer_products():
    """Short axes are one subdomain, long ones have ends; kernels that are too far from an outer product have samples."""

    def letters(A, damp):
        return sorted("".join(type(b).__name__[0] for b in term.source.axes) for term in preconditioner(A, damp).terms)

    blur = kernels.gaussian(2.0)
    assert letters(Conv(blur, (256, 256), padding="same"), 1e-2) == ["EE"]
    assert letters(Conv(blur, (100, 300), padding="same"), 1e-2) == ["EE", "EE", "EF"]
    assert len(letters(Conv(blur, (300, 300), padding="same", padding_mode="reflect"), 1e-2)) == 9
    assert "II" in letters(Conv(skewed_blur(9), (300, 300), padding="same"), 1e-2)
    # A long axis with a stride has polyphase components, which eigenvectors of its ends would have to share.
    assert "II" in letters(Conv(blur, (600, 600), padding="same", stride=2).T, 1e-2)
