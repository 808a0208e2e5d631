"""PyTorch layers as operators, and operators as PyTorch functions and layers."""

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import convop
from convop.torch import OperatorLayer, apply, from_torch

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning"),  # within gradcheck
]

SPACE = (9, 8, 7)


def apply_layer(layer, shape):
    """Returns a random input and the output of a layer without its bias."""
    x = torch.randn(1, *shape, dtype=layer.weight.dtype)
    y = layer(x)[0]
    if layer.bias is not None:
        y = y - layer.bias.reshape(-1, *[1] * (len(shape) - 1))
    return x[0].numpy(), y.detach().numpy()


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_from_torch_on_convolutions(dim, mode):
    torch.manual_seed(0)
    choices = itertools.product((0, 1, 2, "same", "valid"), (1, 2), (1, 2), (1, 2), (False, True))
    for padding, stride, dilation, groups, bias in choices:
        if padding == "same" and stride > 1:
            continue
        parameters = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "bias": bias}
        size = 3 if dim < 3 else 2
        layer = getattr(torch.nn, f"Conv{dim}d")(4, 6, size, padding_mode=mode, dtype=torch.float64, **parameters)
        shape = (4, *SPACE[:dim])
        A = from_torch(layer, shape, bias="ignore")
        assert isinstance(A, convop.Conv)
        x, y = apply_layer(layer, shape)
        np.testing.assert_allclose(A @ x, y, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_from_torch_on_transposed_convolutions(dim):
    torch.manual_seed(0)
    for stride, padding, extra, dilation, groups in itertools.product((1, 2, 3), (0, 1), (0, 1), (1, 2), (1, 2)):
        if extra >= max(stride, dilation):
            continue
        parameters = {"stride": stride, "padding": padding, "output_padding": extra, "dilation": dilation}
        layer = getattr(torch.nn, f"ConvTranspose{dim}d")(
            4, 6, 3, groups=groups, bias=False, dtype=torch.float64, **parameters
        )
        shape = (4, *(n // 2 + 1 for n in SPACE[:dim]))
        A = from_torch(layer, shape)
        assert isinstance(A, convop.ConvTranspose)
        x, y = apply_layer(layer, shape)
        np.testing.assert_allclose(A @ x, y, rtol=0, atol=1e-12)


def test_from_torch_with_parameters_per_axis():
    layer = torch.nn.Conv2d(2, 2, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), bias=False)
    A = from_torch(layer, (2, 9, 8), engine="direct")
    x, y = apply_layer(layer, (2, 9, 8))
    np.testing.assert_allclose(A @ x, y, rtol=0, atol=1e-5)
    assert (A.engine, A.dtype) == ("direct", np.float32)


def test_from_torch_copies_weights_and_promotes_half_precision():
    layer = torch.nn.Conv1d(1, 1, 3, bias=False)
    A = from_torch(layer, (1, 8))
    before = A.kernel.copy()
    with torch.no_grad():
        layer.weight += 1
    np.testing.assert_array_equal(A.kernel, before)
    for dtype in (torch.float16, torch.bfloat16):
        assert from_torch(layer.to(dtype), (1, 8)).dtype == np.float32
    assert from_torch(torch.nn.Conv1d(1, 1, 3, bias=False, dtype=torch.complex64), (1, 8)).dtype == np.complex64


def test_from_torch_refuses_layers_that_are_not_linear():
    with pytest.raises(ValueError, match=r"has a bias, so it is affine .* bias='ignore'"):
        from_torch(torch.nn.Conv2d(1, 1, 3), (1, 8, 8))
    with pytest.raises(ValueError, match="bias must be one of error, ignore; got 'drop'"):
        from_torch(torch.nn.Conv2d(1, 1, 3), (1, 8, 8), bias="drop")
    with pytest.raises(TypeError, match=r"layer must be one of torch.nn's Conv and ConvTranspose layers, got Linear"):
        from_torch(torch.nn.Linear(3, 3), (3,))
    with pytest.raises(ValueError, match=r"no weights yet: call it once"):
        from_torch(torch.nn.LazyConv2d(3, 3, bias=False), (1, 8, 8))
    for shape in ((8, 8), (2, 8, 8), (1, 1, 8, 8)):
        with pytest.raises(ValueError, match=r"input_shape must be \(1, \*space\) with 2 spatial axes"):
            from_torch(torch.nn.Conv2d(1, 1, 3, bias=False), shape)


OPERATORS = {
    "strided": convop.Conv(
        np.random.default_rng(0).standard_normal((2, 3, 3, 2)),
        (3, 6, 5),
        stride=2,
        padding="full",
        padding_mode="circular",
    ),
    "complex": convop.Conv(np.random.default_rng(0).standard_normal((3, 2)).view(complex).ravel(), 8),
    "filter": convop.ConvFilter(np.random.default_rng(0).standard_normal((6, 5)), (2, 2)),
}


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("name", OPERATORS)
def test_gradients_and_tangents_pass_gradcheck(name, is_complex):
    A = OPERATORS[name]
    for op in (A, A.T, A.H):
        x = torch.randn(2, *op.dims, dtype=torch.complex128 if is_complex else torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda t, op=op: apply(op, t), x, check_forward_ad=True)
        assert torch.autograd.gradgradcheck(lambda t, op=op: apply(op, t), x)


def test_apply_accepts_batches_and_dtypes():
    A = convop.Conv(np.random.default_rng(0).standard_normal((3, 3)), (6, 5), padding=1)
    x = torch.randn(4, 2, 6, 5)
    y = apply(A, x)
    assert y.shape == (4, 2, 6, 5)
    np.testing.assert_allclose(y[3, 1], A @ x[3, 1].numpy(), atol=1e-12)
    assert apply(A, x[0, 0]).shape == (6, 5)
    assert apply(A, x[:0]).shape == (0, 2, 6, 5)
    for t in (x, x.double(), x.permute(1, 0, 2, 3), x.flip(0)):
        leaf = t.detach().requires_grad_()
        apply(A, leaf).sum().backward()
        assert (leaf.grad.dtype, leaf.grad.shape) == (t.dtype, t.shape)


def test_gradient_descent_through_an_operator_layer():
    """Deconvolution by gradient descent on the input."""
    torch.manual_seed(0)
    blur = OperatorLayer(convop.Conv(np.array([0.25, 0.5, 0.25]), 20, padding=1))
    assert "Conv: (20,) -> (20,)" in repr(blur)
    truth = torch.randn(20, dtype=torch.float64)
    data = blur(truth)
    x = torch.zeros(20, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([x], lr=0.9)
    for _ in range(300):
        optimizer.zero_grad()
        ((blur(x) - data) ** 2).sum().backward()
        optimizer.step()
    assert (blur(x) - data).norm() < 0.03 * data.norm()


def test_apply_refuses_wrong_tensors():
    A = convop.Conv(np.ones((2, 2)), (4, 4))
    with pytest.raises(TypeError, match=r"x must be a torch.Tensor, got ndarray"):
        apply(A, np.ones((4, 4)))
    with pytest.raises(ValueError, match=r"x must have the shape \(\*batch, 4, 4\), got \(4,\)"):
        apply(A, torch.ones(4))
    with pytest.raises(TypeError, match="x must be in main memory, got a tensor on meta"):
        apply(A, torch.ones(4, 4, device="meta"))
    with pytest.raises(TypeError, match=r"x must be a dense tensor, got a tensor of layout torch.sparse_coo"):
        apply(A, torch.ones(4, 4).to_sparse())
    with pytest.raises(TypeError, match=r"x must be of a dtype that NumPy has, got torch.bfloat16; .* x.float\(\)"):
        apply(A, torch.ones(4, 4, dtype=torch.bfloat16))


def test_results_become_tensors_without_a_copy():
    A = convop.Conv(np.ones((2, 2)), (4, 4))
    y = A @ np.ones((4, 4))
    assert torch.from_dlpack(y).data_ptr() == y.ctypes.data
