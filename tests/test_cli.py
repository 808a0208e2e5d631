"""The commands as a person types them: what they print, write and return."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from PIL import Image
from typer.testing import CliRunner

from convop import Conv, cli, kernel2matrix
from convop.apps.deblurring import point_spread

runner = CliRunner()


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments):
    return runner.invoke(cli.app, [str(a) for a in arguments], catch_exceptions=False)


def refused(*arguments):
    """The one line on standard error of a command that ends with status 2."""
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("convop: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def test_matrix_writes_what_scipy_reads(tmp_path):
    np.save("kernel.npy", np.array([[1, 2, 3], [4, 5, 6]]))
    result = run(
        "matrix", "kernel.npy", "--shape", "9,8", "-o", "m.npz", "--stride", "2,1", "--padding", "0:1,2:3",
        "--dilation", "2", "--padding-mode", "reflect", "--flip", "--dtype", "float32", "--plot", "m.png",
    )  # fmt: skip
    assert result.exit_code == 0
    expected = kernel2matrix(
        [[1, 2, 3], [4, 5, 6]], (9, 8), stride=(2, 1), padding=((0, 1), (2, 3)), dilation=2,
        padding_mode="reflect", flip=True, dtype="float32",
    )  # fmt: skip
    loaded = sp.load_npz("m.npz")
    assert loaded.dtype == np.float32
    assert (loaded != expected).nnz == 0
    assert f"{expected.shape[0]} x {expected.shape[1]}, {expected.nnz} entries, float32" in result.stdout
    with Image.open("m.png") as picture:
        assert picture.format == "PNG"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["kernel.npy", "m.npz", "m.png"]


@pytest.mark.parametrize(
    ("padding", "meant"),
    [("same", "same"), ("1", 1), ("1,2", (1, 2)), ("0:1,2", ((0, 1), 2)), ("-1:2,3:0", ((-1, 2), (3, 0)))],
)
def test_every_way_to_write_a_padding(padding, meant):
    assert run("matrix", "[[1,2],[3,4]]", "--shape", "5,6", "-o", "m.npz", "--padding", padding).exit_code == 0
    assert (sp.load_npz("m.npz") != kernel2matrix([[1, 2], [3, 4]], (5, 6), padding=meant)).nnz == 0


@pytest.mark.parametrize("suffix", [".csv", ".txt", ".npy"])
def test_kernels_from_files(suffix):
    kernel = np.array([[1.0, -2.0], [0.5, 4.0]])
    if suffix == ".npy":
        np.save("k.npy", kernel)
    else:
        np.savetxt(f"k{suffix}", kernel, delimiter="," if suffix == ".csv" else " ")
    assert run("matrix", f"k{suffix}", "--shape", "4,5", "-o", "m.npz").exit_code == 0
    assert (sp.load_npz("m.npz") != kernel2matrix(kernel, (4, 5))).nnz == 0


def test_channels_and_groups():
    np.save("k.npy", np.ones((4, 1, 3)))
    result = run("info", "k.npy", "--shape", "2,9", "--groups", "2", "--padding", "same")
    assert result.exit_code == 0
    assert "4x9" in result.stdout


def test_info_figures():
    A = Conv([[4, 1], [0, 1]], (6, 6), padding="same")
    result = run("info", "[[4,1],[0,1]]", "--shape", "6,6", "--padding", "same")
    assert result.exit_code == 0
    for figure in ("36 x 36", str(A.spec.nnz), f"{A.norm():.6g}", f"{A.cond():.6g}", "2x2, float64", "0:1, 0:1"):
        assert figure in result.stdout


def test_info_leaves_out_what_takes_too_long():
    result = run("info", "[[1,2],[3,4]]", "--shape", "5000,5000")
    assert result.exit_code == 0
    assert "not computed above 20000000 entries" in result.stdout
    assert "not computed above 2048 rows" in result.stdout


def test_dottest_says_it_by_its_exit_status(monkeypatch):
    arguments = ("dottest", "[[1,2],[3,4]]", "--shape", "9,9", "--stride", "2", "--seed", "3")
    result = run(*arguments)
    assert result.exit_code == 0
    assert "passed: relative error" in result.stdout
    monkeypatch.setattr(Conv, "_rmatvec", lambda _, y: np.ones(81))
    result = run(*arguments)
    assert result.exit_code == 1
    assert "failed: relative error" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("info", "nowhere.npy", "--shape", "3"), "kernel file nowhere.npy does not exist"),
        (("info", "k.jpg", "--shape", "3"), "kernel file must be .npy, .csv or .txt, got k.jpg"),
        (("info", "text.npy", "--shape", "3"), "kernel file text.npy cannot be read"),
        (("info", "pickle.npy", "--shape", "3"), "kernel file pickle.npy cannot be read"),
        (("info", "huge.npy", "--shape", "3"), "kernel file huge.npy cannot be read"),
        (("info", "header.npy", "--shape", "3"), "kernel file header.npy cannot be read"),
        (("info", "short.npy", "--shape", "3"), "kernel file short.npy cannot be read"),
        (("info", "empty.npy", "--shape", "3"), "kernel file empty.npy cannot be read"),
        (("info", "words.csv", "--shape", "3"), "kernel file words.csv cannot be read"),
        (("info", "empty.csv", "--shape", "3"), "kernel file empty.csv cannot be read"),
        (("info", "[[1,2],[3]]", "--shape", "3"), "kernel must be a file or nested lists of numbers"),
        (("info", "[1,", "--shape", "3"), "kernel must be a file or nested lists of numbers"),
        (("info", "[]", "--shape", "3"), "kernel must have at least one axis and one element"),
        (("info", '["a"]', "--shape", "3"), "kernel must"),
        (("info", "[1,2]", "--shape", "x"), "shape must be integers separated by commas, got 'x'"),
        (("info", "[1,2]", "--shape", ""), "input_shape must have at least one axis"),
        (("info", "[1,2]", "--shape", "3,3"), "kernel_shape (2,) does not go with input_shape (3, 3)"),
        (("info", "[1,2]", "--shape", "1"), "kernel does not fit spatial axis 0"),
        (("info", "[1,2]", "--shape", "9", "--stride", "0"), "stride must be at least 1"),
        (("info", "[1,2]", "--shape", "9", "--padding", "wide"), "padding must be numbers or one of valid"),
        (("info", "[1,2]", "--shape", "9", "--padding", "1:2:3"), "padding of one axis must be"),
        (("info", "[1,2]", "--shape", "9", "--padding-mode", "wrap"), "padding_mode must be one of"),
        (("info", "[1,2]", "--shape", "9", "--dtype", "int8"), "dtype must be one of"),
        (("info", "[1,2]", "--shape", "9", "--dtype", "nonsense"), "dtype must be one of float32, float64, complex64, complex128; got 'nonsense'"),
        (("matrix", "[1,2]", "--shape", "9", "-o", "m.mat"), "output must be a .npz file, got m.mat"),
        (("matrix", "[1,2]", "--shape", "9", "-o", "no/such/m.npz"), "there is no folder no/such"),
        (("matrix", "[1,2]", "--shape", "9", "-o", "m.npz", "--plot", "no/p.png"), "there is no folder no"),
        (("matrix", "[1,2]", "--shape", "9", "-o", "m.npz", "--plot", "p.jpg"), "plot must be a .png file, got p.jpg"),
        (("info", "[" * 5000 + "]" * 5000, "--shape", "9"), "kernel must be a file or nested lists of numbers"),
        (("info", "[1,2]", "--shape", "9", "--dtype", "f4,(2"), "dtype must be one of"),
        (("matrix", "[1,2]", "--shape", str(10**12), "-o", "m.npz"), "only"),
        (("demo", "--image", "nowhere.png"), "image nowhere.png does not exist"),
        (("demo", "--image", "text.png"), "image text.png is not an image that Pillow can read"),
        (("demo", "--image", "cut.png"), "image cut.png is damaged"),
        (("demo", "--image", "tiny.png"), "image tiny.png must have at least 16x16 pixels, got 4x5"),
        (("demo", "--image", "bomb.png"), "image bomb.png is too large"),
        (("demo", "--image", "."), "image . does not exist"),
        (("demo", "--out", "text.png"), "text.png"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_status_2(arguments, message, tmp_path, monkeypatch):
    for name in ("k.jpg", "text.npy", "text.png", "words.csv"):
        (tmp_path / name).write_text("these are words\n")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "empty.npy").write_bytes(b"")
    np.save("pickle.npy", np.array([{"a": 1}]), allow_pickle=True)
    np.save("k.npy", np.ones(100))
    stored = (tmp_path / "k.npy").read_bytes()
    (tmp_path / "short.npy").write_bytes(stored[:-8])
    with (tmp_path / "huge.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)})
    (tmp_path / "header.npy").write_bytes(stored.replace(b"(100,)", b"(((((("))
    Image.new("L", (4, 5)).save("tiny.png")
    Image.new("L", (64, 64), 7).save("cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:60])
    Image.new("L", (100, 100)).save("bomb.png")
    if "bomb.png" in arguments:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 6000)
    before = {p.name for p in tmp_path.iterdir()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as outside of pytest, where no warning is an error by itself
        line = refused(*arguments)
    assert message in line
    assert "Traceback" not in line
    assert {p.name for p in tmp_path.iterdir()} - before <= {"convop-demo"}  # nothing is half-written


def test_demo_on_a_photograph_of_ones_own(tmp_path):
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


def test_bench_runs_and_writes_json():
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


def test_bench_shows_tables_of_the_parts_asked_for():
    shown = run("bench", "--quick", "--repeats", "1", "--part", "applying").stdout
    assert "fastest peer" in shown
    assert "geometric mean" in shown
    assert "import convop" not in shown
    assert "part must be one of applying, extras, building, coding; got 'all'" in refused("bench", "--part", "all")


def test_bench_calibrates(tmp_path):
    path = tmp_path / "costs.json"
    result = run("bench", "--quick", "--repeats", "1", "--calibrate", "-o", str(path))
    assert result.stdout.strip() == str(path)
    assert set(json.loads(path.read_text())["seconds"]) == {"csr", "direct", "fft", "gemm", "torch"}
    assert "output is for --calibrate" in refused("bench", "-o", str(path))
    assert "must be a .json file" in refused("bench", "--calibrate", "-o", str(tmp_path))


def test_version_and_help():
    assert run("--version").stdout.startswith("convop 0.")
    for command in ("demo", "matrix", "info", "dottest", "bench"):
        assert command in run("--help").stdout
        assert run(command, "--help").exit_code == 0


def test_a_result_that_cannot_be_printed_is_not_a_wrong_adjoint():
    full = Path("/dev/full")
    if not full.exists():
        return
    command = [sys.executable, "-m", "convop", "dottest", "[1,2]", "--shape", "9"]
    with full.open("w") as stdout:
        result = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("convop: ")


def test_python_m_convop():
    result = subprocess.run([sys.executable, "-m", "convop", "--version"], capture_output=True, text=True, check=True)
    assert result.stdout.startswith("convop 0.")


def test_without_the_extra_the_command_says_what_to_install():
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


def test_pictures_without_matplotlib_are_refused_before_the_work(monkeypatch):
    monkeypatch.setattr("convop.cli.console.find_spec", lambda name: None)
    assert "pictures need matplotlib" in refused("demo")
    assert "pictures need matplotlib" in refused("matrix", "[1]", "--shape", "3", "-o", "m.npz", "--plot", "m.png")


def psnr(path, reference):
    with Image.open(path) as image:
        values = np.asarray(image, dtype=float) / 255
    return -10 * np.log10(np.mean((values - reference) ** 2))


@pytest.fixture(scope="module")
def photograph():
    from skimage import data

    return data.astronaut()[40:296, 60:316] / 255


@pytest.mark.parametrize(
    ("kernel", "mode", "damp"),
    [
        ("gaussian:2", "symmetric", "discrepancy"),
        ("motion:15,30", "reflect", "discrepancy:0.01"),
        ("motion:9,100", "symmetric", "0.1"),
        ("k.npy", "replicate", "discrepancy"),
        ("gaussian:1.5", "circular", "0.1"),
    ],
)
@pytest.mark.parametrize("colour", [True, False])
def test_deblur_recovers_photographs(photograph, kernel, mode, damp, colour):
    image = photograph if colour else photograph[..., 1]
    rng = np.random.default_rng(0)
    point = np.outer([1, 2, 4, 6, 9], [3, 5, 7, 2, 1, 1, 0.5])
    np.save("k.npy", 255 * point)  # is scaled to sum 1
    if kernel != "k.npy":
        point = point_spread(kernel, (256, 256))
    A = Conv(point / point.sum(), image.shape[:2], padding="same", padding_mode=mode, flip=True)
    blurred = np.clip(A @ image + 0.01 * rng.standard_normal(image.shape), 0, 1)
    Image.fromarray(np.rint(255 * blurred).astype(np.uint8)).save("blurred.png")
    result = run("deblur", "blurred.png", kernel, "-o", "out.png", "--padding-mode", mode, "--damp", damp)
    assert result.exit_code == 0
    assert "out.png" in result.stdout
    assert psnr("out.png", image) > psnr("blurred.png", image) + 1
    assert sorted(p.name for p in Path().iterdir()) == ["blurred.png", "k.npy", "out.png"]


def test_deblur_by_cross_validation(photograph):
    A = Conv(point_spread("motion:15,30", (256, 256)), (256, 256), padding="same", padding_mode="symmetric", flip=True)
    blurred = np.clip(A @ photograph + 0.005 * np.random.default_rng(0).standard_normal(photograph.shape), 0, 1)
    Image.fromarray(np.rint(255 * blurred).astype(np.uint8)).save("blurred.png")
    result = run("deblur", "blurred.png", "motion:15,30", "-o", "out.png", "--damp", "gcv")
    assert "cross-validation" in " ".join(result.stdout.split())
    assert psnr("out.png", photograph) > psnr("blurred.png", photograph) + 1


@pytest.mark.parametrize("kernel", ["gaussian:2", "motion:15,30"])
@pytest.mark.parametrize("noise", [0.0, 0.02])
@pytest.mark.parametrize("quality", [95, 90, 75])
def test_deblur_of_jpeg_files(kernel, noise, quality):
    """JPEG leaves out the finest details, by which noise is told, and what surrounds the image is not known."""
    from skimage import data

    larger = data.camera() / 255
    A = Conv(point_spread(kernel, larger.shape), larger.shape, padding="same", padding_mode="symmetric", flip=True)
    blurred = A @ larger + noise * np.random.default_rng(0).standard_normal(larger.shape)
    seen = np.rint(255 * np.clip(blurred[100:401, 150:373], 0, 1)).astype(np.uint8)
    Image.fromarray(seen).save("in.jpg", quality=quality)
    assert run("deblur", "in.jpg", kernel, "-o", "out.png").exit_code == 0
    reference = larger[100:401, 150:373]
    assert psnr("out.png", reference) > psnr("in.jpg", reference) + 1.5


def test_deblur_always_gives_an_image():
    """Of what the blur does not explain, of noise alone, and of a colour alone, whose brightness stays as it is."""
    rng = np.random.default_rng(0)
    sharp = rng.integers(0, 2, (60, 80)).repeat(3, 0).repeat(3, 1) * 200
    flat = np.clip(200 + 20 * rng.standard_normal((100, 120)), 0, 255)
    for image, kernel in ((sharp, "gaussian:2"), (flat, "gaussian:1"), (np.full((40, 50), 200), "motion:5,20")):
        Image.fromarray(image.astype(np.uint8)).save("in.png")
        result = run("deblur", "in.png", kernel, "-o", "out.png")
        assert result.exit_code == 0, result.stderr
        with Image.open("out.png") as out:
            assert image is sharp or np.asarray(out).mean() == pytest.approx(image.mean(), abs=1.5)
    assert run("deblur", "in.png", "gaussian:1", "-o", "out.png", "--damp", "1e300").exit_code == 0


def test_deblur_of_floating_point_images_keeps_their_units():
    values = np.linspace(0.2, 0.7, 40 * 30, dtype=np.float32).reshape(30, 40)
    Image.fromarray(values).save("in.tif")
    assert run("deblur", "in.tif", "[[1]]", "-o", "out.tif", "--damp", "0").exit_code == 0
    with Image.open("out.tif") as out:
        np.testing.assert_allclose(np.asarray(out) / 65535, values, atol=1e-5)


def test_deblur_says_when_it_did_not_converge():
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50), dtype=np.uint8)).save("in.png")
    result = run("deblur", "in.png", "gaussian:3", "-o", "out.png", "--padding-mode", "reflect", "--damp", "1e-9")
    assert result.exit_code == 0
    assert "the image is not what was asked for" in result.stderr


def test_deblur_refuses_what_makes_no_sense():
    Image.new("L", (40, 30), 128).save("in.png")
    np.save("complex.npy", np.ones((3, 3)) * (1 + 1j))
    for kernel, message in (
        ("gaussian:", "kernel must be gaussian:SIGMA, got 'gaussian:'"),
        ("gaussian:0", "sigma must be a positive number"),
        ("gaussian:1,2", "kernel must be gaussian:SIGMA"),
        ("motion:3", "kernel must be motion:LENGTH,ANGLE, got 'motion:3'"),
        ("motion:a,b", "kernel must be motion:LENGTH,ANGLE"),
        ("gaussian:9", "kernel of 73x73 pixels is larger than the image of 30x40"),
        ("[1,2]", "two dimensions"),
        ("gaussian:1e9", "kernel of 8000000001x8000000001 pixels is larger"),  # before any of it is made
        ("motion:1e9,3", "is larger than the image"),
        ("[[1,-1]]", "a sum that is positive and finite, got 0"),
        ("[[1e308,1e308]]", "a sum that is positive and finite, got inf"),
        ("[[]]", "two dimensions"),
        ("complex.npy", "must be real, got complex numbers"),
        ("Gaussian:2", "is no file, and none of gaussian:SIGMA, motion:LENGTH,ANGLE"),
        ("nothing.npy", "is no file"),
    ):
        assert message in refused("deblur", "in.png", kernel, "-o", "out.png")
    for damp in ("-1", "nan", "a", "gcv:3", "discrepancy:x"):
        assert "damp must be" in refused("deblur", "in.png", "gaussian:1", "-o", "out.png", "--damp", damp)
    assert "noise" in refused("deblur", "in.png", "gaussian:1", "-o", "out.png", "--damp", "discrepancy:5")
    assert "padding_mode must be" in refused("deblur", "in.png", "gaussian:1", "-o", "o.png", "--padding-mode", "wrap")
    assert "output must be a .png or .tif" in refused("deblur", "in.png", "gaussian:1", "-o", "out.gif")
    assert "no folder" in refused("deblur", "in.png", "gaussian:1", "-o", "there/out.png")
    assert "image nothing.png does not exist" in refused("deblur", "nothing.png", "gaussian:1", "-o", "out.png")
    assert not Path("out.png").exists()


def test_info_of_large_circular_operators_has_norm_and_condition():
    A = Conv([[2.0, 1.0]], (1000, 1001), padding="same", padding_mode="circular")
    result = run("info", "[[2,1]]", "--shape", "1000,1001", "--padding", "same", "--padding-mode", "circular")
    assert f"{A.cond():.6g}" in result.stdout
    assert "not computed" not in result.stdout


def test_deconvnet_learns_and_shows(photograph):
    names = []
    for number, part in enumerate((photograph[:120, :150], photograph[100:, 60:])):
        names.append(f"{number}.png")
        Image.fromarray(np.rint(255 * part).astype(np.uint8)).save(names[-1])
    options = ("--maps", "3,6", "--kernel-size", "5,3", "--epochs", "2,1", "--connectivity", "full,singles+pairs")
    result = run("deconvnet", "fit", *names, "-o", "net.npz", *options, "--side", "32")
    assert result.exit_code == 0, result.stderr
    assert "5x5" in result.stdout
    assert "3x3" in result.stdout
    assert "net.npz" in result.stdout
    from convop.storage import load_network

    assert [f.shape for f in load_network("net.npz").filters_] == [(1, 3, 5, 5), (3, 6, 3, 3)]
    for more in ((), ("--image", "1.png", "--preprocess", "contrast")):
        result = run("deconvnet", "show", "net.npz", "-o", "filters.png", "--side", "32", *more)
        assert result.exit_code == 0, result.stderr
        with Image.open("filters.png") as drawn:
            assert drawn.size[0] > 4 * drawn.size[1]  # two of filters, the photograph, two of it made up
    assert sorted(p.name for p in Path().iterdir()) == ["0.png", "1.png", "filters.png", "net.npz"]


def test_deconvnet_says_that_a_layer_has_no_maps(photograph):
    Image.fromarray(np.rint(255 * photograph).astype(np.uint8)).save("in.png")
    options = ["--maps", "3,2", "--kernel-size", "5", "--lam", "5,0.001", "--epochs", "1", "--side", "32"]
    result = run("deconvnet", "fit", "in.png", "-o", "net.npz", *options)
    assert result.exit_code == 0, result.stderr
    assert "warning: all maps of layer 2 of 2 are zero" in result.stderr
    assert Path("net.npz").exists()


def test_deconvnet_refuses_what_makes_no_sense(photograph):
    Image.fromarray(np.rint(255 * photograph).astype(np.uint8)).save("in.png")
    for options, message in (
        (("--maps", "a"), "maps must be one value, or one a layer"),
        (("--maps", "2,3", "--lam", "1,2,3"), "lam must be one value or 2, one for each layer"),
        (("--lam", "0"), "lam must be positive"),
        (("--maps", "3", "--connectivity", "random-pairs"), "needs two or more maps below"),
        (("--p", "0.5", "--solver", "fista"), "solver 'fista' is for p = 1"),
        (("--preprocess", "none"), "preprocess must be one of"),
    ):
        assert message in refused("deconvnet", "fit", "in.png", "-o", "net.npz", *options)
    assert "output must be a .npz file" in refused("deconvnet", "fit", "in.png", "-o", "net.txt")
    assert "image none.png does not exist" in refused("deconvnet", "fit", "none.png", "-o", "net.npz")
    assert "network in.png cannot be read" in refused("deconvnet", "show", "in.png", "-o", "filters.png")
    assert sorted(p.name for p in Path().iterdir()) == ["in.png"]


def test_what_is_too_large_is_one_line():
    import typer

    from convop.cli.console import one_line_errors

    with pytest.raises(typer.Exit), one_line_errors():
        raise OverflowError("the maps are too large")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="a folder in which nothing can be made")
def test_outputs_that_cannot_be_written_are_refused_before_any_work(tmp_path):
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(tmp_path / "grey.png")
    for path in ("/proc/self/net.npz", str(tmp_path / f"{'n' * 250}.npz")):
        message = refused("deconvnet", "fit", str(tmp_path / "grey.png"), "-o", path)
        assert "cannot be written" in message
        assert "epochs" not in message
    assert [p.name for p in tmp_path.iterdir()] == ["grey.png"]
