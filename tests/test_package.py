"""Public names, modules loaded on import, and the files that import each dependency."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import convop

FOLDER = Path(convop.__file__).parent


def output_of(code):
    """Run code in a new process; returns its output."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_public_names_are_exactly_all():
    assert sorted(convop.__all__) == convop.__all__
    assert set(convop.__all__) <= set(dir(convop))
    for name in convop.__all__:
        assert getattr(convop, name) is not None
    public = output_of("import convop; print([n for n in vars(convop) if not n.startswith('_')])")
    # Importing also binds the submodules of the two names that are imported eagerly.
    extra = set(ast.literal_eval(public)) - set(convop.__all__)
    assert {n for n in extra if not (FOLDER / f"{n}.py").is_file() and not (FOLDER / n).is_dir()} <= {
        "annotations",
        "import_module",
        "TYPE_CHECKING",
        "Any",
    }


def test_unknown_name_raises_attribute_error():
    with pytest.raises(AttributeError, match="module 'convop' has no attribute 'Conv2D'"):
        convop.Conv2D  # noqa: B018


@pytest.mark.parametrize(
    "use", ["", "convop.ConvSpec((3,), (2,)).nnz;", "convop.kernel2matrix([[1, 2], [3, 4]], (3, 3));"]
)
def test_import_and_small_matrices_load_no_heavy_dependency(use):
    heavy = [
        "pylops",
        "numba",
        "matplotlib",
        "torch",
        "jax",
        "cv2",
        "onnxruntime",
        "ducc0",
        "cupy",
        "typer",
        "rich",
        "skimage",
        "PIL",
        "pytest",
    ]
    loaded = output_of(f"import sys, json, convop; {use} print(json.dumps([m for m in {heavy} if m in sys.modules]))")
    assert json.loads(loaded) == []


def test_pylops_is_imported_with_the_first_operator():
    code = "import sys, convop; a = 'pylops' in sys.modules; convop.Conv; print(a, 'pylops' in sys.modules)"
    assert output_of(code) == "False True"


# Each optional or heavy dependency, and the files that import it.
IMPORTERS = {
    "numba": {
        "bench/rate_loops.py",
        "deconvnet/step_loops.py",
        "engines/kernels/microkernels.py",
        "engines/kernels/butterflies.py",
        "threads/compiled.py",
        "threads/fork_join.py",
        "threads/llvm.py",
    },
    "llvmlite": {
        "bench/rate_loops.py",
        "engines/kernels/microkernels.py",
        "threads/fork_join.py",
        "threads/llvm.py",
        "threads/vectors.py",
    },
    "threadpoolctl": {"threads/sizes.py"},
    "matplotlib": {"plot.py"},
    "typer": {"cli/arguments.py", "cli/commands.py", "cli/console.py", "cli/networks.py"},
    "rich": {"cli/commands.py", "cli/networks.py", "cli/console.py", "bench/report.py", "arrays/progress.py"},
    "skimage": {"files.py"},
    "PIL": {"files.py"},
    "pytest": {"testing/laws.py"},
    "pylops": {"operators/linear_operator.py"},
    "torch": {"torch.py", "engines/torch.py", "bench/peers/torch.py"},
    "sklearn": {"deconvnet/estimator.py"},
    "sporco": {"bench/coding.py"},
    "cv2": {"bench/peers/opencv.py"},
    "ducc0": {"bench/peers/ducc0.py"},
    "jax": {"bench/peers/jax.py"},
    "onnx": {"bench/peers/onnxruntime.py"},
    "onnxruntime": {"bench/peers/onnxruntime.py"},
    "cupy": set(),
    "mpi4py": set(),
    "pylops_mpi": set(),
}


def imported_packages(path):
    """Yield the packages that a file imports by absolute name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.partition(".")[0]


def test_one_file_imports_cupy():
    """It calls `import_module`, so that CuPy is imported on first use."""
    named = set()
    for path in FOLDER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "import_module":
                name = str(getattr(node.args[0], "value", ""))
                if name.startswith("cupy"):
                    named.add(path.relative_to(FOLDER).as_posix())
    assert named == {"arrays/backend.py"}


def test_dependencies_are_imported_by_the_listed_files_only():
    found = {name: set() for name in IMPORTERS}
    for path in FOLDER.rglob("*.py"):
        for name in set(imported_packages(path)) & set(IMPORTERS):
            found[name].add(path.relative_to(FOLDER).as_posix())
    assert found == IMPORTERS


def test_imported_packages_are_declared_dependencies():
    core = {"numpy", "scipy", "pylops", "numba"}
    for path in FOLDER.rglob("*.py"):
        others = set(imported_packages(path)) - set(sys.stdlib_module_names) - core - set(IMPORTERS)
        assert others == set(), path


def test_package_has_type_information():
    assert (FOLDER / "py.typed").is_file()
