"""Demonstration: blurs and downsamples a photograph with an operator, and recovers it with solvers of SciPy and PyLops."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from scipy.sparse.linalg import LinearOperator as ScipyLinearOperator
from scipy.sparse.linalg import lsqr

from ..arrays.backend import Array
from ..files import write_image
from ..operators.conv import Conv
from ..operators.linear_operator import pylops

__all__ = [
    "ITERATIONS",
    "Problem",
    "Recovery",
    "blur_kernel",
    "psnr",
    "simulate",
    "solvers",
    "upsample",
    "write_pictures",
]

# Maximum number of iterations by method, the total of its progress bar.
ITERATIONS = {"LSQR (SciPy)": 60, "CGLS (PyLops)": 60, "FISTA (PyLops)": 60}
_STRIDE = 2
_NOISE = 0.002
# Regularisation parameters, chosen for this noise; doubling or halving them changes the PSNR by less than 0.1 dB.
_DAMP = 0.02
_SPARSITY = 4e-5

Step: TypeAlias = Callable[[], object]


@dataclass(frozen=True)
class Problem:
    """A photograph, the forward operator and the data.

    Attributes
    ----------
    photograph : ndarray of shape ``A.dims``
        Grey values between 0 and 1.
    A : Conv
        The forward operator: blur and downsampling.
    data : ndarray of shape ``A.dimsd``
        ``A @ photograph`` plus noise.
    """

    photograph: Array
    A: Conv
    data: Array


@dataclass(frozen=True)
class Recovery:
    """A photograph recovered from the data by a solver.

    Attributes
    ----------
    method : str
        The solver, a key of `ITERATIONS`.
    image : ndarray
        The recovered photograph, grey values between 0 and 1.
    iterations : int
        Number of iterations.
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
    """Return a 9x9 motion blur without any symmetry: a streak along a diagonal that fades towards its end.

    Returns
    -------
    ndarray of shape (9, 9)
        Non-negative, with sum 1.
    """
    row, column = np.mgrid[-4:5, -4:5]
    kernel = np.zeros((9, 9))
    for t in np.linspace(0, 1, 12):
        distance = (row + 1.5 - 3 * t) ** 2 + (column + 3 - 6 * t) ** 2
        kernel += (1 - 0.7 * t) * np.exp(-distance / (2 * 0.8**2))
    kernel /= kernel.sum()
    return kernel


def simulate(photograph: Array, *, rng: int | np.random.Generator = 0) -> Problem:
    """Simulate data: blur a photograph, keep every second pixel of every second row, and add noise.

    Parameters
    ----------
    photograph : ndarray
        Two-dimensional, grey values between 0 and 1.
    rng : int or numpy.random.Generator
        Generator of the noise, whose standard deviation is 0.002, or its seed.

    Returns
    -------
    Problem
    """
    A = Conv(blur_kernel(), photograph.shape, stride=_STRIDE, padding="same", padding_mode="symmetric")
    noise = np.random.default_rng(rng).standard_normal(A.dimsd)
    return Problem(photograph, A, A @ photograph + _NOISE * noise)


def upsample(problem: Problem) -> Array:
    """Upsample the data to the size of the photograph by repeating pixels: the result without a solver.

    Parameters
    ----------
    problem : Problem
        From `simulate`.

    Returns
    -------
    ndarray of shape ``problem.A.dims``
    """
    rows, columns = problem.A.dims
    repeated: Array = np.kron(problem.data, np.ones((_STRIDE, _STRIDE)))
    return repeated[:rows, :columns]


def psnr(image: Array, reference: Array) -> float:
    """Return the peak signal-to-noise ratio of two images with values between 0 and 1, in dB.

    Parameters
    ----------
    image, reference : ndarray
        Of one shape.

    Returns
    -------
    float
        ``10 log10(1/mean((clip(image) - reference)**2))``; infinite for equal images.
    """
    error = float(np.mean((np.clip(image, 0, 1) - reference) ** 2))
    return float("inf") if error == 0 else -10 * float(np.log10(error))


