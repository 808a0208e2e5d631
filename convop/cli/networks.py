"""`convop deconvnet`: networks learned from photographs, and what they have learned."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.table import Column, Table

from ..arrays.backend import Array
from ..files import read_square
from ..geometry.arguments import one_of
from .console import console, one_line_errors, require_matplotlib, require_writable

if TYPE_CHECKING:
    from ..deconvnet import DeconvNet

__all__ = ["networks"]

networks = typer.Typer(help="Learn a deconvolutional network from photographs; look at one.", no_args_is_help=True)

_PREPROCESSING = ("mean", "contrast")

SideOption = Annotated[
    int, typer.Option(min=16, help="Photographs are cut to a square in the middle and reduced to this side.")
]
PreprocessOption = Annotated[
    str, typer.Option(help="mean: less the mean; contrast: local contrast normalisation. Both scaled to 1 at most.")
]


@networks.command()
def fit(
    images: Annotated[list[Path], typer.Argument(help="Photographs: any files that Pillow reads, taken in grey.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The .npz file to write.")],
    maps: Annotated[str, typer.Option(help="Maps of each layer, from the images up: 9 or 9,45.")] = "9",
    kernel_size: Annotated[str, typer.Option(help="Side of the filters: one number, or one a layer.")] = "7",
    lam: Annotated[str, typer.Option(help="Weight of the data: one number, or one a layer.")] = "5",
    p: Annotated[str, typer.Option(help="Power of the penalty, up to 1: one number, or one a layer.")] = "1",
    epochs: Annotated[str, typer.Option(help="Epochs: one number, or one a layer.")] = "5",
    connectivity: Annotated[
        str, typer.Option(help="full, singles+pairs or random-pairs: one word, or one a layer.")
    ] = "full",
    solver: Annotated[str, typer.Option(help="auto, admm, fista or hqs.")] = "auto",
    side: SideOption = 96,
    preprocess: PreprocessOption = "mean",
    seed: Annotated[int, typer.Option(help="Seed of the first filters and connections.")] = 0,
) -> None:
    """Learn the filters of one or more layers, and write them to a file."""
    with one_line_errors():
        from ..deconvnet import DeconvLayer, DeconvNet, snr
        from ..storage import save_network

        require_writable("output", output, ".npz")
        counts = _each("maps", maps, int)
        sizes, weights, powers, rounds, patterns = (
            _each(name, text, kind, len(counts))
            for name, text, kind in (
                ("kernel_size", kernel_size, int),
                ("lam", lam, float),
                ("p", p, float),
                ("epochs", epochs, int),
                ("connectivity", connectivity, str),
            )
        )
        net = DeconvNet(
            [
                DeconvLayer(n, k, lam=w, p=q, n_epochs=e, connectivity=c, solver=solver)
                for n, k, w, q, e, c in zip(counts, sizes, weights, powers, rounds, patterns, strict=True)
            ],
            rng=seed,
        )
        data = _prepared(images, side, preprocess)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            net.fit(data, progress=True)
        for warning in warned:
            typer.echo(f"warning: {warning.message}", err=True)
        found = net.infer(data)
        save_network(output, net)
        right = [Column(name, justify="right") for name in ("maps", "filters", "cost", "not zero", "SNR (dB)")]
        table = Table(Column("layer", justify="right"), *right)
        for number, (filters, costs, layer_maps) in enumerate(zip(net.filters_, net.cost_history_, found, strict=True)):
            table.add_row(
                str(number + 1),
                str(filters.shape[1]),
                f"{filters.shape[2]}x{filters.shape[3]}",
                f"{costs[0]:.5g} -> {costs[-1]:.5g}",
                f"{(layer_maps != 0).mean():.2%}",
                f"{snr(data, net.reconstruct(layer_maps, number)):.2f}",
            )
        console.print(table)
        typer.echo(str(output))


@networks.command()
def show(
    network: Annotated[Path, typer.Argument(help="A .npz file that fit has written.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The .png file to write.")],
    image: Annotated[
        Path | None, typer.Option(help="A photograph to take apart; by default one that scikit-image brings.")
    ] = None,
    side: SideOption = 96,
    preprocess: PreprocessOption = "mean",
) -> None:
    """Draw the filters of each layer, and a photograph as each layer makes it up."""
    with one_line_errors():
        require_matplotlib()
        require_writable("output", output, ".png")
        from .. import plot as draw
        from ..storage import load_network

        net = load_network(network)
        if len(net.filters_[0]) != 1:
            raise ValueError(f"network must be one of grey images, got one of {len(net.filters_[0])} channels")
        data = _prepared([image], side, preprocess)
        found = net.infer(data)
        panels: list[Callable[[Any], object]] = [
            *(_filters_panel(net, number) for number in range(len(found))),
            lambda ax: draw.image(_grey(data), ax=ax).set_title(f"the photograph, {preprocess}"),
            *(_reconstruction_panel(net, data, maps, number) for number, maps in enumerate(found)),
        ]

        def all_panels(*axes: Any) -> None:
            for panel, ax in zip(panels, axes, strict=True):
                panel(ax)

        typer.echo(str(draw.save(output, all_panels, panels=len(panels), size=(3.4 * len(panels), 3.7))))


def _filters_panel(net: DeconvNet, number: int) -> Callable[[Any], object]:
    from .. import plot as draw

    maps = net.filters_[number].shape[1]
    return lambda ax: draw.patterns(net, number, ax=ax).set_title(f"layer {number + 1}: {maps} maps in pixels")


def _reconstruction_panel(net: DeconvNet, data: Array, maps: Array, number: int) -> Callable[[Any], object]:
    from .. import plot as draw
    from ..deconvnet import snr

    made = net.reconstruct(maps, number)
    title = f"from layer {number + 1}: {snr(data, made):.1f} dB"
    return lambda ax: draw.image(_grey(made), ax=ax).set_title(title)


def _grey(images: Array) -> Array:
    """An image between -1 and 1 as grey values."""
    return np.asarray(np.clip(images[0, 0] / 2 + 0.5, 0, 1))


def _prepared(paths: list[Path] | list[Path | None], side: int, preprocess: str) -> Array:
    """Photographs as squares of one size, with values between -1 and 1."""
    from ..deconvnet import local_contrast, remove_mean, rescale

    one_of("preprocess", preprocess, _PREPROCESSING)
    data = np.asarray([read_square(path, side) for path in paths])[:, None]
    return rescale(local_contrast(data) if preprocess == "contrast" else remove_mean(data))


def _each(name: str, text: str, kind: Callable[[str], Any], count: int | None = None) -> list[Any]:
    """What was typed for each layer."""
    try:
        values = [kind(part.strip()) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"{name} must be one value, or one a layer separated by commas; got {text!r}") from None
    if count is None or len(values) == count:
        return values
    if len(values) == 1:
        return values * count
    raise ValueError(f"{name} must be one value or {count}, one for each layer of maps; got {text!r}")
