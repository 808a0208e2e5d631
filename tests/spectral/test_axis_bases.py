"""The basis of each axis in which a convolution is block diagonal, and the singular values that follow from it."""

import numpy as np
import pytest
import strategies
from spectral_cases import CIRCULAR, assert_singular_values, circular_operator, oracle_values, random_kernel

from convop import Conv, ConvSpec, spectrum
from convop.spectral.axis_bases import Cosine, Fourier, Identity, exact_bases, is_periodic


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("name", CIRCULAR)
def test_circular_axes_have_fourier_bases(name, dtype):
    A = circular_operator(name, dtype)
    bases = exact_bases(*A.convolution())
    assert all(isinstance(basis, Fourier) for basis in bases)
    for operator in (A, A.T, A.H):
        assert_singular_values(spectrum.singular_values(operator), oracle_values(A))


@pytest.mark.parametrize("dilation", [1, 2])
def test_symmetric_axes_with_symmetric_taps_have_cosine_bases(dilation):
    """The taps are symmetric along both axes, one axis or none."""
    rng = np.random.default_rng(0)
    K = rng.standard_normal((3, 2, 5, 3))
    for symmetric_axes, kinds in (
        ((-1, -2), (Cosine, Cosine)),
        ((-1,), (Identity, Cosine)),
        ((-2,), (Cosine, Identity)),
        ((), (Identity, Identity)),
    ):
        taps = K
        for axis in symmetric_axes:
            taps = taps + np.flip(taps, axis)
        A = Conv(taps, (2, 9, 8), padding="same", dilation=dilation, padding_mode="symmetric")
        bases = exact_bases(*A.convolution())
        assert tuple(type(basis) for basis in bases) == kinds
        assert_singular_values(spectrum.singular_values(A), oracle_values(A))
    off_centre = Conv(K + np.flip(K, (-1, -2)), (2, 9, 8), padding=((1, 3), (1, 1)), padding_mode="symmetric")
    assert isinstance(exact_bases(*off_centre.convolution())[0], Identity)
    assert_singular_values(spectrum.singular_values(off_centre), oracle_values(off_centre))


@pytest.mark.parametrize("mode", strategies.MODES)
def test_kernels_no_longer_than_their_stride_have_fourier_bases(mode):
    """They read nothing beyond the ends, so any boundary is equivalent to a circular one."""
    A = Conv(random_kernel((8, 3, 4, 4), "float64"), (3, 16, 12), stride=4, padding_mode=mode)
    assert all(isinstance(basis, Fourier) for basis in exact_bases(*A.convolution()))
    assert_singular_values(spectrum.singular_values(A), oracle_values(A))
    A = Conv(random_kernel((4, 3, 1, 1), "complex128"), (3, 5, 6), padding_mode=mode)
    assert_singular_values(spectrum.singular_values(A), oracle_values(A))
    # An axis whose padding is read is not periodic.
    assert not is_periodic(ConvSpec((8,), (4,), stride=4, padding=((2, 2),), padding_mode="zeros").axes[0])


@pytest.mark.parametrize(("dtype", "asymmetry"), [(np.float64, 1e-13), (np.float64, 1e-9), (np.float32, 2**-22)])
def test_taps_that_are_symmetric_only_approximately_have_no_cosine_basis(dtype, asymmetry):
    """A cosine basis would drop their antisymmetric component. Asymmetry by rounding in double precision is ignored."""
    A = Conv(np.array([1 + asymmetry, 2, 1], dtype), 50, padding=1, padding_mode="symmetric")
    assert isinstance(exact_bases(*A.convolution())[0], Identity)
    with pytest.raises(ValueError, match="diagonalised by fast transforms"):
        spectrum.pinv(A)
    truth = np.linalg.svd(A.with_kernel(A.kernel.astype(np.float64)).todense(), compute_uv=False)
    np.testing.assert_allclose(spectrum.singular_values(A), truth, atol=1e-7 if dtype == np.float32 else 1e-14)
    rounded = Conv([1 + 2**-52, 2.0, 1.0], 50, padding=1, padding_mode="symmetric")
    assert isinstance(exact_bases(*rounded.convolution())[0], Cosine)


def test_tables_have_an_entry_for_each_tap_frequency_and_polyphase_component():
    assert Fourier(4, 2).table(Conv(np.ones(3), 8, padding="same").spec.axes[0], True).shape == (3, 3, 2)
    assert Cosine(8).table(Conv(np.ones(3), 8, padding=1).spec.axes[0], False).shape == (3, 8, 1)
