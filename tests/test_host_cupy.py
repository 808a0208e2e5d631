"""The stand-in for CuPy has no name that CuPy does not have."""

import inspect
import itertools

import numpy as np
import pytest

cupy = pytest.importorskip("cupy", reason="CuPy is not installed")

import host_cupy

from convop import Conv, ConvFilter

pytestmark = pytest.mark.cupy


def test_cupy_has_every_name_used_of_stand_in():
    """Looks up every name that the package uses of the stand-in in CuPy itself."""
    import cupyx.scipy.fft
    import cupyx.scipy.sparse

    host_cupy.used.clear()
    with host_cupy.installed() as stand_in:
        for engine, dtype in itertools.product(("csr", "direct", "fft"), ("float32", "complex64")):
            kernel = stand_in.asarray(np.ones((2, 3, 3), dtype))
            A = Conv(kernel, (5, 9, 8), stride=(1, 2, 1), padding="same", padding_mode="reflect", engine=engine)
            A.H @ (A @ stand_in.asarray(np.ones((5, 9, 8, 2))))
            A.tosparse(), A.T.tosparse("csc"), A.todense(), A.conj()
            F = ConvFilter(stand_in.asarray(np.ones((9, 8), dtype)), (3, 3), engine=engine)
            F.H @ (F @ stand_in.asarray(np.ones((3, 3))))
            F.tosparse()
    for format in ("csr", "csc", "coo"):
        assert "return" in inspect.getsource(getattr(cupyx.scipy.sparse.csr_array, f"to{format}"))
    assert len(host_cupy.used) > 15
    modules = {"cupy": cupy, "ndarray": cupy.ndarray, "cupyx.scipy.fft": cupyx.scipy.fft}
    for name in host_cupy.used:
        module, _, attribute = name.rpartition(".")
        assert hasattr(modules[module], attribute), name
    for name in vars(host_cupy.csr_array):
        assert (
            hasattr(cupyx.scipy.sparse.csr_array, name) or name.startswith("_") or name in ("data", "indices", "indptr")
        )
