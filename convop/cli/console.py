"""What all commands share: where they print, and how they refuse."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import typer
from rich.console import Console

from ..arrays.backend import gpu

__all__ = ["console", "one_line_errors", "require_gpu", "require_matplotlib", "require_writable"]

console = Console()


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Bad files, shapes and sizes as one line and exit status 2."""
    try:
        yield
    except (ValueError, TypeError, OSError, MemoryError, OverflowError) as error:
        line = " ".join(str(error).split()) or type(error).__name__
        typer.echo(f"convop: {line}", err=True)
        raise typer.Exit(2) from error


def require_matplotlib() -> None:
    """Refuse before any work is done, if pictures are wanted and cannot be drawn."""
    if find_spec("matplotlib") is None:
        raise ValueError("pictures need matplotlib; pip install 'convop[plot]'")


def require_gpu() -> None:
    """Refuse if there is no GPU, saying what is missing."""
    try:
        gpu()
    except RuntimeError as error:
        raise ValueError(f"device: {error}") from None


def require_writable(name: str, path: Path, *suffixes: str) -> None:
    """Before any work is done."""
    if path.suffix.lower() not in suffixes or path.is_dir():
        raise ValueError(f"{name} must be a {' or '.join(suffixes)} file, got {path}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{name} {path}: there is no folder {path.parent}")
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}."):
            pass
    except OSError as error:
        raise OSError(f"{name} {path} cannot be written: {error.strerror}") from error
