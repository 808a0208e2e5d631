"""Entry point of the command ``convop`` and of ``python -m convop``."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; without its dependencies, print which package to install and exit with status 2."""
    try:
        from .cli import app
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("typer", "rich"):
            raise
        print(f"convop: the command line needs {error.name}; pip install 'convop[cli,plot]'", file=sys.stderr)  # noqa: T201
        raise SystemExit(2) from None
    app()


if __name__ == "__main__":
    main()
