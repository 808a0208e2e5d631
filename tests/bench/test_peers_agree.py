"""Forward and adjoint of each installed peer, against the oracle."""

import importlib.util

import numpy as np
import pytest
from oracle import dense_matrix

from convop import bench
from convop.bench import peers

MODES = ("zeros", "circular", "reflect", "symmetric", "replicate")
TOLERANCE = {"float64": 1e-12, "float32": 1e-5}

# Input shape, kernel shape and parameters.
FILTERS = [
    ((9, 8), (3, 3), {"padding": 1}),
    ((9, 8), (5, 2), {"padding": ((1, 3), (1, 0))}),
    ((9, 8), (4, 3), {"padding": ((3, 0), (0, 2))}),
    ((7, 12), (1, 6), {"padding": "same"}),
    ((16, 15), (13, 14), {"padding": "same"}),
    ((5, 6), (9, 11), {"padding": "same"}),
]
IMAGES = [
    ((9, 8), (3, 4), {"padding": "full"}),
    ((9, 8), (3, 4), {"padding": ((2, 0), (1, 3))}),
    ((10, 11), (4, 3), {"padding": ((2, 1), (0, 1)), "stride": (2, 3)}),
    ((11, 11), (3, 2), {"padding": ((2, 3), (1, 1)), "dilation": (2, 3), "stride": (3, 1)}),
    ((9, 8), (2, 2), {"padding": ((4, 0), (0, 5))}),
    ((7, 7), (7, 7), {}),
    ((40,), (6,), {"padding": "same"}),
    ((41,), (5,), {"padding": ((3, 1),), "stride": 3, "dilation": 2}),
    ((6, 7, 8), (3, 2, 4), {"padding": "same"}),
    ((6, 7, 8), (3, 2, 1), {"padding": 1, "stride": (1, 2, 3)}),
]
LAYERS = [
    ((3, 9, 8), (4, 3, 3, 3), {"padding": 1}),
    ((4, 9, 8), (6, 2, 4, 3), {"padding": ((2, 1), (0, 1)), "stride": 2, "groups": 2}),
    ((4, 11, 9), (4, 1, 3, 2), {"padding": ((1, 3), (0, 2)), "dilation": 2, "groups": 4}),
    ((2, 20), (3, 2, 5), {"padding": ((4, 0),), "stride": 2}),
    ((2, 5, 6, 7), (2, 1, 3, 2, 2), {"padding": 1, "stride": (2, 1, 3), "groups": 2}),
    ((5, 6, 4), (3, 5, 1, 1), {}),
]
BOTH = ("float64", "float32")
FEW = [FILTERS[1], IMAGES[3], IMAGES[9], LAYERS[1]]
# Each peer's function, modules, dtypes and cases, and the padding modes of its forward and of its adjoint.
PEERS = {
    "OpenCV filter2D": ("filter2d", ("cv2",), BOTH, FILTERS, MODES, MODES[:2]),
    "ducc0": ("ducc_fft", ("ducc0",), BOTH, FILTERS + IMAGES, MODES[:2], MODES[:2]),
    "ONNX Runtime": (
        "onnx_runtime",
        ("onnx", "onnxruntime"),
        ("float32",),
        FILTERS + IMAGES + LAYERS,
        ("zeros", "circular", "reflect", "replicate"),
        ("zeros",),
    ),
    "JAX": ("jax_convolution", ("jax",), BOTH, FEW, MODES, MODES),  # it takes 0.2 s to compile each function
}
# Workloads that a peer does not support.
UNSUPPORTED = [
    ("filter2d", ((9, 8), (3, 3), {"padding": "full"})),
    ("filter2d", ((9, 8), (3, 3), {"padding": ((-1, 3), (1, 1))})),  # the anchor is outside the kernel
    ("filter2d", ((9, 8), (3, 3), {"padding": "same", "dilation": 2})),
    ("filter2d", ((9,), (3,), {"padding": "same"})),
    ("filter2d", ((2, 9, 8), (2, 2, 3, 3), {"padding": "same"})),
    ("sep_filter2d", ((9, 8), (3, 3), {"padding": "same"})),  # of full rank
    ("ducc_fft", ((2, 9, 8), (2, 2, 3, 3), {"padding": "same"})),
    ("ducc_fft", ((9, 8), (3, 3), {"padding": "full", "padding_mode": "circular"})),
    ("onnx_runtime", ((9, 8), (3, 3), {"padding": -1})),
    ("onnx_runtime", ((9, 8), (3, 3), {"padding": 9, "padding_mode": "reflect"})),
    ("onnx_runtime", ((2, 2, 2, 2), (2, 2, 2, 2), {})),
    ("jax_convolution", ((9, 8), (3, 3), {"padding": -1, "padding_mode": "circular"})),
]


