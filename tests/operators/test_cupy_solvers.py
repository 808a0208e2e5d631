import numpy as np
import pytest

cupy = pytest.importorskip("cupy", reason="CuPy is not installed")

from convop import Conv

pytestmark = pytest.mark.cupy


@pytest.mark.gpu
def test_cupy_solvers_take_operators():
    """CuPy's own solvers use the shape and the `matvec` of an operator."""
    import cupyx.scipy.sparse.linalg as linalg

    rng = np.random.default_rng(0)
    kernel = np.outer(*[np.exp(-(np.arange(-2.0, 3) ** 2))] * 2)
    A = Conv(cupy.asarray(kernel), (24, 20), padding=2, padding_mode="reflect")
    expected = rng.standard_normal(A.shape[1])
    normal = A.H @ A
    y = normal @ cupy.asarray(expected)
    for solve in (linalg.cg, linalg.gmres):
        solved, info = solve(normal, y, tol=1e-12, maxiter=2000)
        assert info == 0
        np.testing.assert_allclose(solved.get(), expected, atol=1e-4)
