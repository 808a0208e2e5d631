"""The demonstration: its operator, its data, its solvers."""

import numpy as np
import pytest

from convop.apps import demo
from convop.files import read_photograph
from convop.testing import dottest


@pytest.fixture(scope="module")
def problem():
    return demo.simulate(read_photograph(None)[100:228, 150:301])


def test_blur_kernel_has_sum_one_and_no_symmetry():
    kernel = demo.blur_kernel()
    assert kernel.sum() == pytest.approx(1)
    for other in (kernel.T, kernel[::-1], kernel[:, ::-1], kernel[::-1, ::-1]):
        assert np.abs(kernel - other).max() > 0.01


def test_simulate_returns_operator_and_noisy_data(problem):
    assert problem.A.dims == (128, 151)
    assert problem.A.dimsd == problem.data.shape == (64, 76)
    assert dottest(problem.A)
    noise = problem.data - problem.A @ problem.photograph
    assert noise.std() == pytest.approx(0.002, rel=0.05)
    assert demo.upsample(problem).shape == problem.A.dims


def test_solvers_raise_psnr_and_call_step_once_per_iteration(problem):
    before = demo.psnr(demo.upsample(problem), problem.photograph)
    assert [method for method, _ in demo.solvers(problem)] == list(demo.ITERATIONS)
    for method, solve in demo.solvers(problem):
        steps = []
        recovery = solve(lambda steps=steps: steps.append(1))
        assert recovery.method == method
        assert recovery.image.shape == problem.A.dims
        assert recovery.psnr > before + 2
        assert recovery.psnr == demo.psnr(recovery.image, problem.photograph)
        assert 5 < recovery.iterations <= demo.ITERATIONS[method]
        assert abs(len(steps) - recovery.iterations) <= 1
        assert recovery.seconds > 0


def test_psnr_of_equal_shifted_and_clipped_images():
    image = np.full((4, 4), 0.5)
    assert demo.psnr(image, image) == np.inf
    assert demo.psnr(image + 0.1, image) == pytest.approx(20)
    assert demo.psnr(image + 9, image) == pytest.approx(10 * np.log10(4))  # values are clipped to 1
