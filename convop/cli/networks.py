"""The commands ``deconvnet fit`` and ``deconvnet show``: learn a network from photographs, draw its filters."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.table import Table

from ..arrays.backend import Array
from ..files import read_square
from ..geometry.arguments import one_of
from .console import console, one_line_errors, require_matplotlib, require_writable, right_aligned

if TYPE_CHECKING:
    from ..deconvnet import DeconvNet

networks = typer.Typer(
    help="Learn a deconvolutional network from photographs, or draw its filters.", no_args_is_help=True
)

_PREPROCESSING = ("mean", "contrast")

SideOption = Annotated[
    int, typer.Option(min=16, help="Side in pixels of the central square to which photographs are cropped and resized.")
]
PreprocessOption = Annotated[
    str,
    typer.Option(
        help="mean: subtract the mean; contrast: local contrast normalisation. Both then scale to a maximum of 1."
    ),
]


@networks.command()
def fit(
    *,
    images: Annotated[list[Path], typer.Argument(help="Photographs: any files that Pillow reads, converted to grey.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The .npz file to write.")],
    maps: Annotated[
        str, typer.Option(help="Number of feature maps of each layer, from the images up: 9 or 9,45.")
    ] = "9",
    kernel_size: Annotated[str, typer.Option(help="Side of the filters: one number, or one per layer.")] = "7",
    lam: Annotated[str, typer.Option(help="Weight of the data term: one number, or one per layer.")] = "5",
    p: Annotated[str, typer.Option(help="Power of the penalty, at most 1: one number, or one per layer.")] = "1",
    epochs: Annotated[str, typer.Option(help="Number of epochs: one number, or one per layer.")] = "5",
    connectivity: Annotated[
        str, typer.Option(help="full, singles+pairs or random-pairs: one word, or one per layer.")
    ] = "full",
    solver: Annotated[str, typer.Option(help="auto, admm, fista or hqs.")] = "auto",
    side: SideOption = 96,
    preprocess: PreprocessOption = "mean",
    seed: Annotated[int, typer.Option(help="Seed of the initial filters and the random connections.")] = 0,
) -> None:
    """Learn the filters of one or more layers, and write them to a file."""
    with one_line_errors():
        from ..deconvnet import DeconvLayer, DeconvNet
        from ..storage import save_network

        require_writable("output", output, ".npz")
        counts = _parse_per_layer("maps", maps, int)
        columns = (
            _parse_per_layer(name, text, kind, len(counts))
            for name, text, kind in (
                ("kernel_size", kernel_size, int),
                ("lam", lam, float),
                ("p", p, float),
                ("epochs", epochs, int),
                ("connectivity", connectivity, str),
            )
        )
        layers = [
            DeconvLayer(n, k, lam=w, p=q, n_epochs=e, connectivity=c, solver=solver)
            for n, k, w, q, e, c in zip(counts, *columns, strict=True)
        ]
        net = DeconvNet(layers, rng=seed)
        data = _read_images(images, side, preprocess)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            net.fit(data, progress=True)
        for warning in caught:
            typer.echo(f"warning: {warning.message}", err=True)
        table = _layer_table(net, data)
        save_network(output, net)
        console.print(table)
        typer.echo(str(output))


def _layer_table(net: DeconvNet, data: Array) -> Table:
    """Tabulate the layers: cost at the first and last epoch, sparsity of the maps, and accuracy of the reconstruction."""
    from ..deconvnet import snr

    table = Table(*right_aligned("layer", "maps", "filters", "cost", "not zero", "SNR (dB)"))
    layers = zip(net.filters_, net.cost_history_, net.infer(data), strict=True)
    for number, (filters, costs, maps) in enumerate(layers):
        table.add_row(
            str(number + 1),
            str(filters.shape[1]),
            f"{filters.shape[2]}x{filters.shape[3]}",
            f"{costs[0]:.5g} -> {costs[-1]:.5g}",
            f"{(maps != 0).mean():.2%}",
            f"{snr(data, net.reconstruct(maps, number)):.2f}",
        )
    return table


@networks.command()
def show(
    network: Annotated[Path, typer.Argument(help="A .npz file written by fit.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The .png file to write.")],
    image: Annotated[
        Path | None, typer.Option(help="A photograph to reconstruct; the default is included in scikit-image.")
    ] = None,
    side: SideOption = 96,
    preprocess: PreprocessOption = "mean",
) -> None:
    """Draw the filters of each layer, and the reconstruction of a photograph from each layer."""
    with one_line_errors():
        require_matplotlib()
        require_writable("output", output, ".png")
        from .. import plot as draw
        from ..storage import load_network

        net = load_network(network)
        if len(net.filters_[0]) != 1:
            raise ValueError(f"network must be one of grey images, got one of {len(net.filters_[0])} channels")
        data = _read_images([image], side, preprocess)
        layer_maps = net.infer(data)
        panels: list[Callable[[Any], object]] = [
            *(_filters_panel(net, number) for number in range(len(layer_maps))),
            lambda ax: draw.image(_to_grey(data), ax=ax).set_title(f"the photograph, {preprocess}"),
            *(_reconstruction_panel(net, data, maps, number) for number, maps in enumerate(layer_maps)),
        ]

        def draw_panels(*axes: Any) -> None:
            for panel, ax in zip(panels, axes, strict=True):
                panel(ax)

        typer.echo(str(draw.save(output, draw_panels, panels=len(panels), size=(3.4 * len(panels), 3.7))))


def _filters_panel(net: DeconvNet, number: int) -> Callable[[Any], object]:
    from .. import plot as draw

    maps = net.filters_[number].shape[1]
    return lambda ax: draw.patterns(net, number, ax=ax).set_title(f"layer {number + 1}: {maps} maps in pixels")


def _reconstruction_panel(net: DeconvNet, data: Array, maps: Array, number: int) -> Callable[[Any], object]:
    from .. import plot as draw
    from ..deconvnet import snr

    reconstruction = net.reconstruct(maps, number)
    title = f"from layer {number + 1}: {snr(data, reconstruction):.1f} dB"
    return lambda ax: draw.image(_to_grey(reconstruction), ax=ax).set_title(title)


def _to_grey(images: Array) -> Array:
    """Map the first image from [-1, 1] to grey values in [0, 1]."""
    return np.asarray(np.clip(images[0, 0] / 2 + 0.5, 0, 1))


def _read_images(paths: list[Path] | list[Path | None], side: int, preprocess: str) -> Array:
    """Read photographs as preprocessed squares of shape ``(len(paths), 1, side, side)``, with values in [-1, 1]."""
    from ..deconvnet import local_contrast, remove_mean, rescale

    one_of("preprocess", preprocess, _PREPROCESSING)
    data = np.asarray([read_square(path, side) for path in paths])[:, None]
    return rescale(local_contrast(data) if preprocess == "contrast" else remove_mean(data))


def _parse_per_layer(name: str, text: str, kind: Callable[[str], Any], count: int | None = None) -> list[Any]:
    """Parse values separated by commas, one per layer; a single value applies to all `count` layers."""
    try:
        values = [kind(value.strip()) for value in text.split(",")]
    except ValueError:
        raise ValueError(f"{name} must be one value, or one per layer separated by commas; got {text!r}") from None
    if count is None or len(values) == count:
        return values
    if len(values) == 1:
        return values * count
    raise ValueError(f"{name} must be one value or {count}, one for each layer of maps; got {text!r}")
