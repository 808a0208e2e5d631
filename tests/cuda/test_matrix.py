import numpy as np
import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from convop import Conv, kernel2matrix


@given(case=strategies.cases(), adjoint=st.booleans())
def test_matrix_equals_matrix_on_cpu(cupy, case, adjoint):
    arguments = {"flip": case.flip, **case.parameters}
    expected = kernel2matrix(case.kernel, case.input_shape, **arguments)
    got = kernel2matrix(cupy.asarray(case.kernel), case.input_shape, **arguments)
    A = Conv(cupy.asarray(case.kernel), case.input_shape, **arguments)
    if adjoint:
        got, expected = A.T.tosparse(), Conv(case.kernel, case.input_shape, **arguments).T.tosparse()
    assert type(got).__module__.startswith("cupyx.scipy.sparse")
    assert got.has_canonical_format
    for part in ("indptr", "indices", "data"):
        mine, theirs = getattr(got, part).get(), getattr(expected, part)
        assert mine.dtype == theirs.dtype
        assert_array_equal(mine, theirs)


def test_gpu_matrix_has_csr_csc_and_coo(cupy):
    kernel = cupy.asarray(np.ones((2, 2)))
    for format in ("csr", "csc", "coo"):
        assert kernel2matrix(kernel, (3, 3), format=format).format == format
        assert Conv(kernel, (3, 3)).tosparse(format).format == format
    for format in ("bsr", "dia"):
        with pytest.raises(ValueError, match="format of a matrix on the GPU must be one of csr, csc, coo; got"):
            kernel2matrix(kernel, (3, 3), format=format)
        with pytest.raises(ValueError, match="format of a matrix on the GPU must be one of csr, csc, coo; got"):
            Conv(kernel, (3, 3)).T.tosparse(format)
