"""How long matrices take to build, against the filling of memory; and how long the package takes to start."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
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
from .timing import Line, in_turn

__all__ = ["build_lines", "startup_lines", "textbook_line"]


# name, input shape, kernel shape, parameters: 10^7 to 2*10^8 entries
_BUILDS: tuple[tuple[str, tuple[int, ...], tuple[int, ...], dict[str, Any]], ...] = (
    ("image 512^2, 7x7", (512, 512), (7, 7), {"padding": "same"}),
    ("image 2048^2, 3x3", (2048, 2048), (3, 3), {"padding": "same"}),
    ("image 2048^2, 8x8 stride 4", (2048, 2048), (8, 8), {"stride": 4, "padding": 2}),
    ("image 900^2, 15x15", (900, 900), (15, 15), {"padding": "same"}),
    ("signal 2^20, 64", (2**20,), (64,), {"padding": "same"}),
    ("signal 2^22, 3", (2**22,), (3,), {"padding": "same"}),
    ("volume 64^3, 5x5x5", (64, 64, 64), (5, 5, 5), {"padding": "same"}),
    ("64 to 64 channels 56^2, 3x3", (64, 56, 56), (64, 64, 3, 3), {"padding": 1}),
    ("16 to 16 channels 128^2, 3x3 dilation 2", (16, 128, 128), (16, 16, 3, 3), {"padding": 2, "dilation": 2}),
    ("depthwise 256 channels 112^2, 3x3", (256, 112, 112), (256, 1, 3, 3), {"padding": 1, "groups": 256}),
)
_QUICK = (("image 128^2, 5x5", (128, 128), (5, 5), {"padding": "same"}),)


def build_lines(*, quick: bool = False, repeats: int = 7) -> Iterator[Line]:
    """Time to build matrices, against the filling of fresh arrays of the same sizes and SciPy's kron.

    Parameters
    ----------
    quick : bool
        One small matrix, to see that it runs.
    repeats : int
        Measurements per line.

    Yields
    ------
    Line
    """
    rng = np.random.default_rng(0)
    builds = _QUICK if quick else _BUILDS
    for name, input_shape, kernel_shape, parameters in builds:
        for mode in PADDING_MODES:
            spec = ConvSpec(input_shape, kernel_shape, padding_mode=mode, **parameters)
            for dtype in (np.float64, np.float32):
                free = memory.available()
                if free is not None and 3 * spec.matrix_nbytes(dtype) > free:
                    continue
                kernel = rng.standard_normal(kernel_shape).astype(dtype)
                build = partial(kernel2matrix, kernel, input_shape, **spec.parameters())
                seconds, fill, ratio = in_turn(build, partial(_filled, spec, dtype), repeats)
                label = f"build {name}, {mode}, {np.dtype(dtype).name}"
                yield Line(label, "filling fresh arrays, all cores", seconds, fill, ratio, 2.0, spec.nnz)
    size = 64 if quick else 512
    kernel = rng.standard_normal((7, 7))
    ours, theirs = kernel2matrix(kernel, (size, size)), _kron_sum(kernel, size)
    if abs(ours - theirs).max() != 0:
        raise AssertionError("the sum of Kronecker products is another matrix")
    seconds, kron, ratio = in_turn(
        lambda: kernel2matrix(kernel, (size, size)), lambda: _kron_sum(kernel, size), repeats
    )
    yield Line(f"build image {size}^2, 7x7, valid", "sum of kron of diags", seconds, kron, ratio, 1 / 20, ours.nnz)


def textbook_line(*, repeats: int = 7) -> Line:
    """Time of the textbook matrix, 2x2 on 3x3, against constructing a `csr_array` from finished arrays.

    Parameters
    ----------
    repeats : int
        Measurements, of 500 matrices each.

    Returns
    -------
    Line
    """
    kernel = np.array([[1.0, 2.0], [3.0, 4.0]])
    done = kernel2matrix(kernel, (3, 3))
    parts = (done.data, done.indices, done.indptr)

    def many(make: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(500):
                make()

        return run

    ours, bare, ratio = in_turn(
        many(lambda: kernel2matrix(kernel, (3, 3))), many(lambda: sp.csr_array(parts, shape=(4, 9))), repeats
    )
    return Line("build image 3^2, 2x2", "a bare csr_array", ours / 500, bare / 500, ratio, 8.0, 16)


def startup_lines(*, repeats: int = 7) -> Iterator[Line]:
    """Time of a new process that imports the package, or makes a first matrix, against importing SciPy.

    Parameters
    ----------
    repeats : int
        Measurements per line.

    Yields
    ------
    Line
    """
    peer = "import scipy.sparse.linalg"
    for name, code, limit in (
        ("import convop", "import convop", 1.5),
        ("import and a first 3x3 matrix", "import convop; convop.kernel2matrix([[1, 2], [3, 4]], (3, 3))", 1.7),
    ):
        ours, theirs, ratio = in_turn(partial(_python, code), partial(_python, peer), repeats)
        yield Line(name, peer, ours, theirs, ratio, limit)


def _python(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True)


def _filled(spec: ConvSpec, dtype: Any) -> list[Array]:
    """Arrays of the sizes of a CSR matrix, written once by all cores: the least any builder can do."""
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
    """The matrix of a 2-D convolution as SciPy users write it: a Kronecker product of diagonals for each tap."""
    outputs = size - len(kernel) + 1
    shifts = [sp.diags_array([np.ones(outputs)], offsets=[i], shape=(outputs, size)) for i in range(len(kernel))]
    total = sp.csr_array((outputs**2, size**2))
    for (i, j), tap in np.ndenumerate(kernel):
        total = total + tap * sp.kron(shifts[i], shifts[j], format="csr")
    return total
