"""The parameters of a layer of a deconvolutional network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from ..arrays.backend import Array
from ..geometry.arguments import at_least_one, per_axis, positive
from .estimator import Estimator
from .half_quadratic import BETAS
from .inference import Codes, infer_codes
from .learning import LearnedFilters, learn_filters, random_filters
from .options import SolverOptions
from .proximal import checked_power


class DeconvLayer(Estimator):
    """Parameters of a layer: the number of maps, the size of their filters, and how both are found.

    Parameters
    ----------
    n_maps : int
        Number of maps.
    kernel_size : int or (int, int)
        Rows and columns of a filter.
    lam : float
        Weight of the data in the cost.
    p : float
        Power of the penalty, more than 0 and at most 1.
    n_epochs : int
        Epochs of `DeconvNet.fit`, each of five alternation steps between maps and filters. As many steps again are run before
        the first epoch.
    solver : {"auto", "admm", "fista", "hqs"}
        Solver of `DeconvNet.infer`, see `sparse_codes`.
    connectivity : {"full", "singles+pairs", "random-pairs"} or array_like of bool of shape ``(maps below, n_maps)``
        The maps below to which each map is connected. "full": all of them. "singles+pairs": a map for each map below and for
        each pair of them (9 maps below make 45). "random-pairs": two maps below for each map, drawn so that all pairs occur
        equally often. An array is the table itself.
    betas : sequence of float
        For "hqs": increasing weights of its stages, for maps whose largest modulus is about 1.
    cg_iterations : int
        Conjugate-gradient iterations of a filter update, and the least number in each linear system for the maps.

    Examples
    --------
    >>> from convop.deconvnet import DeconvLayer
    >>> DeconvLayer(9, 7, lam=5.0, p=1.0).get_params()["lam"]
    5.0
    """

    def __init__(
        self,
        n_maps: int,
        kernel_size: int | Sequence[int],
        *,
        lam: float = 1.0,
        p: float = 0.8,
        n_epochs: int = 5,
        solver: str = "auto",
        connectivity: str | npt.ArrayLike = "full",
        betas: Sequence[float] = BETAS,
        cg_iterations: int = 2,
    ) -> None:
        self.n_maps = n_maps
        self.kernel_size = kernel_size
        self.lam = lam
        self.p = p
        self.n_epochs = n_epochs
        self.solver = solver
        self.connectivity = connectivity
        self.betas = betas
        self.cg_iterations = cg_iterations
        self._check()

    def _check(self) -> None:
        at_least_one("n_maps", self.n_maps)
        self._filter_shape()
        positive("lam", self.lam)
        at_least_one("n_epochs", self.n_epochs)
        self._options()

    def _filter_shape(self) -> tuple[int, int]:
        rows, columns = per_axis("kernel_size", self.kernel_size, 2)
        return rows, columns

    def _options(self) -> SolverOptions:
        return SolverOptions.from_arguments(checked_power(self.p), self.solver, self.betas, self.cg_iterations)

    def _learn(self, table: Array, images: Array, rng: np.random.Generator) -> Iterator[LearnedFilters]:
        first = random_filters(table, self._filter_shape(), images.dtype, rng)
        return learn_filters(first, table, images, float(self.lam), float(self.p), self.cg_iterations, self.n_epochs)

    def _infer(self, filters: Array, images: Array) -> Codes:
        return infer_codes(filters.astype(images.dtype), images, float(self.lam), float(self.p), self._options())
