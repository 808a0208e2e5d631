"""Layers and networks, with the conventions of scikit-learn."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ..arrays.backend import Array
from ..arrays.progress import counting
from ..geometry.arguments import at_least_one, boolean, integer, per_axis, positive
from ..operators.conv import Conv
from .coding import checked_betas, chosen_solver, solve
from .connectivity import connected
from .half_quadratic import BETAS
from .images import as_images, real_array
from .learning import first_filters, learned
from .proximal import checked_power

__all__ = ["DeconvLayer", "DeconvNet"]

_INFERENCE_RTOL, _INFERENCE_LIMIT = 1e-3, 1000


class _Parameters:
    """What was given to the constructor, by name: scikit-learn's way to look at, set and clone."""

    @classmethod
    def _names(cls) -> list[str]:
        return [name for name in inspect.signature(cls.__init__).parameters if name != "self"]

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: ARG002 - scikit-learn asks for it
        """Parameters by name, as they were given.

        Parameters
        ----------
        deep : bool
            Without effect: there is nothing inside that has parameters by name.

        Returns
        -------
        dict
        """
        return {name: getattr(self, name) for name in self._names()}

    def set_params(self, **parameters: Any) -> Self:
        """Other parameters.

        Parameters
        ----------
        **parameters
            By name.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For a name that is none.
        """
        for name in parameters:
            if name not in self._names():
                raise ValueError(f"{type(self).__name__} has no parameter {name!r}; it has {', '.join(self._names())}")
        for name, value in parameters.items():
            setattr(self, name, value)
        return self

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn asks an estimator for: there is no target, and nothing is predicted."""
        from sklearn.utils import Tags, TargetTags

        return Tags(estimator_type=None, target_tags=TargetTags(required=False))

    def __repr__(self) -> str:
        defaults = inspect.signature(type(self).__init__).parameters
        given = [
            repr(value) if defaults[name].default is inspect.Parameter.empty else f"{name}={value!r}"
            for name, value in self.get_params().items()
            if defaults[name].default is inspect.Parameter.empty or not _same(value, defaults[name].default)
        ]
        return f"{type(self).__name__}({', '.join(given)})"


def _same(value: object, default: object) -> bool:
    """Whether a parameter has its default; an array never has."""
    return not isinstance(value, np.ndarray) and bool(value == default)


class DeconvLayer(_Parameters):
    """A layer: how many maps, of which size their filters are, and how they are found.

    Parameters
    ----------
    n_maps : int
        Maps.
    kernel_size : int or (int, int)
        Rows and columns of a filter.
    lam : float
        Weight of the data in the cost.
    p : float
        Power of the penalty, more than 0 and at most 1.
    n_epochs : int
        Times that `DeconvNet.fit` goes through the images, each of five turns of inference and filters; before the first
        there are as many turns again.
    solver : {"auto", "admm", "fista", "hqs"}
        Of inference with the filters that were learned, see `sparse_codes`.
    connectivity : {"full", "singles+pairs", "random-pairs"} or array_like of bool, of shape ``(maps below, n_maps)``
        Which maps are connected to which below: all; each of those below to one map by itself and to one with each
        other (9 below make 45); each map to two below, drawn so that all pairs come equally often; or a table.
    betas : sequence of float
        For "hqs": the weights of its stages, for maps whose largest is about 1.
    cg_iterations : int
        Conjugate-gradient iterations in the filters, and in each system for the maps, where there may be more.

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
        self._size()
        positive("lam", self.lam)
        chosen_solver(self.solver, checked_power(self.p))
        at_least_one("n_epochs", self.n_epochs)
        checked_betas(self.betas)
        at_least_one("cg_iterations", self.cg_iterations)

    def _size(self) -> tuple[int, int]:
        rows, columns = per_axis("kernel_size", self.kernel_size, 2)
        return rows, columns


