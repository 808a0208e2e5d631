"""A stand-in for CuPy on a machine without a GPU: arrays wrap NumPy's, and kernels are compiled for the CPU.

The package's code for CuPy runs unchanged on it. Two errors are noticed that a GPU would not report: an array of one
library that is converted to the other without `get` or `asarray`, and a kernel that reads or writes beyond its arrays.
"""

import contextlib
import ctypes
import functools
import re
import shutil
import subprocess
import sys
import tempfile
import time
import types
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import scipy.fft
import scipy.ndimage
import scipy.signal
import scipy.sparse as sp

# Names of CuPy that were used, for a test that looks them up in CuPy itself.
used = set()


class ndarray:
    """An array "on the GPU"."""

    __module__ = "cupy"
    __array_priority__ = 100

    def __init__(self, array):
        self._array = array

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        if method != "__call__":
            return NotImplemented
        return _call(ufunc, inputs, kwargs)

    def __array_function__(self, function, types, args, kwargs):
        return _call(function, args, kwargs)

    def get(self):
        return self._array.copy()

    def __dlpack__(self, **kwargs):
        return self._array.__dlpack__(**kwargs)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        value = getattr(self._array, name)
        used.add(f"ndarray.{name}")
        if callable(value):
            return functools.partial(_method, name, self)
        return _wrap(value)

    def __getitem__(self, key):
        return _wrap(self._array[_unwrap(key)])

    def __setitem__(self, key, value):
        self._array[_unwrap(key)] = _unwrap(value)

    def __len__(self):
        return len(self._array)

    def __iter__(self):
        return (_wrap(value) for value in self._array)

    def __bool__(self):
        return bool(self._array)

    def __float__(self):
        return float(self._array)

    def __int__(self):
        return int(self._array)

    def __complex__(self):
        return complex(self._array)

    def __repr__(self):
        return repr(self._array)

    def __reduce__(self):
        return ndarray, (self._array,)


def _method(name, array, *args, **kwargs):
    return _call(getattr(array._array, name), args, kwargs)


def _define_operators():
    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor"):
        for full in (f"__{name}__", f"__r{name}__", f"__i{name}__"):
            setattr(ndarray, full, functools.partialmethod(_apply_operator, full))
    for name in ("eq", "ne", "lt", "le", "gt", "ge"):
        setattr(ndarray, f"__{name}__", functools.partialmethod(_apply_operator, f"__{name}__"))
    for name in ("neg", "abs", "pos", "invert"):
        setattr(ndarray, f"__{name}__", functools.partialmethod(_apply_operator, f"__{name}__"))
    ndarray.__hash__ = None


def _apply_operator(self, name, *others):
    for other in others:
        if not isinstance(other, (ndarray, np.generic, int, float, complex, bool)):
            return NotImplemented
    result = getattr(self._array, name)(*(_unwrap(other) for other in others))
    if name.startswith("__i") and name != "__invert__":
        return self
    return NotImplemented if result is NotImplemented else _wrap(result)


_define_operators()


def _call(function, args, kwargs):
    args, kwargs = _unwrap(args), {k: _unwrap(v) for k, v in kwargs.items()}
    return _wrap(function(*args, **kwargs))


def _unwrap(value):
    if isinstance(value, ndarray):
        return value._array
    if isinstance(value, np.ndarray) and value.ndim:
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    if type(value) in (tuple, list):
        return type(value)(_unwrap(v) for v in value)
    return value


def _wrap(value):
    if isinstance(value, np.ndarray):
        return ndarray(value)
    if isinstance(value, np.generic):  # CuPy has no scalars: reductions and elements are arrays without axes
        return ndarray(np.asarray(value))
    if type(value) in (tuple, list):
        if all(isinstance(v, int) for v in value):
            return value
        return type(value)(_wrap(v) for v in value)
    return value


# CUDA kernels, compiled as C++: the threads of a grid run one after another.

_PRELUDE = """
#include <cmath>
#define __global__
#define __device__
#define __restrict__
using std::fma;
static long long clock64() { static long long now = 0; return now += 1000000; }
struct Dim3 { unsigned x, y, z; };
static Dim3 threadIdx, blockIdx, blockDim, gridDim;
"""

