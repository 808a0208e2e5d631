"""The choice of a preconditioner by predicted time, and what happens to one that does not pay."""

import numpy as np
import pytest
from inverse_cases import skewed_blur, tikhonov_by_svd
from spectral_cases import oracle_matrix

from convop import Conv, kernels, preconditioner, tikhonov
from convop.inverse.choice import Comparison, Work, iteration_seconds, preconditioner_work
from convop.inverse.forecast import PlainForecast
from convop.inverse.normal_equations import NormalEquations
from convop.inverse.preconditioner import PreconditionerPlan
from convop.inverse.scaled_problem import ScaledProblem
from convop.operators.block_diagonal import BlockOperator

QUICK = PlainForecast(np.array([3.0]), np.array([1.0]), 1e-8)  # one iteration


def plain(least):
    """Returns a forecast for eigenvalues between a number and 1: about ``10/sqrt(least)`` iterations."""
    values = np.geomspace(least, 1, 1000)
    return PlainForecast(values, np.full(1000, 1e-3), 1e-8)


def comparison(forecast, plain_seconds, work, rtol=1e-8):
    return Comparison(lambda: forecast, plain_seconds, work, rtol)


def test_preconditioner_pays_if_plain_iterations_take_longer_than_all_of_it():
    assert not comparison(QUICK, 1.0, Work(set_up=30, apply=0.1, iterations=1)).pays()
    # Up to 25 plain iterations, about what a condition number of 10 takes, there is no forecast.
    assert Comparison(lambda: pytest.fail("a forecast"), 1.0, Work(20, 1, 1), 1e-8).pays()
    assert 70 < plain(1e-2).iterations(1000) < 130
    assert comparison(plain(1e-2), 1.0, Work(set_up=5, apply=1, iterations=10)).pays()  # 5 + 1 + 10*2 = 26
    assert not comparison(plain(1e-2), 1.0, Work(set_up=150, apply=1, iterations=10)).pays()
    assert comparison(plain(1e-2), 1.0, Work(set_up=0, apply=0.5, iterations=40)).pays()  # 0.5 + 40*1.5
    assert not comparison(plain(1e-2), 1.0, Work(set_up=0, apply=3, iterations=40)).pays()


def test_preconditioner_is_hopeless_if_its_rate_is_worse_than_plain_iterations():
    judge = comparison(plain(1e-2), 1.0, Work(set_up=0, apply=1, iterations=10))
    assert not judge.is_hopeless(5, 1.0, 1e-6)  # too early
    assert not judge.is_hopeless(20, 1e-5, 1e-6)  # four more iterations
    assert judge.is_hopeless(20, 0.9, 1e-6)  # 2600 more
    assert judge.is_hopeless(20, 1.0, 1e-6)
    slower = comparison(plain(1e-10), 1.0, Work(set_up=0, apply=0.1, iterations=10))
    assert not slower.is_hopeless(20, 0.9, 1e-6)  # plain iterations take longer still


BLUR = Conv(skewed_blur(9), (64, 64), padding="same", padding_mode="reflect")
SHARP = Conv(skewed_blur(3) * 0.2 + np.pad([[0.8]], 1), (64, 64), padding="same")


def data(A, columns=()):
    return np.random.default_rng(0).random((*A.dimsd, *columns))


def test_auto_uses_a_preconditioner_where_it_saves_time_and_none_where_it_does_not():
    few = tikhonov(SHARP, data(SHARP), 0.1)
    assert few.iterations == tikhonov(SHARP, data(SHARP), 0.1, precondition=False).iterations > 4
    many = tikhonov(BLUR, data(BLUR), 0.003)
    assert many.iterations < tikhonov(BLUR, data(BLUR), 0.003, precondition=False).iterations / 3
    outer_product = Conv(kernels.gaussian(1.5), (64, 64), padding="same")
    assert tikhonov(outer_product, data(outer_product), 0.01).iterations <= 2


@pytest.mark.parametrize("precondition", ["auto", True, False])
@pytest.mark.parametrize("columns", [(), (2,)])
@pytest.mark.parametrize("stride", [1, 2])
def test_every_choice_gives_the_same_solution(precondition, columns, stride):
    A = Conv(skewed_blur(5), (18, 17), stride=stride, padding="same", padding_mode="replicate")
    y = data(A, columns)
    solution = tikhonov(A, y, 0.05, precondition=precondition, rtol=1e-10)
    assert solution.converged
    expected = tikhonov_by_svd(oracle_matrix(A), y.reshape(A.shape[0], -1), 0.05).reshape(*A.dims, *columns)
    np.testing.assert_allclose(solution.x, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("precondition", "error"), [("yes", ValueError), ("True", ValueError), (1, TypeError), (None, TypeError)]
)
def test_other_values_of_precondition_are_refused(precondition, error):
    with pytest.raises(error, match='precondition must be "auto", True or False, got'):
        tikhonov(BLUR, data(BLUR), 0.1, precondition=precondition)


