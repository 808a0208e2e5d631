"""The demonstration: a photograph is blurred and downsampled by an operator, and recovered by known solvers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.sparse.linalg import LinearOperator as ScipyLinearOperator
from scipy.sparse.linalg import lsqr

from ..arrays.backend import Array
from ..operators.conv import Conv
from ..operators.linear_operator import pylops

__all__ = ["ITERATIONS", "Problem", "Recovery", "blur_kernel", "observe", "psnr", "solvers"]

# Iterations at most, by method: what a progress bar counts to.
ITERATIONS = {"LSQR (SciPy)": 60, "CGLS (PyLops)": 60, "FISTA (PyLops)": 60}
_STRIDE = 2
_NOISE = 0.002
# Both chosen for this noise; PSNR changes by less than 0.1 dB when they are doubled or halved.
_DAMP = 0.02
_SPARSITY = 4e-5


@dataclass(frozen=True)
class Problem:
    """A photograph and what was seen of it.

    Attributes
    ----------
    photograph : ndarray of shape ``A.dims``
        Grey values between 0 and 1.
    A : Conv
        Blur and downsampling.
    data : ndarray of shape ``A.dimsd``
        ``A @ photograph`` with noise.
    """

    photograph: Array
    A: Conv
    data: Array


@dataclass(frozen=True)
class Recovery:
    """What a solver made of the data.

    Attributes
    ----------
    method : str
        Name of the solver.
    image : ndarray
        The recovered photograph, grey values between 0 and 1.
    iterations : int
        Iterations done.
    seconds : float
        Wall-clock time of the solver.
    psnr : float
        Peak signal-to-noise ratio against the photograph, in dB.
    """

    method: str
    image: Array
    iterations: int
    seconds: float
    psnr: float


def blur_kernel() -> Array:
    """A 9x9 kernel with no symmetry at all: the fading streak of a shaken camera.

    Returns
    -------
    ndarray of shape (9, 9)
        Non-negative, sum 1.
    """
    row, column = np.mgrid[-4:5, -4:5]
    kernel = np.zeros((9, 9))
    for t in np.linspace(0, 1, 12):
        distance = (row + 1.5 - 3 * t) ** 2 + (column + 3 - 6 * t) ** 2
        kernel += (1 - 0.7 * t) * np.exp(-distance / (2 * 0.8**2))
    kernel /= kernel.sum()
    return kernel


def observe(photograph: Array, *, rng: int | np.random.Generator = 0) -> Problem:
    """Blur a photograph, keep every second pixel of every second row, and add noise.

    Parameters
    ----------
    photograph : ndarray
        Two-dimensional, grey values between 0 and 1.
    rng : int or numpy.random.Generator
        Seed of the noise, of standard deviation 0.002.

    Returns
    -------
    Problem
    """
    A = Conv(blur_kernel(), photograph.shape, stride=_STRIDE, padding="same", padding_mode="symmetric")
    noise = np.random.default_rng(rng).standard_normal(A.dimsd)
    return Problem(photograph, A, A @ photograph + _NOISE * noise)


def enlarged(problem: Problem) -> Array:
    """The data at the photograph's size, each pixel repeated: what there is without a solver.

    Parameters
    ----------
    problem : Problem
        From `observe`.

    Returns
    -------
    ndarray of shape ``problem.A.dims``
    """
    rows, columns = problem.A.dims
    larger: Array = np.kron(problem.data, np.ones((_STRIDE, _STRIDE)))
    return larger[:rows, :columns]


def psnr(image: Array, reference: Array) -> float:
    """Peak signal-to-noise ratio of two images with values between 0 and 1, in dB.

    Parameters
    ----------
    image, reference : ndarray
        Of one shape.

    Returns
    -------
    float
        ``10 log10(1/mean((image - reference)**2))``; infinite for equal images.
    """
    error = float(np.mean((np.clip(image, 0, 1) - reference) ** 2))
    return float("inf") if error == 0 else -10 * float(np.log10(error))


def solvers(problem: Problem) -> Iterator[tuple[str, Callable[[Callable[[], object]], Recovery]]]:
    """Each method, and the function that runs it.

    Parameters
    ----------
    problem : Problem
        From `observe`.

    Yields
    ------
    (str, callable)
        The method's name, a key of `ITERATIONS`, and a function that solves the problem and calls its
        argument once an iteration.
    """
    y = problem.data.ravel()

    def run(method: str, solve: Callable[[Callable[[], object]], tuple[Array, int]]) -> Callable[..., Recovery]:
        def timed(step: Callable[[], object]) -> Recovery:
            start = time.perf_counter()
            x, iterations = solve(step)
            seconds = time.perf_counter() - start
            image = np.clip(x.reshape(problem.A.dims), 0, 1)
            return Recovery(method, image, iterations, seconds, psnr(image, problem.photograph))

        return timed

    def by_lsqr(step: Callable[[], object]) -> tuple[Array, int]:
        # LSQR has no callback; it applies the adjoint once an iteration.
        limit = ITERATIONS["LSQR (SciPy)"]
        x, _, iterations, *_ = lsqr(_Counted(problem.A, step), y, damp=_DAMP, iter_lim=limit, atol=1e-4, btol=1e-4)
        return x, iterations

    def by_cgls(step: Callable[[], object]) -> tuple[Array, int]:
        limit = ITERATIONS["CGLS (PyLops)"]
        x, _, iterations, *_ = pylops.optimization.basic.cgls(
            problem.A, y, niter=limit, damp=_DAMP, tol=1e-6, callback=lambda _: step()
        )
        return x, iterations

    def by_fista(step: Callable[[], object]) -> tuple[Array, int]:
        # Sparse in the cosine transform; the step is 1 over the largest eigenvalue of A^H A.
        x, iterations, *_ = pylops.optimization.sparsity.fista(
            problem.A,
            y,
            niter=ITERATIONS["FISTA (PyLops)"],
            eps=_SPARSITY,
            alpha=problem.A.norm() ** -2,
            SOp=pylops.signalprocessing.DCT(problem.A.dims),
            callback=lambda _: step(),
        )
        return x, iterations

    for method, solve in zip(ITERATIONS, (by_lsqr, by_cgls, by_fista), strict=True):
        yield method, run(method, solve)


class _Counted(ScipyLinearOperator):  # type: ignore[misc]
    """An operator that calls a function whenever its adjoint is applied."""

    def __init__(self, A: Conv, step: Callable[[], object]) -> None:
        super().__init__(A.dtype, A.shape)
        self._A, self._step = A, step

    def _matvec(self, x: Array) -> Array:
        applied: Array = self._A.matvec(x)
        return applied

    def _rmatvec(self, y: Array) -> Array:
        self._step()
        applied: Array = self._A.rmatvec(y)
        return applied
