"""Bounds of residuals by bidiagonalisation, against dense decompositions."""

import numpy as np
import pytest
import scipy.sparse.linalg as sla

from convop.inverse.golub_kahan import GolubKahan


def residual_forms(matrix, y, damps, power):
    """Returns ``<y, (damp^2 (A A^H + damp^2)^-1)^power y>``, summed over the columns of y."""
    values, vectors = np.linalg.eigh(matrix @ matrix.conj().T)
    masses = (np.abs(vectors.conj().T @ y) ** 2).sum(axis=1)
    return np.array([(c / (np.maximum(values, 0) + c)) ** power @ masses for c in damps**2])


@pytest.mark.parametrize("shape", [(14, 9), (9, 14)])
@pytest.mark.parametrize("is_complex", [False, True])
def test_bounds_enclose_the_residuals_and_meet(shape, is_complex):
    rng = np.random.default_rng(0)
    matrix, y = rng.standard_normal(shape), rng.standard_normal((shape[0], 2))
    if is_complex:
        matrix, y = matrix + 1j * rng.standard_normal(shape), y + 1j * rng.standard_normal(y.shape)
    damps = np.geomspace(1e-2, 1e2, 30)
    process = GolubKahan(sla.aslinearoperator(matrix), y)
    gaps = []
    for steps in range(11):
        assert process.steps == steps
        for power, bounds in ((1, process.residual_products), (2, process.residual_squares)):
            expected = residual_forms(matrix, y, damps, power)
            low, high = bounds(damps)
            assert (low <= expected * (1 + 1e-9)).all()
            assert (high >= expected * (1 - 1e-9)).all()
        gaps.append((high - low).max())
        process.step()
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[0] > 0.1 * np.linalg.norm(y) ** 2 > 1e6 * gaps[-1]
    assert process.norm == pytest.approx(np.linalg.norm(matrix, 2), rel=1e-9)
