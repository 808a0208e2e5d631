"""Dampings chosen by cross-validation and by the discrepancy principle, against dense decompositions."""

import math
import re

import numpy as np
import pytest
from inverse_cases import skewed_blur
from spectral_cases import one_blas_thread  # noqa: F401

from convop import Conv, damping, kernels, tikhonov
from convop.bench.solving import camera_shake, disk, natural_image
from convop.operators.base import MatrixOperator


def spectral_measure(A, y):
    """Returns the squared singular value of each left singular vector, and the squared component of the data along it."""
    U, s, _ = np.linalg.svd(A.todense())
    squares = np.zeros(A.shape[0])
    squares[: len(s)] = s**2
    return squares, np.abs(U.conj().T @ y.ravel()) ** 2


OPERATORS = [
    # by bidiagonalisation
    lambda: Conv(skewed_blur(5), (32, 30), padding="same", padding_mode="zeros"),
    # by the eigenvectors of each axis
    lambda: Conv(kernels.gaussian(1.0), (32, 32), padding="same", padding_mode="reflect"),
    # by transforms
    lambda: Conv(kernels.gaussian(1.0), (32, 32), padding="same", padding_mode="symmetric"),
    lambda: Conv(skewed_blur(5), (40, 30), stride=(2, 1), padding="same", padding_mode="circular").T,
    lambda: Conv(skewed_blur(5) * (1 + 0.3j), (28, 32), padding="same", padding_mode="circular"),
    lambda: Conv(
        np.stack([skewed_blur(5), skewed_blur(5).T])[:, None], (1, 24, 24), padding="same", padding_mode="circular"
    ),
]
SOME_QUICK = [pytest.param(make, marks=pytest.mark.slow if number % 2 else []) for number, make in enumerate(OPERATORS)]


@pytest.mark.parametrize("make", SOME_QUICK)
@pytest.mark.parametrize("noise", [0.3, pytest.param(0.01, marks=pytest.mark.slow)])
def test_gcv_minimises_its_formula(make, noise):
    """Compares with ``norm((I - A A_d) y)^2/trace(I - A A_d)^2`` by the dense decomposition; only the trace is estimated."""
    rng = np.random.default_rng(0)
    A = make()
    y = A @ rng.standard_normal(A.dims).cumsum(-2) + noise * rng.standard_normal(A.dimsd)
    squares, masses = spectral_measure(A, y)

    def score(damp):
        left = damp**2 / (squares + damp**2)
        return (left**2 @ masses) / left.sum() ** 2

    damps = np.geomspace(1e-7, 10, 600) * math.sqrt(squares.max())
    best = min(damps, key=score)
    if best < 1.1 * damps[0]:
        with pytest.raises(ValueError, match="cross-validation finds no damping"):
            damping.gcv(A, y)
        return
    found = damping.gcv(A, y)
    assert score(found) <= 1.01 * score(best)
    assert 0.8 < found / best < 1.25
    assert damping.gcv(A, np.stack([y, y], -1)) == pytest.approx(found, rel=0.1)


@pytest.mark.parametrize("make", SOME_QUICK)
@pytest.mark.parametrize("noise", [*(pytest.param(n, marks=pytest.mark.slow) for n in (1e-1, 1e-3, 1e-4)), 1e-2])
def test_discrepancy_agrees_with_the_dense_decomposition(make, noise):
    """Also finds a damping where the noise is so small that small singular values decide."""
    rng = np.random.default_rng(0)
    A = make()
    x = rng.standard_normal(A.dims).cumsum(-2).cumsum(-1)
    y = A @ (x / np.abs(x).max()) + noise * rng.standard_normal(A.dimsd)
    squares, masses = spectral_measure(A, y)
    damp = damping.discrepancy(A, y, 1.1 * noise)
    residual = ((damp**2 / (squares + damp**2)) ** 2) @ masses
    assert math.sqrt(residual / y.size) == pytest.approx(1.1 * noise, rel=0.03)


def test_discrepancy_of_complex_data_and_a_real_operator():
    rng = np.random.default_rng(0)
    for make in OPERATORS[:4]:
        A = make()
        y = A @ rng.standard_normal(A.dims).cumsum(-2) + 0.1 * rng.standard_normal(A.dimsd)
        z = A @ rng.standard_normal(A.dims).cumsum(-2) + 0.1 * rng.standard_normal(A.dimsd)
        both = damping.discrepancy(A, np.stack([y, z], -1), 0.15)
        assert damping.discrepancy(A, y + 1j * z, 0.15 * math.sqrt(2)) == pytest.approx(both, rel=0.06)


