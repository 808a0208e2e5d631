"""`Conv` and `ConvTranspose` against the oracle's matrix, their transposes, new kernels and engines."""

import gc
import weakref

import numpy as np
import oracle
import pytest
from hypothesis import given
from numpy.testing import assert_allclose, assert_array_equal
from operator_cases import case_operator, random_integers
from strategies import cases

import convop
from convop import Conv, ConvFilter, ConvTranspose, kernel2matrix
from convop.testing import dottest


@given(cases())
def test_operator_equals_the_oracles_matrix(case):
    """Forward, `.T`, `.H` and their compositions, vectors and batches, in the operator's dtype, exactly."""
    dense, output_shape = oracle.dense_matrix(case.kernel, case.input_shape, flip=case.flip, **case.parameters)
    A, rng = case_operator(case), np.random.default_rng(0)
    assert (A.dims, A.dimsd, A.shape) == (case.input_shape, output_shape, dense.shape)
    for op, matrix in (
        (A, dense),
        (A.T, dense.T),
        (A.H, dense.conj().T),
        (A.T.T, dense),
        (A.H.H, dense),
        (A.H.T, dense.conj()),
        (A.T.H, dense.conj()),
        (A.conj(), dense.conj()),
    ):
        assert op.shape == matrix.shape
        x, X = (random_integers(rng, (matrix.shape[1], *p), A.dtype) for p in ((), (3,)))
        y, Y = (random_integers(rng, (matrix.shape[0], *p), A.dtype) for p in ((), (3,)))
        assert_array_equal(op @ x, matrix @ x, strict=True)
        assert_array_equal(op @ X, matrix @ X, strict=True)
        assert_array_equal(op.rmatvec(y), matrix.conj().T @ y, strict=True)
        assert_array_equal(op.rmatmat(Y), matrix.conj().T @ Y, strict=True)
        assert_array_equal(op @ x.reshape(op.dims), (matrix @ x).reshape(op.dimsd), strict=True)
        assert_array_equal(op @ X.reshape(*op.dims, 3), (matrix @ X).reshape(*op.dimsd, 3), strict=True)
        assert_array_equal(op.todense(), matrix, strict=True)
        stored = op.tosparse()
        stored.check_format(full_check=True)
        assert stored.has_canonical_format
        assert stored.nnz == A.spec.nnz


@given(cases())
def test_types_and_equality_of_transposes(case):
    A = case_operator(case)
    assert type(A.T) is type(A.H) is ConvTranspose
    assert type(A.T.T) is type(A.H.H) is Conv
    assert A.T.T == A == A.H.H
    again = ConvTranspose(case.kernel, A.dimsd, output_shape=A.dims, flip=case.flip, **case.parameters)
    assert again == A.T
    assert hash(again) == hash(A.T)
    assert A.T != A
    assert A.with_kernel(A.kernel + 1) != A
    flipped = Conv(np.flip(case.kernel, tuple(range(-A.spec.ndim, 0))), A.dims, flip=not case.flip, **case.parameters)
    assert flipped == A


def test_with_kernel_shares_the_structure_of_the_matrix():
    rng = np.random.default_rng(0)
    A = Conv(rng.standard_normal((3, 3)), (12, 12), padding=1, engine="csr")
    A @ np.ones(144)
    B = A.with_kernel(1j * rng.standard_normal((3, 3)))
    assert isinstance(B, Conv)
    assert B.spec is A.spec
    assert B.dtype == np.complex128
    assert np.shares_memory(A._engine.matrix.indices, B._engine.matrix.indices)
    assert_array_equal(B.todense(), kernel2matrix(B.kernel, (12, 12), padding=1).toarray())
    assert_allclose(B @ np.ones(144), B.todense() @ np.ones(144))
    assert_allclose(A.T.with_kernel(B.kernel) @ np.ones(144), B.todense().T @ np.ones(144))
    with pytest.raises(ValueError, match=r"kernel must keep the shape \(3, 3\), got \(3, 4\)"):
        A.with_kernel(np.ones((3, 4)))


def test_with_kernel_releases_the_old_matrix():
    A = Conv(np.ones(5), 4000, engine="csr")
    A @ np.ones(4000)
    matrix = weakref.ref(A._engine.matrix)
    B = A.with_kernel(np.arange(5.0))
    del A
    gc.collect()
    assert matrix() is None
    assert_array_equal(B @ np.ones(4000), np.full(3996, 10.0))


def test_transposes_share_the_engine():
    """A complex `.T` has conjugate taps, and therefore another engine."""
    real = Conv(np.ones((2, 2)), (3, 3))
    assert real.T._engine is real.H._engine is real.T.T._engine is real._engine
    complex_ = Conv(np.ones((2, 2)) * 1j, (3, 3))
    assert complex_.H._engine is complex_.H.H._engine is complex_._engine


def test_engines_are_chosen_by_name():
    assert "csr" in convop.engines.available()
    for name in ("auto", "measure", *convop.engines.available()):
        assert Conv([1, 2], 4, engine=name).engine in convop.engines.available()
    for construct in (lambda: Conv([1, 2], 4, engine="gpu"), lambda: ConvFilter([1, 2], 1, engine="gpu")):
        with pytest.raises(ValueError, match=r"engine must be one of .*; got 'gpu'"):
            construct()


def test_output_shape_with_padding_that_crops_everything_raises():
    with pytest.raises(ValueError, match="the padding crops all of the output away, so no output_shape fits"):
        ConvTranspose(np.ones((2, 2)), (3, 3), padding=5, output_shape=(1, 1))


def test_output_padding_may_exceed_the_stride():
    """As in PyTorch, it has to be smaller than the stride or the dilation. The extra outputs receive nothing."""
    K = np.array([1.0, 2.0, 3.0])
    short = ConvTranspose(K, 4, dilation=3)
    longer = ConvTranspose(K, 4, dilation=3, output_padding=2)
    assert longer.dimsd == (short.dimsd[0] + 2,)
    assert_array_equal(longer @ np.ones(4), [*(short @ np.ones(4)), 0, 0])
    dottest(longer)
