"""Sparse codes against other solvers of the same problem; layers and networks against their definition."""

import json
import math
import pickle
import tracemalloc
import zipfile
from itertools import combinations, pairwise

import numpy as np
import pytest
import sklearn.base
from scipy.signal import convolve2d, correlate2d
from sklearn.exceptions import NotFittedError
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

import convop
from convop import Conv
from convop.deconvnet import (
    DeconvLayer,
    DeconvNet,
    local_contrast,
    prox,
    remove_mean,
    rescale,
    snr,
    sparse_codes,
)
from convop.deconvnet.coding import _alike, solve
from convop.deconvnet.connectivity import connected
from convop.deconvnet.elementwise import SplitStep, power_sums, shrunk
from convop.deconvnet.half_quadratic import BETAS
from convop.deconvnet.learning import (
    _filter_step,
    _inferred,
    _least_squares,
    _normalised,
    _recentred,
    _renewed,
    learned,
)
from convop.deconvnet.problem import ARRAYS, Monitor, Problem
from convop.deconvnet.splitting import alternate, begun, reweighted
from convop.deconvnet.step_loops import RUN, SUMS
from convop.deconvnet.synthesis import Synthesis
from convop.storage import load_network, save_network


def photographs(count=3, side=64):
    """Crops of photographs, less their means."""
    from skimage import data

    crops = []
    for name in ("camera", "astronaut", "coffee", "chelsea", "coins")[:count]:
        image = getattr(data, name)().astype(float) / 255
        image = image[..., :3].mean(-1) if image.ndim == 3 else image
        top, left = ((n - side) // 2 for n in image.shape)
        crops.append(image[top : top + side, left : left + side])
    return remove_mean(crops)[:, None]


def rough(count):
    """Small images in which there is something for every map."""
    return 5 * np.random.default_rng(7).standard_normal((count, 1, 12, 12))


def bank(shape, seed=0, smooth=True):
    """Filters with unit planes."""
    filters = np.random.default_rng(seed).standard_normal(shape)
    if smooth:
        from scipy.ndimage import gaussian_filter

        filters = gaussian_filter(filters, (0, 0, 1, 1))
    return filters / np.linalg.norm(filters, axis=(2, 3), keepdims=True)


def synthesis_of(filters, maps):
    """By SciPy: the sum of 'valid' convolutions."""
    return np.array(
        [
            [sum(convolve2d(z, f, "valid") for z, f in zip(image, planes, strict=True)) for planes in filters]
            for image in maps
        ]
    )


def objective_of(filters, maps, images, lam, p):
    misfit = ((synthesis_of(filters, maps) - images) ** 2).sum(axis=(1, 2, 3))
    return lam / 2 * misfit + (np.abs(maps) ** p).sum(axis=(1, 2, 3))


def fista_by_scipy(filters, image, lam, steps):
    """Beck and Teboulle with SciPy's convolutions and a step from power iterations; nothing of the package in it."""
    k, l = filters.shape[2:]
    shape = (filters.shape[1], image.shape[1] + k - 1, image.shape[2] + l - 1)

    def forward(z):
        return synthesis_of(filters, z[None])[0]

    def backward(r):
        return np.array(
            [
                sum(correlate2d(r[c], filters[c, m], "full") for c in range(len(filters)))
                for m in range(filters.shape[1])
            ]
        )

    v = np.random.default_rng(0).standard_normal(shape)
    for _ in range(60):
        v /= np.linalg.norm(v)
        v = backward(forward(v))
    L = 1.02 * lam * np.linalg.norm(v)
    z = v = np.zeros(shape)
    t = 1.0
    for _ in range(steps):
        new = v - lam / L * backward(forward(v) - image)
        new = np.sign(new) * np.maximum(np.abs(new) - 1 / L, 0)
        if ((v - new) * (new - z)).sum() > 0:
            t = 1.0
        after = (1 + math.sqrt(1 + 4 * t * t)) / 2
        z, v, t = new, new + (t - 1) / after * (new - z), after
    return z


# The proximal operator


@pytest.mark.parametrize("p", [0.05, 0.3, 0.5, 2 / 3, 0.8, 0.95, 1.0])
@pytest.mark.parametrize("beta", [1.0, 7.0, 1e2, 1e3, 1e4, 1e5])
def test_prox_is_the_best_of_a_grid(p, beta):
    reach = 4 * (1 / beta) ** (1 / (2 - p)) + 0.1
    v = np.linspace(-reach, reach, 83)
    grid = np.linspace(-reach, reach, 40_001)
    grid[20_000] = 0
    spacing = grid[1] - grid[0]
    w = prox(v, beta, p)

    def cost(w, v):
        return np.abs(w) ** p + beta / 2 * (w - v) ** 2

    costs = cost(grid, v[:, None])
    assert (cost(w, v) <= costs.min(axis=1) * (1 + 1e-12) + 1e-15).all()
    # Where zero and the other minimum are about as good, either is right.
    others = np.where(np.abs(grid) > 2 * spacing, costs, np.inf).min(axis=1)
    tied = np.abs(costs[:, 20_000] - others) <= beta * spacing**2 + 3 * p * (2 * spacing) ** p * (p == 1)
    assert (np.abs(w - grid[costs.argmin(axis=1)])[~tied] <= 1.01 * spacing).all()
    assert tied.mean() < 0.3
    np.testing.assert_array_equal(prox(-v, beta, p), -w)


def test_prox_has_the_closed_forms():
    """For p = 1/2 by the cosine of a third of an angle (Xu et al., 2012); soft thresholding for p = 1."""
    rng = np.random.default_rng(0)
    v, beta = rng.standard_normal(1000) * 3, 2.0
    np.testing.assert_array_equal(prox(v, beta, 1), np.sign(v) * np.maximum(np.abs(v) - 0.5, 0))
    least = 1.5 * beta ** (-2 / 3)
    angle = np.arccos(np.clip(1 / (4 * beta) * (np.abs(v) / 3) ** -1.5, -1, 1))
    expected = np.where(np.abs(v) > least, 2 / 3 * v * (1 + np.cos(2 * np.pi / 3 - 2 / 3 * angle)), 0)
    np.testing.assert_allclose(prox(v, beta, 0.5), expected, atol=1e-12)


def test_prox_keeps_dtypes_and_refuses_what_makes_no_sense():
    assert prox(np.float32([1, 2]), 1, 0.5).dtype == np.float32
    assert prox([1, 2], 1, 0.5).dtype == np.float64
    assert prox(3.0, 1, 1).shape == ()
    assert prox(np.zeros((0, 3)), 1, 0.5).shape == (0, 3)
    for p in (0, -1, 1.5, np.nan):
        with pytest.raises(ValueError, match="p must be more than 0 and at most 1"):
            prox([1.0], 1, p)
    for beta in (0, -1, np.inf, np.nan):
        with pytest.raises(ValueError, match="beta must be positive"):
            prox([1.0], beta, 1)
    with pytest.raises(TypeError, match="v must be real"):
        prox([1j], 1, 1)
    with pytest.raises(TypeError, match="beta must be a number"):
        prox([1.0], "a", 1)


def test_prox_of_thresholds_beyond_the_dtype():
    assert prox(np.float32([np.inf, 1]), 1e-40, 1.0).tolist() == [np.inf, 0]


def test_prox_of_what_is_not_finite():
    for p in (0.5, 0.8, 1):
        w = prox([np.nan, np.inf, -np.inf, 3.0], 1, p)
        assert np.isnan(w[0])
        assert w[1:3].tolist() == [np.inf, -np.inf]
        assert w[3] == prox(3.0, 1, p)


# What is done to each element


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("images", "elements"), [(1, 5), (3, RUN), (2, 2 * RUN + 1029)])
def test_a_step_of_the_splitting_is_its_definition(images, elements, dtype, threads):
    rng = np.random.default_rng(elements)
    w, u, pulled = (rng.standard_normal((images, elements)).astype(dtype).T for _ in range(3))
    rho, relaxed, eps = 4.0, 1.7, float(np.finfo(dtype).eps)
    convop.set_num_threads(threads)
    try:
        for weights in (None, rng.random((elements, images)).astype(dtype)):
            step = SplitStep(w, u, weights)
            step.rescale(2.0)
            sums = step(pulled, rho, relaxed)
            half, threshold = u / 2, (1 if weights is None else weights) / dtype(rho)
            z = w - half + pulled
            v = dtype(relaxed) * z + (1 - dtype(relaxed)) * w + half
            new = np.sign(v) * np.maximum(np.abs(v) - threshold, 0)
            np.testing.assert_allclose(step.w, new, atol=16 * eps)
            np.testing.assert_allclose(step.u, v - new, atol=16 * eps)
            np.testing.assert_array_equal(step.w == 0, new == 0)
            z, v, new, old = (a.astype(float) for a in (z, v, new, w))
            squares = [((a**2).sum(axis=0)) for a in (z - new, z, new, new - old, v - new)]
            expected = [np.abs(pulled).max(axis=0), np.abs(new).sum(axis=0), *squares]
            assert sums.shape == (images, len(SUMS))
            np.testing.assert_allclose(sums.T, expected, rtol=300 * eps)
    finally:
        convop.set_num_threads(None)
    # What it was given is as it was.
    assert step.w is not w
    assert not np.shares_memory(step.w, w)
    assert not np.shares_memory(step.u, u)