@pytest.mark.parametrize("noise", [0.01, 0.1, 1.0])
def test_discrepancy_residual_equals_the_noise(noise):
    rng = np.random.default_rng(0)
    for A in (
        Conv(skewed_blur(5), (50, 60), stride=2, padding="same", padding_mode="symmetric"),
        Conv(skewed_blur(5) * (1 + 0.2j), (50, 60), padding="same"),
    ):
        y = A @ rng.standard_normal(A.dims).cumsum(0).cumsum(1) + noise * rng.standard_normal(A.dimsd)
        damp = damping.discrepancy(A, y, 1.1 * noise)
        residual = tikhonov(A, y, damp, rtol=1e-8).residual_norm
        assert residual == pytest.approx(1.1 * noise * math.sqrt(y.size), rel=0.01)


def test_cross_validation_of_data_that_are_noise_alone_raises():
    rng = np.random.default_rng(0)
    for mode in ("circular", "replicate"):  # exactly, and by bidiagonalisation
        A = Conv(rng.standard_normal((4, 4)), (20, 20), padding="same", padding_mode=mode)
        with pytest.raises(ValueError, match="finds nothing but noise in y"):
            damping.gcv(A, rng.standard_normal((20, 20)))


@pytest.mark.parametrize("mode", ["zeros", "reflect"])
@pytest.mark.parametrize("noise", [0.003, 0.03])
def test_cross_validation_of_kernels_that_take_differences(mode, noise):
    """Most of the data is at small singular values: after few steps, the function seems to fall towards infinity."""
    n, i = 24, np.arange(24)
    A = Conv([[1, -1, 0], [0, 0, 0.2]], (n, n), padding="same", padding_mode=mode)
    data = A @ (100 * np.exp(-((i[:, None] - n / 2) ** 2 + (i - n / 2) ** 2) / 46))
    y = data + noise * np.ptp(data) * np.random.default_rng(1).standard_normal(data.shape)
    U, s, _ = np.linalg.svd(A.todense())
    masses = (U.T @ y.ravel()) ** 2

    def score(damp):
        share = damp**2 / (s**2 + damp**2)
        return share**2 @ masses / share.sum() ** 2

    least = min(score(damp) for damp in s[0] * np.geomspace(1e-7, 100, 1000))
    assert (
        score(damping.gcv(A, y)) < 1.1 * least
    )  # up to 70 times as much at the first dampings that the bounds agree on


def test_dampings_that_do_not_exist_raise():
    along = np.exp(-((np.arange(6) - 2.5) ** 2) / 2)
    A = Conv(np.outer(along, along) / along.sum() ** 2, (64, 64), stride=2, padding=2, padding_mode="symmetric")
    x = np.random.default_rng(0).standard_normal((64, 64)).cumsum(0).cumsum(1)
    y = A @ (x / np.abs(x).max()) + 0.003 * np.random.default_rng(1).standard_normal(A.dimsd)
    with pytest.raises(ValueError, match="cross-validation finds no damping"):
        damping.gcv(A, y)
    A = Conv(kernels.gaussian(3.0), (40, 40), padding="same")
    y = np.random.default_rng(0).standard_normal((40, 40))
    with pytest.raises(ValueError, match="as large as the data"):
        damping.discrepancy(A, y, 2.0)
    with pytest.raises(ValueError, match="less than what no solution explains"):  # by no damping that is worth the name
        damping.discrepancy(A, y, 0.1)
    assert damping.discrepancy(Conv(kernels.gaussian(1.0), (40, 40), padding="same"), y, 0.1) > 0  # explains any data
    for mode in ("zeros", "circular"):
        enlarged = Conv(kernels.gaussian(1.0), (40, 40), stride=2, padding="same", padding_mode=mode).T
        least = np.linalg.lstsq(enlarged.todense(), y.ravel())[1][0]
        with pytest.raises(ValueError, match="less than what no solution explains: the residual is at least") as error:
            damping.discrepancy(enlarged, y, 0.1)
        least_noise = float(re.search(r"at least ([\d.]+)", str(error.value))[1])
        assert 0.1 < least_noise < 1.00001 * math.sqrt(least / y.size)
    for bad in (0, -1, np.nan):
        with pytest.raises(ValueError, match="noise must be positive and finite"):
            damping.discrepancy(A, y, bad)
    for method in (damping.gcv, lambda A, y: damping.discrepancy(A, y, 1.0)):
        with pytest.raises(ValueError, match="y must not be zero everywhere"):
            method(A, np.zeros((40, 40)))


