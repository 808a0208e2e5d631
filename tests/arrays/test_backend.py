"""CuPy installed on a machine without a GPU: the package works on the CPU, and names the missing GPU."""

import os
import subprocess
import sys

import numpy as np
import pytest

cupy = pytest.importorskip("cupy", reason="CuPy is not installed")

from convop import Conv, ConvFilter

pytestmark = pytest.mark.cupy

without_gpu = pytest.mark.skipif(
    cupy.cuda.is_available(), reason="a GPU is at hand: these tests are for machines without"
)


def output_of(code):
    """Returns the text that a new interpreter prints."""
    environment = {k: v for k, v in os.environ.items() if k != "CUPY_PYLOPS"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_package_does_not_import_cupy():
    assert (
        output_of("import sys, convop; convop.kernel2matrix([[1.0]], (3, 3)); print('cupy' in sys.modules)") == "False"
    )


@without_gpu
def test_cpu_works_where_cupy_cannot():
    """PyLops by itself cannot be imported here, as CUDA's libraries are missing."""
    code = (
        "import os, numpy as np, convop\n"
        "A = convop.Conv([1.0, 2.0], 5)\n"
        "import pylops\n"
        "assert 'CUPY_PYLOPS' not in os.environ\n"
        "x = pylops.cgls(A.T @ A, A.T @ (A @ np.arange(5.0)), niter=50)[0]\n"
        "print(convop.testing.dottest(A).passed, np.allclose(A @ x, A @ np.arange(5.0)))\n"
    )
    assert output_of(code).split() == ["True", "True"]


@without_gpu
def test_error_names_missing_gpu():
    A = Conv(np.ones((2, 2)), (3, 3))
    for operator in (A, A.T, ConvFilter(np.ones((3, 3)), (2, 2))):
        with pytest.raises(RuntimeError, match=r"the GPU needs a CUDA device and its driver: \S+"):
            operator.to_gpu()
    assert A.to_cpu() == A
    with pytest.raises(RuntimeError, match="driver"):
        A.todense(backend="cupy")
