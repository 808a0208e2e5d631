"""PyTorch's convolutions, on CPU and GPU."""

from __future__ import annotations

from functools import partial
from typing import Any

from ...arrays.backend import on_gpu
from ..workloads import Problem
from .support import UNSUPPORTED, ForwardAdjoint, is_installed

_MODES = {"zeros": "constant", "circular": "circular", "reflect": "reflect", "replicate": "replicate"}


def pytorch(problem: Problem) -> ForwardAdjoint:
    """Prepare a layer's forward pass, and the gradient by its input on a recorded graph."""
    spec = problem.spec
    if not is_installed("torch") or spec.ndim > 3 or spec.padding_mode not in _MODES:
        return UNSUPPORTED
    import torch

    channel_axis = () if spec.channels else (1,)
    tensor = torch.from_dlpack if on_gpu(problem.x) else torch.from_numpy
    x = tensor(problem.x.reshape(1, *channel_axis, *problem.x.shape))
    y = tensor(problem.y.reshape(1, *channel_axis, *problem.y.shape))
    kernel = tensor(problem.kernel.reshape(*channel_axis, *channel_axis, *problem.kernel.shape))
    convolve = getattr(torch.nn.functional, f"conv{spec.ndim}d")
    mode = _MODES[spec.padding_mode]
    padding = [side for pair in reversed(spec.padding) for side in pair]
    symmetric_zeros = spec.padding_mode == "zeros" and all(lo == hi >= 0 for lo, hi in spec.padding)

    def forward(x: Any = x) -> Any:
        if symmetric_zeros:
            pads: Any = [lo for lo, _ in spec.padding]
        else:
            x, pads = torch.nn.functional.pad(x, padding, mode=mode), 0
        return convolve(x, kernel, stride=spec.stride, padding=pads, dilation=spec.dilation, groups=spec.groups)

    leaf = x.clone().requires_grad_(True)
    graph = forward(leaf)

    # By default cuDNN rounds float32 to TF32, which has fewer digits.
    without_tf32 = partial(torch.backends.cudnn.flags, enabled=True, benchmark=True, allow_tf32=False)

    def forward_without_graph() -> Any:
        with torch.inference_mode(), without_tf32():
            return forward()

    def input_gradient() -> Any:
        with without_tf32():
            return torch.autograd.grad(graph, leaf, y, retain_graph=True)[0]

    return forward_without_graph, input_gradient
