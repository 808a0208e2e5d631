"""The synthesis operator, its Gram operator and its preconditioner against dense matrices."""

import tracemalloc

import numpy as np
import pytest
from sparse_coding_cases import synthesise, unit_filters

from convop.deconvnet.synthesis import Synthesis


@pytest.mark.parametrize("shape", [(1, 3, 3, 3), (2, 5, 4, 2), (3, 2, 1, 5), (2, 3, 5, 5)])
@pytest.mark.parametrize("space", [(9, 8), (1, 4), (5, 5)])
def test_gram_gain_and_preconditioner_match_dense_matrices(shape, space):
    filters = np.random.default_rng(0).standard_normal(shape)
    A = Synthesis(filters, space)
    W = A.operator.todense()
    maps = np.random.default_rng(1).standard_normal((2, *A.dims))
    images = A(maps.reshape(2, -1).T).T.reshape(2, *A.dimsd)
    np.testing.assert_allclose(images, synthesise(filters, maps), atol=1e-12)
    np.testing.assert_allclose(A.gram.todense(), W @ W.T, atol=1e-12)
    assert np.linalg.norm(W, 2) ** 2 <= A.gain * (1 + 1e-12)
    for rho in (1e-2, 1.0):
        M = A.preconditioner(rho)(np.eye(len(W)))
        np.testing.assert_allclose(M, M.T, atol=1e-12 / rho)
        assert np.linalg.eigvalsh(M)[0] > 0


@pytest.mark.slow
def test_preconditioner_lowers_condition_number():
    A = Synthesis(unit_filters((2, 6, 5, 4)), (24, 20))
    W = A.operator.todense()
    for rho in (0.1, 1.0):
        regularised = W @ W.T + rho * np.eye(len(W))
        assert np.linalg.cond(A.preconditioner(rho)(regularised)) < 0.2 * np.linalg.cond(regularised)


def test_gain_is_close_to_largest_singular_value():
    A = Synthesis(unit_filters((1, 4, 5, 5)), (60, 60))
    assert A.gain <= 1.1 * A.operator.norm() ** 2


def test_nbytes_is_peak_memory_of_preconditioner():
    synthesis = Synthesis(unit_filters((20, 2, 5, 5)), (16, 16))
    tracemalloc.start()
    synthesis.preconditioner(1.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0.5 * synthesis.nbytes < peak < 1.1 * synthesis.nbytes
