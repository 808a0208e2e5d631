"""Blurs, and Tikhonov's solutions by dense decompositions, for the tests of inverse problems."""

import numpy as np

from convop import tikhonov


def tikhonov_by_svd(matrix, y, damp):
    """Returns Tikhonov's solution by the singular value decomposition of a dense matrix."""
    U, s, VH = np.linalg.svd(matrix, full_matrices=False)
    factors = np.divide(s, s**2 + damp**2, out=np.zeros_like(s), where=s > 1e-12 * s.max(initial=0))
    return VH.conj().T @ (factors * (U.conj().T @ y).T).T


def skewed_blur(k, seed=0):
    """Returns a smooth blur of k x k taps without any symmetry, of sum 1."""
    t = np.arange(k) - k // 2
    x, y = np.meshgrid(t, t, indexing="ij")
    K = np.exp(-((x - k / 12) ** 2 / (k / 2) + (y + k / 16) ** 2 / k + x * y / (0.7 * k)))
    K += 0.3 * np.exp(-((x + k / 4) ** 2 + (y - k / 4) ** 2) / (k / 3))
    return K / K.sum()


def count_iterations(A, damp, precondition, rtol=1e-6):
    """Returns the iterations of `tikhonov` for noisy data of a random image."""
    x = np.random.default_rng(1).random(A.dims)
    y = A @ x + 1e-2 * np.random.default_rng(2).standard_normal(A.dimsd)
    solution = tikhonov(A, y, damp, precondition=precondition, rtol=rtol)
    assert solution.converged, solution.reason
    return solution.iterations
