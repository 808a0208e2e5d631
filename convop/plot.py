"""Pictures of operators: Axes in, Axes out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .arrays.backend import Array, from_cpu, to_cpu
from .files import atomic_write
from .spectrum import singular_values, symbol_values

if TYPE_CHECKING:
    from .deconvnet import DeconvNet

__all__ = ["image", "kernel", "matrix", "patterns", "save", "spectrum"]

# Matrices up to so many rows and columns are drawn entry by entry, larger ones as a picture of this size.
_PIXELS = 512
# Up to so many singular values are drawn as dots, more as a line.
_DOTS = 400


def matrix(A: Any, *, ax: Axes | None = None) -> Axes:
    """Draw the matrix of an operator: red for positive entries, blue for negative ones, white for none.

    Parameters
    ----------
    A : Conv, ConvTranspose, ConvFilter or scipy.sparse array
        What to draw. Of a complex matrix the modulus is drawn.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default the current axes.

    Returns
    -------
    matplotlib.axes.Axes

    Notes
    -----
    Colours go by the square root, so that small entries are seen beside large ones. A pixel of a large matrix stands for many entries and shows the one largest in modulus, so that no part
    of the structure gets lost.

    Examples
    --------
    >>> import convop, matplotlib
    >>> matplotlib.use("agg")
    >>> ax = convop.plot.matrix(convop.Conv([[1, 2], [3, 4]], (3, 3)))
    """
    sparse = from_cpu(A.tosparse() if hasattr(A, "tosparse") else A)
    image = _condensed(sparse.tocoo())
    image = np.sign(image) * np.sqrt(np.abs(image))
    limit = float(np.nanmax(np.abs(image), initial=0.0)) or 1.0
    ax = _axes(ax)
    rows, columns = sparse.shape
    ax.imshow(
        image,
        cmap="RdBu_r",
        vmin=-limit,
        vmax=limit,
        interpolation="nearest",
        extent=(-0.5, columns - 0.5, rows - 0.5, -0.5),
        aspect="equal" if max(rows, columns) < 8 * min(rows, columns) else "auto",
    )
    ax.set(xlabel=f"{columns} inputs", ylabel=f"{rows} outputs")
    return ax


def kernel(A: Any, *, ax: Axes | None = None) -> Axes:
    """Draw the kernel of an operator; channels side by side, further dimensions as slices.

    Parameters
    ----------
    A : Conv or ConvTranspose
        The operator.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default the current axes.

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import convop, matplotlib
    >>> matplotlib.use("agg")
    >>> ax = convop.plot.kernel(convop.Conv([[1, 2], [3, 4]], (3, 3)))
    """
    kernel = to_cpu(A.kernel)
    taps = np.atleast_2d(kernel.real if kernel.dtype.kind != "c" else np.abs(kernel))
    planes = taps.reshape(-1, *taps.shape[-2:])
    across = taps.shape[1] if taps.ndim > 3 else int(np.ceil(np.sqrt(len(planes))))
    mosaic = _mosaic(planes, across)
    limit = float(np.abs(taps).max()) or 1.0
    ax = _axes(ax)
    ax.imshow(mosaic, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    ax.set(title=f"kernel {A.kernel.shape}", xticks=[], yticks=[])
    return ax


def patterns(net: DeconvNet, layer: int, *, ax: Axes | None = None) -> Axes:
    """Draw what one element of each map of a deconvolutional network makes of the image.

    Parameters
    ----------
    net : convop.deconvnet.DeconvNet
        Fitted.
    layer : int
        The layer, from 0.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default the current axes.

    Returns
    -------
    matplotlib.axes.Axes

    Notes
    -----
    One pattern a map, each over its largest modulus; of images in three colours in colour, of other numbers of channels
    one channel below the other.

    Examples
    --------
    >>> import convop, matplotlib
    >>> import numpy as np
    >>> matplotlib.use("agg")
    >>> from convop.deconvnet import DeconvLayer, DeconvNet
    >>> net = DeconvNet([DeconvLayer(2, 3, n_epochs=1)]).fit(np.random.default_rng(0).random((1, 9, 9)))
    >>> ax = convop.plot.patterns(net, 0)
    """
    found = net.patterns(layer)
    found = found / np.maximum(np.abs(found).max(axis=(1, 2, 3), keepdims=True), np.finfo(found.dtype).tiny)
    channels, across = found.shape[1], int(np.ceil(np.sqrt(len(found))))
    ax = _axes(ax)
    if channels == 3:
        colours = [np.nan_to_num(_mosaic(found[:, c], across) / 2 + 0.5, nan=1.0) for c in range(3)]
        ax.imshow(np.stack(colours, axis=-1), interpolation="nearest")
    else:
        planes = found.reshape(-1, *found.shape[2:]) if channels == 1 else np.concatenate(list(found.swapaxes(0, 1)))
        mosaic = _mosaic(planes, across if channels == 1 else len(found))
        ax.imshow(mosaic, cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    return ax


def spectrum(A: Any, *, ax: Axes | None = None) -> Axes:
    """Draw the singular values of an operator, largest first, over those of its symbol on a uniform grid of angles.

    Parameters
    ----------
    A : Conv or ConvTranspose
        The operator; all its singular values are computed.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default the current axes.

    Returns
    -------
    matplotlib.axes.Axes

    Notes
    -----
    The larger the input, the closer are the two, whatever the boundary: see `convop.spectrum.symbol`. With a stride,
    the symbol is that of its blocks, in which as many frequencies are folded together. For a circular boundary the two
    are the same.

    Examples
    --------
    >>> import convop, matplotlib
    >>> matplotlib.use("agg")
    >>> ax = convop.plot.spectrum(convop.Conv([[0.1, 0.2], [0.3, 0.4]], (8, 8), padding="same"))
    """
    values = singular_values(A)
    of_symbol = symbol_values(A)
    ax = _axes(ax)
    share = (np.arange(len(of_symbol)) + 0.5) / len(of_symbol)
    ax.plot(share, of_symbol, color="0.7", linewidth=4, label="symbol")
    share = (np.arange(len(values)) + 0.5) / len(values)
    ax.plot(share, values, "." if len(values) <= _DOTS else "-", color="C3", label="singular values")
    ax.set(xlabel=f"share of all {len(values)}", ylabel="singular value", xlim=(0, 1))
    ax.set_ylim(bottom=0)
    ax.legend()
    return ax


def image(values: Array, *, ax: Axes | None = None) -> Axes:
    """Draw grey values between 0, black, and 1, white.

    Parameters
    ----------
    values : ndarray of shape (rows, columns)
        The image.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default the current axes.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = _axes(ax)
    ax.imshow(values, cmap="gray", vmin=0, vmax=1)
    ax.set(xticks=[], yticks=[])
    return ax


