"""Converts PyTorch layers to operators, and operators to differentiable PyTorch functions and layers.

Needs PyTorch: ``pip install 'convop[torch]'``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from .geometry.arguments import IntOrSequence, one_of, sizes
from .operators.conv import Conv, ConvTranspose
from .operators.linear_operator import LinearOperator

__all__ = ["OperatorLayer", "apply", "from_torch"]

_CONVOLUTIONS = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)
_TRANSPOSED = (torch.nn.ConvTranspose1d, torch.nn.ConvTranspose2d, torch.nn.ConvTranspose3d)


def from_torch(
    layer: torch.nn.Module, input_shape: IntOrSequence, *, bias: str = "error", engine: str = "auto"
) -> Conv | ConvTranspose:
    """Returns the linear operator of a convolutional layer.

    Parameters
    ----------
    layer : torch.nn.Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d or ConvTranspose3d
        With any stride, padding, output padding, dilation, groups and padding mode.
    input_shape : sequence of int
        Shape of an input without its batch axis, ``(in_channels, *space)``.
    bias : {"error", "ignore"}
        Whether to refuse a layer with a bias, which is affine and not linear, or to ignore the bias.
    engine : str
        As in :class:`convop.Conv`.

    Returns
    -------
    Conv or ConvTranspose
        With a copy of the layer's weight, in its dtype; float16 and bfloat16 become float32.

    Raises
    ------
    TypeError
        If the layer is of another type.
    ValueError
        If the layer has a bias, no weights yet, or does not fit the input shape.

    See Also
    --------
    apply : Applies an operator to a tensor, with gradients.

    Examples
    --------
    >>> import torch
    >>> from convop.torch import from_torch
    >>> layer = torch.nn.Conv2d(3, 8, 3, stride=2, padding=1, padding_mode="reflect", bias=False)
    >>> A = from_torch(layer, (3, 32, 32))
    >>> A.dims, A.dimsd
    ((3, 32, 32), (8, 16, 16))
    """
    one_of("bias", bias, ("error", "ignore"))
    if not isinstance(layer, (*_CONVOLUTIONS, *_TRANSPOSED)):
        raise TypeError(f"layer must be one of torch.nn's Conv and ConvTranspose layers, got {type(layer).__name__}")
    if isinstance(layer, torch.nn.modules.lazy.LazyModuleMixin) and layer.has_uninitialized_params():
        raise ValueError(f"layer {layer} has no weights yet: call it once on an input")
    if layer.bias is not None and bias == "error":
        raise ValueError(
            f"layer {layer} has a bias, so it is affine and not linear: make it with bias=False, or pass bias='ignore' "
            "for its linear part"
        )
    shape = sizes("input_shape", input_shape)
    if len(shape) != len(layer.kernel_size) + 1 or shape[0] != layer.in_channels:
        raise ValueError(
            f"input_shape must be ({layer.in_channels}, *space) with {len(layer.kernel_size)} spatial axes for {layer}, "
            f"got {shape}"
        )
    weight = layer.weight.detach().cpu()
    if weight.dtype in (torch.bfloat16, torch.float16):
        weight = weight.float()
    parameters: dict[str, Any] = {
        "stride": tuple(layer.stride),
        "dilation": tuple(layer.dilation),
        "groups": layer.groups,
        "engine": engine,
    }
    if isinstance(layer, _TRANSPOSED):
        pads, extra = tuple(layer.padding), tuple(layer.output_padding)
        return ConvTranspose(weight.numpy(), shape, padding=pads, output_padding=extra, **parameters)
    # `Conv` defines "same" and "valid" as PyTorch does.
    return Conv(weight.numpy(), shape, padding=layer.padding, padding_mode=layer.padding_mode, **parameters)


class _Operator(torch.autograd.Function):
    """``A @ x`` for autograd: the gradient is ``A.H @ grad``, itself differentiable, and the tangent ``A @ tangent``."""

    @staticmethod
    def forward(x: torch.Tensor, operator: Any) -> torch.Tensor:
        dims = tuple(operator.dims)
        batch = tuple(x.shape[: x.ndim - len(dims)])
        array = x.detach().resolve_conj().resolve_neg().numpy()
        columns = array.reshape(math.prod(batch), operator.shape[1]).T
        # Operators apply to a vector faster than to a batch of one column.
        y = (operator.matvec(columns[:, 0])[:, None] if columns.shape[1] == 1 else operator.matmat(columns)).T
        result = torch.from_numpy(np.ascontiguousarray(y))
        return result.reshape(*batch, *operator.dimsd)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[torch.Tensor, Any], output: torch.Tensor) -> None:
        del output
        x, ctx.operator = inputs
        ctx.has_complex_input, ctx.dtype = x.is_complex(), x.dtype

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        gradient: torch.Tensor = _Operator.apply(grad, ctx.operator.H)
        if gradient.is_complex() and not ctx.has_complex_input:
            gradient = gradient.real
        return gradient.to(ctx.dtype), None

    @staticmethod
    def jvp(ctx: Any, tangent: torch.Tensor, _: None) -> torch.Tensor:
        result: torch.Tensor = _Operator.apply(tangent, ctx.operator)
        return result


def apply(operator: LinearOperator, x: torch.Tensor) -> torch.Tensor:
    """Applies an operator to a tensor, and records the operation for autograd.

    Parameters
    ----------
    operator : Conv, ConvTranspose, ConvFilter or another PyLops operator
        The operator.
    x : torch.Tensor of shape ``(*batch, *operator.dims)``
        In main memory.

    Returns
    -------
    torch.Tensor of shape ``(*batch, *operator.dimsd)``

    Raises
    ------
    TypeError
        If `x` is not a tensor, not dense, not in main memory, or of a dtype that NumPy does not have.
    ValueError
        If the last axes of `x` are not `operator.dims`.

    Examples
    --------
    >>> import torch
    >>> from convop import Conv
    >>> from convop.torch import apply
    >>> x = torch.ones(3, 3, dtype=torch.float64, requires_grad=True)
    >>> apply(Conv([[1, 2], [3, 4]], (3, 3)), x).sum().backward()
    >>> x.grad
    tensor([[ 1.,  3.,  2.],
            [ 4., 10.,  6.],
            [ 3.,  7.,  4.]], dtype=torch.float64)
    """
    if not isinstance(x, torch.Tensor):
        raise TypeError(f"x must be a torch.Tensor, got {type(x).__name__}; operators take arrays with A @ x")
    if x.device.type != "cpu":
        raise TypeError(f"x must be in main memory, got a tensor on {x.device}; move it with x.cpu()")
    if x.layout != torch.strided:
        raise TypeError(f"x must be a dense tensor, got a tensor of layout {x.layout}; make it dense with x.to_dense()")
    if x.dtype == torch.bfloat16:
        raise TypeError("x must be of a dtype that NumPy has, got torch.bfloat16; convert it with x.float()")
    dims = tuple(operator.dims)
    if tuple(x.shape[x.ndim - len(dims) :]) != dims or x.ndim < len(dims):
        raise ValueError(f"x must have the shape (*batch, {', '.join(map(str, dims))}), got {tuple(x.shape)}")
    result: torch.Tensor = _Operator.apply(x, operator)
    return result


class OperatorLayer(torch.nn.Module):
    """An operator as a PyTorch module without trainable weights.

    Parameters
    ----------
    operator : Conv, ConvTranspose, ConvFilter or another PyLops operator
        The operator.

    Examples
    --------
    >>> import torch
    >>> from convop import Conv
    >>> from convop.torch import OperatorLayer
    >>> blur = OperatorLayer(Conv(torch.full((3, 3), 1 / 9), (8, 8), padding="same"))
    >>> blur(torch.ones(5, 8, 8)).shape
    torch.Size([5, 8, 8])
    """

    def __init__(self, operator: LinearOperator) -> None:
        super().__init__()
        self.operator = operator

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return apply(self.operator, x)

    def extra_repr(self) -> str:
        return f"{type(self.operator).__name__}: {tuple(self.operator.dims)} -> {tuple(self.operator.dimsd)}"