class Judge:
    """Gives a preconditioner up after so many iterations."""

    def __init__(self, after, plain_limit=0):
        self.after, self._plain_limit = after, plain_limit

    def plain_limit(self):
        return self._plain_limit

    def is_hopeless(self, iterations, reduction, goal):
        assert 0 <= reduction <= 1
        assert goal > 0
        return iterations >= self.after


def solve(A, y, damp, P, judge, maxiter=10_000, rescue=None):
    """Returns the solution of the normal equations, and what was reported."""
    reported = []
    equations = NormalEquations(ScaledProblem.of(A, y, damp), is_dual=False)
    return equations.solve(
        None, P, 1e-6, maxiter, lambda x, reduction: reported.append(reduction), judge, rescue
    ), reported


def test_iteration_goes_on_without_a_preconditioner_that_is_given_up():
    y, damp = data(BLUR), 0.01
    P = preconditioner(BLUR, damp)
    without, preconditioned = (tikhonov(BLUR, y, damp, precondition=p) for p in (False, True))
    solution, reported = solve(BLUR, y, damp, P, Judge(5))
    assert solution.converged
    assert len(reported) == solution.iterations
    assert preconditioned.iterations < solution.iterations <= without.iterations + 5
    np.testing.assert_allclose(solution.x, without.x, atol=0.01)
    # Without a judge, and with one that is patient, the preconditioner stays.
    for judge in (None, Judge(1000)):
        assert solve(BLUR, y, damp, P, judge)[0].iterations == preconditioned.iterations
    # The iterations of both count.
    stopped, reported = solve(BLUR, y, damp, P, Judge(5), maxiter=20)
    assert not stopped.converged
    assert stopped.iterations == len(reported) == 20
    assert "maxiter=20" in stopped.reason


def test_iteration_that_cannot_go_on_with_a_preconditioner_goes_on_without():
    """One that leaves out half of the frequencies never reaches the goal."""
    y, damp = data(BLUR), 0.1
    P = preconditioner(BLUR, damp)

    class Blind(BlockOperator):
        def _sum(self, x):
            result = super()._sum(x)
            return result * (np.arange(len(x)) < len(x) // 2)[:, None]

    blind = Blind(P.terms, dims=P.dims, dimsd=P.dimsd, dtype=P.dtype, name="P", hermitian=True)
    alone, _ = solve(BLUR, y, damp, blind, None)
    assert not alone.converged
    solution, _ = solve(BLUR, y, damp, blind, Judge(10_000))
    assert solution.converged, solution.reason


def test_plain_iterations_beyond_their_forecast_go_on_with_a_preconditioner():
    y, damp = data(BLUR), 0.01
    without = tikhonov(BLUR, y, damp, precondition=False).iterations
    solution, reported = solve(BLUR, y, damp, None, Judge(10_000, 30), rescue=lambda: preconditioner(BLUR, damp))
    assert solution.converged
    assert 30 < solution.iterations == len(reported) < without / 2
    # A sufficient limit needs no rescue, and one that does not help ends with plain iterations.
    assert solve(BLUR, y, damp, None, Judge(0, 2 * without), rescue=pytest.fail)[0].iterations == without
    solution, _ = solve(BLUR, y, damp, None, Judge(1, 30), rescue=lambda: preconditioner(BLUR, damp))
    assert solution.converged
    assert solution.iterations > without / 2
    judge = comparison(plain(1e-2), 1.0, Work(0, 1, 10))
    assert judge.plain_limit() == 2 * judge.plain.iterations(4000) + 20


def test_default_converges_where_forecasts_fail():
    """Axes of 2 to 4 samples are all boundary: forecast are some ten iterations, and plain ones do not end."""
    rng = np.random.default_rng(0)
    A = Conv(
        rng.standard_normal((4, 2, 3, 2, 3, 2)), (4, 4, 2, 3, 4), groups=2, padding="same", padding_mode="symmetric"
    )
    solution = tikhonov(A, rng.standard_normal((*A.dimsd, 3)), 9e-4)
    assert solution.converged
    assert solution.iterations < 1000


def test_damping_below_the_least_of_the_preconditioner_is_compared_with_its_raised_damping():
    """The kernel is close to an outer product for the raised damping, and not for its own."""
    kernel = np.outer([1.0, 2, 1], [1.0, 2, 1])
    kernel[0, 0] += 6.4e-4
    A = Conv(kernel, (20, 20), padding="same", padding_mode="reflect")
    assert tikhonov(A, np.random.default_rng(0).standard_normal((20, 20)), 3e-5 * 16).converged


def test_work_grows_with_what_is_computed():
    def work(A, damp):
        return preconditioner_work(A.spec, PreconditionerPlan.of(A, damp).subdomains, damp, 1.0)

    small, large = (work(Conv(skewed_blur(9), (n, n), padding="same"), 0.01) for n in (64, 256))
    assert small.set_up < large.set_up
    assert small.apply < large.apply
    assert work(BLUR, 0.1).iterations < work(BLUR, 0.001).iterations
    outer_product = Conv(kernels.gaussian(1.5), (256, 256), padding="same")
    assert work(outer_product, 0.01).iterations < 2
    assert iteration_seconds(BLUR, 1) < iteration_seconds(BLUR, 2)
    assert iteration_seconds(SHARP, 1) > 0
