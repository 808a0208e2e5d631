"""The commands ``matrix``, ``info``, ``dottest``, ``demo`` and ``bench``: output, files and exit status."""

import json

import numpy as np
import pytest
import scipy.sparse as sp
from command_line import error_line, run
from PIL import Image

from convop import Conv, kernel2matrix


def test_matrix_writes_a_file_that_scipy_reads(tmp_path):
    np.save("kernel.npy", np.array([[1, 2, 3], [4, 5, 6]]))
    result = run(
        "matrix",
        "kernel.npy",
        "--shape",
        "9,8",
        "-o",
        "m.npz",
        "--stride",
        "2,1",
        "--padding",
        "0:1,2:3",
        "--dilation",
        "2",
        "--padding-mode",
        "reflect",
        "--flip",
        "--dtype",
        "float32",
        "--plot",
        "m.png",
    )
    assert result.exit_code == 0
    expected = kernel2matrix(
        [[1, 2, 3], [4, 5, 6]],
        (9, 8),
        stride=(2, 1),
        padding=((0, 1), (2, 3)),
        dilation=2,
        padding_mode="reflect",
        flip=True,
        dtype="float32",
    )
    loaded = sp.load_npz("m.npz")
    assert loaded.dtype == np.float32
    assert (loaded != expected).nnz == 0
    assert f"{expected.shape[0]} x {expected.shape[1]}, {expected.nnz} entries, float32" in result.stdout
    with Image.open("m.png") as picture:
        assert picture.format == "PNG"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["kernel.npy", "m.npz", "m.png"]


def test_info_prints_sizes_norm_and_condition_number():
    A = Conv([[4, 1], [0, 1]], (6, 6), padding="same")
    result = run("info", "[[4,1],[0,1]]", "--shape", "6,6", "--padding", "same")
    assert result.exit_code == 0
    for figure in ("36 x 36", str(A.spec.nnz), f"{A.norm():.6g}", f"{A.cond():.6g}", "2x2, float64", "0:1, 0:1"):
        assert figure in result.stdout


def test_info_skips_norm_and_condition_number_of_large_operators():
    result = run("info", "[[1,2],[3,4]]", "--shape", "5000,5000")
    assert result.exit_code == 0
    assert "not computed above 20000000 entries" in result.stdout
    assert "not computed above 2048 rows" in result.stdout


def test_info_prints_norm_and_condition_number_of_large_circular_operators():
    A = Conv([[2.0, 1.0]], (1000, 1001), padding="same", padding_mode="circular")
    result = run("info", "[[2,1]]", "--shape", "1000,1001", "--padding", "same", "--padding-mode", "circular")
    assert f"{A.cond():.6g}" in result.stdout
    assert "not computed" not in result.stdout


def test_dottest_exit_status_tells_whether_the_adjoint_is_right(monkeypatch):
    arguments = ("dottest", "[[1,2],[3,4]]", "--shape", "9,9", "--stride", "2", "--seed", "3")
    result = run(*arguments)
    assert result.exit_code == 0
    assert "passed: relative error" in result.stdout
    monkeypatch.setattr(Conv, "_rmatvec", lambda _, y: np.ones(81))
    result = run(*arguments)
    assert result.exit_code == 1
    assert "failed: relative error" in result.stdout


def test_demo_on_a_given_photograph(tmp_path):
    rng = np.random.default_rng(0)
    row, column = np.mgrid[:70, :61]
    photograph = (128 + 90 * np.sin(row / 5) * np.cos(column / 7) + 9 * rng.standard_normal((70, 61))).clip(0, 255)
    Image.fromarray(photograph.astype(np.uint8)).convert("RGB").save("mine.png")
    result = run("demo", "--image", "mine.png", "--out", "pictures")
    assert result.exit_code == 0
    assert "adjoint test: " in result.stdout
    assert "passed: relative error" in " ".join(result.stdout.split())
    names = ["photograph", "data", "recovered-lsqr", "recovered-cgls", "recovered-fista", "overview", "matrix"]
    assert [line for line in result.stdout.splitlines() if line.endswith(".png")] == [
        f"pictures/{n}.png" for n in names
    ]
    with Image.open("pictures/photograph.png") as image:
        assert image.size == (61, 70)
    with Image.open("pictures/data.png") as image:
        assert image.size == (31, 35)
    figures = {
        m: float(result.stdout.split(m)[-1].split("│")[3]) for m in ("LSQR (SciPy)", "CGLS (PyLops)", "FISTA (PyLops)")
    }
    unsolved = float(result.stdout.split("data, enlarged")[-1].split("│")[3])
    assert min(figures.values()) > unsolved + 2


def test_bench_prints_json_of_the_selected_part(benchmarks_without_pauses):
    results = json.loads(run("bench", "--quick", "--repeats", "1", "--part", "applying", "--json").stdout)
    assert set(results) == {"machine", "applying", "lines"}
    assert {line["direction"] for line in results["applying"]} == {"forward", "adjoint"}
    assert results["lines"] == []


@pytest.mark.slow
def test_bench_prints_json(benchmarks_without_pauses):
    result = run("bench", "--quick", "--repeats", "1", "--json")
    assert result.exit_code == 0
    results = json.loads(result.stdout)
    assert set(results) == {"machine", "applying", "lines"}
    lines = results["lines"]
    assert {"name", "against", "seconds", "against_seconds", "ratio", "limit", "entries", "unit"} == set(lines[0])
    assert [line["name"] for line in lines if "import" in line["name"]] == [
        "import convop",
        "import and a first 3x3 matrix",
    ]
    assert all(line["seconds"] > 0 and line["ratio"] > 0 for line in lines)
    assert {line["direction"] for line in results["applying"]} == {"forward", "adjoint"}


def test_bench_prints_tables_of_the_selected_parts(benchmarks_without_pauses):
    shown = run("bench", "--quick", "--repeats", "1", "--part", "applying").stdout
    assert "fastest peer" in shown
    assert "geometric mean" in shown
    assert "import convop" not in shown
    error = error_line("bench", "--part", "all")
    assert "part must be one of applying, extras, building, coding, solving; got 'all'" in error


@pytest.mark.slow
def test_bench_calibrate_writes_costs(tmp_path, benchmarks_without_pauses):
    path = tmp_path / "costs.json"
    result = run("bench", "--quick", "--repeats", "1", "--calibrate", "-o", str(path))
    assert result.stdout.strip() == str(path)
    assert set(json.loads(path.read_text())["seconds"]) == {"csr", "direct", "fft", "gemm", "torch", "winograd"}
    assert "output is for --calibrate" in error_line("bench", "-o", str(path))
    assert "must be a .json file" in error_line("bench", "--calibrate", "-o", str(tmp_path))


def test_version_and_help():
    assert run("--version").stdout.startswith("convop 0.")
    for command in ("demo", "matrix", "info", "dottest", "bench", "warm-up"):
        assert command in run("--help").stdout
        assert run(command, "--help").exit_code == 0
