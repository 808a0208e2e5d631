"""Command line: parses arguments, calls the package, prints results. Bad input is one line on standard error and exit status 2."""

from .commands import app

__all__ = ["app"]
