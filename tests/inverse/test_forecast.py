"""Iterations that are forecast from the spectrum, against those of `tikhonov`."""

import numpy as np
import pytest
from inverse_cases import skewed_blur

from convop import Conv, kernels, tikhonov
from convop.inverse.forecast import PlainForecast


def iterations(A, damp, x):
    """Returns the iterations of plain conjugate gradients, and the forecast."""
    y = A @ x + 0.01 * np.random.default_rng(1).standard_normal(A.dimsd)
    solution = tikhonov(A, y, damp, precondition=False)
    assert solution.converged
    is_dual = A.shape[0] < A.shape[1]
    b = y.reshape(-1, 1) if is_dual else A.rmatvec(y.ravel())[:, None]
    return solution.iterations, PlainForecast.of(A, b, damp, 1e-6, is_dual=is_dual).iterations(5000)


def image(shape):
    return np.cumsum(np.random.default_rng(0).standard_normal(shape), axis=-1)


@pytest.mark.parametrize("mode", ["zeros", "circular", "reflect", "symmetric", "replicate"])
@pytest.mark.parametrize("damp", [0.1, 0.02])
def test_forecast_is_close_in_every_mode(mode, damp):
    true, forecast = iterations(
        Conv(skewed_blur(9), (128, 128), padding="same", padding_mode=mode), damp, image((128, 128))
    )
    assert 0.75 * true <= forecast <= 1.25 * true


@pytest.mark.parametrize(
    ("operator", "damp"),
    [
        (Conv(kernels.gaussian(1.5), (120, 130), padding="same", stride=2), 0.05),
        (Conv(kernels.gaussian(1.5), (120, 130), padding="same", stride=2).T, 0.05),
        (Conv(kernels.gaussian(2.0)[8], 3000, padding="same"), 0.02),
        (Conv(kernels.gaussian(1.5).astype(complex) * 1j, (90, 90), padding="same"), 0.05),
        (Conv(np.random.default_rng(0).standard_normal((3, 3, 3, 3)), (3, 64, 64), padding="same"), 0.5),
        (Conv(np.random.default_rng(0).standard_normal((4, 2, 3, 3)), (4, 48, 48), padding="same", groups=2), 0.5),
        (Conv(np.random.default_rng(0).standard_normal((3, 3, 3)), (24, 24, 24), padding="same"), 0.5),
    ],
)
def test_forecast_is_close_for_every_geometry(operator, damp):
    true, forecast = iterations(operator, damp, image(operator.dims))
    assert 0.7 * true <= forecast <= 1.3 * true


@pytest.mark.parametrize(("size", "place"), [(100, (3, 96)), (600, (300, 300)), (700, (697, 100)), (700, (4, 2))])
def test_forecast_looks_where_the_data_are(size, place):
    """One bright point, and nothing elsewhere: also at the ends, which a window over the middle would leave out."""
    x = np.zeros((size, size))
    x[place] = 1
    A = Conv(kernels.gaussian(1.5), x.shape, padding="same", padding_mode="reflect")
    y = A @ x
    true = tikhonov(A, y, 0.02, precondition=False).iterations
    forecast = PlainForecast.of(A, A.rmatvec(y.ravel())[:, None], 0.02, 1e-6, is_dual=False).iterations(5000)
    assert 0.7 * true <= forecast <= 1.5 * true


def test_forecast_of_several_columns_is_between_those_of_each():
    A = Conv(kernels.gaussian(1.5), (96, 96), padding="same")
    rough, smooth = np.random.default_rng(0).standard_normal((2, 96, 96)), A.H @ (A @ image((96, 96)))
    columns = np.stack([A.rmatvec(v.ravel()) for v in (rough[0], smooth)], axis=1)
    one, other, both = (
        PlainForecast.of(A, b, 0.05, 1e-6, is_dual=False).iterations(5000)
        for b in (columns[:, :1], columns[:, 1:], columns)
    )
    assert min(one, other) <= both <= max(one, other)


def test_forecast_stops_at_its_limit_and_can_go_on():
    A = Conv(kernels.gaussian(1.5), (96, 96), padding="same")
    b = A.rmatvec(image((96, 96)).ravel())[:, None]
    forecast = PlainForecast.of(A, b, 1e-3, 1e-6, is_dual=False)
    assert forecast.iterations(10) == 10
    assert forecast.iterations(25) == 25
    assert 300 < forecast.iterations(5000) < 5000
    assert forecast.iterations(10) == forecast.iterations(5000)  # it does not go back


def test_iteration_on_few_eigenvalues_ends_after_as_many_steps():
    forecast = PlainForecast(np.array([1.0, 2.0, 5.0]), np.array([0.2, 0.5, 0.3]), 1e-8)
    assert forecast.iterations(100) == 3
    assert PlainForecast(np.array([3.0]), np.array([1.0]), 1e-8).iterations(100) == 1