@pytest.mark.thinned
@pytest.mark.parametrize("power", [-1000, -664, 660, 900])
@pytest.mark.parametrize("mode", ["circular", "zeros", "symmetric"])
def test_dampings_scale_with_taps_near_the_ends_of_the_range(power, mode):
    rng = np.random.default_rng(0)
    A = Conv(rng.standard_normal((3, 3)), (12, 13), padding="same", padding_mode=mode)
    y = A @ rng.standard_normal((12, 13)) + 0.1 * rng.standard_normal((12, 13))
    scaled = A.with_kernel(np.ldexp(A.kernel, power))
    damp = damping.discrepancy(A, y, 0.1)
    assert damping.discrepancy(scaled, y, 0.1) == pytest.approx(math.ldexp(damp, power), rel=1e-6)
    y = y + rng.standard_normal((12, 13))
    damp = damping.gcv(A, y)
    assert damping.gcv(scaled, y) == pytest.approx(math.ldexp(damp, power), rel=1e-6)


def test_dampings_of_data_orthogonal_to_the_range_raise():
    checkered = np.indices((6, 6)).sum(0) % 2 * 2.0 - 1
    for A, y in (
        (Conv(np.zeros((3, 3)), (6, 6), padding="same"), np.ones((6, 6))),
        (Conv([[1.0, 1.0]], (6, 6), padding="same", padding_mode="circular"), checkered),
    ):
        for method in (damping.gcv, lambda A, y: damping.discrepancy(A, y, 0.1)):
            with pytest.raises(ValueError, match="y must not be orthogonal"):
                method(A, y)


@pytest.mark.parametrize("shape", [(4000,), (80, 61), (20, 21, 22)])
def test_noise_level_of_smooth_arrays(shape):
    rng = np.random.default_rng(0)
    smooth = sum(np.cos(g / 50) for g in np.meshgrid(*map(np.arange, shape), indexing="ij"))
    for noise in (0.1, 3.0):
        level = damping.noise_level(smooth + noise * rng.standard_normal(shape))
        assert level == pytest.approx(noise, rel=0.1)
    both = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    assert damping.noise_level(both) == pytest.approx(math.sqrt(2), rel=0.1)
    rounded = np.rint(255 * (0.5 + 0.01 * rng.standard_normal(shape))) / 255  # few levels, as in a file of 8 bits
    assert damping.noise_level(rounded) == pytest.approx(0.01, rel=0.15)
    with pytest.raises(ValueError, match="two or more elements along each axis"):
        damping.noise_level(np.ones((1, 5)))


def test_discrepancy_of_noise_far_above_tiny_data_raises():
    A = Conv(np.ones((3, 3)), (8, 8), padding="same")
    with pytest.raises(ValueError, match="as large as the data"):
        damping.discrepancy(A, np.full((8, 8), 1e-300), 0.1)


class CountedProducts:
    """Counts the products with `A` and ``A^H`` of all convolutions, by vectors."""

    def __init__(self, monkeypatch):
        self.count = 0
        apply = MatrixOperator._apply

        def counted(operator, *arguments):
            self.count += 1
            return apply(operator, *arguments)

        monkeypatch.setattr(MatrixOperator, "_apply", counted)

    def of(self, function, *arguments):
        before = self.count
        result = function(*arguments)
        return self.count - before, result


def noisy_photograph(kernel, size, mode, noise):
    """Returns a blur, the data, and the standard deviation of the noise, which is given relative to the range of the data."""
    A = Conv(kernel, (size, size), padding="same", padding_mode=mode)
    clean = A @ natural_image(A.dims)
    deviation = noise * np.ptp(clean)
    return A, clean + deviation * np.random.default_rng(1).standard_normal(clean.shape), deviation


