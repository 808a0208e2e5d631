"""The entry point: ``python -m convop``, with and without the dependencies of the command line."""

import subprocess
import sys
from pathlib import Path

import pytest


def test_python_m_convop():
    result = subprocess.run([sys.executable, "-m", "convop", "--version"], capture_output=True, text=True, check=True)
    assert result.stdout.startswith("convop 0.")


@pytest.mark.slow
def test_unwritable_standard_output_is_exit_status_2_and_not_1():
    full = Path("/dev/full")
    if not full.exists():
        return
    command = [sys.executable, "-m", "convop", "dottest", "[1,2]", "--shape", "9"]
    with full.open("w") as stdout:
        result = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("convop: ")


def test_missing_dependency_is_named_with_the_package_to_install():
    code = (
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'typer':\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "from convop.__main__ import main\n"
        "main()\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr == "convop: the command line needs typer; pip install 'convop[cli,plot]'\n"
