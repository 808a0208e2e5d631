"""`sparse_codes` against a converged solver, for all solvers, powers and units."""

import numpy as np
import pytest
from sparse_coding_cases import objective_of, photographs, reference_fista, unit_filters

from convop.deconvnet import sparse_codes


@pytest.mark.parametrize(
    ("lam", "maps", "size", "side"),
    [
        (20.0, 2, 3, 10),
        pytest.param(20.0, 3, 5, 16, marks=pytest.mark.slow),
        pytest.param(5.0, 4, 7, 36, marks=pytest.mark.slow),
        pytest.param(40.0, 6, 5, 36, marks=pytest.mark.slow),
    ],
)
def test_codes_reach_objective_of_converged_solver(lam, maps, size, side):
    images, filters = photographs(2, side), unit_filters((1, maps, size, size))
    best = np.array(
        [objective_of(filters, reference_fista(filters, y, lam, 700)[None], y[None], lam, 1)[0] for y in images]
    )
    for solver, share in (("auto", 1e-3), ("admm", 1e-3), ("fista", 1e-3), ("hqs", 0.03)):
        codes = sparse_codes(filters, images, lam=lam, solver=solver)
        objective = objective_of(filters, codes.maps, images, lam, 1)
        np.testing.assert_allclose(codes.objective, objective, rtol=1e-10)
        assert (objective <= best * (1 + share)).all(), solver
        # The lower bound of the minimum holds.
        assert (codes.objective * (1 - codes.gap) <= best).all(), solver
        assert codes.converged
        exact = sparse_codes(filters, images, lam=lam, solver="admm", rtol=1e-6)
        assert (exact.objective <= best * (1 + 1e-6)).all()
    for p in (0.8, 2 / 3, 0.5):
        of_convex = objective_of(filters, exact.maps, images, lam, p)
        for solver in ("auto", "hqs"):
            codes = sparse_codes(filters, images, lam=lam, p=p, solver=solver)
            objective = objective_of(filters, codes.maps, images, lam, p)
            np.testing.assert_allclose(codes.objective, objective, rtol=1e-8)
            assert (objective < 0.99 * of_convex).all(), (p, solver)
            assert np.isnan(codes.gap).all()