_LOOPS = """
extern "C" void run_{name}(Dim3 grid, Dim3 block, {parameters}) {{
    gridDim = grid; blockDim = block;
    for (blockIdx.z = 0; blockIdx.z < grid.z; blockIdx.z++) for (blockIdx.y = 0; blockIdx.y < grid.y; blockIdx.y++)
    for (blockIdx.x = 0; blockIdx.x < grid.x; blockIdx.x++) for (threadIdx.z = 0; threadIdx.z < block.z; threadIdx.z++)
    for (threadIdx.y = 0; threadIdx.y < block.y; threadIdx.y++)
    for (threadIdx.x = 0; threadIdx.x < block.x; threadIdx.x++) {name}({names});
}}
"""

# Guard elements before and after every array that a kernel gets.
GUARD = 64


class Dim3(ctypes.Structure):
    _fields_ = [(axis, ctypes.c_uint) for axis in "xyz"]

    @classmethod
    def of(cls, sizes):
        return cls(*sizes, *(1,) * (3 - len(sizes)))


@functools.cache
def _library(code, options):
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    assert compiler, "these tests compile the kernels for the CPU, which takes a C++ compiler: install g++"
    loops = ""
    for name, parameters in re.findall(r'extern "C" __global__ void (\w+)\(([^)]*)\)', code):
        names = ", ".join(re.findall(r"(\w+)\s*(?:,|$)", parameters))
        loops += _LOOPS.format(name=name, parameters=parameters, names=names)
    folder = Path(tempfile.mkdtemp(prefix="host-cupy-"))
    (folder / "code.cpp").write_text(_PRELUDE + code + loops)
    flags = ("-O1", "-w", "-shared", "-fPIC", *options)
    subprocess.run([compiler, *flags, str(folder / "code.cpp"), "-o", str(folder / "code.so")], check=True)
    library = ctypes.CDLL(str(folder / "code.so"))
    shutil.rmtree(folder)
    return library


class RawModule:
    def __init__(self, *, code, options=()):
        self._library = _library(code, tuple(options))

    def get_function(self, name):
        return functools.partial(_launch, getattr(self._library, f"run_{name}"))


def _launch(function, grid, block, args):
    assert all(n > 0 for n in (*grid, *block)), (grid, block)
    assert all(n <= 65535 for n in grid[1:])
    assert np.prod(block) <= 1024
    values, guarded = [], []
    for arg in args:
        if isinstance(arg, ndarray):
            given = arg._array
            assert given.flags.c_contiguous
            # Reading beyond an array shows in the results, writing beyond it changes the guard elements.
            guard = np.nan if given.dtype.kind in "fc" else 2**30
            copy = np.full(given.size + 2 * GUARD, guard, given.dtype)
            copy[GUARD : GUARD + given.size] = given.ravel()
            guarded.append((given, copy, guard))
            values.append(ctypes.c_void_p(copy.ctypes.data + GUARD * given.itemsize))
        else:
            values.append({4: ctypes.c_int, 8: ctypes.c_longlong}[arg.itemsize](arg))
    function(Dim3.of(grid), Dim3.of(block), *values)
    for given, copy, guard in guarded:
        for side in (copy[:GUARD], copy[GUARD + given.size :]):
            np.testing.assert_array_equal(side, np.full(GUARD, guard, given.dtype))
        given[...] = copy[GUARD : GUARD + given.size].reshape(given.shape)


# Sparse matrices.