def problem_of(case, dtype, *, mode="zeros", is_separable=False):
    shape, kernel_shape, parameters = case
    workload = bench.Workload("case", shape, kernel_shape, {"padding_mode": mode, **parameters}, is_separable)
    return bench.Problem(workload, np.dtype(dtype))


def is_widely_padded(spec):
    """Whether an axis is extended by as much as the kernel or as the input."""
    return any(a.lo + a.hi >= a.extent or max(a.lo, a.hi) >= a.inputs for a in spec.axes)


def check(problem, pair, *, has_adjoint):
    """Compare a peer's functions, called twice, with the products of the oracle's matrix."""
    spec = problem.spec
    matrix, _ = dense_matrix(problem.kernel.astype(float), spec.input_shape, **spec.parameters())
    forward, adjoint = pair
    assert (adjoint is not None) == has_adjoint
    expected = [(forward, matrix @ problem.x.ravel())]
    if has_adjoint:
        expected.append((adjoint, matrix.T @ problem.y.ravel()))
    for function, values in expected:
        for _ in range(2):
            result = peers.to_flat_numpy(function())
            assert result.dtype == problem.dtype
            assert np.abs(result - values).max() <= TOLERANCE[problem.dtype.name] * np.abs(values).max()


@pytest.mark.thinned
@pytest.mark.parametrize("dtype", BOTH)
@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("mode", MODES)
def test_peer_agrees_with_oracle(peer, mode, dtype):
    name, modules, dtypes, cases, modes, adjoint_modes = PEERS[peer]
    for module in modules:
        pytest.importorskip(module)
    for case in cases:
        problem = problem_of(case, dtype, mode=mode)
        pair = getattr(peers, name)(problem)
        if mode not in modes or dtype not in dtypes:
            assert pair == peers.UNSUPPORTED
        elif pair == peers.UNSUPPORTED:
            assert mode != "zeros"
            assert is_widely_padded(problem.spec)
        else:
            is_unsure = peer == "JAX" and dtype == "float32" and problem.spec.groups > 1  # differs from call to call
            check(problem, pair, has_adjoint=mode in adjoint_modes and not is_unsure)


@pytest.mark.parametrize("dtype", BOTH)
@pytest.mark.parametrize("mode", MODES)
def test_sep_filter2d_agrees_with_oracle(mode, dtype):
    pytest.importorskip("cv2")
    for case in FILTERS:
        problem = problem_of(case, dtype, mode=mode, is_separable=True)
        check(problem, peers.sep_filter2d(problem), has_adjoint=mode in MODES[:2])


@pytest.mark.parametrize(("name", "case"), UNSUPPORTED)
def test_peer_has_no_functions_for_unsupported_workloads(name, case):
    assert getattr(peers, name)(problem_of(case, "float32")) == peers.UNSUPPORTED


@pytest.mark.parametrize("name", ["filter2d", "sep_filter2d", "ducc_fft", "onnx_runtime", "jax_convolution", "pytorch"])
def test_peer_that_is_not_installed_has_no_functions(name, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    for case in (FILTERS[0], IMAGES[0], LAYERS[0]):
        assert getattr(peers, name)(problem_of(case, "float32", is_separable=case is FILTERS[0])) == peers.UNSUPPORTED