@pytest.mark.parametrize("mode", ["zeros", pytest.param("reflect", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("kernel", "noise"),
    [
        (camera_shake(15), 0.05),
        pytest.param(camera_shake(15), 0.01, marks=pytest.mark.slow),
        pytest.param(disk(17), 0.05, marks=pytest.mark.slow),
        pytest.param(kernels.motion(15, 30), 0.01, marks=pytest.mark.slow),
    ],
)
def test_choices_take_fewer_products_than_ten_solutions(kernel, noise, mode, monkeypatch):
    A, y, deviation = noisy_photograph(kernel, 128, mode, noise)
    products = CountedProducts(monkeypatch)
    for choose, arguments in ((damping.gcv, ()), (damping.discrepancy, (deviation,))):
        chosen, damp = products.of(choose, A, y, *arguments)
        solved, _ = products.of(tikhonov, A, y, damp)
        assert 0 < chosen <= 10 * solved


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate"])
def test_choices_for_separable_kernels_take_no_iterations(mode, monkeypatch):
    A, y, deviation = noisy_photograph(kernels.gaussian(1.6), 96, mode, 0.001)
    products = CountedProducts(monkeypatch)
    for choose, arguments in ((damping.gcv, ()), (damping.discrepancy, (deviation,))):
        chosen, _ = products.of(choose, A, y, *arguments)
        assert chosen <= 1  # A^H y, to check the data
    residual = tikhonov(A, y, damping.discrepancy(A, y, deviation)).residual_norm
    assert residual == pytest.approx(deviation * 96, rel=0.01)


def test_gcv_with_a_trace_from_frequencies_agrees_with_random_signs(monkeypatch):
    A, y, _ = noisy_photograph(skewed_blur(5), 128, "zeros", 0.01)
    found = damping.gcv(A, y)
    assert damping.gcv(A, y, rng=1) == found  # no random numbers
    monkeypatch.setattr(damping, "trace_measure", lambda *arguments: None)
    assert damping.gcv(A, y) == pytest.approx(found, rel=0.1)


def test_gcv_of_other_operators_agrees_with_the_convolution():
    A, y, deviation = noisy_photograph(kernels.gaussian(1.6), 48, "zeros", 0.02)
    matrix = A.tosparse()
    assert damping.gcv(matrix, y.ravel()) == pytest.approx(damping.gcv(A, y), rel=0.1)
    expected = damping.discrepancy(A, y, deviation)
    assert damping.discrepancy(matrix, y.ravel(), deviation) == pytest.approx(expected, rel=0.01)


def test_gcv_by_bidiagonalisation_finds_no_damping_with_fewer_data_than_unknowns():
    A = Conv(skewed_blur(5), (40, 40), stride=2, padding="same", padding_mode="symmetric")
    x = np.random.default_rng(0).standard_normal((40, 40)).cumsum(0).cumsum(1)
    y = A @ (x / np.abs(x).max()) + 0.003 * np.random.default_rng(1).standard_normal(A.dimsd)
    with pytest.raises(ValueError, match="cross-validation finds no damping"):
        damping.gcv(A, y)


CHOICES = [damping.gcv, lambda A, y, **options: damping.discrepancy(A, y, 0.3, **options)]


@pytest.mark.parametrize("choose", CHOICES)
def test_callback_gets_steps_and_the_damping(choose, capsys):
    rng = np.random.default_rng(0)
    for A, is_exact in (
        (Conv(skewed_blur(5), (32, 30), padding="same"), False),
        (Conv(kernels.gaussian(1.0), (32, 30), padding="same"), True),
    ):
        y = A @ rng.standard_normal(A.dims).cumsum(-2) + 0.3 * rng.standard_normal(A.dimsd)
        seen = []
        damp = choose(A, y, callback=lambda steps, estimate, seen=seen: seen.append((steps, estimate)), progress=True)
        steps = [step for step, _ in seen]
        assert seen[-1][1] == damp == choose(A, y)
        assert steps == ([0] if is_exact else sorted(set(steps)))
        assert ("iterations" in capsys.readouterr().err) is not is_exact
        assert is_exact or (steps[0] > 0 and len(steps) > 1)


@pytest.mark.parametrize("choose", CHOICES)
def test_exceptions_of_callbacks_end_the_search(choose):
    A = Conv(skewed_blur(5), (32, 30), padding="same")
    y = np.random.default_rng(0).standard_normal((32, 30))
    error = RuntimeError("stop")

    def stop(steps, damp):
        raise error

    with pytest.raises(RuntimeError) as caught:
        choose(A, y, callback=stop)
    assert caught.value is error
    with pytest.raises(TypeError, match="callback must be callable, got 3"):
        choose(A, y, callback=3)
    with pytest.raises(TypeError, match="progress must be"):
        choose(A, y, progress="yes")
