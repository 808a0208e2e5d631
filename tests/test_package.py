"""Public names, modules loaded on import, and the files that import each dependency."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import convop

FOLDER = Path(convop.__file__).parent


def fresh(code):
    """What a new process prints."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_public_names_are_exactly_all():
    assert sorted(convop.__all__) == convop.__all__
    assert set(convop.__all__) <= set(dir(convop))
    for name in convop.__all__:
        assert getattr(convop, name) is not None
    public = fresh("import convop; print([n for n in vars(convop) if not n.startswith('_')])")
    # what importing binds besides: the submodules that the two eager names live in, and nothing of others'
    extra = set(ast.literal_eval(public)) - set(convop.__all__)
    assert {n for n in extra if not (FOLDER / f"{n}.py").is_file() and not (FOLDER / n).is_dir()} <= {
        "annotations",
        "import_module",
        "TYPE_CHECKING",
        "Any",
    }


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="module 'convop' has no attribute 'Conv2D'"):
        convop.Conv2D  # noqa: B018


@pytest.mark.parametrize(
    "use", ["", "convop.ConvSpec((3,), (2,)).nnz;", "convop.kernel2matrix([[1, 2], [3, 4]], (3, 3));"]
)
def test_importing_and_small_matrices_load_nothing_heavy(use):
    heavy = [
        "pylops",
        "numba",
        "matplotlib",
        "torch",
        "jax",
        "cupy",
        "typer",
        "rich",
        "skimage",
        "PIL",
        "pytest",
        "scipy.sparse.linalg",
    ]
    loaded = fresh(f"import sys, json, convop; {use} print(json.dumps([m for m in {heavy} if m in sys.modules]))")
    assert [m for m in json.loads(loaded) if m != "scipy.sparse.linalg"] == []


def test_pylops_is_loaded_with_the_first_operator():
    code = "import sys, convop; a = 'pylops' in sys.modules; convop.Conv; print(a, 'pylops' in sys.modules)"
    assert fresh(code) == "False True"


# Each optional or heavy dependency, and the files that may name it.
HOMES = {
    "numba": {
        "deconvnet/step_loops.py",
        "matrix/loops.py",
        "engines/kernels/planes.py",
        "engines/kernels/columns.py",
        "engines/kernels/sweeps.py",
        "engines/kernels/microkernels.py",
        "engines/kernels/butterflies.py",
        "threads/fork_join.py",
        "threads/llvm.py",
    },
    "llvmlite": {"engines/kernels/microkernels.py", "threads/fork_join.py", "threads/llvm.py"},
    "matplotlib": {"plot.py"},
    "typer": {"cli/arguments.py", "cli/commands.py", "cli/console.py", "cli/networks.py"},
    "rich": {"cli/commands.py", "cli/networks.py", "cli/console.py", "bench/report.py", "arrays/progress.py"},
    "skimage": {"files.py"},
    "PIL": {"files.py"},
    "pytest": {"testing/laws.py"},
    "pylops": {"operators/linear_operator.py"},
    "torch": {"torch.py", "engines/torch.py", "bench/peers.py"},
    "sklearn": {"deconvnet/estimator.py"},
    "sporco": {"bench/coding.py"},
    "cupy": set(),
    "mpi4py": set(),
    "pylops_mpi": set(),
}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.partition(".")[0]


def test_one_file_imports_cupy():
    """By name, when it is asked for."""
    named = set()
    for path in FOLDER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "import_module":
                name = str(getattr(node.args[0], "value", ""))
                if name.startswith("cupy"):
                    named.add(path.relative_to(FOLDER).as_posix())
    assert named == {"arrays/backend.py"}


def test_each_dependency_has_one_home():
    found = {name: set() for name in HOMES}
    for path in FOLDER.rglob("*.py"):
        for name in set(imported(path)) & set(HOMES):
            found[name].add(path.relative_to(FOLDER).as_posix())
    assert found == HOMES


def test_only_declared_dependencies_are_imported():
    core = {"numpy", "scipy", "pylops", "numba"}
    for path in FOLDER.rglob("*.py"):
        others = set(imported(path)) - set(sys.stdlib_module_names) - core - set(HOMES)
        assert others == set(), path


def test_typed():
    assert (FOLDER / "py.typed").is_file()
