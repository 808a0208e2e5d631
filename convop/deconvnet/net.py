"""Deconvolutional networks: layers of convolutional sparse coding, each on the maps of the layer below.

Zeiler, Krishnan, Taylor and Fergus, Deconvolutional Networks, CVPR 2010, doi:10.1109/CVPR.2010.5539957.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ..arrays.backend import Array
from ..arrays.progress import step_bar
from ..geometry.arguments import boolean, integer
from ..operators.conv import Conv
from .connectivity import connection_table
from .estimator import Estimator
from .images import as_images, real_array
from .layer import DeconvLayer


class DeconvNet(Estimator):
    """A deconvolutional network: images are sums of maps convolved with filters, and so are the maps, layer by layer.

    Parameters
    ----------
    layers : sequence of DeconvLayer
        The layers, from the images up.
    rng : int, numpy.random.SeedSequence or numpy.random.Generator
        Draws the first filters and the random connections. The same number gives the same result, to the last digit with
        the same number of threads.

    Attributes
    ----------
    filters_ : list of ndarray of shape ``(maps below, maps, k, l)``
        The filters of each layer, after `fit`. Connected planes have unit norm, others are zero.
    connectivity_ : list of ndarray of bool of shape ``(maps below, maps)``
        The connected planes of each layer.
    cost_history_ : list of list of float
        The cost of each layer after each epoch, summed over the images. It never rises.

    Notes
    -----
    In Zeiler, Krishnan, Taylor and Fergus (CVPR 2010) an image y with channels ``c = 1..K0`` has the cost

        lam/2 sum_c norm(sum_k z_k * f_{c,k} - y_c)^2 + sum_k |z_k|^p

    with 'valid' convolutions, so its maps z are larger than the image. The maps of one layer are the images of the next.
    The synthesis is ``Conv(filters, maps_shape, flip=True)``, its transpose the analysis, and the filter update uses
    `ConvFilter`. This implementation differs from the original:

    - `fit` finds maps by ADMM, the original by half-quadratic splitting. The layer's `solver` is used by `infer`.
    - Filters are updated for all images together, five times per epoch, by conjugate gradients on a cost that includes the
      norms of the filters. The planes are then normalised and the maps rescaled. With one map below this keeps the
      reconstruction; with several, whose planes had different norms, one factor for each map keeps it as far as it can. A
      step that would raise the cost is halved, so the cost never rises, except by rounding.
    - Before the first epoch as many alternation steps as in all epochs are run for p = 1, with a weight of the data that
      grows to the layer's (continuation). Filters that fit better a pixel or two off centre are shifted. Filters whose maps are
      zero are reinitialised with a patch of the residual. Without these, planted filters are seldom found.
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
        self, images: npt.ArrayLike, callback: Callable[[int, int, float], object] | None = None, progress: bool = False
    ) -> Self:
        """Learn the filters of all layers, one layer after the other.

        Parameters
        ----------
        images : array_like of shape ``(I, C, H, W)`` or ``(I, H, W)``
            The images. float32 and float16 are computed in single precision, all other dtypes in double precision.
        callback : callable, optional
            Called after each epoch with the index of the layer, the index of the epoch and the cost.
        progress : bool
            Show a progress bar on standard error. This needs rich (``pip install 'convop[cli]'``).

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            If the images or a parameter of a layer are out of their range.
        MemoryError
            If ten times the maps of all images do not fit the free memory.
        ModuleNotFoundError
            If a progress bar is asked for and rich is not installed.

        Warns
        -----
        UserWarning
            If all maps of a layer are zero, because its `lam` is too small; or if the maps from which the next layer is learned
            have not converged.
        """
        data = as_images(images)
        layers = self._checked_layers()
        if callback is not None and not callable(callback):
            raise TypeError(f"callback must be callable, got {callback!r}")
        generator = self._generator()
        below = [data.shape[1], *(layer.n_maps for layer in layers)]
        tables = [
            connection_table(layer.connectivity, n, layer.n_maps, generator)
            for n, layer in zip(below, layers, strict=False)
        ]
        filters: list[Array] = []
        history: list[list[float]] = []
        epochs = sum(layer.n_epochs for layer in layers)
        with step_bar("epochs", epochs) if boolean("progress", progress) else nullcontext() as advance:
            for number, (layer, table) in enumerate(zip(layers, tables, strict=True)):
                costs: list[float] = []
                for epoch, learned in enumerate(layer._learn(table, data, generator)):
                    costs.append(learned.cost)
                    if advance is not None:
                        advance(f"layer {number + 1}, cost {learned.cost:.4g}")
                    if callback is not None:
                        callback(number, epoch, learned.cost)
                if learned.maps_are_zero:
                    remedy = "Give it a larger lam" if data.any() else "Give it images that are not zero"
                    warnings.warn(
                        f"all maps of layer {number + 1} of {len(layers)} are zero, and its filters are still random noise: "
                        f"with lam={layer.lam:g} and p={layer.p:g} no map is worth its penalty. {remedy}",
                        stacklevel=2,
                    )
                filters.append(learned.filters)
                history.append(costs)
                if number + 1 < len(layers):
                    data = _infer_layer(number, layer, learned.filters, data)
        # All attributes at once: a fit that fails leaves the network unchanged.
        self.filters_, self.connectivity_, self.cost_history_ = filters, tables, history
        return self

    def infer(self, images: npt.ArrayLike) -> list[Array]:
        """Find the maps of images for the learned filters.

        Parameters
        ----------
        images : array_like of shape ``(I, C, H, W)`` or ``(I, H, W)``
            Images of any size, with the number of channels of the images that were given to `fit`.

        Returns
        -------
        list of ndarray of shape ``(I, maps, h, w)``
            The maps of each layer; each axis is longer than below by the kernel size less one.

        Raises
        ------
        ValueError
            If the network is not fitted, or the images have another number of channels.
        MemoryError
            If the maps do not fit the free memory.

        Warns
        -----
        UserWarning
            If maps have not converged.
        """
        filters = self._fitted()
        data = as_images(images)
        if data.shape[1] != len(filters[0]):
            raise ValueError(
                f"images must have the {len(filters[0])} channels of the images that were given to fit, got {data.shape[1]}"
            )
        found: list[Array] = []
        for number, (layer, bank) in enumerate(zip(self.layers, filters, strict=True)):
            data = _infer_layer(number, layer, bank, data)
            found.append(data)
        return found

    def reconstruct(self, maps: npt.ArrayLike, layer: int) -> Array:
        """Synthesise images from the maps of a layer, through all layers below.

        Parameters
        ----------
        maps : array_like of shape ``(I, maps, h, w)``
            Maps of the layer, as from `infer`.
        layer : int
            Index of the layer from 0; negative indices count from the top.

        Returns
        -------
        ndarray of shape ``(I, C, H, W)``

        Raises
        ------
        ValueError
            If there is no such layer, or the maps do not match it.
        """
        filters = self._fitted()
        below = filters[: self._index(layer) + 1]
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
        """Synthesise the image patch of a single element of each map of a layer.

        Parameters
        ----------
        layer : int
            Index of the layer from 0; negative indices count from the top.

        Returns
        -------
        ndarray of shape ``(maps, C, h, w)``
            The filters of the first layer; above it, filters synthesised with the patterns of the layer below.

        Raises
        ------
        ValueError
            If there is no such layer.
        """
        below = self._fitted()[: self._index(layer) + 1]
        widths = [sum(bank.shape[axis] - 1 for bank in below) for axis in (2, 3)]
        maps = below[-1].shape[1]
        impulses = np.zeros((maps, maps, *(2 * width + 1 for width in widths)), below[-1].dtype)
        each = np.arange(maps)
        impulses[each, each, widths[0], widths[1]] = 1
        return self.reconstruct(impulses, layer)

    def check(self) -> None:
        """Check the parameters, as `fit` does.

        Raises
        ------
        ValueError, TypeError
            If `layers` or `rng`, or a parameter of a layer, is out of its range.
        """
        self._checked_layers()
        self._generator()

    def _checked_layers(self) -> list[DeconvLayer]:
        given: object = self.layers
        layers = list(given) if isinstance(given, Sequence) else []
        if not layers or not all(isinstance(layer, DeconvLayer) for layer in layers):
            raise TypeError(f"layers must be a list of one or more DeconvLayers, got {self.layers!r}")
        for layer in layers:
            layer._check()  # parameters may have changed since the layer was made
        return layers

    def _generator(self) -> np.random.Generator:
        try:
            return np.random.default_rng(self.rng)
        except (TypeError, ValueError) as error:
            raise type(error)(
                f"rng must be an integer from 0, a SeedSequence or a Generator, got {self.rng!r}"
            ) from None

    def _index(self, layer: int) -> int:
        """Returns the index of a layer, counted from 0."""
        count, number = len(self._fitted()), integer("layer", layer)
        if not -count <= number < count:
            raise ValueError(f"layer must be from {-count} to {count - 1}, got {layer}")
        return number % count

    def _fitted(self) -> list[Array]:
        """Returns the filters; raises ValueError if there are none, or their shapes do not match the layers."""
        if not hasattr(self, "filters_"):
            raise ValueError("this DeconvNet has no filters yet: call fit first")
        shapes = [bank.shape[1:] for bank in self.filters_]
        if shapes != [(layer.n_maps, *layer._filter_shape()) for layer in self._checked_layers()]:
            raise ValueError("this DeconvNet has layers that have changed since fit: call fit again")
        return self.filters_


def _infer_layer(number: int, layer: DeconvLayer, filters: Array, images: Array) -> Array:
    """Returns the maps of a layer, and warns if they have not converged."""
    codes = layer._infer(filters, images)
    if not codes.converged:
        warnings.warn(f"the maps of layer {number + 1}: {codes.reason}", stacklevel=3)
    return codes.maps
