"""The CUDA kernels compile for two generations of GPUs: where CuPy is installed, with or without a GPU."""

import itertools
import re

import pytest

cupy = pytest.importorskip("cupy", reason="CuPy is not installed")

from convop.cuda.tables import KernelOptions, RegisterTile, kernel_source

pytestmark = pytest.mark.cupy


def compiled(options, architecture, name="gather.cu"):
    """Returns the kernels as binary code of a GPU, and the compiler's log."""
    from cupy_backends.cuda.libs import nvrtc

    program = nvrtc.createProgram(kernel_source(name), name, (), ())
    flags = (f"-arch=sm_{architecture}", "--ptxas-options=-v", *options.flags)
    try:
        nvrtc.compileProgram(program, flags)
    except nvrtc.NVRTCError:
        pytest.fail(nvrtc.getProgramLog(program))
    return nvrtc.getCUBIN(program), nvrtc.getProgramLog(program)


@pytest.mark.parametrize("architecture", [80, 90])
@pytest.mark.parametrize(("dtype", "rows"), [("f", 8), ("d", 4), ("F", 4), ("D", 2)])
def test_kernels_compile_without_spilling_registers(architecture, dtype, rows):
    """For numbers and integers of all types, with register tiles and without; sums and weights stay in registers."""
    for wide, index, (axes, tile) in itertools.product(
        (False, True), ("int", "long long"), ((2, RegisterTile(rows, 7)), (3, RegisterTile()))
    ):
        code, log = compiled(KernelOptions(dtype, axes, wide, index, tile), architecture)
        assert code[:4] == b"\x7fELF"
        assert set(re.findall(r"Compiling entry function '(\w+)'", log)) == {"correlate", "fill", "gradient"}
        assert re.findall(r"(\d+) bytes spill stores", log) == ["0"] * 3
    for tile in ((rows, 1, 1, 1), (rows, 31, 1, 1), (rows, 4, 4, 1), (rows, 3, 2, 3)):
        compiled(KernelOptions(dtype, 2, False, "int", RegisterTile(*tile)), architecture)
    plain = KernelOptions(dtype, 1, False)
    compiled(plain, architecture)
    assert "'wait'" in compiled(plain, architecture, "wait.cu")[1]


def test_compilation_error_fails_the_test():
    with pytest.raises(pytest.fail.Exception, match="identifier"):
        compiled(KernelOptions("f", 2, False, "no_such_type"), 90)
