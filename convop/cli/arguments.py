"""Arguments of the commands that describe a convolution: their help texts, and their conversion to `Conv`'s parameters."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ..files import read_kernel

Kernel = Annotated[str, typer.Argument(help="Kernel: a .npy, .csv or .txt file, or its values as JSON: [[1,2],[3,4]].")]
Shape = Annotated[str, typer.Option("--shape", help="Input shape: 64,64, or 3,64,64 with channels.")]
Stride = Annotated[str, typer.Option(help="Stride: one integer, or one per axis: 2 or 2,1.")]
Padding = Annotated[
    str, typer.Option(help="Padding: 1, or 1,2 (per axis), or 0:1,2:3 (low:high per axis), or valid, same, full.")
]
Dilation = Annotated[str, typer.Option(help="Dilation: one integer, or one per axis.")]
Groups = Annotated[int, typer.Option(help="Number of channel groups.")]
PaddingMode = Annotated[
    str, typer.Option("--padding-mode", help="Boundary: zeros, circular, reflect, symmetric or replicate.")
]
Flip = Annotated[bool, typer.Option("--flip", help="Flip the kernel, as the convolution of signal processing does.")]
Dtype = Annotated[str | None, typer.Option(help="float32, float64, complex64 or complex128.")]


def conv_arguments(
    kernel: str,
    shape: str,
    stride: str,
    padding: str,
    dilation: str,
    groups: int,
    padding_mode: str,
    flip: bool,
    dtype: str | None,
) -> dict[str, Any]:
    """Convert the text of the arguments to keyword arguments of `Conv` and `kernel2matrix`."""
    return {
        "stride": _one_or_per_axis("stride", stride),
        "padding": _parse_padding(padding),
        "dilation": _one_or_per_axis("dilation", dilation),
        "groups": groups,
        "padding_mode": padding_mode,
        "kernel": read_kernel(kernel),
        "input_shape": _parse_integers("shape", shape),
        "flip": flip,
        "dtype": dtype,
    }


def _parse_integers(name: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in text.strip("()[] ").split(",") if number.strip())
    except ValueError:
        raise ValueError(f"{name} must be integers separated by commas, got {text!r}") from None


def _one_or_per_axis(name: str, text: str) -> int | tuple[int, ...]:
    numbers = _parse_integers(name, text)
    return numbers[0] if len(numbers) == 1 else numbers


def _parse_padding(text: str) -> Any:
    if text.isalpha():
        return text
    if ":" not in text:
        return _one_or_per_axis("padding", text)
    pairs = [_parse_integers("padding", axis.replace(":", ",")) for axis in text.split(",")]
    return tuple(pair * 2 if len(pair) == 1 else pair for pair in pairs)
