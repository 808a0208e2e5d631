"""Exact spectral measures by the eigenvectors of each axis, against dense decompositions."""

import numpy as np
import pytest
from inverse_cases import skewed_blur
from spectral_cases import one_blas_thread  # noqa: F401

from convop import Conv, kernels
from convop.inverse.scaled_problem import ScaledProblem
from convop.inverse.spectral_measure import ExactMeasures, SpectralMeasure

ONE_SIDED = np.outer([1.0, 3.0, 2.0], [0.5, 1.0, 2.0, 0.2])
DAMPS = np.array([1e-3, 0.1, 1.0])
SEPARABLE = {
    "zeros": lambda: Conv(kernels.gaussian(1.0), (12, 15), padding="same"),
    "equal axes": lambda: Conv(kernels.gaussian(1.0), (13, 13), padding="same", padding_mode="reflect"),
    "equal axes, two factors": lambda: Conv(np.outer([1.0, 2.0, 4.0], [3.0, 1.0, 0.5]), (11, 11), padding="same"),
    "one-sided": lambda: Conv(ONE_SIDED, (10, 12), padding="same", padding_mode="replicate"),
    "symmetric and one-sided": lambda: Conv(ONE_SIDED, (10, 12), padding="same", padding_mode="symmetric"),
    "cosines and eigenvectors": lambda: Conv(
        np.outer([1.0, 2.0, 1.0], [1.0, 2.0, 5.0]), (9, 10), padding="same", padding_mode="symmetric"
    ),
    "periodic and eigenvectors": lambda: Conv(np.ones((1, 3)), (9, 10), padding="same"),
    "stride": lambda: Conv(ONE_SIDED, (12, 15), stride=2, padding="same"),
    "transposed stride": lambda: Conv(ONE_SIDED, (12, 15), stride=2, padding="same").T,
    "complex": lambda: Conv((1 + 2j) * np.outer([1j, 2, 3], [1, 1j]), (10, 12), padding="same"),
    "complex, transposed": lambda: Conv((1 + 2j) * np.outer([1j, 2, 3], [1, 1j]), (10, 12), padding="same").H,
    "groups": lambda: Conv(np.stack([ONE_SIDED, -2 * ONE_SIDED])[:, None], (2, 8, 9), groups=2, padding="same"),
    "signal": lambda: Conv([1.0, 2.0, 0.5], (30,), padding="same"),
    "volume": lambda: Conv(np.multiply.outer(np.ones(2), ONE_SIDED), (4, 5, 6), padding="same"),
    "full": lambda: Conv(ONE_SIDED, (10, 12), padding="full"),
}


@pytest.mark.parametrize("name", SEPARABLE)
def test_measures_of_separable_kernels_are_exact(name):
    A = SEPARABLE[name]()
    rng = np.random.default_rng(0)
    y = rng.standard_normal((A.shape[0], 2)) + 1j * rng.standard_normal((A.shape[0], 2))
    measures = ExactMeasures.of(ScaledProblem.of(A, y, 0.0))
    problem = ScaledProblem.of(A, y, 0.0)
    matrix = problem.A.todense()
    values, vectors = np.linalg.eigh(matrix @ matrix.conj().T)
    factors = [c / (np.maximum(values, 0) + c) for c in DAMPS**2]
    masses = (np.abs(vectors.conj().T @ problem.y) ** 2).sum(axis=1)
    np.testing.assert_allclose(measures.data.residual_squares(DAMPS), [f**2 @ masses for f in factors], rtol=1e-6)
    np.testing.assert_allclose(measures.trace.residual_products(DAMPS), [f.sum() for f in factors], rtol=1e-6)
    assert measures.norm == pytest.approx(np.linalg.norm(matrix, 2))


def test_kernels_that_are_not_outer_products_have_no_exact_measures():
    y = np.ones((20, 20))
    blur = kernels.gaussian(1.0)
    nearly = blur * (1 + 1e-4 * np.random.default_rng(0).standard_normal(blur.shape))
    for kernel in (skewed_blur(5), nearly):
        assert ExactMeasures.of(ScaledProblem.of(Conv(kernel, (20, 20), padding="same"), y, 0.0)) is None
    single = Conv(blur.astype(np.float32), (20, 20), padding="same")
    assert ExactMeasures.of(ScaledProblem.of(single, y, 0.0)) is not None


def test_long_signals_have_no_exact_measures():
    """The eigenvectors of a long axis take far longer than a solution."""
    A = Conv([1.0, 2.0, 0.5], (20_000,), padding="same")
    assert ExactMeasures.of(ScaledProblem.of(A, np.ones(20_000), 0.0)) is None


def test_collected_measures_have_the_same_integrals():
    rng = np.random.default_rng(0)
    values, masses = 10 ** rng.uniform(-14, 2, (100, 300)), rng.random((100, 300))
    values[0] = 0
    few = SpectralMeasure.collect(values, masses)
    assert few.values.size <= 2001
    assert few.masses.sum() == pytest.approx(masses.sum())
    damps = np.geomspace(1e-6, 10, 20)
    every = SpectralMeasure(values.ravel(), masses.ravel())
    np.testing.assert_allclose(few.residual_squares(damps), every.residual_squares(damps), rtol=2e-4)
    np.testing.assert_allclose(few.residual_products(damps), every.residual_products(damps), rtol=2e-4)
