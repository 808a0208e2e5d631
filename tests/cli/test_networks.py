"""The commands ``deconvnet fit`` and ``deconvnet show``."""

from pathlib import Path

import numpy as np
from command_line import error_line, run
from PIL import Image

from convop.storage import load_network


def test_fit_writes_a_network_that_show_draws(photograph):
    names = []
    for number, crop in enumerate((photograph[:120, :150], photograph[100:, 60:])):
        names.append(f"{number}.png")
        Image.fromarray(np.rint(255 * crop).astype(np.uint8)).save(names[-1])
    options = ("--maps", "3,6", "--kernel-size", "5,3", "--epochs", "2,1", "--connectivity", "full,singles+pairs")
    result = run("deconvnet", "fit", *names, "-o", "net.npz", *options, "--side", "32")
    assert result.exit_code == 0, result.stderr
    assert "5x5" in result.stdout
    assert "3x3" in result.stdout
    assert "net.npz" in result.stdout
    assert [f.shape for f in load_network("net.npz").filters_] == [(1, 3, 5, 5), (3, 6, 3, 3)]
    for more in ((), ("--image", "1.png", "--preprocess", "contrast")):
        result = run("deconvnet", "show", "net.npz", "-o", "filters.png", "--side", "32", *more)
        assert result.exit_code == 0, result.stderr
        with Image.open("filters.png") as drawn:
            assert (
                drawn.size[0] > 4 * drawn.size[1]
            )  # five panels: filters of two layers, the photograph, two reconstructions
    assert sorted(p.name for p in Path().iterdir()) == ["0.png", "1.png", "filters.png", "net.npz"]


def test_fit_warns_of_a_layer_without_maps(photograph):
    Image.fromarray(np.rint(255 * photograph).astype(np.uint8)).save("in.png")
    options = ["--maps", "3,2", "--kernel-size", "5", "--lam", "5,0.001", "--epochs", "1", "--side", "32"]
    result = run("deconvnet", "fit", "in.png", "-o", "net.npz", *options)
    assert result.exit_code == 0, result.stderr
    assert "warning: all maps of layer 2 of 2 are zero" in result.stderr
    assert Path("net.npz").exists()


def test_fit_and_show_reject_bad_arguments(photograph):
    Image.fromarray(np.rint(255 * photograph).astype(np.uint8)).save("in.png")
    for options, message in (
        (("--maps", "a"), "maps must be one value, or one per layer"),
        (("--maps", "2,3", "--lam", "1,2,3"), "lam must be one value or 2, one for each layer"),
        (("--lam", "0"), "lam must be positive"),
        (("--maps", "3", "--connectivity", "random-pairs"), "needs two or more maps below"),
        (("--p", "0.5", "--solver", "fista"), "solver 'fista' is for p = 1"),
        (("--preprocess", "none"), "preprocess must be one of"),
    ):
        assert message in error_line("deconvnet", "fit", "in.png", "-o", "net.npz", *options)
    assert "output must be a .npz file" in error_line("deconvnet", "fit", "in.png", "-o", "net.txt")
    assert "image none.png does not exist" in error_line("deconvnet", "fit", "none.png", "-o", "net.npz")
    assert "network in.png cannot be read" in error_line("deconvnet", "show", "in.png", "-o", "filters.png")
    assert sorted(p.name for p in Path().iterdir()) == ["in.png"]
