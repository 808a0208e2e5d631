"""The command line: parse, call, print. Bad input is one line on standard error and exit status 2."""

from .commands import app

__all__ = ["app"]
