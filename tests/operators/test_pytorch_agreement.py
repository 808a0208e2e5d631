"""Operators against PyTorch: against stored results everywhere, and against live ones where PyTorch is installed."""

from importlib.util import find_spec
from io import BytesIO

import numpy as np
import pytest
from torch_cases import CASES, GOLDEN, RESULTS

from convop import Conv, ConvFilter, ConvTranspose

BY_NAME = {case.name: case for case in CASES}

each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN, allow_pickle=False) as stored:
        return dict(stored)


def stored_results(golden, case):
    return {k: golden[f"{case.name}.{k}"] for k in RESULTS}


def assert_same(got, expected, what):
    """Checks that dtype, shape and every value are equal: all values are small integers."""
    assert got.dtype == expected.dtype, f"{what}: dtype {got.dtype} instead of {expected.dtype}"
    assert got.shape == expected.shape, f"{what}: shape {got.shape} instead of {expected.shape}"
    wrong = got != expected
    assert not wrong.any(), f"{what}: {wrong.sum()} of {wrong.size} values differ\n{got}\ninstead of\n{expected}"


def operator(case, **changes):
    """Returns the operator of a case."""
    parameters = {**case.parameters, **changes}
    if not case.transposed:
        return Conv(case.w, case.x_shape, **parameters)
    if "output_size" in parameters:
        c_out = case.w_shape[1] * parameters.get("groups", 1)
        parameters["output_shape"] = (c_out, *parameters.pop("output_size"))
    return ConvTranspose(case.w, case.x_shape, **parameters)


def weight_gradient(case, A, y_bar):
    if case.transposed:
        # <y_bar, C(w)^T x> is <C(w) conj(y_bar), conj(x)>, and linear in w.
        return ConvFilter(y_bar, case.w_shape, **A.spec.parameters()).T @ case.x.conj()
    return ConvFilter(case.x, case.w_shape, **A.spec.parameters()).H @ y_bar


def results(case, **changes):
    """Returns the results of the operator for a case, by their names in RESULTS."""
    A = operator(case, **changes)
    y_bar = case.draw("y_bar", A.dimsd)
    return {"y": A @ case.x, "grad_x": A.H @ y_bar, "grad_w": weight_gradient(case, A, y_bar)}


@each_case
def test_forward_and_gradients_equal_the_stored_results(case, golden):
    expected = stored_results(golden, case)
    # The matrix only multiplies and adds, so that integers stay integers.
    for k, got in results(case, engine="csr").items():
        assert_same(got, expected[k], k)
    # The default engine may round.
    for k, got in results(case).items():
        eps = np.finfo(case.dtype).eps
        assert got.dtype == expected[k].dtype
        np.testing.assert_allclose(got, expected[k], rtol=0, atol=1e3 * eps * np.abs(expected[k]).max(initial=1))


@each_case
def test_plain_transpose_matrix_and_filter_equal_the_stored_results(case, golden):
    expected = stored_results(golden, case)
    A = operator(case, engine="csr")
    y_bar = case.draw("y_bar", A.dimsd)
    assert_same((A.T @ y_bar.conj()).conj(), expected["grad_x"], "grad_x by A.T")
    assert_same(A.tosparse() @ case.x.ravel(), expected["y"].ravel(), "y by the matrix")
    if not case.transposed:
        X = ConvFilter(case.x, case.w_shape, **case.parameters)
        assert_same(X @ case.w, expected["y"], "y by ConvFilter")
        assert_same(X.H @ y_bar, expected["grad_w"], "grad_w by ConvFilter")


def test_golden_file_holds_every_case(golden):
    assert len(BY_NAME) == len(CASES) >= 120
    assert golden.keys() == {"torch_version", *(f"{case.name}.{k}" for case in CASES for k in RESULTS)}
    assert golden["torch_version"].shape == ()
    assert str(golden["torch_version"])[0].isdigit()
    for case in CASES:
        y, grad_x, grad_w = stored_results(golden, case).values()
        assert y.dtype == grad_x.dtype == grad_w.dtype == case.dtype, case.name
        assert (grad_x.shape, grad_w.shape) == (case.x_shape, case.w_shape), case.name
        assert all((v == v.round()).all() and v.any() for v in (y, grad_x, grad_w)), case.name


def test_cases_cover_every_function_dtype_and_parameter():
    functions = [f"{kind}{n}d" for kind in ("conv", "conv_transpose", "Conv") for n in (1, 2, 3)]
    for f in functions:
        cases = [case for case in CASES if case.function == f]
        assert {case.dtype for case in cases} == {"float32", "float64", "complex64", "complex128"}, f
        varied = {"stride", "padding", "dilation", "groups", "output_padding"} if f[0] == "c" else {"padding"}
        varied -= {"output_padding"} if "transpose" not in f else set()
        assert varied <= {name for case in cases for name in case.parameters}, f
        if f[0] == "C":
            modes = {case.parameters["padding_mode"] for case in cases}
            assert modes == {"zeros", "circular", "reflect", "replicate"}, f


def test_every_case_detects_a_flipped_kernel(golden):
    flippable = [case for case in CASES if max(case.w_shape[2:]) > 1]
    assert len(flippable) > 150
    for case in flippable:
        flipped, y = operator(case, flip=True, engine="csr") @ case.x, golden[f"{case.name}.y"]
        assert flipped.shape == y.shape
        assert (flipped != y).any(), case.name