@pytest.mark.parametrize("p", [0.3, 0.8, 1.0])
@pytest.mark.parametrize(("images", "elements"), [(1, 1), (2, RUN), (3, RUN + 1)])
def test_sums_of_powers(images, elements, p):
    w = np.random.default_rng(0).standard_normal((images, elements))
    w[np.abs(w) < 0.5] = 0
    np.testing.assert_allclose(power_sums(w.T, p), (np.abs(w) ** p).sum(axis=1), rtol=1e-12)
    np.testing.assert_allclose(power_sums(np.asfortranarray(w).T, p), (np.abs(w) ** p).sum(axis=1), rtol=1e-12)


# The data term


@pytest.mark.parametrize("shape", [(1, 3, 3, 3), (2, 5, 4, 2), (3, 2, 1, 5), (2, 3, 5, 5)])
@pytest.mark.parametrize("space", [(9, 8), (1, 4), (5, 5)])
def test_the_gram_of_the_synthesis_is_toeplitz(shape, space):
    filters = np.random.default_rng(0).standard_normal(shape)
    A = Synthesis(filters, space)
    W = A.operator.todense()
    maps = np.random.default_rng(1).standard_normal((2, *A.dims))
    made = A(maps.reshape(2, -1).T).T.reshape(2, *A.dimsd)
    np.testing.assert_allclose(made, synthesis_of(filters, maps), atol=1e-12)
    np.testing.assert_allclose(A.gram.todense(), W @ W.T, atol=1e-12)
    assert np.linalg.norm(W, 2) ** 2 <= A.gain * (1 + 1e-12)
    for rho in (1e-2, 1.0):
        M = A.preconditioner(rho)(np.eye(len(W)))
        np.testing.assert_allclose(M, M.T, atol=1e-12 / rho)
        assert np.linalg.eigvalsh(M)[0] > 0


def test_the_inverse_on_a_larger_domain_is_close():
    A = Synthesis(bank((2, 6, 5, 4)), (24, 20))
    W = A.operator.todense()
    for rho in (0.1, 1.0):
        precise = W @ W.T + rho * np.eye(len(W))
        assert np.linalg.cond(A.preconditioner(rho)(precise)) < 0.2 * np.linalg.cond(precise)


def test_the_largest_gain_is_close_for_large_images():
    A = Synthesis(bank((1, 4, 5, 5)), (60, 60))
    assert A.gain <= 1.1 * A.operator.norm() ** 2


# Sparse codes


@pytest.mark.parametrize(("lam", "maps", "size"), [(5.0, 4, 7), (40.0, 6, 5)])
def test_codes_have_the_objective_of_a_converged_solver(lam, maps, size):
    images, filters = photographs(2, 36), bank((1, maps, size, size))
    best = np.array(
        [objective_of(filters, fista_by_scipy(filters, y, lam, 700)[None], y[None], lam, 1)[0] for y in images]
    )
    for solver, share in (("auto", 1e-3), ("admm", 1e-3), ("fista", 1e-3), ("hqs", 0.03)):
        codes = sparse_codes(filters, images, lam=lam, solver=solver)
        objective = objective_of(filters, codes.maps, images, lam, 1)
        np.testing.assert_allclose(codes.objective, objective, rtol=1e-10)
        assert (objective <= best * (1 + share)).all(), solver
        # What is said of the minimum is true.
        assert (codes.objective * (1 - codes.gap) <= best).all(), solver
        assert codes.converged
        exact = sparse_codes(filters, images, lam=lam, solver="admm", rtol=1e-6)
        assert (exact.objective <= best * (1 + 1e-6)).all()
    for p in (0.8, 2 / 3, 0.5):
        of_one = objective_of(filters, exact.maps, images, lam, p)
        for solver in ("auto", "hqs"):
            codes = sparse_codes(filters, images, lam=lam, p=p, solver=solver)
            objective = objective_of(filters, codes.maps, images, lam, p)
            np.testing.assert_allclose(codes.objective, objective, rtol=1e-8)
            assert (objective < 0.99 * of_one).all(), (p, solver)
            assert np.isnan(codes.gap).all()


