"""Other libraries that apply a convolution: one module for each family of libraries.

Each peer is called as its users call it, with everything prepared that they can prepare beforehand. A peer has no function
for a workload that it does not support, and none for an adjoint that it does not have.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.ndimage
import scipy.signal

from ...arrays.backend import Array, gpu_module, to_cpu
from ..workloads import Problem
from .ducc0 import ducc_fft
from .jax import jax_convolution
from .onnxruntime import onnx_runtime
from .opencv import filter2d, sep_filter2d
from .scientific import csr_matrix, ndimage, pylops_convolve, signal
from .support import UNSUPPORTED, ForwardAdjoint
from .torch import pytorch


def cpu_peers(problem: Problem) -> dict[str, ForwardAdjoint]:
    """Prepare forward and adjoint of every installed peer that supports a workload.

    Parameters
    ----------
    problem : Problem
        The workload and its data.

    Returns
    -------
    dict of (callable or None, callable or None)
        By name. The functions take no arguments; their results have the elements of the output and of the input, in any
        shape.
    """
    found = {
        "SciPy CSR": csr_matrix(problem),
        "SciPy fftconvolve": signal(problem, scipy.signal.fftconvolve),
        "SciPy oaconvolve": signal(problem, scipy.signal.oaconvolve),
        "SciPy ndimage": ndimage(problem, scipy.ndimage.correlate),
        "PyLops ConvolveND": pylops_convolve(problem),
        "OpenCV filter2D": filter2d(problem),
        "OpenCV sepFilter2D": sep_filter2d(problem),
        "ducc0": ducc_fft(problem),
        "ONNX Runtime": onnx_runtime(problem),
        "JAX": jax_convolution(problem),
        "PyTorch": pytorch(problem),
    }
    return {name: pair for name, pair in found.items() if pair != UNSUPPORTED}


def gpu_peers(problem: Problem) -> dict[str, ForwardAdjoint]:
    """Prepare forward and adjoint of every installed peer that supports a workload on the GPU.

    Parameters
    ----------
    problem : Problem
        The workload and its data, arrays on the GPU.

    Returns
    -------
    dict of (callable or None, callable or None)
        As from `cpu_peers`.
    """
    cupy_signal, cupy_ndimage = gpu_module("signal"), gpu_module("ndimage")
    found = {
        "CuPy fftconvolve": signal(problem, cupy_signal.fftconvolve),
        "CuPy oaconvolve": signal(problem, cupy_signal.oaconvolve),
        "CuPy ndimage": ndimage(problem, cupy_ndimage.correlate),
        "PyTorch": pytorch(problem),
    }
    return {name: pair for name, pair in found.items() if pair != UNSUPPORTED}


def to_flat_numpy(result: Any) -> Array:
    """Convert the result of any peer to a one-dimensional NumPy array.

    Parameters
    ----------
    result : array or tensor
        Of NumPy, CuPy, PyTorch or JAX.

    Returns
    -------
    ndarray of shape (size,)
    """
    result = result.detach().cpu() if hasattr(result, "detach") else to_cpu(result)
    array: Array = np.asarray(result).reshape(-1)
    return array