# Mistakes of users, and of a defective package: the case, the name of the result, the mistake and the failure's message.
WRONG = {
    "transposed convolution without the flip": (
        "conv_transpose2d-plain",
        "y",
        lambda case: Conv(case.w, case.x_shape, padding="full") @ case.x,
        "values differ",
    ),
    "convolution for its transpose": (
        "conv_transpose1d-padding",
        "y",
        lambda case: Conv(case.w, case.x_shape, padding=2) @ case.x,
        "shape",
    ),
    "symmetric for reflect": ("Conv2d-reflect", "y", {"padding_mode": "symmetric"}, "values differ"),
    "symmetric for replicate": ("Conv1d-replicate_all", "y", {"padding_mode": "symmetric"}, "values differ"),
    "zeros for circular": ("Conv3d-circular", "y", {"padding_mode": "zeros"}, "values differ"),
    "boundary forgotten in the adjoint": ("Conv2d-reflect", "grad_x", {"padding_mode": "zeros"}, "values differ"),
    "boundary forgotten for the weight": (
        "Conv2d-circular",
        "grad_w",
        lambda case: ConvFilter(case.x, case.w_shape, padding=1).H @ case.draw("y_bar", operator(case).dimsd),
        "values differ",
    ),
    "output padding forgotten": ("conv_transpose2d-output_padding", "y", {"output_padding": 0}, "shape"),
    "output padding of another axis": (
        "conv_transpose2d-output_padding_axes",
        "y",
        {"output_padding": (1, 1)},
        "shape",
    ),
    "output padding at the start": (
        "conv_transpose2d-output_padding",
        "y",
        {"output_padding": 0, "padding": ((0, 1), (0, 1))},
        "values differ",
    ),
    "other output size of the same convolution": (
        "ConvTranspose2d-output_size",
        "y",
        {"output_size": (7, 9)},
        "shape",
    ),
    "odd element of same at the start": ("conv1d-same_kernel_2", "y", {"padding": ((1, 0),)}, "values differ"),
    "axes of the stride swapped": ("conv2d-stride_axes_dropped_tail", "y", {"stride": (3, 2)}, "shape"),
    "axes of the dilation swapped": (
        "conv2d-same_mixed_dilated",
        "y",
        {"dilation": (2, 3)},
        "values differ",
    ),
    "weight axes swapped": (
        "conv_transpose2d-channels-float32",
        "y",
        lambda case: ConvTranspose(case.w.swapaxes(0, 1), case.x_shape, **case.parameters) @ case.x,
        "values differ",
    ),
    "transpose without the conjugate": (
        "conv2d-channels-complex128",
        "grad_x",
        lambda case: operator(case).T @ case.draw("y_bar", operator(case).dimsd),
        "values differ",
    ),
    "kernel conjugated": (
        "conv_transpose1d-all-complex64",
        "y",
        lambda case: operator(case).conj() @ case.x,
        "values differ",
    ),
    "one value off by one": (
        "conv3d-plain",
        "y",
        lambda case: np.add(operator(case) @ case.x, np.eye(1, 36).reshape(1, 2, 2, 9)[..., :4]),
        "1 of 16 values differ",
    ),
    "wider dtype": ("conv2d-all-float32", "y", {"dtype": "float64"}, "dtype float64 instead of float32"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_mistakes_are_detected(wrong, golden):
    name, k, call, message = WRONG[wrong]
    case, expected = BY_NAME[name], golden[f"{name}.{k}"]
    assert_same(results(case)[k], expected, k)
    got = call(case) if callable(call) else results(case, **call)[k]
    with pytest.raises(AssertionError, match=message):
        assert_same(got, expected, k)


# Without PyTorch no live test is skipped, because the stored results are of the same cases.
if find_spec("torch"):
    import make_golden
    import torch

    @pytest.mark.torch
    @each_case
    def test_live_results_equal_the_stored_ones(case, golden):
        live, stored, ours = make_golden.compute(case), stored_results(golden, case), results(case, engine="csr")
        for k in RESULTS:
            assert_same(live[k], stored[k], f"{k} of PyTorch {torch.__version__} and of {golden['torch_version']}")
            assert_same(ours[k], live[k], k)

    @pytest.mark.torch
    @each_case
    def test_live_jacobian_is_the_matrix(case):
        """The whole Jacobian by autograd, one row for the backward pass of each unit vector."""
        x, _, y = make_golden.forward(case)
        A = operator(case, engine="csr")
        assert (A.dims, A.dimsd) == (tuple(x.shape), tuple(y.shape))
        units = torch.eye(y.numel(), dtype=y.dtype).reshape(-1, *y.shape)
        rows = [torch.autograd.grad(y, x, unit, retain_graph=True)[0].resolve_conj().numpy() for unit in units]
        backward = np.stack([row.ravel() for row in rows], axis=1)
        assert_same(A.H.todense(), backward, "A.H")
        assert_same(A.T.todense(), backward.conj(), "A.T")
        assert_same(A.todense(), backward.conj().T, "A")

    @pytest.mark.torch
    def test_make_golden_writes_the_same_bytes_again():
        first, second = BytesIO(), BytesIO()
        make_golden.write(first)
        make_golden.write(second)
        assert first.getvalue() == second.getvalue()
        assert first.tell() < 300_000