@pytest.mark.parametrize("solver", ["admm", "fista", "hqs"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_codes_of_colours_and_of_several_sizes(solver, dtype):
    rng = np.random.default_rng(0)
    filters = bank((3, 7, 4, 3))
    images = (0.3 * rng.standard_normal((2, 3, 17, 12))).astype(dtype)
    codes = sparse_codes(filters, images, lam=20.0, solver=solver)
    assert codes.maps.shape == (2, 7, 20, 14)
    assert codes.maps.dtype == dtype
    precise = sparse_codes(filters, images.astype(float), lam=20.0, rtol=1e-7)
    np.testing.assert_allclose(codes.objective, precise.objective, rtol=0.03 if solver == "hqs" else 1e-3)
    alone = sparse_codes(filters, images[1:], lam=20.0, solver=solver)
    np.testing.assert_allclose(codes.objective[1:], alone.objective, rtol=0.01 if solver == "hqs" else 1e-3)


@pytest.mark.parametrize(
    ("solver", "p"), [("admm", 1.0), ("fista", 1.0), ("hqs", 1.0), ("admm", 0.8), ("admm", 0.5), ("hqs", 0.5)]
)
def test_codes_do_not_depend_on_units(solver, p):
    """Images times c and lam times c^(p - 2): maps times c. Also where images are scaled inside."""
    images, filters = photographs(1, 24), bank((1, 4, 5, 5))
    codes = sparse_codes(filters, images, lam=8.0, p=p, solver=solver)
    assert codes.maps.any()
    for power in (-8, 8, -210, 210):
        c = 2.0**power
        lam = 8.0 * 2.0 ** ((p - 2) * power)
        other = sparse_codes(filters, images * c, lam=lam, p=p, solver=solver)
        np.testing.assert_allclose(other.objective, codes.objective * 2.0 ** (p * power), rtol=1e-3 if p < 1 else 1e-6)
        if p == 1:
            np.testing.assert_allclose(other.maps / c, codes.maps, atol=1e-6)
    # Filters over c: maps times c.
    other = sparse_codes(filters / 2.0**210, images, lam=8.0 * 2.0 ** (p * 210), p=p, solver=solver)
    np.testing.assert_allclose(other.objective, codes.objective * 2.0 ** (p * 210), rtol=1e-3 if p < 1 else 1e-6)


def hard_problems():
    """Filters, images and weights for which iterations are slow, or systems far from what the preconditioner inverts."""
    rng = np.random.default_rng(0)
    colours = bank((3, 2, 5, 5), smooth=False)
    yield "two maps of three channels", colours, rng.standard_normal((1, 3, 20, 20)), 100.0
    pixel = bank((1, 3, 5, 5), seed=19, smooth=False)
    yield "a pixel", pixel, np.ones((1, 1, 1, 1)), 200 / np.abs(pixel).max()
    t = np.exp(-(np.arange(-4, 5) ** 2) / 4.5)
    blur = np.outer(t, t)[None, None]
    yield "a Gaussian", blur / np.linalg.norm(blur), photographs(1, 40), 500.0
    balanced = bank((1, 6, 7, 7), seed=4, smooth=False)
    balanced -= balanced.mean(axis=(2, 3), keepdims=True)
    yield "filters of sum zero", balanced, photographs(1, 32) + 0.4, 300.0
    yield "a large weight", bank((1, 9, 7, 7), seed=8, smooth=False), photographs(1, 32), 500.0
    alike = np.repeat(bank((1, 1, 5, 5), seed=6), 4, axis=1)
    yield "equal filters", alike, photographs(1, 32), 50.0
    alike = bank((1, 4, 5, 5), seed=7)
    alike[:, 1:3] = 0
    yield "filters of zeros", alike, photographs(1, 32), 50.0


@pytest.mark.parametrize(
    ("name", "filters", "images", "lam"), list(hard_problems()), ids=lambda v: v if isinstance(v, str) else ""
)
def test_codes_of_hard_problems_are_within_the_tolerance(name, filters, images, lam):
    # Two iterations of different kinds agree on the minimum, and a lower bound with them.
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


def test_iterations_end_when_the_objective_has_settled():
    problem = Problem(Synthesis(np.ones((1, 1, 1, 1)), (1, 1)), np.ones((1, 1, 1, 1)), 1.0)

    def ended(objectives, dual):
        monitor = Monitor.of(problem, 1e-3)
        done = [monitor.done(np.array([o]), np.array([dual])) for o in objectives]
        return done.index(True) + 1 if True in done else None

    assert ended([2.0, 1.0011, 1.0009, 1.0], 1.0) == 3  # by the gap alone
    assert ended([1.0] * 40, 0.995) == 11  # settled, with a gap that is a bit larger
    assert ended([1.0] * 400, 0.98) is None  # with a gap that is not small, never
    # What falls as 1/n goes on until a tenth of the tolerance is left over a fifth of all steps.
    falling = [1 + 1 / n for n in range(1, 4000)]
    step = ended(falling, 0.995)
    assert falling[step - 1] - 1 < 5e-4
    # Up and down by more than the tolerance is not settled, even if two of them are equal.
    assert ended([1 + 0.002 * (n % 2) for n in range(400)], 0.995) is None
    # Every image counts.
    monitor = Monitor.of(Problem(problem.A, np.ones((2, 1, 1, 1)), 1.0), 1e-3)
    assert not monitor.done(np.array([1.0, 2.0]), np.array([1.0, 1.0]))
    assert monitor.done(np.array([1.0, 1.0]), np.array([0.0, 0.0]))  # the best bounds so far count


def test_dual_bounds():
    """The best multiple of a direction: as good as a search over all of them."""
    filters, images = bank((2, 3, 3, 3)), np.random.default_rng(0).standard_normal((2, 2, 6, 6))
    problem = Problem(Synthesis(filters, (6, 6)), images, 3.0)
    direction = np.random.default_rng(1).standard_normal(problem.y.shape) + problem.y
    correlation = np.abs(problem.A.adjoint(direction)).max(axis=0)
    found = problem.dual(direction, correlation)
    for image in range(2):
        t = np.linspace(-1, 1, 20001) / correlation[image]
        d, y = direction[:, image], problem.y[:, image]
        bounds = t * (d @ y) - t**2 * (d @ d) / (2 * 3.0)
        assert bounds.max() <= found[image] * (1 + 1e-12)
        assert found[image] == pytest.approx(bounds.max(), rel=1e-6)
    np.testing.assert_array_equal(problem.dual(np.zeros_like(direction), np.zeros(2)), 0)


@pytest.mark.parametrize("solver", ["admm", "hqs"])
def test_large_maps_are_worth_a_penalty_that_hardly_grows(solver):
    """For p < 1 zero is a local minimum at any weight of the data."""
    for value, lam, p in ((100.0, 0.01, 0.5), (1000.0, 1e-3, 0.3), (1000.0, 1e-3, 0.8)):
        codes = sparse_codes(np.ones((1, 1, 1, 1)), [[[value]]], lam=lam, p=p, solver=solver)
        grid = np.linspace(0, value, 100001)
        assert codes.objective[0] == pytest.approx((lam / 2 * (grid - value) ** 2 + grid**p).min(), rel=1e-4)
        assert "local minimum" in codes.reason
    # Where it is better than what was found, it is the result.
    codes = sparse_codes(np.ones((1, 1, 1, 1)), [[[1.0]]], lam=1.01, p=0.5, solver=solver)
    assert codes.objective[0] == pytest.approx(0.505)
    assert not codes.maps.any()


def test_half_quadratic_splitting_has_the_proximal_operator_of_its_power(monkeypatch):
    asked = []
    monkeypatch.setattr(
        "convop.deconvnet.half_quadratic.shrunk", lambda v, beta, p: asked.append((beta, p)) or shrunk(v, beta, p)
    )
    images, filters = photographs(1, 24), bank((1, 4, 5, 5))
    for p in (1.0, 0.5):
        asked.clear()
        sparse_codes(filters, images, lam=8.0, p=p, solver="hqs", betas=(2.0, 60.0))
        largest = np.abs(Problem(Synthesis(filters, (24, 24)), images, 8.0).A.adjoint(images.reshape(-1, 1))).max()
        assert {power for _, power in asked} == {p}
        betas = [beta * largest ** (2 - p) for beta in dict.fromkeys(beta for beta, _ in asked)]
        np.testing.assert_allclose(betas, [2, 60], rtol=1e-9)


def test_weights_of_reweighting(monkeypatch):
    """``p (|w| + e)^(p - 1)`` with e a tenth of the largest map, and less than a third of it in each round."""
    images, filters = photographs(1, 24), bank((1, 4, 5, 5))
    problem = Problem(Synthesis(filters, (24, 24)), images, 8.0)
    begin = sparse_codes(filters, images, lam=8.0).maps.reshape(1, -1).T
    seen = []

    def spy(problem, state, cg, limit, weights):
        seen.append((state.w.copy(), weights, limit))
        return alternate(problem, state, cg, limit, weights=weights)

    monkeypatch.setattr("convop.deconvnet.splitting.alternate", spy)
    _, steps = reweighted(problem, begin, 0.6, 2, 100)
    assert steps == 100
    assert [limit for *_, limit in seen] == [30, 30, 30, 10, 0, 0]
    np.testing.assert_array_equal(seen[0][0], begin)
    for number, (w, weights, _) in enumerate(seen):
        offset = 0.1 * np.abs(begin).max() * 0.3**number
        np.testing.assert_allclose(weights, 0.6 * (np.abs(w) + offset) ** -0.4, rtol=1e-12)


def test_iterations_are_no_more_than_asked_for():
    images, filters = photographs(1, 24), bank((1, 4, 5, 5))
    for solver in ("admm", "hqs"):
        for limit in (1, 3, 50, 90):
            codes = sparse_codes(filters, images, lam=8.0, p=0.5, solver=solver, maxiter=limit)
            assert codes.iterations <= limit
            assert not codes.converged
            assert f"stopped after maxiter={limit} iterations" in codes.reason


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("solver", ["admm", "fista"])
def test_codes_of_numbers_whose_squares_have_no_place(solver, dtype):
    """Filters times a and images times b: maps times b/a, if lam is divided by ab."""
    images, filters = photographs(2, 24).astype(dtype), bank((1, 4, 5, 5)).astype(dtype)
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


def test_learning_from_numbers_whose_squares_have_no_place():
    images = rough(2)
    layer = {"p": 1.0, "n_epochs": 2}
    expected = DeconvNet([DeconvLayer(3, 3, lam=4.0, **layer)]).fit(images)
    for power in (-200, 200):
        net = DeconvNet([DeconvLayer(3, 3, lam=4.0 * 10.0**-power, **layer)]).fit(images * 10.0**power)
        np.testing.assert_allclose(net.filters_[0], expected.filters_[0], atol=1e-6)
        np.testing.assert_allclose(net.cost_history_[0], np.array(expected.cost_history_[0]) * 10.0**power, rtol=1e-6)
    expected = DeconvNet([DeconvLayer(3, 3, lam=4.0, p=0.5, n_epochs=1)]).fit(images)
    for power in (-220, 220):
        layer = DeconvLayer(3, 3, lam=4.0 * 2.0 ** (-1.5 * power), p=0.5, n_epochs=1)
        net = DeconvNet([layer]).fit(images * 2.0**power)
        np.testing.assert_allclose(net.filters_[0], expected.filters_[0], atol=1e-6)
        np.testing.assert_allclose(net.cost_history_[0], np.array(expected.cost_history_[0]) * 2.0 ** (power / 2))


def test_codes_of_little_and_of_nothing():
    filters = bank((1, 4, 5, 5))
    for solver in ("admm", "fista", "hqs"):
        for p in (1.0, 0.5) if solver != "fista" else (1.0,):
            codes = sparse_codes(filters, np.zeros((2, 9, 9)), solver=solver, p=p)
            assert codes.converged
            assert not codes.maps.any()
            # So small a weight of the data that zero is best.
            codes = sparse_codes(filters, np.ones((1, 9, 9)), lam=1e-3, solver=solver, p=p)
            assert not codes.maps.any()
            assert codes.converged
            assert codes.objective == pytest.approx([1e-3 / 2 * 81])
    one = sparse_codes(np.ones((1, 1, 1, 1)), [[[3.0]]], lam=1.0, rtol=1e-9)
    assert one.maps.ravel() == pytest.approx([2.0], rel=1e-4)


def test_codes_say_when_they_did_not_converge():
    images, filters = photographs(1, 32), bank((1, 6, 5, 5))
    for solver in ("admm", "fista", "hqs"):
        codes = sparse_codes(filters, images, lam=50.0, solver=solver, maxiter=3)
        assert not codes.converged
        assert codes.iterations == 3
        assert "stopped after maxiter=3" in codes.reason


@pytest.mark.parametrize(("solver", "p"), [("admm", 1.0), ("fista", 1.0), ("hqs", 1.0), ("admm", 0.8)])
def test_images_are_solved_in_blocks_where_there_is_no_memory_for_all(monkeypatch, solver, p):
    images, filters = photographs(5, 24), bank((1, 4, 5, 5))
    images[3] = 0
    apart = [sparse_codes(filters, image[None], lam=5, p=p, solver=solver) for image in images]
    each = apart[0].maps.nbytes
    symbols = Synthesis(filters, (24, 24)).nbytes
    blocks = []
    of = Problem.of
    monkeypatch.setattr(Problem, "of", lambda self, part: blocks.append(part) or of(self, part))

    def solved(free):
        blocks.clear()
        monkeypatch.setattr("convop.deconvnet.coding.available", lambda: free)
        return sparse_codes(filters, images, lam=5, p=p, solver=solver)

    # One by one: exactly what they are alone. By twos: within the tolerance, of what is a minimum.
    codes = solved(5 * each + symbols + 2 * ARRAYS * each)
    assert len(blocks) == 5
    np.testing.assert_array_equal(codes.maps, np.concatenate([code.maps for code in apart]))
    np.testing.assert_array_equal(codes.gap, np.concatenate([code.gap for code in apart]))
    assert codes.iterations == max(code.iterations for code in apart)
    codes = solved(5 * each + symbols + 4 * ARRAYS * each)
    assert [part.start for part in blocks] == [0, 2, 0]  # the image of zeros by itself
    np.testing.assert_allclose(
        codes.objective, np.concatenate([code.objective for code in apart]), rtol=3e-2 if p < 1 else 2e-3
    )
    np.testing.assert_allclose(codes.objective, objective_of(filters, codes.maps, images, 5, p), rtol=1e-9)
    for free in (None, 10**12):
        solved(free)
        assert len(blocks) == 2
    with pytest.raises(
        MemoryError, match=r"finding the maps of 4 images, 4 x 28 x 28 each, takes .* KiB, but only .* is free"
    ):
        solved(5 * each + symbols + ARRAYS * each - 1)


def test_images_of_other_sizes_of_numbers_do_not_disturb_each_other():
    """Each is as good as it is alone, and those that are alike are solved together."""
    images, filters = photographs(3, 24), bank((1, 4, 5, 5))
    for solver in ("admm", "fista", "hqs"):
        for dtype, factor in ((np.float64, 1e4), (np.float64, 1e-9), (np.float32, 1e25)):
            mixed = images.astype(dtype)
            mixed[1] *= dtype(factor)
            together = sparse_codes(filters, mixed, lam=8.0, solver=solver, maxiter=60)
            apart = sparse_codes(filters, mixed[::2], lam=8.0, solver=solver, maxiter=60)
            np.testing.assert_array_equal(together.maps[::2], apart.maps)
            np.testing.assert_array_equal(together.gap[::2], apart.gap)
            assert np.isfinite(together.gap).all()
            assert (together.gap >= 0).all()
    assert [group.tolist() for group in _alike(np.array([1.0, 0.1, 20, 0, 0.05, 300])[:, None, None, None])] == [
        [2, 5],
        [0, 1],
        [4],
        [3],
    ]


def test_what_frequencies_take_counts(monkeypatch):
    """With many channels a matrix for each frequency is more than the maps are."""
    filters, images = bank((20, 2, 5, 5)), np.ones((1, 20, 16, 16))
    maps = 2 * 20 * 20 * 8
    monkeypatch.setattr("convop.deconvnet.coding.available", lambda: 100 * maps)
    with pytest.raises(MemoryError, match="finding the maps of 1 images"):
        sparse_codes(filters, images)
    synthesis = Synthesis(filters, (16, 16))
    tracemalloc.start()
    synthesis.preconditioner(1.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0.5 * synthesis.nbytes < peak < 1.1 * synthesis.nbytes


def test_learning_asks_for_memory_first(monkeypatch):
    monkeypatch.setattr("convop.arrays.memory.available", lambda: 10**6)
    with pytest.raises(MemoryError, match="learning from the maps of 5 images, 4 x 28 x 28 each, takes"):
        DeconvNet([DeconvLayer(4, 5)]).fit(photographs(5, 24))


def test_codes_refuse_what_makes_no_sense():
    images, filters = np.ones((1, 8, 8)), np.ones((1, 2, 3, 3))
    for wrong, message in (
        ({"lam": 0}, "lam must be positive"),
        ({"p": 2}, "p must be more than 0"),
        ({"solver": "adam"}, "solver must be one of"),
        ({"solver": "fista", "p": 0.5}, "solver 'fista' is for p = 1, got p = 0.5"),
        ({"betas": ()}, "betas must be one or more numbers that grow"),
        ({"betas": (2, 1)}, "betas must be one or more numbers that grow"),
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


# Preprocessing


def test_means_and_ranges():
    images = np.random.default_rng(0).random((2, 3, 8, 9)) + np.reshape([1.0, 2.0, 3.0], (3, 1, 1))
    np.testing.assert_allclose(remove_mean(images).mean(axis=(2, 3)), 0, atol=1e-14)
    assert remove_mean(images[:, 0]).shape == (2, 8, 9)
    scaled = rescale(remove_mean(images))
    np.testing.assert_allclose(np.abs(scaled).max(axis=(1, 2, 3)), 1)
    assert not rescale(np.zeros((1, 4, 4))).any()
    assert remove_mean(np.ones((1, 4, 4), np.float32)).dtype == np.float32
    assert remove_mean(np.full((1, 4, 4), 200, np.uint8)).dtype == np.float64


def test_local_contrast_is_its_definition():
    rng = np.random.default_rng(0)
    image = rng.random((9, 11))
    t = np.arange(-2, 3)
    window = np.exp(-(t[:, None] ** 2 + t**2) / (2 * 1.591**2))
    window /= window.sum()

    def smooth(x):
        padded = np.pad(x, 2, "symmetric")
        return np.array([[(padded[i : i + 5, j : j + 5] * window).sum() for j in range(11)] for i in range(9)])

    centred = image - smooth(image)
    deviation = np.sqrt(smooth(centred**2))
    expected = centred / np.maximum(deviation, deviation.mean())
    np.testing.assert_allclose(local_contrast(image[None])[0], expected, atol=1e-12)
    np.testing.assert_allclose(local_contrast(image[None], floor=1.0)[0], centred, atol=1e-12)
    stacked = np.stack([image, 2 * image])[None]
    np.testing.assert_allclose(local_contrast(stacked)[0, 1], expected, atol=1e-12)  # contrast has no units
    for value in (0.0, 1.0, 1e6):
        assert not local_contrast(np.full((1, 6, 6), value)).any()
    for wrong in ({"size": 4}, {"size": 0}, {"sigma": 0}, {"floor": -1}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
            local_contrast(image[None], **wrong)


def test_signal_to_noise():
    x = np.random.default_rng(0).standard_normal(10_000)
    noise = np.random.default_rng(1).standard_normal(10_000)
    assert snr(x + 5, x + 5 + 0.1 * noise) == pytest.approx(20, abs=0.2)
    assert snr(x, x) == math.inf
    with pytest.raises(ValueError, match="images and reconstructions must have one shape"):
        snr(x, x[:5])


# Connections


def test_connections():
    rng = np.random.default_rng(0)
    assert connected("full", 3, 4, rng).all()
    table = connected("singles+pairs", 9, 45, rng)
    columns = {tuple(np.flatnonzero(column)) for column in table.T}
    assert columns == {(c,) for c in range(9)} | set(combinations(range(9), 2))
    table = connected("random-pairs", 5, 23, rng)
    assert (table.sum(axis=0) == 2).all()
    counts = [sum((np.flatnonzero(column) == pair).all() for column in table.T) for pair in combinations(range(5), 2)]
    assert set(counts) == {2, 3}
    own = np.array([[True, False], [False, True]])
    np.testing.assert_array_equal(connected(own.tolist(), 2, 2, rng), own)
    for wrong, below, maps, message in (
        ("singles+pairs", 3, 5, "makes 6 maps of 3 maps below, but n_maps is 5"),
        ("random-pairs", 1, 5, "needs two or more maps below"),
        ("some", 3, 5, "connectivity must be one of full"),
        (np.ones((2, 2)), 2, 2, "array of bool of shape"),
        (np.ones((2, 3), bool), 2, 2, "array of bool of shape"),
        (np.array([[True, False]]), 1, 2, "map 1 has none"),
    ):
        with pytest.raises(ValueError, match=message):
            connected(wrong, below, maps, rng)


# Learning


def test_tables_of_connections_are_copied():
    table = np.ones((1, 3), dtype=bool)
    net = DeconvNet([DeconvLayer(3, 3, lam=4.0, p=1.0, n_epochs=1, connectivity=table)]).fit(rough(1))
    net.connectivity_[0][:] = False
    assert table.all()


def test_the_step_in_the_filters_is_least_squares():
    """With as many iterations as unknowns it is the solution of ``(lam Z^T Z + p S) f = lam Z^T y``, connected planes alone."""
    rng = np.random.default_rng(0)
    table = np.array([[True, True, False], [True, False, True]])
    filters = bank((2, 3, 3, 2)) * table[:, :, None, None]
    maps = rng.standard_normal((2, 3, 9, 8)) * (rng.random((2, 3, 9, 8)) < 0.3)
    images = rng.standard_normal((2, 2, 7, 7))
    for p, lam in ((1.0, 5.0), (0.5, 2.0)):
        S = (np.abs(maps) ** p).sum(axis=(0, 2, 3))
        found = _least_squares(filters, maps, images, table, p / lam * S, 60)
        unknown = np.flatnonzero(np.broadcast_to(table[:, :, None, None], filters.shape))
        columns = []
        for number in unknown:
            unit = np.zeros(filters.size)
            unit[number] = 1
            columns.append(synthesis_of(unit.reshape(filters.shape), maps).ravel())
        Z = np.array(columns).T
        ridge = np.broadcast_to(p * S[None, :, None, None], filters.shape).ravel()[unknown]
        expected = np.zeros(filters.size)
        expected[unknown] = np.linalg.solve(lam * Z.T @ Z + np.diag(ridge), lam * Z.T @ images.ravel())
        np.testing.assert_allclose(found.ravel(), expected, atol=1e-8)


def test_filters_are_moved_to_where_they_are_whole():
    """Learned a pixel beside, and cut off there."""
    rng = np.random.default_rng(0)
    planted = bank((1, 2, 5, 5), seed=3, smooth=False)
    maps = 3 * rng.standard_normal((2, 2, 36, 36)) * (rng.random((2, 2, 36, 36)) < 0.01)
    images, table = synthesis_of(planted, maps), np.ones((1, 2), dtype=bool)
    cut = planted.copy()
    cut[0, 0] = 0
    cut[0, 0, 1:] = planted[0, 0, :4]
    cut[0, 0] /= np.linalg.norm(cut[0, 0])
    problem = Problem(Synthesis(cut, (32, 32)), images, 2.0)
    state = begun(problem)
    alternate(problem, state, 2, 100)
    before = problem.objective(state.w, problem.A(state.w), 1.0).sum()
    moved = _recentred(problem, state, table, 1.0, 2)
    assert moved.objective(state.w, moved.A(state.w), 1.0).sum() < 0.95 * before
    for k in range(2):
        assert np.abs((moved.A.filters[0, k] * planted[0, k]).sum()) > 0.99
    # There they stay, and nothing else is taken.
    again = state.w
    assert _recentred(moved, state, table, 1.0, 2) is moved
    assert state.w is again


def test_maps_move_with_their_filters_and_back_if_it_is_no_better(monkeypatch):
    """What filter and maps make up is the same before the turn that decides; and after one that is worse nothing has changed."""
    rng = np.random.default_rng(0)
    whole = np.zeros((1, 1, 6, 5))
    whole[0, 0, 1:4, 1:3] = rng.standard_normal((3, 2))
    whole /= np.linalg.norm(whole)
    beside = np.roll(whole, (3, 2), axis=(2, 3))  # at the edges, and all of it there
    maps = rng.standard_normal((2, 1, 25, 24)) * (rng.random((2, 1, 25, 24)) < 0.02)
    maps[:, :, :4], maps[:, :, -4:], maps[:, :, :, :4], maps[:, :, :, -4:] = 0, 0, 0, 0
    images = synthesis_of(beside, maps)
    problem = Problem(Synthesis(beside, (20, 20)), images, 5.0)
    state = begun(problem)
    state.w = maps.reshape(2, -1).T
    wide = np.zeros((1, 1, 10, 9))
    wide[:, :, 2:8, 2:7] = beside
    wide[:, :, 8:, 7:] = 0.5  # with which another window has more energy
    monkeypatch.setattr("convop.deconvnet.learning._least_squares", lambda *_: wide)
    tried = []

    def turn(cost):
        return lambda there, trial, *_: tried.append((there, trial)) or (there, cost)

    monkeypatch.setattr("convop.deconvnet.learning._turn", turn(math.inf))
    w, u = state.w, state.u
    assert _recentred(problem, state, np.ones((1, 1), bool), 1.0, 2) is problem
    assert state.w is w
    assert state.u is u
    ((there, trial),) = tried
    shift = np.argwhere(problem.shaped(trial.w)[0, 0])[0] - np.argwhere(maps[0, 0])[0]
    assert shift.tolist() == [2, 2]
    kept = np.zeros_like(wide)
    kept[:, :, 4:, 4:] = there.A.filters
    unit = wide[:, :, 4:, 4:]
    np.testing.assert_allclose(there.A.filters, unit / np.linalg.norm(unit))
    # In the middle, where the moved maps are all there, the moved filter makes up what the wide one did.
    np.testing.assert_allclose(
        there.A(trial.w).T.reshape(images.shape)[:, :, 2:-2, 2:-2],
        synthesis_of(np.where(kept != 0, wide, 0), maps),
        atol=1e-12,
    )
    monkeypatch.setattr("convop.deconvnet.learning._turn", turn(0.0))
    assert _recentred(problem, state, np.ones((1, 1), bool), 1.0, 2) is tried[1][0]
    assert state.w is tried[1][1].w


def test_filters_without_maps_begin_anew():
    images = rough(2)
    table = np.array([[True, True, True], [False, True, True]])
    images = np.concatenate([images, rough(4)[2:]], axis=1)
    filters = bank((2, 3, 3, 3)) * table[:, :, None, None]
    problem = Problem(Synthesis(filters, (12, 12)), images, 4.0)
    state = begun(problem)
    assert _renewed(problem, state, table) is problem  # there is nothing yet
    state.w = np.zeros_like(state.w)
    maps = problem.shaped(state.w)
    maps[0, 0, 5, 6] = 2.0
    state.w = maps.reshape(2, -1).T
    left = images - synthesis_of(filters, problem.shaped(state.w))
    found = _renewed(problem, state, table)
    np.testing.assert_array_equal(found.A.filters[:, 0], filters[:, 0])
    np.testing.assert_array_equal(found.A(state.w), problem.A(state.w))
    windows = [left[i, :, r : r + 3, c : c + 3] for i in range(2) for r in range(10) for c in range(10)]
    best = max(windows, key=lambda patch: (patch**2).sum())
    expected = best / np.linalg.norm(best, axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(found.A.filters[:, 1], expected, rtol=1e-9)
    # The next takes another place, and nothing that is there already.
    assert np.abs(found.A.filters[:, 2] - expected).max() > 0.1
    np.testing.assert_allclose(np.linalg.norm(found.A.filters, axis=(2, 3)), table, rtol=1e-12)
    # What is left has to be worth a map, and as large as a filter.
    faint = Problem(problem.A, images, 0.05)
    assert _renewed(faint, state, table) is faint
    small = Problem(Synthesis(filters, (2, 12)), images[:, :, :2], 4.0)
    state = begun(small)
    state.w = np.zeros_like(state.w)
    state.w[0] = 1
    assert _renewed(small, state, table) is small


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (4, 1), (3, 2)])
def test_small_filters_and_small_images_are_learned_from(shape):
    for size in ((6, 7), (1, 5), (2, 2)):
        images = 3 * np.random.default_rng(0).standard_normal((2, 1, *size))
        net = DeconvNet([DeconvLayer(2, shape, lam=9.0, p=1.0, n_epochs=2)]).fit(images)
        assert net.filters_[0].shape == (1, 2, *shape)
        assert np.isfinite(net.cost_history_[0]).all()


@pytest.mark.parametrize("below", [1, 3])
@pytest.mark.parametrize("p", [1.0, 0.7])
def test_a_step_in_the_filters_never_raises_the_cost(below, p):
    """Planes have unit norm after it; with one map below the same least-squares step is what the images are made of."""
    images = 5 * np.random.default_rng(7).standard_normal((2, below, 12, 12))
    filters = bank((below, 4, 3, 3), smooth=False)
    table = np.ones((below, 4), dtype=bool)
    table[-1, 1:] = below == 1
    filters *= table[:, :, None, None]
    for steps in (1, 5, 40):
        problem = Problem(Synthesis(filters, (12, 12)), images, 4.0)
        state = begun(problem)
        alternate(problem, state, 2, steps)
        before, w = problem.objective(state.w, problem.A(state.w), p).sum(), state.w
        wanted = _least_squares(
            filters,
            problem.shaped(w),
            images,
            table,
            p / 4 * (np.abs(problem.shaped(w)) ** p).sum(axis=(0, 2, 3)),
            2,
        )
        found, cost = _filter_step(problem, state, table, p, 2)
        after = problem.with_filters(found)
        assert cost == pytest.approx(after.objective(state.w, after.A(state.w), p).sum(), rel=1e-12)
        assert cost < before
        norms = np.linalg.norm(found, axis=(2, 3))
        np.testing.assert_allclose(norms, table, rtol=1e-12)
        if below == 1:
            unnormed = problem.with_filters(wanted)
            np.testing.assert_allclose(after.A(state.w), unnormed.A(w), atol=1e-9)


def test_a_step_in_the_filters_that_would_raise_the_cost_is_not_taken():
    images = rough(2)
    problem = Problem(Synthesis(bank((1, 3, 3, 3)), (12, 12)), images, 4.0)
    state = begun(problem)
    alternate(problem, state, 2, 30)
    w = state.w
    before = problem.objective(w, problem.A(w), 1.0).sum()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("convop.deconvnet.learning._least_squares", lambda filters, *_: -filters)
        found, cost = _filter_step(problem, state, np.ones((1, 3), bool), 1.0, 2)
    assert found is problem.A.filters
    assert state.w is w
    assert cost == pytest.approx(before)


def test_inference_between_steps_never_raises_the_cost():
    images = rough(2)
    problem = Problem(Synthesis(bank((1, 3, 3, 3)), (12, 12)), images, 4.0)
    for p in (1.0, 0.6):
        state = begun(problem)
        costs = []
        for _ in range(4):
            _inferred(problem, state, p, 2)
            costs.append(problem.objective(state.w, problem.A(state.w), p))
        for before, after in pairwise(costs):
            assert (after <= before * (1 + 1e-12)).all()
    # ADMM that goes astray, as it may on its way: the maps stay better than they were.
    state = begun(problem)
    _inferred(problem, state, 1.0, 2)
    before = problem.objective(state.w, problem.A(state.w), 1.0)

    def astray(problem, state, cg, limit):
        state.w = state.w + 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("convop.deconvnet.learning.alternate", astray)
        _inferred(problem, state, 1.0, 2)
    assert (problem.objective(state.w, problem.A(state.w), 1.0) <= before * (1 + 1e-12)).all()


def test_planes_that_vanish_stay_what_they_were():
    former = bank((2, 2, 3, 3))
    filters = 3 * former
    filters[0, 1] = 0
    planes, norms = _normalised(filters, former)
    np.testing.assert_allclose(planes, former, rtol=1e-12)
    np.testing.assert_allclose(norms, [3, 3], rtol=1e-12)
    filters[1, 0] *= 2
    np.testing.assert_allclose(_normalised(filters, former)[1], [4.5, 3], rtol=1e-12)  # the mean over those below


def test_parameters_of_a_layer_reach_its_solvers(monkeypatch):
    images = rough(1)
    learning, inference = [], []

    def learned_by(*arguments, **given):
        learning.append(given)
        return learned(*arguments, **given)

    def solved_by(filters, data, lam, p, solver, **given):
        inference.append({"lam": lam, "p": p, "solver": solver, **given})
        return solve(filters, data, lam, p, solver, **given)

    monkeypatch.setattr("convop.deconvnet.net.learned", learned_by)
    monkeypatch.setattr("convop.deconvnet.net.solve", solved_by)
    layers = [
        DeconvLayer(3, 3, lam=4.0, p=1.0, n_epochs=1, solver="hqs", betas=(3, 40.0), cg_iterations=3),
        DeconvLayer(2, 3, lam=np.float32(6.0), p=0.7, n_epochs=2),
    ]
    DeconvNet(layers).fit(images).infer(images)
    assert [{**given} for given in learning] == [
        {"lam": 4.0, "p": 1.0, "cg": 3, "epochs": 1},
        {"lam": 6.0, "p": 0.7, "cg": 2, "epochs": 2},
    ]
    of_first = {"lam": 4.0, "p": 1.0, "solver": "hqs", "betas": (3.0, 40.0), "cg": 3, "rtol": 1e-3, "limit": 1000}
    assert inference[:2] == [of_first, of_first]
    assert (inference[2]["solver"], inference[2]["p"], inference[2]["betas"]) == ("admm", 0.7, BETAS)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("lam", "p"), [(10.0, 1.0), (50.0, 1.0), (10.0, 0.8)])
def test_planted_filters_come_back(seed, lam, p):
    """Not without moving filters, nor with the same weight from the beginning: then it is one or two of them."""
    rng = np.random.default_rng(seed)
    planted = bank((1, 5, 5, 5), seed=100 + seed, smooth=False)
    maps = rng.standard_normal((3, 5, 48, 48)) * (rng.random((3, 5, 48, 48)) < 0.012)
    images = synthesis_of(planted, maps)
    net = DeconvNet([DeconvLayer(5, 5, lam=lam, p=p, n_epochs=4)], rng=seed).fit(images)
    costs = net.cost_history_[0]
    assert all(b <= a * (1 + 1e-12) for a, b in pairwise(costs))
    likeness = np.array(
        [
            [np.abs(correlate2d(a, b, "full")).max() for b in net.filters_[0][0]]  # up to shift and sign
            for a in planted[0]
        ]
    )
    assert (np.sort(likeness.max(axis=1))[1:] >= 0.95).all()
    assert len(set(likeness.argmax(axis=1))) >= 4


@pytest.mark.parametrize("p", [1.0, 0.8])
def test_one_layer_of_photographs(p):
    images = photographs()
    net = DeconvNet([DeconvLayer(9, 7, lam=5.0, p=p, n_epochs=4)]).fit(images)
    costs = net.cost_history_[0]
    assert len(costs) == 4
    assert all(b < a for a, b in pairwise(costs))
    maps = net.infer(images)[0]
    assert maps.shape == (3, 9, 70, 70)
    assert (maps != 0).mean() < 0.1
    assert snr(images, net.reconstruct(maps, 0)) >= (14 if p == 1 else 12)
    objective = objective_of(net.filters_[0], maps, images, 5.0, p).sum()
    assert objective <= costs[-1] * 1.01  # the cost is that of these filters
    assert objective < 0.8 * 2.5 * (images**2).sum()


def test_two_layers_of_photographs():
    images = photographs(3, 48)
    layers = [
        DeconvLayer(6, 7, lam=5.0, p=1.0, n_epochs=3),
        DeconvLayer(21, 5, lam=5.0, p=1.0, n_epochs=2, connectivity="singles+pairs"),
    ]
    net = DeconvNet(layers).fit(images)
    for filters, table in zip(net.filters_, net.connectivity_, strict=True):
        norms = np.linalg.norm(filters, axis=(2, 3))
        np.testing.assert_allclose(norms[table], 1, rtol=1e-12)
        assert not filters[~table].any()
    assert [f.shape for f in net.filters_] == [(1, 6, 7, 7), (6, 21, 5, 5)]
    assert all(b <= a for costs in net.cost_history_ for a, b in pairwise(costs))
    maps = net.infer(images)
    assert [m.shape for m in maps] == [(3, 6, 54, 54), (3, 21, 58, 58)]
    assert snr(images, net.reconstruct(maps[1], 1)) >= 4
    by_hand = synthesis_of(net.filters_[0], synthesis_of(net.filters_[1], maps[1][:1]))
    np.testing.assert_allclose(net.reconstruct(maps[1][:1], -1), by_hand, atol=1e-10)
    # A pixel of a second layer's map is a pattern of both.
    pixel = np.zeros((1, 21, 11 + 4, 11 + 4))
    pixel[0, 20, 7, 7] = 1
    assert net.reconstruct(pixel, 1).shape == (1, 1, 5, 5)


def tiny(**more):
    return DeconvNet([DeconvLayer(3, 3, p=1.0, lam=4.0, n_epochs=2, **more)], rng=3)


def test_the_same_seed_gives_the_same_result():
    images = photographs(2, 20)
    first, second = tiny().fit(images), tiny().fit(images)
    np.testing.assert_array_equal(first.filters_[0], second.filters_[0])
    np.testing.assert_array_equal(first.infer(images)[0], second.infer(images)[0])
    assert first.cost_history_ == second.cost_history_
    again = first.fit(images)
    np.testing.assert_array_equal(again.filters_[0], second.filters_[0])
    other = DeconvNet(tiny().layers, rng=4).fit(images)
    assert not np.array_equal(other.filters_[0], first.filters_[0])
    generator = DeconvNet(tiny().layers, rng=np.random.default_rng(3)).fit(images)
    np.testing.assert_array_equal(generator.filters_[0], first.filters_[0])


def test_images_without_channels_and_in_colour():
    images = photographs(2, 20)
    with_axis, without = tiny().fit(images), tiny().fit(images[:, 0])
    np.testing.assert_array_equal(with_axis.filters_[0], without.filters_[0])
    colours = np.concatenate([images, images[:, :, ::-1], 0.5 * images], axis=1)
    net = tiny().fit(colours)
    assert net.filters_[0].shape == (3, 3, 3, 3)
    np.testing.assert_allclose(np.linalg.norm(net.filters_[0], axis=(2, 3)), 1, rtol=1e-12)
    costs = net.cost_history_[0]
    assert costs[1] <= costs[0]
    assert net.reconstruct(net.infer(colours)[0], 0).shape == colours.shape
    single = tiny().fit(images.astype(np.float32))
    assert single.filters_[0].dtype == single.infer(images.astype(np.float32))[0].dtype == np.float32
    np.testing.assert_allclose(single.filters_[0], with_axis.filters_[0], atol=0.02)
    assert tiny().fit(np.random.default_rng(0).integers(0, 255, (1, 12, 14), dtype=np.uint8)).filters_


@pytest.mark.parametrize("solver", ["auto", "admm", "fista", "hqs"])
def test_inference_by_each_solver(solver):
    images = photographs(2, 20)
    net = tiny(solver=solver).fit(images)
    codes = sparse_codes(net.filters_[0], images, lam=4.0, rtol=1e-6)
    objective = objective_of(net.filters_[0], net.infer(images)[0], images, 4.0, 1)
    np.testing.assert_allclose(objective, codes.objective, rtol=0.03 if solver == "hqs" else 1e-3)
    other_size = np.zeros((1, 1, 9, 31))
    other_size[0, 0, 4, 4] = 3
    assert net.infer(other_size)[0].shape == (1, 3, 11, 33)


def test_a_network_is_an_estimator():
    net = tiny(connectivity=np.ones((1, 3), bool))
    assert net.get_params() == {"layers": net.layers, "rng": 3}
    copy = sklearn.base.clone(net)
    assert copy is not net
    assert copy.layers[0] is not net.layers[0]
    assert copy.layers[0].get_params().keys() == net.layers[0].get_params().keys()
    assert not hasattr(sklearn.base.clone(tiny().fit(rough(1))), "filters_")
    assert repr(DeconvNet([DeconvLayer(3, 5, p=1.0)], rng=1)) == "DeconvNet([DeconvLayer(3, 5, p=1.0)], rng=1)"
    layer = DeconvLayer(3, 5)
    assert layer.set_params(lam=3.0, p=1.0) is layer
    assert (layer.lam, layer.p) == (3.0, 1.0)
    with pytest.raises(ValueError, match="DeconvLayer has no parameter 'size'"):
        layer.set_params(size=3)
    fitted = tiny().fit(rough(1))
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.infer(rough(1))[0], fitted.infer(rough(1))[0])


def test_who_is_told_of_epochs(capfd):
    told = []
    net = DeconvNet([DeconvLayer(2, 3, p=1.0, n_epochs=2), DeconvLayer(3, 3, p=1.0, n_epochs=1)])
    images = rough(1)
    given = images.copy()
    net.fit(images, callback=lambda *said: told.append(said), progress=True)
    assert [said[:2] for said in told] == [(0, 0), (0, 1), (1, 0)]
    assert [said[2] for said in told] == [cost for costs in net.cost_history_ for cost in costs]
    assert "3 of 3 epochs" in capfd.readouterr().err
    np.testing.assert_array_equal(images, given)


def test_a_layer_without_maps_is_no_secret():
    images = photographs(2, 24)
    layers = [DeconvLayer(4, 5, lam=5, p=1, n_epochs=1), DeconvLayer(4, 3, lam=1e-3, n_epochs=2)]
    with pytest.warns(UserWarning, match=r"all maps of layer 2 of 2 are zero.*lam=0\.001 and p=0\.8.*larger lam"):
        net = DeconvNet(layers).fit(images)
    assert not net.infer(images)[1].any()
    assert len(net.cost_history_[1]) == 2


def test_what_fails_leaves_the_network_as_it_was():
    net = tiny().fit(rough(1))
    before = net.filters_

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        net.fit(rough(2), callback=stop)
    assert net.filters_ is before


def test_layers_refuse_what_makes_no_sense():
    for wrong, message in (
        ({"n_maps": 0}, "n_maps must be at least 1"),
        ({"kernel_size": 0}, "kernel_size must be at least 1"),
        ({"kernel_size": (3, 3, 3)}, "kernel_size must be one integer or 2"),
        ({"lam": -1}, "lam must be positive"),
        ({"p": 0}, "p must be more than 0"),
        ({"n_epochs": 0}, "n_epochs must be at least 1"),
        ({"solver": "sgd"}, "solver must be one of"),
        ({"solver": "fista"}, "is for p = 1"),
        ({"betas": (1, 1)}, "betas must be"),
        ({"cg_iterations": 0}, "cg_iterations must be at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            DeconvLayer(**{"n_maps": 3, "kernel_size": 5, **wrong})
    images = rough(1)
    layer = DeconvLayer(3, 5).set_params(lam=-1)
    with pytest.raises(ValueError, match="lam must be positive"):
        DeconvNet([layer]).fit(images)
    for layers in ([], [3], None, 5, DeconvLayer(2, 3), iter([DeconvLayer(2, 3)])):
        with pytest.raises(TypeError, match="layers must be a list of one or more DeconvLayers"):
            DeconvNet(layers).fit(images)
    net = tiny()
    with pytest.raises(ValueError, match="call fit first"):
        net.infer(images)
    net.fit(images)
    with pytest.raises(ValueError, match="images must have the 1 channels"):
        net.infer(np.ones((1, 2, 12, 12)))
    with pytest.raises(ValueError, match="layer must be from -1 to 0, got 1"):
        net.reconstruct(net.infer(images)[0], 1)
    with pytest.raises(ValueError, match="layer must be from -1 to 0, got -2"):
        net.patterns(-2)
    with pytest.raises(ValueError, match=r"maps must have the shape \(I, 3, h, w\)"):
        net.reconstruct(images, 0)
    with pytest.raises(ValueError, match="maps must be at least as large as the filters"):
        net.reconstruct(np.ones((1, 3, 2, 2)), 0)
    with pytest.raises(TypeError, match="callback must be callable"):
        net.fit(images, callback=3)


def test_numbers_are_numbers():
    images = rough(1)
    for wrong in ("4", b"4", True, None, [4], 1j):
        with pytest.raises(TypeError, match="lam must be a number"):
            DeconvLayer(3, 3, lam=wrong)
        with pytest.raises(TypeError, match="p must be a number"):
            sparse_codes(bank((1, 2, 3, 3)), images, p=wrong)
        with pytest.raises(TypeError, match="rtol must be a number"):
            sparse_codes(bank((1, 2, 3, 3)), images, rtol=wrong)
    for wrong in ("123", b"12", 3.0):
        with pytest.raises(TypeError, match="betas must be one or more numbers that grow"):
            DeconvLayer(3, 3, betas=wrong)
    with pytest.raises(TypeError, match="kernel_size must be an integer"):
        DeconvLayer(3, b"33")
    for wrong in ("a", -1):
        with pytest.raises((TypeError, ValueError), match="rng must be an integer from 0"):
            DeconvNet([DeconvLayer(2, 3)], rng=wrong).fit(images)
    for name, wrong in (("masked", np.ma.masked_array(bank((1, 2, 3, 3)))), ("regular", [[[[1.0]], [[1.0, 2.0]]]])):
        with pytest.raises(TypeError, match=f"filters must be a .*{name if name == 'regular' else 'plain'}"):
            sparse_codes(wrong, images)
    with pytest.raises(TypeError, match="filters must be real, got dtype complex128"):
        sparse_codes(bank((1, 2, 3, 3)) * 1j, images)
    with pytest.raises(ValueError, match="leave float32, the dtype of the images: give images in float64"):
        sparse_codes(bank((1, 2, 3, 3)) * 1e-50, np.float32(images))
    assert float(sparse_codes(bank((1, 2, 3, 3)), images, lam=np.array(4.0)).objective[0]) > 0


def test_a_network_that_was_changed_since_is_not_taken_for_the_one_that_was_fitted(tmp_path):
    images = rough(2)
    for change in (
        lambda net: net.layers[0].set_params(n_maps=5),
        lambda net: net.layers[0].set_params(kernel_size=4),
        lambda net: net.layers.append(DeconvLayer(2, 3)),
    ):
        net = tiny().fit(images)
        maps = net.infer(images)[0]
        change(net)
        for use in (lambda net: net.infer(images), lambda net, maps=maps: net.reconstruct(maps, 0)):
            with pytest.raises(ValueError, match="has other layers than those that were fitted: call fit again"):
                use(net)
        with pytest.raises(ValueError, match=r"net cannot be kept in a file: .*; call fit again"):
            save_network(tmp_path / "net.npz", net)
    assert not list(tmp_path.iterdir())


def test_what_is_written_can_be_read(tmp_path):
    images = rough(1)
    path = tmp_path / "net.npz"
    net = DeconvNet([DeconvLayer(np.int64(2), 3, lam=np.array(4.0), p=np.float32(1))]).fit(images)
    assert load_network(save_network(path, net)).layers[0].lam == 4.0
    deep = DeconvNet([DeconvLayer(1, 1, lam=100.0, p=1.0, n_epochs=1) for _ in range(33)]).fit(images)
    with pytest.raises(ValueError, match="it has 33 layers, where 1 to 32 are expected"):
        save_network(tmp_path / "deep.npz", deep)
    assert [p.name for p in tmp_path.iterdir()] == ["net.npz"]


def test_what_does_not_converge_is_said(monkeypatch):
    images = rough(1)
    net = tiny().fit(images)
    monkeypatch.setattr("convop.deconvnet.net._INFERENCE_LIMIT", 2)
    with pytest.warns(UserWarning, match="the maps of layer 1: stopped after maxiter=2 iterations"):
        net.infer(images)


def test_scikit_learn_takes_a_network_for_an_estimator():
    net = tiny()
    with pytest.raises(NotFittedError):
        check_is_fitted(net)
    check_is_fitted(net.fit(rough(1)))
    assert not get_tags(net).target_tags.required
    assert repr(sklearn.base.clone(DeconvLayer(2, 3, lam=4.0))) == "DeconvLayer(2, 3, lam=4.0)"


def test_preprocessing_of_numbers_whose_squares_have_no_place():
    images = np.random.default_rng(0).standard_normal((2, 1, 12, 11))
    for dtype, powers in ((np.float64, (-900, 900)), (np.float32, (-90, 90))):
        plain = images.astype(dtype)
        for power in powers:
            huge = np.ldexp(plain, power)
            np.testing.assert_allclose(local_contrast(huge), local_contrast(plain), rtol=1e-4)
            np.testing.assert_array_equal(np.ldexp(remove_mean(huge), -power), remove_mean(plain))
            np.testing.assert_allclose(
                local_contrast(huge, floor=math.ldexp(0.5, power)) if dtype == np.float64 else 0,
                local_contrast(plain, floor=0.5) if dtype == np.float64 else 0,
                rtol=1e-4,
            )
            assert snr(huge, 1.01 * huge) == pytest.approx(snr(plain, 1.01 * plain), abs=1e-3)
    assert np.isfinite(remove_mean(np.full((1, 4, 4), 1.7e308))).all()
    assert np.isfinite(local_contrast(images, sigma=1e200)).all()
    for wrong in ([np.nan, 1.0], np.ma.masked_array([1.0, 2.0]), [1j, 2.0], []):
        with pytest.raises((TypeError, ValueError), match="images"):
            snr(wrong, wrong)


def test_alternating_directions_end_where_they_began_if_that_is_the_solution():
    """Warm starts: a converged state stays."""
    images, filters = photographs(1, 24), bank((1, 4, 5, 5))
    problem = Problem(Synthesis(filters, (24, 24)), images, 10.0)
    state = begun(problem)
    alternate(problem, state, 2, 400)
    w = state.w.copy()
    alternate(problem, state, 2, 20)
    np.testing.assert_allclose(state.w, w, atol=1e-4 * np.abs(w).max())


def test_layers_are_operators_of_the_package():
    """The analysis of a layer is the transpose of its synthesis."""
    filters = bank((2, 3, 4, 5))
    A = Conv(filters, (3, 12, 14), flip=True)
    net = DeconvNet([DeconvLayer(3, (4, 5))])
    net.filters_ = [filters]
    maps = np.random.default_rng(0).standard_normal((1, 3, 12, 14))
    np.testing.assert_allclose(net.reconstruct(maps, 0)[0], A @ maps[0], atol=1e-12)


# Patterns and files


def test_patterns_are_what_filters_make_of_those_below():
    net = DeconvNet([DeconvLayer(3, (4, 5)), DeconvLayer(2, 3)])
    net.filters_ = [bank((2, 3, 4, 5)), bank((3, 2, 3, 3), seed=1)]
    np.testing.assert_allclose(net.patterns(0), net.filters_[0].swapaxes(0, 1), atol=1e-14)
    expected = [
        [sum(convolve2d(net.filters_[1][m, k], net.filters_[0][c, m]) for m in range(3)) for c in range(2)]
        for k in range(2)
    ]
    np.testing.assert_allclose(net.patterns(1), expected, atol=1e-14)
    np.testing.assert_allclose(net.patterns(-1), expected, atol=1e-14)


@pytest.fixture
def stored(tmp_path):
    own = np.array([[True, False, True], [True, True, False]])
    layers = [DeconvLayer(2, (3, 4), p=1.0, n_epochs=1), DeconvLayer(3, 3, p=0.7, n_epochs=2, connectivity=own)]
    net = DeconvNet(layers, rng=5).fit(np.float32(rough(1)))
    return net, save_network(tmp_path / "net.npz", net)


def test_networks_come_back_from_files(stored):
    net, path = stored
    again = load_network(path)
    images = np.float32(rough(2))
    for one, other in zip(net.infer(images), again.infer(images), strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype == np.float32
    assert again.cost_history_ == net.cost_history_
    assert again.rng == 5
    for one, other in zip(net.layers, again.layers, strict=True):
        for name, value in one.get_params().items():
            assert np.array_equal(other.get_params()[name], value), name
    refitted = again.fit(images)
    np.testing.assert_array_equal(refitted.filters_[1], net.fit(images).filters_[1])
    with pytest.raises(ValueError, match="call fit first"):
        save_network(path, DeconvNet([DeconvLayer(2, 3)]))
    with pytest.raises(ValueError, match=r"path must be a \.npz file"):
        save_network(path.with_suffix(".txt"), net)
    assert [p.name for p in path.parent.iterdir()] == ["net.npz"]


def rewritten(path, **changes):
    """The file with other members."""
    with np.load(path) as members:
        arrays = dict(members)
    for name, value in changes.items():
        arrays.pop(name, None)
        if value is not None:
            arrays[name] = value
    other = path.with_name("other.npz")
    np.savez(other, **arrays)
    return other


def test_files_that_are_not_what_they_say(stored, tmp_path):
    _, path = stored
    with np.load(path) as members:
        text = json.loads(members["parameters"].tobytes())
        filters = members["filters_0"]

    def said(**changes):
        return np.frombuffer(json.dumps({**text, **changes}).encode(), np.uint8)

    layer = dict(text["layers"][0])
    for changes, message in (
        ({"parameters": said(format="else")}, "its format is not"),
        ({"parameters": np.frombuffer(b"{", np.uint8)}, "cannot be read"),
        ({"parameters": np.zeros(3)}, "its parameters are no text"),
        ({"parameters": None}, "cannot be read"),
        ({"parameters": said(layers=[{**layer, "lam": -1}, text["layers"][1]])}, "lam must be positive"),
        ({"parameters": said(layers=[{**layer, "n_maps": 10**9}, text["layers"][1]])}, "filters of layer 0"),
        ({"parameters": said(layers=[{**layer, "new": 1}, text["layers"][1]])}, "cannot be read"),
        ({"parameters": said(layers=[])}, "it has 0 layers, where 1 to 32 are expected"),
        ({"parameters": said(layers=text["layers"][:1])}, "its arrays are not those of its layers"),
        ({"filters_0": np.full_like(filters, np.nan)}, "are not finite"),
        ({"filters_0": filters[:, :1]}, "have the shape"),
        ({"filters_0": 7 * filters}, "filters of layer 0 have not the norm 1"),
        ({"filters_0": 1e-310 * filters}, "filters of layer 0 have not the norm 1"),
        ({"parameters": said(rng=-5)}, "rng must be an integer from 0"),
        ({"parameters": said(rng="5")}, "rng must be an integer"),
        ({"filters_0": filters.astype(np.int8)}, "dtype"),
        ({"filters_0": filters.astype(complex)}, "has the dtype complex128"),
        ({"filters_1": None}, "cannot be read"),
        ({"connectivity_1": np.ones((2, 3))}, "connections of layer 1"),
        ({"connectivity_1": np.zeros((2, 3), bool)}, "connect"),
        ({"costs_0": np.ones((1, 2))}, "costs of layer 0"),
        ({"more": np.ones(3)}, "its arrays are not those of its layers"),
    ):
        with pytest.raises(ValueError, match=message):
            load_network(rewritten(path, **changes))
    with zipfile.ZipFile(tmp_path / "claims.npz", "w") as archive:
        header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999, 99999), }"
        header += b" " * (63 - (len(header) + 10) % 64) + b"\n"
        archive.writestr("filters_0.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(ValueError, match="claims the shape"):
        load_network(tmp_path / "claims.npz")
    for content in (b"", b"text", path.read_bytes()[:300]):
        (tmp_path / "damaged.npz").write_bytes(content)
        with pytest.raises(ValueError, match=r"network .*damaged.npz cannot be read"):
            load_network(tmp_path / "damaged.npz")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_network(tmp_path / "nothing.npz")


def test_objects_in_files_are_not_unpickled(stored):
    _, path = stored

    class Trap:
        def __reduce__(self):
            return print, ("trapped",)

    with pytest.raises(ValueError, match="cannot be read"):
        load_network(rewritten(path, filters_0=np.array([Trap()], dtype=object)))
