"""Terminal output and checks that all commands share: one-line errors, tables, requirements tested before any work."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Column

from ..arrays.backend import gpu

console = Console()


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Report errors of files, shapes and sizes as one line on standard error, with exit status 2."""
    try:
        yield
    except (ValueError, TypeError, OSError, MemoryError, OverflowError) as error:
        line = " ".join(str(error).split()) or type(error).__name__
        typer.echo(f"convop: {line}", err=True)
        raise typer.Exit(2) from error


def require_matplotlib() -> None:
    """Raise ValueError if Matplotlib, which draws the pictures, is not installed."""
    if find_spec("matplotlib") is None:
        raise ValueError("pictures need matplotlib; pip install 'convop[plot]'")


def require_gpu() -> None:
    """Raise ValueError if no GPU can be used; the message names the missing part."""
    try:
        gpu()
    except RuntimeError as error:
        raise ValueError(f"device: {error}") from None


def require_writable(name: str, path: Path, *suffixes: str) -> None:
    """Raise ValueError or OSError if a file of these suffixes cannot be created at `path`; `name` is the option's name."""
    if path.suffix.lower() not in suffixes or path.is_dir():
        raise ValueError(f"{name} must be a {' or '.join(suffixes)} file, got {path}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{name} {path}: there is no folder {path.parent}; create it first")
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}."):
            pass
    except OSError as error:
        raise OSError(f"{name} {path} cannot be written: {error.strerror}") from error


def right_aligned(*names: str) -> list[Column]:
    """Return columns of a table that are aligned to the right, as numbers are."""
    return [Column(name, justify="right") for name in names]
