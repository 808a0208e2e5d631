"""With CuPy installed, on a machine without a GPU: what is left of it, and whether its kernels compile."""

import inspect
import itertools
import os
import re
import subprocess
import sys

import numpy as np
import pytest

cupy = pytest.importorskip("cupy", reason="CuPy is not installed")

import host_cupy

from convop import Conv, ConvFilter
from convop.cuda.tables import Kernels, source

pytestmark = pytest.mark.cupy

HAS_GPU = cupy.cuda.is_available()
without_gpu = pytest.mark.skipif(HAS_GPU, reason="a GPU is at hand: these tests are for machines without")


def fresh(code):
    """What a new interpreter prints."""
    environment = {k: v for k, v in os.environ.items() if k != "CUPY_PYLOPS"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_package_imports_no_cupy():
    assert fresh("import sys, convop; convop.kernel2matrix([[1.0]], (3, 3)); print('cupy' in sys.modules)") == "False"


@without_gpu
def test_the_cpu_works_where_cupy_cannot():
    """PyLops alone fails to be imported here: CUDA's libraries are missing."""
    code = (
        "import os, numpy as np, convop\n"
        "A = convop.Conv([1.0, 2.0], 5)\n"
        "import pylops\n"
        "assert 'CUPY_PYLOPS' not in os.environ\n"
        "x = pylops.cgls(A.T @ A, A.T @ (A @ np.arange(5.0)), niter=50)[0]\n"
        "print(convop.testing.dottest(A).passed, np.allclose(A @ x, A @ np.arange(5.0)))\n"
    )
    assert fresh(code).split() == ["True", "True"]


@without_gpu
def test_a_missing_gpu_is_named():
    A = Conv(np.ones((2, 2)), (3, 3))
    for operator in (A, A.T, ConvFilter(np.ones((3, 3)), (2, 2))):
        with pytest.raises(RuntimeError, match=r"the GPU needs a CUDA device and its driver: \S+"):
            operator.to_gpu()
    assert A.to_cpu() == A
    with pytest.raises(RuntimeError, match="driver"):
        A.todense(backend="cupy")


def compiled(kernels, architecture, name="gather.cu"):
    """The kernels as binary code of a GPU, and what the compiler says of it."""
    from cupy_backends.cuda.libs import nvrtc

    program = nvrtc.createProgram(source(name), name, (), ())
    options = ("-std=c++14", f"-arch=sm_{architecture}", "--ptxas-options=-v", *kernels.options)
    try:
        nvrtc.compileProgram(program, options)
    except nvrtc.NVRTCError:
        pytest.fail(nvrtc.getProgramLog(program))
    return nvrtc.getCUBIN(program), nvrtc.getProgramLog(program)


NUMBERS = [("float", False, 8), ("double", False, 4), ("float", True, 4), ("double", True, 2)]


@pytest.mark.parametrize("architecture", [80, 90])
@pytest.mark.parametrize(("real", "complex_", "rows"), NUMBERS)
def test_every_kernel_compiles(architecture, real, complex_, rows):
    """For numbers and integers of all kinds, with tiles and without; whose sums and weights stay in registers."""
    for wide, index, (axes, tiled) in itertools.product(
        (False, True), ("int", "long long"), ((2, (rows, 7, 1, 1)), (3, (1, 0, 1, 1)))
    ):
        code, log = compiled(Kernels(real, complex_, wide, index, axes, *tiled), architecture)
        assert code[:4] == b"\x7fELF"
        assert set(re.findall(r"Compiling entry function '(\w+)'", log)) == {"correlate", "fill", "gradient"}
        assert re.findall(r"(\d+) bytes spill stores", log) == ["0"] * 3
    for tiled in ((rows, 1, 1, 1), (rows, 31, 1, 1), (rows, 4, 4, 1), (rows, 3, 2, 3)):
        compiled(Kernels(real, complex_, False, "int", 2, *tiled), architecture)
    plain = Kernels(real, complex_, False, "int", 1, 1, 0, 1, 1)
    compiled(plain, architecture)
    assert "'wait'" in compiled(plain, architecture, "wait.cu")[1]


def test_an_error_in_a_kernel_is_one():
    with pytest.raises(pytest.fail.Exception, match="identifier"):
        compiled(Kernels("float", False, False, "no_such_type", 2, 1, 0, 1, 1), 90)


def test_what_the_stand_in_has_cupy_has():
    """Every name that the package uses of the stand-in, in the real one."""
    import cupyx.scipy.fft
    import cupyx.scipy.sparse

    modules = host_cupy.modules()
    before = {name: sys.modules.get(name) for name in modules}
    host_cupy.used.clear()
    sys.modules.update(modules)
    try:
        for engine, dtype in itertools.product(("csr", "direct", "fft"), ("float32", "complex64")):
            kernel = modules["cupy"].asarray(np.ones((2, 3, 3), dtype))
            A = Conv(kernel, (5, 9, 8), stride=(1, 2, 1), padding="same", padding_mode="reflect", engine=engine)
            A.H @ (A @ modules["cupy"].asarray(np.ones((5, 9, 8, 2))))
            A.tosparse(), A.T.tosparse("csc"), A.todense(), A.conj()
            F = ConvFilter(modules["cupy"].asarray(np.ones((9, 8), dtype)), (3, 3), engine=engine)
            F.H @ (F @ modules["cupy"].asarray(np.ones((3, 3))))
            F.tosparse()
    finally:
        sys.modules.update({name: module for name, module in before.items() if module is not None})
    for format in ("csr", "csc", "coo"):
        assert "return" in inspect.getsource(getattr(cupyx.scipy.sparse.csr_array, f"to{format}"))
    assert len(host_cupy.used) > 15
    places = {"cupy": cupy, "ndarray": cupy.ndarray, "cupyx.scipy.fft": cupyx.scipy.fft}
    for name in host_cupy.used:
        place, _, attribute = name.rpartition(".")
        assert hasattr(places[place], attribute), name
    for name in vars(host_cupy.csr_array):
        assert (
            hasattr(cupyx.scipy.sparse.csr_array, name) or name.startswith("_") or name in ("data", "indices", "indptr")
        )


@pytest.mark.gpu
def test_solvers_of_cupy():
    """CuPy's own take operators by their shape and `matvec`."""
    import cupyx.scipy.sparse.linalg as linalg

    rng = np.random.default_rng(0)
    kernel = np.outer(*[np.exp(-(np.arange(-2.0, 3) ** 2))] * 2)
    A = Conv(cupy.asarray(kernel), (24, 20), padding=2, padding_mode="reflect")
    expected = rng.standard_normal(A.shape[1])
    normal = A.H @ A
    y = normal @ cupy.asarray(expected)
    for solve in (linalg.cg, linalg.gmres):
        solved, info = solve(normal, y, tol=1e-12, maxiter=2000)
        assert info == 0
        np.testing.assert_allclose(solved.get(), expected, atol=1e-4)
