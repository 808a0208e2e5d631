"""Chooses whether conjugate gradients pay for a preconditioner: predicts the time of both ways, and gives one up that does not pay.

Times are predicted and not measured, so that the same problem is always solved in the same way. Only their ratios matter. They
were measured on two cores of Zen 3 (`_Rates`); products of the operator have the costs of `engine="auto"`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import product

from ..engines.costs import AMOUNTS, predicted
from ..geometry.spec import ConvSpec
from ..operators.conv import Conv, ConvTranspose
from ..spectral.axis_bases import Identity
from .forecast import PlainForecast
from .normal_equations import NormalEquations
from .preconditioner import PreconditionerPlan, gain_estimate
from .separable import condition_bound
from .subdomains import Subdomains

# Iterations with the preconditioner after which its convergence is judged.
_FIRST_JUDGED = 12
# It is given up if its remaining iterations are predicted to take so many times the time of a plain solution: the gradient
# falls slowly at first.
_MARGIN = 1.5
# Plain iterations beyond this multiple of their forecast, and so many more, show that the forecast was wrong.
_FORECAST_FACTOR, _FORECAST_SLACK = 2, 20
# Plain iterations are forecast up to so many.
_MOST_FORECAST = 4000
# Iterations that most problems need at least for each factor e of the residual's reduction, and the least reduction that
# counts.
_FEW, _LEAST_RTOL = 1.4, 1e-12


@dataclass(frozen=True)
class _Rates:
    """Seconds of parts of an iteration and of a preconditioner's set-up, in double precision."""

    call: float = 1.2e-4  # of an iteration, besides its vectors
    unknown: float = 1e-8  # of an iteration, for each unknown
    term: float = 1e-4  # of a preconditioner's term
    point: float = 2.5e-8  # to transform, multiply and transform back
    number: float = 1e-9  # to read a number of a block
    multiplication: float = 1e-10  # of a product of large matrices
    factorised: float = 4.5e-10  # of an eigenvalue decomposition, by the cube of its size
    small_block: float = 1e-5  # to compute and to invert a small block
    small_multiplication: float = 1e-9  # the same, by the cube of its size
    set_up_term: float = 5e-4


_RATES = _Rates()


@dataclass(frozen=True)
class Work:
    """Predicted seconds.

    Attributes
    ----------
    set_up : float
        To compute the preconditioner.
    apply : float
        To apply it to one vector.
    iterations : float
        Of conjugate gradients with it.
    """

    set_up: float
    apply: float
    iterations: float


