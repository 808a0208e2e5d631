"""ONNX Runtime on the CPU: models of one convolution, and of one transposed convolution for the adjoint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...arrays.backend import Array
from ...threads.sizes import thread_count
from ..workloads import Problem
from .support import UNSUPPORTED, ForwardAdjoint, is_installed

# Modes of the operator Pad. ONNX has no symmetric extension.
_MODES = {"circular": "wrap", "reflect": "reflect", "replicate": "edge"}
# The first version of the operators that has the mode "wrap", and the version of the file format that belongs to it.
_OPERATORS, _FORMAT = 19, 9


def onnx_runtime(problem: Problem) -> ForwardAdjoint:
    """Prepare sessions, with inputs and outputs bound to arrays. On the CPU, `Conv` exists in float32 only."""
    spec = problem.spec
    zeros = spec.padding_mode == "zeros"
    if problem.dtype != np.float32 or spec.ndim > 3 or min(min(pair) for pair in spec.padding) < 0:
        return UNSUPPORTED
    # Wider extensions would repeat the input more than once.
    if not zeros and (spec.padding_mode not in _MODES or any(max(a.lo, a.hi) >= a.inputs for a in spec.axes)):
        return UNSUPPORTED
    if not is_installed("onnx", "onnxruntime"):
        return UNSUPPORTED
    from onnx import helper, numpy_helper

    channel_axis = () if spec.channels else (1,)
    x = problem.x.reshape(1, *channel_axis, *problem.x.shape)
    y = problem.y.reshape(1, *channel_axis, *problem.y.shape)
    kernel = problem.kernel.reshape(*channel_axis, *channel_axis, *problem.kernel.shape)
    constants = [numpy_helper.from_array(kernel, "kernel")]
    los, his = ([pair[side] for pair in spec.padding] for side in (0, 1))
    geometry = {"strides": spec.stride, "dilations": spec.dilation, "group": spec.groups}
    if zeros:
        nodes = [helper.make_node("Conv", ["in", "kernel"], ["out"], pads=[*los, *his], **geometry)]
        # Inputs after the last one that an output reads.
        unread = [
            axis.inputs + axis.lo + axis.hi - axis.extent - (axis.outputs - 1) * axis.stride for axis in spec.axes
        ]
        transposed = helper.make_node(
            "ConvTranspose", ["in", "kernel"], ["out"], pads=[*los, *his], output_padding=unread, **geometry
        )
        return _prepare(nodes, constants, x, y.shape), _prepare([transposed], constants, y, x.shape)
    constants.append(numpy_helper.from_array(np.array([0, 0, *los, 0, 0, *his]), "pads"))
    pad = helper.make_node("Pad", ["in", "pads"], ["extended"], mode=_MODES[spec.padding_mode])
    convolution = helper.make_node("Conv", ["extended", "kernel"], ["out"], **geometry)
    return _prepare([pad, convolution], constants, x, y.shape), None


def _prepare(nodes: list[Any], constants: list[Any], array: Array, shape: tuple[int, ...]) -> Callable[[], Array]:
    """Return a function that runs a model from ``in`` to ``out`` on an array."""
    import onnxruntime
    from onnx import TensorProto, helper

    result = np.empty(shape, array.dtype)
    read, written = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes)
        for name, sizes in (("in", array.shape), ("out", shape))
    )
    model = helper.make_model(
        helper.make_graph(nodes, "convolution", [read], [written], constants),
        opset_imports=[helper.make_opsetid("", _OPERATORS)],
        ir_version=_FORMAT,
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = thread_count()
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_input("in", "cpu", 0, np.float32, array.shape, array.ctypes.data)
    binding.bind_output("out", "cpu", 0, np.float32, shape, result.ctypes.data)

    def run() -> Array:
        session.run_with_iobinding(binding)
        return result

    return run