def solvers(problem: Problem) -> Iterator[tuple[str, Callable[[Step], Recovery]]]:
    """Iterate over the solvers of the demonstration.

    Parameters
    ----------
    problem : Problem
        From `simulate`.

    Yields
    ------
    (str, callable)
        The name of a method, a key of `ITERATIONS`, and a function that solves the problem and calls its
        argument once per iteration.
    """
    for method, solve in _SOLVERS.items():
        yield method, partial(_recover, problem, method, solve)


def _recover(
    problem: Problem, method: str, solve: Callable[[Problem, int, Step], tuple[Array, int]], step: Step
) -> Recovery:
    start = time.perf_counter()
    x, iterations = solve(problem, ITERATIONS[method], step)
    seconds = time.perf_counter() - start
    image = np.clip(x.reshape(problem.A.dims), 0, 1)
    return Recovery(method, image, iterations, seconds, psnr(image, problem.photograph))


def _lsqr(problem: Problem, maxiter: int, step: Step) -> tuple[Array, int]:
    # LSQR has no callback, but applies the adjoint once per iteration.
    A = _CountingOperator(problem.A, step)
    x, _, iterations, *_ = lsqr(A, problem.data.ravel(), damp=_DAMP, iter_lim=maxiter, atol=1e-4, btol=1e-4)
    return x, iterations


def _cgls(problem: Problem, maxiter: int, step: Step) -> tuple[Array, int]:
    x, _, iterations, *_ = pylops.optimization.basic.cgls(
        problem.A, problem.data.ravel(), niter=maxiter, damp=_DAMP, tol=1e-6, callback=lambda _: step()
    )
    return x, iterations


def _fista(problem: Problem, maxiter: int, step: Step) -> tuple[Array, int]:
    # The photograph is sparse in the cosine transform; the step size is 1/||A||^2.
    x, iterations, *_ = pylops.optimization.sparsity.fista(
        problem.A,
        problem.data.ravel(),
        niter=maxiter,
        eps=_SPARSITY,
        alpha=problem.A.norm() ** -2,
        SOp=pylops.signalprocessing.DCT(problem.A.dims),
        callback=lambda _: step(),
    )
    return x, iterations


_SOLVERS = dict(zip(ITERATIONS, (_lsqr, _cgls, _fista), strict=True))


class _CountingOperator(ScipyLinearOperator):  # type: ignore[misc]
    """An operator that calls `step` whenever its adjoint is applied."""

    def __init__(self, A: Conv, step: Step) -> None:
        super().__init__(A.dtype, A.shape)
        self._A, self._step = A, step

    def _matvec(self, x: Array) -> Array:
        applied: Array = self._A.matvec(x)
        return applied

    def _rmatvec(self, y: Array) -> Array:
        self._step()
        applied: Array = self._A.rmatvec(y)
        return applied


def write_pictures(problem: Problem, recoveries: list[Recovery], folder: Path) -> Iterator[Path]:
    """Write the photograph, the data, every recovered photograph, an overview of these, and the operator's matrix.

    Parameters
    ----------
    problem : Problem
        From `simulate`.
    recoveries : list of Recovery
        From `solvers`.
    folder : Path
        An existing folder.

    Yields
    ------
    Path
        Each ``.png`` file when it is complete.
    """
    from .. import plot

    images = {"photograph": problem.photograph, "data": problem.data}
    images |= {f"recovered-{r.method.split()[0].lower()}": r.image for r in recoveries}
    for name, image in images.items():
        yield write_image(folder / f"{name}.png", image)
    panels = [("photograph", problem.photograph), ("data, enlarged", upsample(problem))]
    panels += [(f"{r.method}, {r.psnr:.2f} dB", r.image) for r in recoveries]

    def draw_overview(*axes: Any) -> None:
        for ax, (title, image) in zip(axes, panels, strict=True):
            plot.image(image, ax=ax).set_title(title)

    yield plot.save(folder / "overview.png", draw_overview, panels=len(panels), size=(4 * len(panels), 4.3))
    # Single entries of the matrix are visible for a small image only.
    small = Conv(blur_kernel(), (16, 16), **{**problem.A.spec.parameters(), "padding": "same"})

    def draw_matrix(ax: Any) -> None:
        plot.matrix(small, ax=ax).set_title("the matrix of the same convolution of a 16x16 image")

    yield plot.save(folder / "matrix.png", draw_matrix, size=(10, 3.6))
