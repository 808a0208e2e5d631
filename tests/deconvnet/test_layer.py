"""Parameters of a layer: checks, and their way to the solvers."""

import numpy as np
import pytest
from sparse_coding_cases import noise_images

from convop.deconvnet import DeconvLayer, DeconvNet
from convop.deconvnet.half_quadratic import BETAS
from convop.deconvnet.inference import infer_codes
from convop.deconvnet.learning import learn_filters
from convop.deconvnet.options import SolverOptions


def test_layer_rejects_invalid_parameters():
    for wrong, message in (
        ({"n_maps": 0}, "n_maps must be at least 1"),
        ({"kernel_size": 0}, "kernel_size must be at least 1"),
        ({"kernel_size": (3, 3, 3)}, "kernel_size must be one integer or 2"),
        ({"lam": -1}, "lam must be positive"),
        ({"p": 0}, "p must be more than 0"),
        ({"n_epochs": 0}, "n_epochs must be at least 1"),
        ({"solver": "sgd"}, "solver must be one of"),
        ({"solver": "fista"}, "is for p = 1"),
        ({"betas": (1, 1)}, "betas must be"),
        ({"cg_iterations": 0}, "cg_iterations must be at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            DeconvLayer(**{"n_maps": 3, "kernel_size": 5, **wrong})


def test_layer_rejects_parameters_that_are_not_numbers():
    for wrong in ("4", b"4", True, None, [4], 1j):
        with pytest.raises(TypeError, match="lam must be a number"):
            DeconvLayer(3, 3, lam=wrong)
    for wrong in ("123", b"12", 3.0):
        with pytest.raises(TypeError, match="betas must be one or more increasing numbers"):
            DeconvLayer(3, 3, betas=wrong)
    with pytest.raises(TypeError, match="kernel_size must be an integer"):
        DeconvLayer(3, b"33")


def test_parameters_of_layer_reach_solvers(monkeypatch):
    learning, inference = [], []

    def learn(filters, table, images, *options):
        learning.append(options)
        return learn_filters(filters, table, images, *options)

    def infer(filters, images, lam, p, options):
        inference.append((lam, p, options))
        return infer_codes(filters, images, lam, p, options)

    monkeypatch.setattr("convop.deconvnet.layer.learn_filters", learn)
    monkeypatch.setattr("convop.deconvnet.layer.infer_codes", infer)
    layers = [
        DeconvLayer(3, 3, lam=4.0, p=1.0, n_epochs=1, solver="hqs", betas=(3, 40.0), cg_iterations=3),
        DeconvLayer(2, 3, lam=np.float32(6.0), p=0.7, n_epochs=2),
    ]
    images = noise_images(1)
    DeconvNet(layers).fit(images).infer(images)
    assert learning == [(4.0, 1.0, 3, 1), (6.0, 0.7, 2, 2)]  # lam, p, cg_iterations, epochs
    first = (4.0, 1.0, SolverOptions(solver="hqs", betas=(3.0, 40.0), cg_iterations=3, rtol=1e-3, maxiter=1000))
    assert inference[:2] == [first, first]
    assert inference[2] == (6.0, 0.7, SolverOptions(solver="admm", betas=BETAS, cg_iterations=2))