class DeconvNet(_Parameters):
    """A deconvolutional network: images as sums of maps convolved with filters, and these maps again, layer by layer.

    Parameters
    ----------
    layers : sequence of DeconvLayer
        From the images up.
    rng : int, numpy.random.SeedSequence or numpy.random.Generator
        Draws the first filters and the connections. The same number gives the same result, to the last digit with the same
        number of threads.

    Attributes
    ----------
    filters_ : list of ndarray of shape ``(maps below, maps, k, l)``
        Of each layer, once it is fitted. Connected planes have unit norm, others are zero.
    connectivity_ : list of ndarray of bool, of shape ``(maps below, maps)``
        Of each layer.
    cost_history_ : list of list of float
        Of each layer, the cost after each epoch: summed over the images, and never rising.

    Notes
    -----
    Zeiler, Krishnan, Taylor and Fergus (CVPR 2010). An image y of channels ``c = 1..K0`` has the cost

        lam/2 sum_c norm(sum_k z_k * f_{c,k} - y_c)^2 + sum_k |z_k|^p

    with 'valid' convolutions, so that its maps z are larger than itself. The maps of one layer are the images of the
    next. The synthesis is ``Conv(filters, maps_shape, flip=True)`` and its transpose the analysis; the step in the filters
    goes through `ConvFilter`. What is different from the original:

    - `fit` finds maps by ADMM, where the original has half-quadratic splitting; the layer's `solver` is that of `infer`.
    - Filters are updated for all images together, five times an epoch, by conjugate gradients on the cost in which the norms
      of the filters count. With planes of unit norm maps are rescaled, so that the reconstruction is unchanged; with several
      maps below, whose planes had different norms, it is as near to that as one factor for each map makes it. A step that
      would raise the cost is halved: but for rounding, the cost never rises.
    - Before the first epoch there are as many turns of inference and filters as in all epochs, for p = 1, with a weight of the
      data that grows to the layer's. Filters that would fit better a pixel or two beside where they are learned are moved
      there, and those whose maps are zero begin anew, as a patch of what the others leave. Without these planted filters
      are found seldom.
    - Maps are not rescaled between layers.

    Examples
    --------
    >>> import numpy as np
    >>> from convop.deconvnet import DeconvLayer, DeconvNet
    >>> images = np.random.default_rng(0).standard_normal((2, 16, 16))
    >>> net = DeconvNet([DeconvLayer(4, 5, p=1.0, n_epochs=2)]).fit(images)
    >>> net.filters_[0].shape, net.infer(images)[0].shape
    ((1, 4, 5, 5), (2, 4, 20, 20))
    >>> net.reconstruct(net.infer(images)[0], 0).shape
    (2, 1, 16, 16)
    """

    filters_: list[Array]
    connectivity_: list[Array]
    cost_history_: list[list[float]]

    def __init__(self, layers: Sequence[DeconvLayer], *, rng: Any = 0) -> None:
        self.layers = layers
        self.rng = rng

    def fit(
        self,
        images: npt.ArrayLike,
        callback: Callable[[int, int, float], object] | None = None,
        progress: bool = False,
    ) -> Self:
        """Learn the filters of all layers, one after the other.

        Parameters
        ----------
        images : array_like of shape ``(I, C, H, W)`` or ``(I, H, W)``
            The images; float32 and float16 are computed in single precision, everything else in double.
        callback : callable, optional
            Called after each epoch with the number of the layer, the number of the epoch and the cost.
        progress : bool
            Show a progress bar on standard error; it needs rich (``pip install 'convop[cli]'``).

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            For images or layers that make no sense.
        MemoryError
            If there is no memory for ten times the maps of all images.
        ModuleNotFoundError
            If a progress bar is asked for and rich is not installed.

        Warns
        -----
        UserWarning
            If all maps of a layer are zero, as they are when its `lam` is too small; or if those that the next layer is
            learned from are not converged.
        """
        data = as_images(images)
        layers = self._checked_layers()
        if callback is not None and not callable(callback):
            raise TypeError(f"callback must be callable, got {callback!r}")
        generator = self._generator()
        below = [data.shape[1], *(layer.n_maps for layer in layers)]
        tables = [
            connected(layer.connectivity, n, layer.n_maps, generator) for n, layer in zip(below, layers, strict=False)
        ]
        filters: list[Array] = []
        history: list[list[float]] = []
        epochs = sum(layer.n_epochs for layer in layers)
        with counting("epochs", epochs) if boolean("progress", progress) else nullcontext() as show:
            for number, (layer, table) in enumerate(zip(layers, tables, strict=True)):
                bank = first_filters(table, layer._size(), data.dtype, generator)
                costs: list[float] = []
                for epoch, state in enumerate(
                    learned(
                        bank,
                        table,
                        data,
                        lam=float(layer.lam),
                        p=float(layer.p),
                        cg=layer.cg_iterations,
                        epochs=layer.n_epochs,
                    )
                ):
                    bank = state.filters
                    costs.append(state.cost)
                    if show is not None:
                        show(f"layer {number + 1}, cost {state.cost:.4g}")
                    if callback is not None:
                        callback(number, epoch, state.cost)
                if state.empty:
                    remedy = "Give it a larger lam" if data.any() else "What it is to approximate is zero"
                    warnings.warn(
                        f"all maps of layer {number + 1} of {len(layers)} are zero, and its filters are what they began as: with "
                        f"lam={layer.lam:g} and p={layer.p:g} no map is worth its penalty. {remedy}",
                        stacklevel=2,
                    )
                filters.append(bank)
                history.append(costs)
                if number + 1 < len(layers):
                    data = _inferred(number, layer, bank, data)
        # All at once, so that what fails leaves the network as it was.
        self.filters_, self.connectivity_, self.cost_history_ = filters, tables, history
        return self

    def infer(self, images: npt.ArrayLike) -> list[Array]:
        """The maps of images, with the filters that were learned.

        Parameters
        ----------
        images : array_like of shape ``(I, C, H, W)`` or ``(I, H, W)``
            Of as many channels as those of `fit`, and of any size.

        Returns
        -------
        list of ndarray of shape ``(I, maps, h, w)``
            Of each layer. Larger by its kernel less one than those below.

        Raises
        ------
        ValueError
            If the network is not fitted, or the images have other channels.
        MemoryError
            If there is no memory for the maps.

        Warns
        -----
        UserWarning
            If maps are not converged.
        """
        filters = self._fitted()
        data = as_images(images)
        if data.shape[1] != len(filters[0]):
            raise ValueError(f"images must have the {len(filters[0])} channels of those of fit, got {data.shape[1]}")
        found: list[Array] = []
        for number, (layer, bank) in enumerate(zip(self.layers, filters, strict=True)):
            data = _inferred(number, layer, bank, data)
            found.append(data)
        return found

    def reconstruct(self, maps: npt.ArrayLike, layer: int) -> Array:
        """The images that the maps of a layer make up, through all layers below.

        Parameters
        ----------
        maps : array_like of shape ``(I, maps, h, w)``
            Of the layer, as from `infer`.
        layer : int
            Its number, from 0; negative numbers count from the top.

        Returns
        -------
        ndarray of shape ``(I, C, H, W)``

        Raises
        ------
        ValueError
            If there is no such layer, or the maps do not fit it.
        """
        filters = self._fitted()
        below = filters[: self._number(layer) + 1]
        data, top = real_array(maps, "maps"), below[-1]
        if data.ndim != 4 or data.shape[1] != top.shape[1]:
            raise ValueError(f"maps must have the shape (I, {top.shape[1]}, h, w), got {data.shape}")
        for bank in reversed(below):
            if data.shape[2] < bank.shape[2] or data.shape[3] < bank.shape[3]:
                raise ValueError(
                    f"maps must be at least as large as the filters, {bank.shape[2:]}; got {data.shape[2:]}"
                )
            A = Conv(bank.astype(data.dtype), data.shape[1:], flip=True)
            data = A.matmat(data.reshape(len(data), -1).T).T.reshape(-1, *A.dimsd)
        return data

    def patterns(self, layer: int) -> Array:
        """What one element of each map of a layer makes of the image.

        Parameters
        ----------
        layer : int
            Its number, from 0; negative numbers count from the top.

        Returns
        -------
        ndarray of shape ``(maps, C, h, w)``
            Of the first layer the filters themselves; above, what they make of those below.

        Raises
        ------
        ValueError
            If there is no such layer.
        """
        below = self._fitted()[: self._number(layer) + 1]
        reach = [sum(bank.shape[axis] - 1 for bank in below) for axis in (2, 3)]
        maps = below[-1].shape[1]
        single = np.zeros((maps, maps, *(2 * r + 1 for r in reach)), below[-1].dtype)
        each = np.arange(maps)
        single[each, each, reach[0], reach[1]] = 1
        return self.reconstruct(single, layer)

    def _checked_layers(self) -> list[DeconvLayer]:
        given: object = self.layers
        layers = list(given) if isinstance(given, Sequence) else []
        if not layers or not all(isinstance(layer, DeconvLayer) for layer in layers):
            raise TypeError(f"layers must be a list of one or more DeconvLayers, got {self.layers!r}")
        for layer in layers:
            layer._check()  # parameters may have been set since
        return layers

    def check(self) -> None:
        """Refuse parameters that make no sense, as `fit` does.

        Raises
        ------
        ValueError, TypeError
            For layers or an rng that are none.
        """
        self._checked_layers()
        self._generator()

    def _generator(self) -> np.random.Generator:
        try:
            return np.random.default_rng(self.rng)
        except (TypeError, ValueError) as error:
            raise type(error)(
                f"rng must be an integer from 0, a SeedSequence or a Generator, got {self.rng!r}"
            ) from None

    def _number(self, layer: int) -> int:
        """The number of a layer, from 0."""
        count, number = len(self._fitted()), integer("layer", layer)
        if not -count <= number < count:
            raise ValueError(f"layer must be from {-count} to {count - 1}, got {layer}")
        return number % count

    def _fitted(self) -> list[Array]:
        if not hasattr(self, "filters_"):
            raise ValueError("this DeconvNet has no filters yet: call fit first")
        shapes = [bank.shape[1:] for bank in self.filters_]
        if shapes != [(layer.n_maps, *layer._size()) for layer in self._checked_layers()]:
            raise ValueError("this DeconvNet has other layers than those that were fitted: call fit again")
        return self.filters_


def _inferred(number: int, layer: DeconvLayer, bank: Array, data: Array) -> Array:
    """The maps of a layer."""
    found = solve(
        bank.astype(data.dtype),
        data,
        float(layer.lam),
        float(layer.p),
        chosen_solver(layer.solver, layer.p),
        betas=checked_betas(layer.betas),
        cg=layer.cg_iterations,
        rtol=_INFERENCE_RTOL,
        limit=_INFERENCE_LIMIT,
    )
    if not found.converged:
        warnings.warn(f"the maps of layer {number + 1}: {found.reason}", stacklevel=3)
    return found.maps
