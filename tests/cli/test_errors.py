"""Bad input is one line on standard error and exit status 2, and leaves no partial file behind."""

import warnings

import numpy as np
import pytest
from command_line import error_line
from PIL import Image


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
        (
            ("info", "[1,2]", "--shape", "9", "--dtype", "nonsense"),
            "dtype must be one of float32, float64, complex64, complex128; got 'nonsense'",
        ),
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
)
def test_bad_input_is_one_line_and_status_2(arguments, message, tmp_path, monkeypatch):
    for name in ("k.jpg", "text.npy", "text.png", "words.csv"):
        (tmp_path / name).write_text("not a file of numbers\n")
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
        warnings.simplefilter("ignore")  # outside pytest, a warning is not an error
        line = error_line(*arguments)
    assert message in line
    assert "Traceback" not in line
    assert {p.name for p in tmp_path.iterdir()} - before <= {"convop-demo"}  # no partial file is left