def save(path: Path, draw: Callable[..., object], *, panels: int = 1, size: tuple[float, float] = (8, 5)) -> Path:
    """Write a PNG file of one or more panels side by side.

    Parameters
    ----------
    path : Path
        Where to.
    draw : callable
        Called with the Axes of each panel.
    panels : int
        Number of panels.
    size : (float, float)
        Width and height in inches, of 120 pixels.

    Returns
    -------
    Path
        `path`.
    """
    figure = Figure(figsize=size, layout="constrained")
    draw(*figure.subplots(1, panels, squeeze=False)[0])
    with atomic_write(path) as file:
        figure.savefig(file, dpi=120, format="png")
    return path


def _axes(ax: Axes | None) -> Axes:
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    current: Axes = plt.gca()
    return current


def _mosaic(planes: Array, across: int) -> Array:
    """Planes side by side, with one blank row and column between them."""
    down, (height, width) = -(-len(planes) // across), planes.shape[1:]
    mosaic = np.full((down * (height + 1) - 1, across * (width + 1) - 1), np.nan)
    for number, plane in enumerate(planes):
        i, j = divmod(number, across)
        mosaic[i * (height + 1) :, j * (width + 1) :][:height, :width] = plane
    return mosaic


def _condensed(sparse: Any) -> Array:
    """A matrix as an image of at most `_PIXELS` a side, each pixel the entry of largest modulus."""
    values = sparse.data if sparse.dtype.kind != "c" else np.abs(sparse.data)
    shape = tuple(min(n, _PIXELS) for n in sparse.shape)
    row, column = (
        index.astype(np.int64) * pixels // n
        for index, pixels, n in zip((sparse.row, sparse.col), shape, sparse.shape, strict=True)
    )
    high, low = np.full(shape, -np.inf), np.full(shape, np.inf)
    np.maximum.at(high, (row, column), values)
    np.minimum.at(low, (row, column), values)
    image = np.where(high >= -low, high, low)
    return np.where(np.isfinite(image), image, np.nan)  # NaN is drawn as nothing
