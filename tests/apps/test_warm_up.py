"""After `convop warm-up`, no operator compiles anything."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import error_line, run

import convop
from convop.apps import warm_up

# All kinds of operators, engines, directions and dtypes; standard output has what is compiled meanwhile.
OPERATORS = """
import itertools, logging, sys
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
import numpy as np
import convop
from convop import Conv, ConvFilter, ConvTranspose, kernel2matrix
from convop.deconvnet import DeconvLayer

rng = np.random.default_rng(0)
cases = [
    ((12, 20), (3, 3), {"padding": 1}),
    ((12, 20), (3, 3), {"padding": "same", "padding_mode": "circular"}),
    ((20,), (4,), {"stride": 2, "dilation": 3, "padding": 5, "padding_mode": "reflect"}),
    ((4, 9, 8, 7), (6, 2, 3, 3, 3), {"groups": 2, "stride": (1, 2, 2), "padding": 1, "padding_mode": "symmetric"}),
]
for dtype, engine in itertools.product(
    ("float32", "float64", "complex64", "complex128"), ("auto", "csr", "direct", "separable", "fft", "gemm", "winograd")
):
    for input_shape, kernel_shape, parameters in cases:
        kernel = np.ones(kernel_shape, dtype)
        A = Conv(kernel, input_shape, engine=engine, **parameters)
        x = rng.standard_normal((A.shape[1], 2)).astype(dtype)
        y = A @ x
        A.H @ y
        A @ x[:, 0]
        A.H @ y[:, 0]
        B = ConvFilter(x[:, 0].reshape(input_shape), kernel_shape, engine=engine, **parameters)
        B.H @ (B @ kernel.ravel())
    T = ConvTranspose(np.ones((2, 3, 3, 3), dtype), (2, 8, 8), stride=2, engine=engine)
    T.H @ (T @ np.ones(T.shape[1], dtype))
    large = Conv(np.ones((3, 3), dtype), (150, 150), engine=engine, padding=1, padding_mode="replicate")
    large.H @ (large @ np.ones(large.shape[1], dtype))
for dtype in ("float32", "float64", "complex64", "complex128"):
    kernel2matrix(np.ones((3, 3), dtype), (300, 300), padding=1)
    kernel2matrix(np.ones((2, 2, 3, 3), dtype), (2, 100, 300), stride=2, padding_mode="circular")
    large = Conv(np.ones((31, 31), dtype), (200, 200), engine="fft", padding=15)
    large.H @ (large @ np.ones(large.shape[1], dtype))
A = Conv(np.ones((5, 5)), (40, 40), padding=2)
convop.tikhonov(A, A @ np.ones(A.dims), 0.1)
A.norm()
"""


def environment(folder):
    return os.environ | {"NUMBA_CACHE_DIR": str(folder), "PYTHONPATH": str(Path(convop.__file__).parents[1])}


def logged(code, folder):
    """Returns what a new process prints, which keeps its kernels in the folder."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment(folder), capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
def test_after_warm_up_no_operator_compiles_anything(tmp_path):
    command = [sys.executable, "-m", "convop", "warm-up"]
    result = subprocess.run(command, env=environment(tmp_path), capture_output=True, text=True, check=True)
    assert result.stdout.startswith(f"{tmp_path}: all kernels, ")
    assert f"{len(warm_up.JOBS)} of {len(warm_up.JOBS)} groups of kernels" in result.stderr
    assert logged(OPERATORS, tmp_path) == ""
    # A kernel that were missing would be noticed.
    (file,) = tmp_path.rglob("planes.add_halo*.nbi")
    file.unlink()
    assert "compiling convop.engines.kernels.planes.add_halo" in logged(OPERATORS, tmp_path)


def test_warm_up_reports_a_cache_folder_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file"))
    error = error_line("warm-up")
    assert "compiled kernels cannot be kept in" in error
    assert "set the environment variable NUMBA_CACHE_DIR" in error


def test_warm_up_without_any_cache_folder(monkeypatch):
    """Numba keeps nothing where neither the package's folder nor that of the user can be written."""
    from numba.core.caching import NullCache

    from convop.engines.kernels.direct import correlate

    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setattr(correlate, "_cache", NullCache())
    assert "no cache folder can be written" in error_line("warm-up")


def test_warm_up_calls_each_job_once(monkeypatch):
    """In this process, with small jobs."""
    called, shown = [], []
    monkeypatch.setattr(warm_up, "JOBS", {name: lambda name=name: called.append(name) for name in ("a", "b")})

    class Processes:
        def __init__(self, count, context):
            assert context.get_start_method() == "spawn"
            assert 1 <= count <= 2

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def submit(self, function, name):
            from concurrent.futures import Future

            future = Future()
            future.set_result(function(name))
            return future

    monkeypatch.setattr(warm_up, "ProcessPoolExecutor", Processes)
    warm_up.warm_up(shown.append)
    assert sorted(called) == sorted(shown) == ["a", "b"]
    assert run("warm-up").stdout.startswith(f"{warm_up.cache_folder()}: all kernels, ")
