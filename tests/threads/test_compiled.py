"""Kernels on disk are never stale: their key sees every source that they may be made of."""

import ast
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

import numba
import numpy as np
import pytest

import convop
from convop.threads import compiled

PACKAGE = Path(convop.__file__).parent

# A folder with a kernel that is made of another file's constant and of another file's function.
LOOP = """
from convop.threads.compiled import inner_kernel, kernel
from tile import FACTOR, add

@inner_kernel
def scaled(x):
    return FACTOR * x

@kernel
def apply(x):
    return add(scaled(x))
"""
TILE = """
from convop.threads.compiled import inlined

FACTOR = {factor}

@inlined
def add(x):
    return x + {bias}
"""
# Numba's own key is the file of the function alone.
PLAIN_NUMBA = "from convop.threads import compiled\ncompiled._digest = lambda folder: ''\n"


def run(code, folder, *arguments, package=PACKAGE.parent):
    """Returns what a new process prints, which keeps its kernels in the folder."""
    paths = os.pathsep.join([str(folder), str(package)])
    environment = os.environ | {
        "PYTHONPATH": paths,
        "NUMBA_CACHE_DIR": str(folder / "numba"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=True
    ).stdout.split()


def write_tile(folder, factor, bias):
    (folder / "tile.py").write_text(TILE.format(factor=factor, bias=bias))


APPLY = """
from loop import apply, scaled
print(apply(10), sum(apply.stats.cache_hits.values()))
"""


@pytest.mark.parametrize(
    ("factor", "bias", "expected"), [(2, 5, "25"), pytest.param(3, 1, "31", marks=pytest.mark.slow)]
)
def test_kernel_is_loaded_from_disk_until_a_source_of_its_folder_changes(factor, bias, expected, tmp_path):
    """The bias is in a function that is part of the kernel; a kernel that it calls has frozen the factor."""
    (tmp_path / "loop.py").write_text(LOOP)
    write_tile(tmp_path, 2, 1)
    assert run(APPLY, tmp_path) == ["21", "0"]
    assert run(APPLY, tmp_path) == ["21", "1"]
    write_tile(tmp_path, factor, bias)
    assert run(APPLY, tmp_path) == [expected, "0"]


@pytest.mark.slow
def test_kernel_would_be_stale_with_the_key_of_numba(tmp_path):
    """The check above fails for kernels whose key is the file of the function: this is the fault that it is there for."""
    (tmp_path / "loop.py").write_text(LOOP)
    write_tile(tmp_path, 2, 1)
    assert run(PLAIN_NUMBA + APPLY, tmp_path) == ["21", "0"]
    write_tile(tmp_path, 2, 5)
    assert run(PLAIN_NUMBA + APPLY, tmp_path) == ["21", "1"]


def test_kernels_of_several_vector_widths_are_kept_side_by_side(tmp_path, monkeypatch):
    (tmp_path / "loop.py").write_text(LOOP)
    write_tile(tmp_path, 2, 1)
    for width, hits in (("32", "0"), ("64", "0"), ("32", "1"), ("64", "1"), ("16", "0")):
        monkeypatch.setenv("CONVOP_VECTOR_BYTES", width)
        assert run(APPLY, tmp_path) == ["21", hits]


def test_functions_that_a_kernel_calls_are_compiled_only_as_its_part(tmp_path):
    """Numba would optimise each of them, generate its machine code and keep it in a file of its own."""
    (tmp_path / "loop.py").write_text(LOOP)
    write_tile(tmp_path, 2, 1)
    assert run(APPLY, tmp_path) == ["21", "0"]
    assert {path.name.split("-")[0] for path in tmp_path.rglob("*.nbi")} == {"loop.apply"}


# A release whose library of code has none of the methods that are overridden.
OTHER_RELEASE = """
from numba.core import codegen
codegen.JITCodeLibrary = type("Library", (), {})
"""


def test_kernels_are_compiled_as_numba_does_with_a_release_that_cannot_join_functions(tmp_path):
    (tmp_path / "loop.py").write_text(LOOP)
    write_tile(tmp_path, 2, 1)
    assert run(OTHER_RELEASE + APPLY, tmp_path) == ["21", "0"]
    assert run(OTHER_RELEASE + APPLY, tmp_path) == ["21", "1"]


LOGGED = """
import logging, sys
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(levelname)s %(name)s %(message)s")
from loop import apply
print(apply(10), apply(10))
"""


def test_compilation_is_logged_but_not_loading_from_disk(tmp_path):
    (tmp_path / "loop.py").write_text(LOOP)
    write_tile(tmp_path, 2, 1)
    *messages, first, second = run(LOGGED, tmp_path)
    assert (first, second) == ("21", "21")
    begin, end = " ".join(messages).removeprefix("INFO").split("INFO")
    assert begin.split() == ["convop.threads.compiled", "compiling", "loop.apply"]
    assert re.fullmatch(r" convop.threads.compiled compiled loop.apply in \d+\.\d s", end)
    assert run(LOGGED, tmp_path) == ["21", "21"]


@compiled.allocating_kernel
def _reciprocal(x):
    if x == 0:
        raise ValueError("x is zero")
    return np.full(1, 1 / x)[0]


@compiled.inner_kernel
def _checked(x):
    if x < 0:
        raise ValueError("x is negative")
    return x


@compiled.allocating_kernel
def _twice_the_reciprocal(x):
    return 2 * _reciprocal(_checked(x))


def test_kernel_is_called_by_another_kernel_and_from_python():
    assert _twice_the_reciprocal(4.0) == 0.5
    assert _reciprocal(4.0) == 0.25
    assert _twice_the_reciprocal(8.0) == 0.25


@pytest.mark.parametrize(("x", "message"), [(0.0, "x is zero"), (-1.0, "x is negative")])
def test_exception_of_a_called_function_reaches_the_caller_of_the_kernel(x, message):
    with pytest.raises(ValueError, match=message):
        _twice_the_reciprocal(x)


PRODUCT = """
import numpy as np
from convop.engines.cpu.direct import DirectEngine
from convop.geometry.spec import ConvSpec
from convop.engines.kernels.direct import correlate_in_place
y = DirectEngine(ConvSpec(20, 2), np.array([1.0, 10.0])).forward(np.ones(20))
print(*sorted(set(y.tolist())), sum(correlate_in_place.stats.cache_hits.values()))
"""


@pytest.mark.slow
def test_product_follows_a_change_of_the_microkernel(tmp_path):
    """Sums of taps begin with 0; in a changed copy of the package they begin with 5."""
    shutil.copytree(PACKAGE, tmp_path / "convop", ignore=shutil.ignore_patterns("__pycache__"))
    source = tmp_path / "convop" / "engines" / "kernels" / "microkernels.py"
    text = source.read_text()
    zeros = "return [ir.Constant(self.vector, [0.0] * self.lanes)]"
    assert text.count(zeros) == 1
    assert run(PRODUCT, tmp_path, package=tmp_path) == ["11.0", "0"]
    assert run(PRODUCT, tmp_path, package=tmp_path) == ["11.0", "1"]
    source.write_text(text.replace(zeros, zeros.replace("0.0", "5.0")))
    assert run(PRODUCT, tmp_path, package=tmp_path) == ["16.0", "0"]


def compiled_modules():
    """Returns the modules of the package that define kernels: those that import a decorator."""
    decorators = {"kernel", "inner_kernel", "allocating_kernel", "uncached_kernel", "inlined"}
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        imports = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        names = {a.name for node in imports if (node.module or "").split(".")[-1] == "compiled" for a in node.names}
        if names & decorators:
            found.append(path)
    return found


def imported_folders(path):
    """Returns the folders of the package's modules that a module imports, with what it imports from each."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            folder = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            found.append(
                (folder.parent if folder.with_suffix(".py").exists() else folder, {a.name for a in node.names})
            )
    return found


def test_kernels_import_only_from_their_folder_and_from_threads():
    """The key sees the sources of these two folders, and type aliases are in no kernel."""
    modules = compiled_modules()
    expected = ("correlation", "planes", "gradient", "direct", "columns", "sweeps", "driver")
    assert {PACKAGE / "engines" / "kernels" / f"{name}.py" for name in expected} < set(modules)
    assert {PACKAGE / "matrix" / "loops.py", PACKAGE / "deconvnet" / "step_loops.py"} < set(modules)
    for path in modules:
        for folder, names in imported_folders(path):
            assert folder in (path.parent, PACKAGE / "threads") or names <= {"Array", "Ints"}, (path, folder, names)


@pytest.mark.parametrize("changed", ["kernels", "threads"])
def test_digest_sees_names_and_contents_of_all_sources(changed, tmp_path, monkeypatch):
    """Those of the kernel's folder, and those of the folder of `compiled`."""
    for name in ("kernels", "threads"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(compiled, "__file__", str(tmp_path / "threads" / "compiled.py"))
    folder = tmp_path / changed
    seen = []

    def is_new():
        seen.append(compiled._digest.__wrapped__(tmp_path / "kernels"))
        return seen[-1] not in seen[:-1]

    assert is_new()
    assert not is_new()
    (folder / "a.py").write_text("1")
    assert is_new()
    (folder / "a.py").write_text("2")
    assert is_new()
    (folder / "a.py").rename(folder / "b.py")
    assert is_new()
    (folder / "notes.txt").write_text("not a source")
    assert not is_new()


def test_kernel_without_a_source_is_compiled_in_every_process():
    """Numba refuses to keep a function that was typed in."""
    namespace = {}
    exec("def triple(x):\n    return 3 * x\n", namespace)
    assert compiled.kernel(namespace["triple"])(7) == 21


def test_call_typed_compiles_once_for_each_name_of_types():
    """A named tuple, arrays of both precisions, a read-only array, and numbers."""

    class Pair(NamedTuple):
        first: np.ndarray
        count: int

    compiled_for = []

    def total(pair, y):
        return pair.first[0] * pair.count + y[1]

    dispatcher = numba.njit(nogil=True)(total)
    original = dispatcher.compile
    dispatcher.compile = lambda types: compiled_for.append(types) or original(types)
    for _ in range(2):
        for dtype in ("float32", "float64"):
            x, y = np.full(3, 2.5, dtype), np.arange(4).astype(dtype)
            y.setflags(write=False)
            assert compiled.call_typed(dispatcher, dtype, Pair(x, 4), y) == 11
    assert [str(types[1].dtype) for types in compiled_for] == ["float32", "float64"]
    assert [types[1].mutable for types in compiled_for] == [False, False]


TWO_ENGINES = """
import sys
import numpy as np
from convop import ConvSpec
from convop.engines import make

for name in sys.argv[1:]:
    spec = ConvSpec((2, 30, 40), (3, 2, 3, 3), padding=1, padding_mode="symmetric")
    kernel = np.random.default_rng(0).standard_normal(spec.kernel_shape)
    x = np.ones(spec.shape[1])
    y = make(name, spec, kernel).forward(x)
    if np.allclose(y, make("csr", spec, kernel).forward(x)):
        print(name)
"""


@pytest.mark.slow
def test_kernels_compiled_in_different_processes_are_right_together(tmp_path):
    """Numba numbers functions anew in every process; closures of one name must not be mistaken for each other."""
    for name in ("direct", "separable"):
        (tmp_path / name).mkdir()
        assert run(TWO_ENGINES, tmp_path / name, name) == [name]
    for name in ("direct", "separable"):
        shutil.copytree(tmp_path / name, tmp_path / "merged", dirs_exist_ok=True)
    for order in (["separable", "direct"], ["direct", "separable"]):
        assert run(TWO_ENGINES, tmp_path / "merged", *order) == order
