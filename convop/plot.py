"""Plots of operators, kernels, spectra and network filters with Matplotlib."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .arrays.backend import Array, as_cpu_operator, to_cpu
from .files import atomic_write
from .spectrum import singular_values, symbol_values

if TYPE_CHECKING:
    from .deconvnet import DeconvNet

__all__ = ["image", "kernel", "matrix", "patterns", "save", "spectrum"]

# Matrices up to this many rows and columns are drawn entry by entry, larger matrices as an image of this size.
_PIXELS = 512
# Up to this many singular values are drawn as dots, more of them as a line.
_DOTS = 400


def matrix(A: Any, *, ax: Axes | None = None) -> Axes:
    """Draws the matrix of an operator: positive entries red, negative entries blue, entries that are not stored white.

    Parameters
    ----------
    A : Conv, ConvTranspose, ConvFilter or scipy.sparse array
        Operator or matrix. Of a complex matrix the moduli are drawn.
    ax : matplotlib.axes.Axes, optional
        Axes to draw into; by default the current ones.

    Returns
    -------
    matplotlib.axes.Axes

    Notes
    -----
    Colours follow the square roots of the entries, so that small entries are visible beside large ones. A pixel of a
    large matrix covers many entries and shows that of largest modulus, so that the whole structure stays visible.

    Examples
    --------
    >>> import convop, matplotlib
    >>> matplotlib.use("agg")
    >>> ax = convop.plot.matrix(convop.Conv([[1, 2], [3, 4]], (3, 3)))
    """
    sparse = as_cpu_operator(A.tosparse() if hasattr(A, "tosparse") else A)
    image = _condense(sparse.tocoo())
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
    """Draws the kernel of an operator: channels side by side, further dimensions as slices.

    Parameters
    ----------
    A : Conv or ConvTranspose
        The operator.
    ax : matplotlib.axes.Axes, optional
        Axes to draw into; by default the current ones.

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
    """Draws the pattern that a single element of each feature map of a deconvolutional network adds to the image.

    Parameters
    ----------
    net : convop.deconvnet.DeconvNet
        A fitted network.
    layer : int
        Number of the layer, from 0.
    ax : matplotlib.axes.Axes, optional
        Axes to draw into; by default the current ones.

    Returns
    -------
    matplotlib.axes.Axes

    Notes
    -----
    There is one pattern per map, divided by its largest modulus. Patterns of three channels are drawn in colour; for
    other numbers of channels, one channel is drawn below the other.

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
    """Draws the singular values of an operator, largest first, and those of its symbol on a uniform grid of angles.

    Parameters
    ----------
    A : Conv or ConvTranspose
        The operator, of which all singular values are computed.
    ax : matplotlib.axes.Axes, optional
        Axes to draw into; by default the current ones.

    Returns
    -------
    matplotlib.axes.Axes

    Notes
    -----
    The larger the input, the closer are the two curves, for any boundary: see `convop.spectrum.symbol`. With a stride,
    the symbol is a matrix of polyphase components, in which aliased frequencies are combined. For a circular boundary
    the two curves are equal.

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
    """Draws an image of grey values from 0, black, to 1, white.

    Parameters
    ----------
    values : ndarray of shape (rows, columns)
        The image.
    ax : matplotlib.axes.Axes, optional
        Axes to draw into; by default the current ones.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = _axes(ax)
    ax.imshow(values, cmap="gray", vmin=0, vmax=1)
    ax.set(xticks=[], yticks=[])
    return ax


def save(path: Path, draw: Callable[..., object], *, panels: int = 1, size: tuple[float, float] = (8, 5)) -> Path:
    """Writes a PNG file of one or more panels side by side.

    Parameters
    ----------
    path : Path
        The file.
    draw : callable
        Called with the Axes of all panels, one per argument.
    panels : int
        Number of panels.
    size : (float, float)
        Width and height in inches of 120 pixels.

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
    """Returns planes side by side, separated by one blank row or column."""
    down, (height, width) = -(-len(planes) // across), planes.shape[1:]
    mosaic = np.full((down * (height + 1) - 1, across * (width + 1) - 1), np.nan)
    for number, plane in enumerate(planes):
        i, j = divmod(number, across)
        mosaic[i * (height + 1) :, j * (width + 1) :][:height, :width] = plane
    return mosaic


def _condense(sparse: Any) -> Array:
    """Returns a matrix as an image of at most `_PIXELS` a side, each pixel the entry of largest modulus."""
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
    return np.where(np.isfinite(image), image, np.nan)  # NaN is not drawn
