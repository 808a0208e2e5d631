"""Times of building matrices, against the filling of memory, and of importing the package."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse as sp

from ..arrays import memory
from ..arrays.backend import Array
from ..geometry.axis import PADDING_MODES
from ..geometry.spec import ConvSpec
from ..matrix.build import kernel2matrix
from ..threads.blocks import run_blocks
from ..threads.sizes import thread_count
from .timing import Comparison, compare, repeat
from .workloads import Workload

# Matrices of 10^7 to 2*10^8 entries.
_BUILDS = (
    Workload("image 512^2, 7x7", (512, 512), (7, 7), {"padding": "same"}),
    Workload("image 2048^2, 3x3", (2048, 2048), (3, 3), {"padding": "same"}),
    Workload("image 2048^2, 8x8 stride 4", (2048, 2048), (8, 8), {"stride": 4, "padding": 2}),
    Workload("image 900^2, 15x15", (900, 900), (15, 15), {"padding": "same"}),
    Workload("signal 2^20, 64", (2**20,), (64,), {"padding": "same"}),
    Workload("signal 2^22, 3", (2**22,), (3,), {"padding": "same"}),
    Workload("volume 64^3, 5x5x5", (64, 64, 64), (5, 5, 5), {"padding": "same"}),
    Workload("64 to 64 channels 56^2, 3x3", (64, 56, 56), (64, 64, 3, 3), {"padding": 1}),
    Workload("16 to 16 channels 128^2, 3x3 dilation 2", (16, 128, 128), (16, 16, 3, 3), {"padding": 2, "dilation": 2}),
    Workload("depthwise 256 channels 112^2, 3x3", (256, 112, 112), (256, 1, 3, 3), {"padding": 1, "groups": 256}),
)
_QUICK = (Workload("image 128^2, 5x5", (128, 128), (5, 5), {"padding": "same"}),)
_CALLS = 500


def measure_builds(*, quick: bool = False, repeats: int = 7) -> Iterator[Comparison]:
    """Time the building of matrices, against the filling of fresh arrays of the same sizes and against SciPy's kron.

    Parameters
    ----------
    quick : bool
        Use one small matrix, to check that everything runs.
    repeats : int
        Number of rounds.

    Yields
    ------
    Comparison
    """
    rng = np.random.default_rng(0)
    for workload in _QUICK if quick else _BUILDS:
        for mode in PADDING_MODES:
            spec = replace(workload, parameters={**workload.parameters, "padding_mode": mode}).spec
            for dtype in (np.float64, np.float32):
                free = memory.available()
                if free is not None and 3 * spec.matrix_nbytes(dtype) > free:
                    continue
                kernel = rng.standard_normal(spec.kernel_shape).astype(dtype)
                yield compare(
                    f"build {workload.name}, {mode}, {np.dtype(dtype).name}",
                    "filling fresh arrays, all cores",
                    partial(kernel2matrix, kernel, spec.input_shape, **spec.parameters()),
                    partial(_fill_fresh_arrays, spec, dtype),
                    repeats=repeats,
                    limit=2.0,
                    entries=spec.nnz,
                )
    yield _compare_with_kron(64 if quick else 512, rng.standard_normal((7, 7)), repeats)


def _compare_with_kron(size: int, kernel: Array, repeats: int) -> Comparison:
    build, build_by_kron = partial(kernel2matrix, kernel, (size, size)), partial(_kron_sum, kernel, size)
    ours, theirs = build(), build_by_kron()
    if abs(ours - theirs).max() != 0:
        raise AssertionError("the sum of Kronecker products is another matrix")
    name = f"build image {size}^2, 7x7, valid"
    return compare(name, "sum of kron of diags", build, build_by_kron, repeats=repeats, limit=1 / 20, entries=ours.nnz)


def measure_textbook_matrix(*, repeats: int = 7) -> Comparison:
    """Time the textbook matrix, 2x2 on 3x3, against the construction of a `csr_array` from finished arrays.

    Parameters
    ----------
    repeats : int
        Number of rounds, of 500 matrices each.

    Returns
    -------
    Comparison
    """
    kernel = np.array([[1.0, 2.0], [3.0, 4.0]])
    built = kernel2matrix(kernel, (3, 3))
    arrays = (built.data, built.indices, built.indptr)
    return compare(
        "build image 3^2, 2x2",
        "a bare csr_array",
        repeat(lambda: kernel2matrix(kernel, (3, 3)), _CALLS),
        repeat(lambda: sp.csr_array(arrays, shape=(4, 9)), _CALLS),
        repeats=repeats,
        limit=8.0,
        entries=16,
        units=_CALLS,
    )


def measure_startup(*, repeats: int = 7) -> Iterator[Comparison]:
    """Time a new process that imports the package, or builds a first matrix, against importing SciPy.

    Parameters
    ----------
    repeats : int
        Number of rounds.

    Yields
    ------
    Comparison
    """
    peer = "import scipy.sparse.linalg"
    for name, code, limit in (
        ("import convop", "import convop", 1.5),
        ("import and a first 3x3 matrix", "import convop; convop.kernel2matrix([[1, 2], [3, 4]], (3, 3))", 1.7),
    ):
        yield compare(name, peer, partial(_run_python, code), partial(_run_python, peer), repeats=repeats, limit=limit)


def _run_python(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True)


def _fill_fresh_arrays(spec: ConvSpec, dtype: Any) -> list[Array]:
    """Allocate the arrays of a CSR matrix and write them once on all cores: a lower bound for any builder."""
    arrays = [
        np.empty(spec.nnz, dtype=dtype),
        np.empty(spec.nnz, dtype=spec.index_dtype),
        np.empty(spec.shape[0] + 1, dtype=spec.index_dtype),
    ]
    threads = thread_count()
    for array in arrays:
        run_blocks(partial(_fill, array), len(array), threads=threads, blocks=threads)
    return arrays


def _fill(array: Array, start: int, stop: int) -> None:
    array[start:stop] = 1


def _kron_sum(kernel: Array, size: int) -> Any:
    """Build the matrix of a 2-D convolution as SciPy users write it: a Kronecker product of diagonals for each tap."""
    outputs = size - len(kernel) + 1
    shifts = [sp.diags_array([np.ones(outputs)], offsets=[i], shape=(outputs, size)) for i in range(len(kernel))]
    total = sp.csr_array((outputs**2, size**2))
    for (i, j), tap in np.ndenumerate(kernel):
        total = total + tap * sp.kron(shifts[i], shifts[j], format="csr")
    return total
