"""The benchmark of solvers: its problems, and its three ways."""

import numpy as np
import pytest

from convop import bench
from convop.bench import solving


@pytest.mark.slow
def test_measure_solving_compares_the_default_with_both_ways():
    lines = list(solving.measure_solving(quick=True, repeats=1))
    assert len(lines) == 8
    assert {line.against for line in lines} == {
        "faster of with and without preconditioner",
        "conjugate gradients alone, at least",
    }
    assert all(line.ratio > 0 and line.limit == 1.1 for line in lines)
    assert "solving" in bench.PARTS


def test_problems_have_every_size_kernel_boundary_and_damping():
    names = [problem.name for problem in solving.problems(quick=True)]
    assert len(names) == len(set(names)) == 4
    kernels = solving._kernels()
    for kernel in kernels.values():
        assert kernel.sum() == pytest.approx(1)
        assert kernel.min() >= 0
    image = solving.natural_image((2, 64, 48))
    assert image.shape == (2, 64, 48)
    assert image.std() == pytest.approx(0.2)
    spectrum = np.abs(np.fft.fft2(image[0])) ** 2
    assert spectrum[1:4, 1:4].mean() > 100 * spectrum[28:32, 20:24].mean()


def test_default_that_does_not_converge_is_an_error(monkeypatch):
    problem = next(solving.problems(quick=True))
    solved, other = (solving.tikhonov(problem.operator, problem.data, problem.damp, maxiter=n) for n in (1000, 0))
    assert solved.converged
    monkeypatch.setattr(solving, "time_ways", lambda *_: {"auto": (1, other), True: (1, solved), False: (1, solved)})
    with pytest.raises(AssertionError, match="the default does not converge"):
        list(solving.measure_solving(quick=True))


def test_way_that_takes_too_long_is_stopped():
    problem = next(solving.problems(quick=True))
    seconds, solution = solving._timed(problem, False, 0.0)
    assert solution is None
    assert seconds > 0