def preconditioner_work(spec: ConvSpec, subdomains: Subdomains, damp: float, gain: float) -> Work:
    """Returns the predicted work of a preconditioner with some subdomains.

    Parameters
    ----------
    spec : ConvSpec
        Geometry.
    subdomains : Subdomains
        As `divide_into_subdomains` returns them.
    damp, gain : float
        The damping of the preconditioner and the largest singular value, of which only the ratio matters.
    """
    kernel, channels = subdomains.separable, max(1, spec.c_in // spec.groups)
    set_up = apply = 0.0
    for subdomain in product(*subdomains.axes):
        frequencies, samples, lengths = spec.groups, channels, []
        for along_axis, axis in zip(subdomain, spec.axes, strict=True):
            basis = along_axis.basis
            if isinstance(basis, Identity):
                lengths.append(basis.stop - basis.start)
            else:
                frequencies *= basis.count
                samples *= axis.inputs // basis.count if axis.stride > 1 else 1
        points = frequencies * samples * math.prod(lengths)
        set_up += _RATES.set_up_term + _RATES.point * points
        apply += _RATES.term + _RATES.point * points
        if kernel is not None:
            set_up += sum(_RATES.factorised * length**3 for length in lengths)
            apply += 4 * sum(lengths) * points * _RATES.multiplication
            continue
        size = samples * math.prod(lengths)
        blocks = frequencies if size == frequencies else max(1, frequencies // 2)
        apply += _RATES.number * blocks * size**2 * (2 if size > 1 else 0)
        if size > 1:
            is_small = size <= 32
            each = _RATES.small_block + _RATES.small_multiplication * size**3
            set_up += blocks * (each if is_small else _RATES.multiplication * size**3)
    ratio = gain / damp if damp else math.inf
    if kernel is not None:
        is_exact = all(len(of_axis) == 1 for of_axis in subdomains.axes)
        iterations = 1.0 if is_exact else 2 + 0.06 * ratio**0.66
        iterations *= math.sqrt(condition_bound(kernel, damp))
    else:
        iterations = 3 + 0.25 * ratio**0.63
    return Work(set_up, apply, iterations)


@dataclass(frozen=True)
class Comparison:
    """Plain conjugate gradients against preconditioned ones.

    Attributes
    ----------
    forecast : callable
        Returns the forecast of the plain iteration, which is computed when it is needed.
    plain_seconds : float
        Predicted seconds of a plain iteration.
    work : Work
        Of the preconditioner.
    rtol : float
        The reduction of the residual to reach.
    """

    forecast: Callable[[], PlainForecast]
    plain_seconds: float
    work: Work
    rtol: float

    @cached_property
    def plain(self) -> PlainForecast:
        """The plain iteration."""
        return self.forecast()

    @property
    def preconditioned_seconds(self) -> float:
        """Predicted seconds of an iteration with the preconditioner."""
        return self.plain_seconds + self.work.apply

    def pays(self) -> bool:
        """Returns whether the preconditioner is predicted to save time, its set-up included."""
        seconds = self.work.set_up + self.work.apply + self.work.iterations * self.preconditioned_seconds
        limit = min(math.ceil(seconds / self.plain_seconds), _MOST_FORECAST)
        # So few iterations suffice for none but the best conditioned problems, and a forecast takes as long as they do.
        few = -_FEW * math.log(max(self.rtol, _LEAST_RTOL))
        return limit <= few or self.plain.iterations(limit) >= limit

    def plain_limit(self) -> int:
        """Returns the plain iterations after which the forecast was wrong, and the preconditioner is to be tried."""
        return _FORECAST_FACTOR * self.plain.iterations(_MOST_FORECAST) + _FORECAST_SLACK

    def is_hopeless(self, iterations: int, reduction: float, goal: float) -> bool:
        """Returns whether the remaining iterations with the preconditioner take longer than a plain solution from the start.

        Parameters
        ----------
        iterations : int
            With the preconditioner so far.
        reduction : float
            Of the residual so far.
        goal : float
            The reduction to reach.
        """
        if iterations < _FIRST_JUDGED:
            return False
        rate = -math.log(reduction) / iterations if 0 < reduction < 1 else 0.0
        left = min(-math.log(goal) / rate - iterations, _MOST_FORECAST) if rate > 0 and goal > 0 else _MOST_FORECAST
        limit = max(1, math.ceil(left * self.preconditioned_seconds / self.plain_seconds / _MARGIN))
        return self.plain.iterations(min(limit, _MOST_FORECAST)) < limit


def iteration_seconds(A: Conv | ConvTranspose, columns: int) -> float:
    """Returns the predicted seconds of a plain iteration: a product with `A`, one with ``A^H``, and its vectors."""
    spec, _ = A.convolution()
    name = A.engine if A.engine in AMOUNTS else "direct"
    seconds = predicted(name, spec, A.dtype)
    width = A.dtype.itemsize / 8
    products = seconds if math.isfinite(seconds) else 0.0
    return float(_RATES.call + columns * (products + _RATES.unknown * width * sum(spec.shape) / 2))


def compare(plan: PreconditionerPlan, equations: NormalEquations, rtol: float) -> Comparison:
    """Returns the comparison for a convolution on the CPU.

    Parameters
    ----------
    plan : PreconditionerPlan
        The preconditioner.
    equations : NormalEquations
        What is solved with it.
    rtol : float
        As in `tikhonov`.
    """
    A, damp, b = equations.problem.A, equations.problem.damp, equations.right_hand_side
    raised = math.sqrt(plan.shift)  # the preconditioner's damping is at least this
    work = preconditioner_work(plan.spec, plan.subdomains, raised, gain_estimate(plan.spec, plan.taps))
    work = Work(work.set_up, work.apply * b.shape[1], min(work.iterations * max(1.0, raised / damp), _MOST_FORECAST))
    forecast = partial(PlainForecast.of, A, b, damp, rtol, is_dual=equations.is_dual)
    return Comparison(forecast, iteration_seconds(A, b.shape[1]), work, rtol)
