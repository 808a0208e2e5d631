"""Conjugate gradients against dense solutions, in both forms and for several systems."""

import numpy as np
import pytest

from convop.inverse.conjugate_gradients import ConjugateGradients, column_products, divide_or_zero

DTYPES = ("float32", "float64", "complex64", "complex128")


def random_normal(shape, dtype, seed):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape)
    return (values + 1j * rng.standard_normal(shape) if np.dtype(dtype).kind == "c" else values).astype(dtype)


def definite_matrix(n, dtype):
    B = random_normal((n, n), dtype, 0)
    return B.conj().T @ B / n + np.eye(n, dtype=dtype)


@pytest.mark.parametrize("shift", [0.0, 0.5])
@pytest.mark.parametrize("preconditioned", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_recurrence_solves_shifted_systems(dtype, preconditioned, shift):
    M, b, x0 = definite_matrix(12, dtype), random_normal((12, 3), dtype, 1), random_normal((12, 3), dtype, 2)
    P = (lambda r: r / M.diagonal().real[:, None]) if preconditioned else None
    image = M @ x0
    cg = ConjugateGradients(lambda v: M @ v, x0, b - image - shift * x0, shift=shift, image=image, preconditioner=P)
    for _ in range(24):
        cg.step()
    tolerance = 1e-4 if dtype in ("float32", "complex64") else 1e-11
    assert cg.x.dtype == cg.image.dtype == cg.residual.dtype == dtype
    assert cg.iterations == 24
    assert cg.gain == 0
    np.testing.assert_allclose(cg.x, np.linalg.solve(M + shift * np.eye(12), b), atol=tolerance)
    np.testing.assert_allclose(cg.image, M @ cg.x, atol=10 * tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
def test_normal_equations_solve_damped_least_squares(dtype):
    A, y = random_normal((15, 8), dtype, 0), random_normal((15, 2), dtype, 1)

    def residual(x, image):
        return A.conj().T @ (y - image) - 0.25 * x

    x0 = np.zeros((8, 2), dtype)
    image = A @ x0
    cg = ConjugateGradients(lambda v: A @ v, x0, residual(x0, image), shift=0.25, image=image, normal_residual=residual)
    for _ in range(16):
        cg.step()
    expected = np.linalg.solve(A.conj().T @ A + 0.25 * np.eye(8), A.conj().T @ y)
    np.testing.assert_allclose(cg.x, expected, atol=1e-4 if dtype in ("float32", "complex64") else 1e-11)
    norm = np.linalg.norm(A, 2)
    assert 0.3 * norm < cg.gain <= norm * (1 + 1e-5)


def test_first_iterates_match_the_textbook():
    """Hestenes and Stiefel's recurrence for one vector, written out for two steps."""
    M, b = definite_matrix(6, "float64"), random_normal((6, 1), "float64", 1)
    cg = ConjugateGradients(lambda v: M @ v, np.zeros((6, 1)), b)
    p = r = b[:, 0]
    x = np.zeros(6)
    for _ in range(2):
        alpha = (r @ r) / (p @ M @ p)
        x, before, r = x + alpha * p, r, r - alpha * (M @ p)
        p = r + (r @ r) / (before @ before) * p
        cg.step()
        np.testing.assert_allclose(cg.x[:, 0], x, rtol=1e-12)
        np.testing.assert_allclose(cg.energy, r @ r, rtol=1e-12)


def test_inactive_systems_keep_their_x():
    M, b = definite_matrix(10, "float64"), random_normal((10, 3), "float64", 1)
    cg = ConjugateGradients(lambda v: M @ v, np.zeros_like(b), b)
    cg.step()
    before = cg.x
    cg.step(active=np.array([True, False, True]))
    np.testing.assert_array_equal(cg.x[:, 1], before[:, 1])
    assert (cg.x[:, [0, 2]] != before[:, [0, 2]]).all()


def test_inner_over_all_elements_makes_one_system():
    M, b = definite_matrix(12, "float64"), random_normal((3, 4), "float64", 1)
    single = ConjugateGradients(lambda v: M @ v, np.zeros((12, 1)), b.reshape(12, 1))
    shaped = ConjugateGradients(
        lambda v: (M @ v.ravel()).reshape(3, 4), np.zeros((3, 4)), b, inner=lambda a, b: (a * b).sum()
    )
    for _ in range(5):
        single.step()
        shaped.step()
    np.testing.assert_allclose(shaped.x.ravel(), single.x[:, 0], rtol=1e-10)


def test_restart_forgets_the_direction_and_keeps_the_count():
    M, b = definite_matrix(10, "float64"), random_normal((10, 1), "float64", 1)
    cg = ConjugateGradients(lambda v: M @ v, np.zeros_like(b), b)
    cg.step()
    cg.step()
    image = M @ cg.x
    cg.restart(b - image, image)
    fresh = ConjugateGradients(lambda v: M @ v, cg.x, b - image, image=image)
    cg.step()
    fresh.step()
    np.testing.assert_array_equal(cg.x, fresh.x)
    assert (cg.iterations, fresh.iterations) == (3, 1)


def test_steps_at_the_solution_change_nothing():
    M = definite_matrix(5, "float64")
    x = random_normal((5, 2), "float64", 1)
    cg = ConjugateGradients(lambda v: M @ v, x, np.zeros_like(x))
    cg.step()
    cg.step()
    np.testing.assert_array_equal(cg.x, x)


def test_inputs_are_not_written_to():
    M, b, x = definite_matrix(6, "float64"), random_normal((6, 2), "float64", 1), random_normal((6, 2), "float64", 2)
    residual = b - M @ x
    kept = x.copy(), residual.copy()
    cg = ConjugateGradients(lambda v: M @ v, x, residual)
    cg.step()
    cg.step()
    np.testing.assert_array_equal(x, kept[0])
    np.testing.assert_array_equal(residual, kept[1])


def test_column_products_are_real_parts_in_double_precision():
    for dtype in DTYPES:
        a, b = random_normal((7, 3), dtype, 0), random_normal((7, 3), dtype, 1)
        expected = [np.vdot(a[:, c], b[:, c]).real for c in range(3)]
        products = column_products(a, b)
        assert products.dtype == np.float64
        np.testing.assert_allclose(products, expected, rtol=1e-4)
        np.testing.assert_allclose(column_products(a[:, :1], b[:, :1]), expected[:1], rtol=1e-4)


def test_divide_or_zero_keeps_nan():
    quotient = divide_or_zero(np.array([2.0, 1.0, 1.0, 1.0]), np.array([4.0, 0.0, -1.0, np.nan]))
    np.testing.assert_array_equal(quotient, [0.5, 0.0, 0.0, np.nan])
