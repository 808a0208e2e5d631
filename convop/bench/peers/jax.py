"""JAX on the CPU: `jax.lax.conv_general_dilated`, and its transpose, both compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..workloads import Problem
from .support import UNSUPPORTED, ForwardAdjoint, is_installed

_MODES = {"circular": "wrap", "reflect": "reflect", "symmetric": "symmetric", "replicate": "edge"}


def jax_convolution(problem: Problem) -> ForwardAdjoint:
    """Prepare compiled functions. Boundaries other than zeros are `jax.numpy.pad`, which JAX transposes too."""
    spec = problem.spec
    zeros = spec.padding_mode == "zeros"
    if (not zeros and min(min(pair) for pair in spec.padding) < 0) or not is_installed("jax"):
        return UNSUPPORTED
    # JAX 0.10 computes the transpose of some grouped convolutions in float32 differently from call to call.
    has_adjoint = spec.groups == 1 or problem.dtype == np.float64
    import jax

    channel_axis = () if spec.channels else (1,)
    cpu = jax.devices("cpu")[0]

    def convolve(x: Any) -> Any:
        x = x.reshape(1, *channel_axis, *problem.x.shape)
        if not zeros:
            x = jax.numpy.pad(x, [(0, 0), (0, 0), *spec.padding], mode=_MODES[spec.padding_mode])
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            window_strides=spec.stride,
            padding=spec.padding if zeros else "VALID",
            rhs_dilation=spec.dilation,
            feature_group_count=spec.groups,
        )

    def transposed(y: Any) -> Any:
        return jax.linear_transpose(convolve, x)(y.reshape(1, *channel_axis, *problem.y.shape))[0]

    # Without this context, float64 becomes float32. A function that is compiled in it can be called outside.
    with jax.enable_x64(problem.dtype == np.float64):
        kernel = jax.device_put(problem.kernel.reshape(*channel_axis, *channel_axis, *problem.kernel.shape), cpu)
        x, y = (jax.device_put(array, cpu) for array in (problem.x, problem.y))
        forward, adjoint = jax.jit(convolve).lower(x).compile(), jax.jit(transposed).lower(y).compile()
    return _run(forward, x), _run(adjoint, y) if has_adjoint else None


def _run(compiled: Callable[[Any], Any], array: Any) -> Callable[[], Any]:
    return lambda: compiled(array).block_until_ready()