class csr_array:
    __module__ = "cupyx.scipy.sparse"
    __array_priority__ = 100

    def __init__(self, of, shape=None):
        if isinstance(of, tuple):
            assert all(isinstance(part, ndarray) for part in of)
            of = sp.csr_array(tuple(part._array for part in of), shape=shape)
        self._matrix = of

    shape = property(lambda self: self._matrix.shape)
    ndim = property(lambda self: self._matrix.ndim)
    dtype = property(lambda self: self._matrix.dtype)
    nnz = property(lambda self: self._matrix.nnz)
    format = property(lambda self: self._matrix.format)
    data = property(lambda self: ndarray(self._matrix.data))
    indices = property(lambda self: ndarray(self._matrix.indices))
    indptr = property(lambda self: ndarray(self._matrix.indptr))

    def __matmul__(self, other):
        if isinstance(other, np.ndarray):
            raise TypeError("Unsupported type <class 'numpy.ndarray'>")
        return ndarray(self._matrix @ other._array)

    def astype(self, dtype, copy=True):
        return csr_array(self._matrix.astype(dtype, copy=copy))

    def conj(self):
        return csr_array(self._matrix.conj())

    T = property(lambda self: csr_array(self._matrix.T))

    def toarray(self):
        return ndarray(self._matrix.toarray())

    def asformat(self, format):
        if format not in ("csr", "csc", "coo"):
            raise NotImplementedError(format)  # CuPy raises this too, for some formats after the conversion
        return csr_array(self._matrix.asformat(format))

    def get(self):
        return self._matrix.copy()


def _wrapped_module(name, functions, accepting=()):
    """A module whose functions take and return arrays of the stand-in only; those in `accepting` take NumPy's too."""
    module = types.ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)

    def attribute(wanted):
        if wanted.startswith("__"):
            raise AttributeError(wanted)
        value = getattr(functions, wanted)
        used.add(f"{name}.{wanted}")
        if wanted in accepting:
            return lambda value_, *args, **kwargs: ndarray(
                getattr(np, wanted)(value_._array if isinstance(value_, ndarray) else value_, *args, **kwargs)
            )
        if isinstance(value, type) or not callable(value):
            return value
        return lambda *args, **kwargs: _call(value, args, kwargs)

    module.__getattr__ = attribute
    return module


class Event:
    def record(self):
        self.time = time.perf_counter()

    def synchronize(self):
        pass


class _Pool:
    @staticmethod
    def free_bytes():
        return 0


@contextlib.contextmanager
def installed():
    """Context in which the stand-in is imported as CuPy, with no kernel compiled before. Yields its module."""
    from convop.cuda.tables import compiled_kernel

    stand_in = modules()
    before = {name: sys.modules.get(name) for name in stand_in}
    sys.modules.update(stand_in)
    compiled_kernel.cache_clear()
    try:
        yield stand_in["cupy"]
    finally:
        compiled_kernel.cache_clear()
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def modules():
    """The modules of the stand-in by name, as in `sys.modules`."""
    cupy = _wrapped_module("cupy", np, accepting=("asarray", "array", "ascontiguousarray", "from_dlpack"))
    cupy.ndarray, cupy.RawModule = ndarray, RawModule
    cupy.get_default_memory_pool = _Pool
    cupy.get_array_module = lambda *arrays: cupy if any(isinstance(a, ndarray) for a in arrays) else np
    cupy.cuda = types.SimpleNamespace(
        is_available=lambda: True,
        runtime=types.SimpleNamespace(
            memGetInfo=lambda: (2**34, 2**35),
            getDeviceCount=lambda: 1,
            getDevice=lambda: 0,
            getDeviceProperties=lambda _: {"name": b"host CPU in place of a GPU"},
        ),
        Event=Event,
        get_elapsed_time=lambda start, stop: 1e3 * (stop.time - start.time),
    )
    sparse = types.ModuleType("cupyx.scipy.sparse")
    sparse.csr_array = csr_array
    sparse.linalg = types.ModuleType("cupyx.scipy.sparse.linalg")
    scipy_modules = {"fft": scipy.fft, "ndimage": scipy.ndimage, "signal": scipy.signal}
    wrapped = {
        f"cupyx.scipy.{name}": _wrapped_module(f"cupyx.scipy.{name}", module) for name, module in scipy_modules.items()
    }
    parents = {name: types.ModuleType(name) for name in ("cupyx", "cupyx.scipy")}
    return {
        **parents,
        "cupy": cupy,
        "cupyx.scipy.sparse": sparse,
        "cupyx.scipy.sparse.linalg": sparse.linalg,
        **wrapped,
    }
