import numpy as np
import pytest

from convop.apps import demo
from convop.files import read_photograph
from convop.testing import dottest


@pytest.fixture(scope="module")
def problem():
    return demo.observe(read_photograph(None)[100:228, 150:301])


def test_the_kernel_has_no_symmetry_and_keeps_the_brightness():
    kernel = demo.blur_kernel()
    assert kernel.sum() == pytest.approx(1)
    for other in (kernel.T, kernel[::-1], kernel[:, ::-1], kernel[::-1, ::-1]):
        assert np.abs(kernel - other).max() > 0.01


def test_the_operator_and_the_data(problem):
    assert problem.A.dims == (128, 151)
    assert problem.A.dimsd == problem.data.shape == (64, 76)
    assert dottest(problem.A)
    noise = problem.data - problem.A @ problem.photograph
    assert noise.std() == pytest.approx(0.002, rel=0.05)
    assert demo.enlarged(problem).shape == problem.A.dims


def test_every_solver_recovers_what_was_lost(problem):
    before = demo.psnr(demo.enlarged(problem), problem.photograph)
    assert [method for method, _ in demo.solvers(problem)] == list(demo.ITERATIONS)
    for method, solve in demo.solvers(problem):
        steps = []
        recovery = solve(lambda steps=steps: steps.append(1))
        assert recovery.method == method
        assert recovery.image.shape == problem.A.dims
        assert recovery.psnr > before + 2
        assert recovery.psnr == demo.psnr(recovery.image, problem.photograph)
        assert 5 < recovery.iterations <= demo.ITERATIONS[method]
        assert abs(len(steps) - recovery.iterations) <= 1  # the bar moves once an iteration
        assert recovery.seconds > 0


def test_psnr():
    image = np.full((4, 4), 0.5)
    assert demo.psnr(image, image) == np.inf
    assert demo.psnr(image + 0.1, image) == pytest.approx(20)
    assert demo.psnr(image + 9, image) == pytest.approx(10 * np.log10(4))  # what is seen is clipped to 1