@pytest.mark.thinned
@pytest.mark.parametrize("solver", ["admm", "fista", "hqs"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_codes_of_colour_images_keep_dtype_and_converge(solver, dtype):
    rng = np.random.default_rng(0)
    filters = unit_filters((3, 7, 4, 3))
    images = (0.3 * rng.standard_normal((2, 3, 17, 12))).astype(dtype)
    codes = sparse_codes(filters, images, lam=20.0, solver=solver)
    assert codes.maps.shape == (2, 7, 20, 14)
    assert codes.maps.dtype == dtype
    precise = sparse_codes(filters, images.astype(float), lam=20.0, rtol=1e-7)
    np.testing.assert_allclose(codes.objective, precise.objective, rtol=0.03 if solver == "hqs" else 1e-3)
    alone = sparse_codes(filters, images[1:], lam=20.0, solver=solver)
    np.testing.assert_allclose(codes.objective[1:], alone.objective, rtol=0.01 if solver == "hqs" else 1e-3)


@pytest.mark.parametrize(
    ("solver", "p"),
    [
        ("admm", 1.0),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (("fista", 1.0), ("hqs", 1.0), ("hqs", 0.5), ("admm", 0.8), ("admm", 0.5))
        ),
    ],
)
def test_codes_scale_with_units(solver, p):
    """Images times c, with lam times c^(p - 2), have maps times c; also in the range of internal power-of-two scaling."""
    images, filters = photographs(1, 24), unit_filters((1, 4, 5, 5))
    codes = sparse_codes(filters, images, lam=8.0, p=p, solver=solver)
    assert codes.maps.any()
    for power in (-8, 8, -210, 210):
        c = 2.0**power
        lam = 8.0 * 2.0 ** ((p - 2) * power)
        other = sparse_codes(filters, images * c, lam=lam, p=p, solver=solver)
        np.testing.assert_allclose(other.objective, codes.objective * 2.0 ** (p * power), rtol=1e-3 if p < 1 else 1e-6)
        if p == 1:
            np.testing.assert_allclose(other.maps / c, codes.maps, atol=1e-6)
    # Filters over c have maps times c.
    other = sparse_codes(filters / 2.0**210, images, lam=8.0 * 2.0 ** (p * 210), p=p, solver=solver)
    np.testing.assert_allclose(other.objective, codes.objective * 2.0 ** (p * 210), rtol=1e-3 if p < 1 else 1e-6)


def hard_problems():
    """Filters, images and weights with which ADMM converges slowly, or the preconditioner is far from the inverse."""
    rng = np.random.default_rng(0)
    colours = unit_filters((3, 2, 5, 5), smooth=False)
    yield "two maps of three channels", colours, rng.standard_normal((1, 3, 20, 20)), 100.0
    pixel = unit_filters((1, 3, 5, 5), seed=19, smooth=False)
    yield "a pixel", pixel, np.ones((1, 1, 1, 1)), 200 / np.abs(pixel).max()
    t = np.exp(-(np.arange(-4, 5) ** 2) / 4.5)
    blur = np.outer(t, t)[None, None]
    yield "a Gaussian", blur / np.linalg.norm(blur), photographs(1, 40), 500.0
    balanced = unit_filters((1, 6, 7, 7), seed=4, smooth=False)
    balanced -= balanced.mean(axis=(2, 3), keepdims=True)
    yield "filters of sum zero", balanced, photographs(1, 32) + 0.4, 300.0
    yield "a large weight", unit_filters((1, 9, 7, 7), seed=8, smooth=False), photographs(1, 32), 500.0
    alike = np.repeat(unit_filters((1, 1, 5, 5), seed=6), 4, axis=1)
    yield "equal filters", alike, photographs(1, 32), 50.0
    alike = unit_filters((1, 4, 5, 5), seed=7)
    alike[:, 1:3] = 0
    yield "filters of zeros", alike, photographs(1, 32), 50.0


QUICK_PROBLEMS = ("a pixel", "equal filters")


@pytest.mark.parametrize(
    ("filters", "images", "lam"),
    [
        pytest.param(*problem, id=name, marks=[] if name in QUICK_PROBLEMS else pytest.mark.slow)
        for name, *problem in hard_problems()
    ],
)
def test_codes_of_hard_problems_are_within_tolerance(filters, images, lam):
    # Two different solvers agree on the minimum, and their lower bound with it.
    best = sparse_codes(filters, images, lam=lam, solver="hqs", rtol=1e-5, maxiter=20000)
    assert best.gap[0] < 2e-3
    minimum = min(best.objective[0], sparse_codes(filters, images, lam=lam, rtol=1e-5, maxiter=5000).objective[0])
    for solver in ("admm", "hqs"):
        codes = sparse_codes(filters, images, lam=lam, solver=solver)
        objective = objective_of(filters, codes.maps, images, lam, 1)[0]
        assert codes.objective[0] == pytest.approx(objective, rel=1e-8)
        assert objective <= minimum * (1 + (1e-3 if solver == "admm" else 1e-2)), solver
        assert objective * (1 - codes.gap[0]) <= minimum * (1 + 1e-9), solver
        assert codes.converged or solver == "hqs"


@pytest.mark.parametrize("solver", ["admm", "hqs"])
def test_nonconvex_codes_find_global_minimum_of_one_element(solver):
    """For p < 1 zero is a local minimum at any weight of the data."""
    for value, lam, p in ((100.0, 0.01, 0.5), (1000.0, 1e-3, 0.3), (1000.0, 1e-3, 0.8)):
        codes = sparse_codes(np.ones((1, 1, 1, 1)), [[[value]]], lam=lam, p=p, solver=solver)
        grid = np.linspace(0, value, 100001)
        assert codes.objective[0] == pytest.approx((lam / 2 * (grid - value) ** 2 + grid**p).min(), rel=1e-4)
        assert "local minimum" in codes.reason
    # Zero is returned where its objective is lower.
    codes = sparse_codes(np.ones((1, 1, 1, 1)), [[[1.0]]], lam=1.01, p=0.5, solver=solver)
    assert codes.objective[0] == pytest.approx(0.505)
    assert not codes.maps.any()


def test_nonconvex_iterations_stay_within_maxiter():
    images, filters = photographs(1, 24), unit_filters((1, 4, 5, 5))
    for solver in ("admm", "hqs"):
        for maxiter in (1, 3, 50, 90):
            codes = sparse_codes(filters, images, lam=8.0, p=0.5, solver=solver, maxiter=maxiter)
            assert codes.iterations <= maxiter
            assert not codes.converged
            assert f"stopped after maxiter={maxiter} iterations" in codes.reason


def test_codes_say_that_maxiter_stopped_them():
    images, filters = photographs(1, 32), unit_filters((1, 6, 5, 5))
    for solver in ("admm", "fista", "hqs"):
        codes = sparse_codes(filters, images, lam=50.0, solver=solver, maxiter=3)
        assert not codes.converged
        assert codes.iterations == 3
        assert "stopped after maxiter=3" in codes.reason


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("solver", ["admm", "fista"])
def test_codes_of_numbers_whose_squares_overflow(solver, dtype):
    """Filters times a and images times b, with lam over ab, have maps times b/a."""
    images, filters = photographs(2, 24).astype(dtype), unit_filters((1, 4, 5, 5)).astype(dtype)
    expected = sparse_codes(filters, images, lam=5, solver=solver, rtol=1e-2)
    far = 30 if dtype == np.float32 else 200
    for a, b in ((1, far), (1, -far), (far, 1), (-far, 1), (-far // 2, far // 2)):
        filters_times, images_times = filters * dtype(10.0**a), images * dtype(10.0**b)
        lam = 5 / 10.0 ** (a // 2 + b // 2) / 10.0 ** (a - a // 2 + b - b // 2)
        codes = sparse_codes(filters_times, images_times, lam=lam, solver=solver, rtol=1e-2)
        assert codes.converged
        assert codes.iterations == expected.iterations
        np.testing.assert_allclose(codes.objective, expected.objective * 10.0 ** (b - a), rtol=1e-4)
        assert np.isfinite(codes.maps).all()
    with pytest.raises(OverflowError, match=f"maps are too large for {np.dtype(dtype)}"):
        sparse_codes(filters * dtype(10.0**-far), images * dtype(10.0**far), lam=5, solver=solver)


def test_codes_are_zero_where_zero_is_minimum():
    filters = unit_filters((1, 4, 5, 5))
    for solver in ("admm", "fista", "hqs"):
        for p in (1.0, 0.5) if solver != "fista" else (1.0,):
            codes = sparse_codes(filters, np.zeros((2, 9, 9)), solver=solver, p=p)
            assert codes.converged
            assert not codes.maps.any()
            # With a small weight of the data zero is the minimum.
            codes = sparse_codes(filters, np.ones((1, 9, 9)), lam=1e-3, solver=solver, p=p)
            assert not codes.maps.any()
            assert codes.converged
            assert codes.objective == pytest.approx([1e-3 / 2 * 81])
    one = sparse_codes(np.ones((1, 1, 1, 1)), [[[3.0]]], lam=1.0, rtol=1e-9)
    assert one.maps.ravel() == pytest.approx([2.0], rel=1e-4)


def test_sparse_codes_rejects_invalid_arguments():
    images, filters = np.ones((1, 8, 8)), np.ones((1, 2, 3, 3))
    for wrong, message in (
        ({"lam": 0}, "lam must be positive"),
        ({"p": 2}, "p must be more than 0"),
        ({"solver": "adam"}, "solver must be one of"),
        ({"solver": "fista", "p": 0.5}, "solver 'fista' is for p = 1, got p = 0.5"),
        ({"betas": ()}, "betas must be one or more increasing numbers"),
        ({"betas": (2, 1)}, "betas must be one or more increasing numbers"),
        ({"cg_iterations": 0}, "cg_iterations must be at least 1"),
        ({"maxiter": 0}, "maxiter must be at least 1"),
        ({"rtol": 0}, "rtol must be between 0 and 1"),
    ):
        with pytest.raises(ValueError, match=message):
            sparse_codes(filters, images, **wrong)
    with pytest.raises(ValueError, match="filters must have the shape"):
        sparse_codes(np.ones((2, 2, 3, 3)), images)
    with pytest.raises(ValueError, match="filters must be finite"):
        sparse_codes(np.full((1, 2, 3, 3), np.nan), images)
    with pytest.raises(ValueError, match=r"images must have the shape \(I, C, H, W\) or \(I, H, W\), got \(8, 8\)"):
        sparse_codes(filters, np.ones((8, 8)))
    with pytest.raises(ValueError, match="images must be finite"):
        sparse_codes(filters, np.full((1, 8, 8), np.inf))
    with pytest.raises(TypeError, match="images must be real"):
        sparse_codes(filters, 1j * images)
    for name, wrong in (("plain", np.ma.masked_array(filters)), ("regular", [[[[1.0]], [[1.0, 2.0]]]])):
        with pytest.raises(TypeError, match=f"filters must be a .*{name}"):
            sparse_codes(wrong, images)
    with pytest.raises(TypeError, match="filters must be real, got dtype complex128"):
        sparse_codes(filters * 1j, images)
    with pytest.raises(ValueError, match=r"filters must be in the range of float32, .*: give images in float64"):
        sparse_codes(filters * 1e-50, np.float32(images))


def test_sparse_codes_rejects_arguments_that_are_not_numbers():
    images, filters = np.ones((1, 8, 8)), np.ones((1, 2, 3, 3))
    for wrong in ("4", b"4", True, None, [4], 1j):
        with pytest.raises(TypeError, match="p must be a number"):
            sparse_codes(filters, images, p=wrong)
        with pytest.raises(TypeError, match="rtol must be a number"):
            sparse_codes(filters, images, rtol=wrong)
    assert float(sparse_codes(filters, images, lam=np.array(4.0)).objective[0]) > 0
