"""Runs commands in the process of the tests."""

from typer.testing import CliRunner

from convop import cli

_runner = CliRunner()


def run(*arguments):
    """Run a command; returns its exit code, output and errors."""
    return _runner.invoke(cli.app, [str(a) for a in arguments], catch_exceptions=False)


def error_line(*arguments):
    """Run a command that has to fail with status 2, and return its single line on standard error."""
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("convop: ")
    assert result.stderr.count("\n") == 1
    return result.stderr
