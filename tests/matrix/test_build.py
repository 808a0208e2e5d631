import tracemalloc
import warnings

import numpy as np
import oracle
import pytest
import scipy.sparse as sp
from hypothesis import example, given
from matrix_cases import assert_canonical
from numpy.testing import assert_array_equal
from strategies import DTYPES, Case, cases

import convop
from convop import ConvSpec, kernel2matrix
from convop.arrays import memory
from convop.matrix import build as building
from convop.matrix import builders


@pytest.fixture(params=["small", "compiled"])
def builder(request, monkeypatch):
    """Force one of the two builders on every size."""
    monkeypatch.setattr(builders, "SMALL", 2**62 if request.param == "small" else -1)
    return request.param


def build(builder, case):
    kept = builders.SMALL
    builders.SMALL = 2**62 if builder == "small" else -1
    try:
        return kernel2matrix(case.kernel, case.input_shape, flip=case.flip, **case.parameters)
    finally:
        builders.SMALL = kept


FIXED = [
    Case((3,), np.array([1.0, 2.0]), {"padding": ((0, 1),), "padding_mode": "circular"}, False),
    Case((1, 5), np.ones((1, 3)), {"padding": "same", "padding_mode": "reflect"}, True),
    Case((2, 1), np.arange(30.0).reshape(3, 2, 5), {"padding": 4, "padding_mode": "symmetric"}, False),
    Case((2,), np.arange(1.0, 8.0), {"padding": 9, "dilation": 2, "padding_mode": "reflect"}, False),
    Case((3,), np.ones(2), {"padding": ((40, -3),), "stride": 7}, False),
    Case((2, 1), np.ones((2, 1)), {"padding": (0, (1, -1))}, False),
]


@pytest.mark.parametrize("builder", ["small", "compiled"])
@given(case=cases())
@example(case=FIXED[0])
@example(case=FIXED[1])
@example(case=FIXED[2])
@example(case=FIXED[3])
@example(case=FIXED[4])
@example(case=FIXED[5])
def test_matrix_agrees_with_oracle(builder, case):
    """Integers in floating point: every sum is exact, whatever its order."""
    dense, output_shape = oracle.dense_matrix(case.kernel, case.input_shape, flip=case.flip, **case.parameters)
    spec = ConvSpec(case.input_shape, case.kernel.shape, **case.parameters)
    built = build(builder, case)
    assert spec.output_shape == output_shape
    assert built.shape == spec.shape == dense.shape
    assert built.dtype == case.kernel.dtype
    assert built.indices.dtype == built.indptr.dtype == np.int32
    assert_canonical(built)
    assert_array_equal(built.toarray(), dense)
    # the structure depends on the geometry alone: zeros of the kernel are stored
    structure = oracle.structure(case.input_shape, case.kernel.shape, **case.parameters)
    assert built.nnz == spec.nnz == structure.sum()
    row, column = built.tocoo().coords
    assert structure[row, column].all()
    assert spec.matrix_nbytes(built.dtype) == sum(a.nbytes for a in (built.data, built.indices, built.indptr))


def test_large_indices_are_int64(builder, monkeypatch):
    """As if 2**31 were 100: the limit itself would need 24 GiB."""
    monkeypatch.setattr(ConvSpec, "index_dtype", np.dtype(np.int64))
    built = kernel2matrix(np.arange(1.0, 10.0).reshape(3, 3), (9, 8), padding=1)
    assert built.indices.dtype == built.indptr.dtype == np.int64
    assert_canonical(built)
    assert_array_equal(built.toarray(), oracle.dense_matrix(np.arange(1.0, 10.0).reshape(3, 3), (9, 8), padding=1)[0])


@pytest.mark.parametrize(
    ("input_shape", "kernel_shape", "expected"),
    [
        ((2**31 - 1,), (1,), np.int32),
        ((2**31,), (1,), np.int64),
        ((2**15, 2**15), (3, 1), np.int64),
        ((2**15, 2**14), (2, 2), np.int32),
    ],
)
def test_index_dtype_changes_at_2_31(input_shape, kernel_shape, expected):
    spec = ConvSpec(input_shape, kernel_shape)
    assert spec.index_dtype == expected
    assert (max(spec.nnz, *spec.shape) < 2**31) == (expected == np.int32)


@pytest.mark.parametrize("format", ["csr", "csc", "coo", "bsr", "dia", "lil", "dok"])
def test_every_format_holds_the_same_matrix(format):
    kernel = np.random.default_rng(0).standard_normal((12, 11))  # more diagonals than SciPy likes to see
    built = kernel2matrix(kernel, (14, 15), padding=3, format=format)
    assert built.format == format
    assert_array_equal(built.toarray(), kernel2matrix(kernel, (14, 15), padding=3).toarray())


@pytest.mark.parametrize(
    ("given_dtype", "expected"),
    [
        *((d, d) for d in DTYPES),
        ("bool", "float64"),
        ("uint8", "float64"),
        ("int64", "float64"),
        ("float16", "float32"),
        (">f4", "float32"),
    ],
)
def test_dtype_of_kernel_decides_dtype_of_matrix(given_dtype, expected):
    kernel = np.ones((2, 2), dtype=given_dtype)
    assert kernel2matrix(kernel, (3, 3)).dtype == np.dtype(expected)


def test_integer_kernel_does_not_overflow():
    image = np.full((3, 3), 200, dtype=np.uint8)
    assert (kernel2matrix(np.full((1, 1), 200, dtype=np.uint8), (3, 3)) @ image.ravel() == 40000).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtype_argument_decides_dtype_of_matrix(dtype):
    assert kernel2matrix([[1, 2], [3, 4]], (3, 3), dtype=dtype).dtype == dtype


@pytest.mark.parametrize(
    ("kernel", "dtype", "message"),
    [
        (np.ones(2, dtype="longdouble"), None, "kernel must hold real or complex numbers up to double precision"),
        (np.ones(2, dtype=complex), "float64", "would drop the imaginary part"),
        (np.ones(2), "int32", "dtype must be one of float32, float64, complex64, complex128"),
        (np.array(["a", "b"]), None, "kernel must be an array of numbers, got ndarray"),
        ([[1, 2], [3]], None, "kernel must be a regular array of numbers"),
        (np.array([None, 1]), None, "kernel must be an array of numbers"),
        (sp.eye_array(3), None, "kernel must be an array of numbers"),
        (np.ma.masked_array([1.0, 2.0], mask=[0, 1]), None, "masked"),
    ],
)
def test_kernel_of_unsupported_type_is_refused(kernel, dtype, message):
    with pytest.raises(TypeError, match=message):
        kernel2matrix(kernel, (3,), dtype=dtype)


@pytest.mark.parametrize("kernel", [5.0, np.zeros(0), np.zeros((2, 0))])
def test_empty_kernel_is_refused(kernel):
    with pytest.raises(ValueError, match="kernel must have at least one axis and one element"):
        kernel2matrix(kernel, (3, 3))


def test_unknown_format_is_refused():
    with pytest.raises(ValueError, match="format must be one of csr, csc, coo, bsr, dia, lil, dok; got 'xyz'"):
        kernel2matrix([1], 3, format="xyz")


@pytest.mark.parametrize(
    ("input_shape", "kernel", "parameters"),
    [
        ((2**20, 2**20), np.ones((7, 7)), {"padding": 3}),
        ((2**40,), np.ones(3), {"padding_mode": "circular"}),
        ((5,), np.ones(3), {"padding": 2**45, "padding_mode": "reflect"}),
        ((5,), np.ones(3), {"padding": 2**45}),
    ],
)
def test_too_large_is_refused_before_anything_is_allocated(input_shape, kernel, parameters):
    tracemalloc.start()
    try:
        with pytest.raises(MemoryError, match=r"takes [\d.e+]+ [KMGTP]iB, but only .* of memory is free"):
            kernel2matrix(kernel, input_shape, **parameters)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 50 * 2**20  # rows are counted a million at a time


def test_memory_is_checked_for_the_format(monkeypatch):
    """A diagonal format can be far larger than CSR: 300 diagonals of 10^4 columns."""
    monkeypatch.setattr(memory, "available", lambda: 2**24)
    kernel = np.ones((20, 20))
    assert kernel2matrix(kernel, (100, 100), stride=7).nnz == 57600
    with pytest.raises(MemoryError, match="format 'dia'"):
        kernel2matrix(kernel, (100, 100), stride=7, format="dia")


def test_zeros_of_kernel_are_stored(builder):
    built = kernel2matrix([[0, 1], [2, 3]], (3, 3))
    assert built.nnz == 16
    assert np.count_nonzero(built.data) == 12


def test_kernel_is_neither_changed_nor_shared(builder):
    kernel = np.arange(4.0).reshape(2, 2)
    before = kernel.copy()
    built = kernel2matrix(kernel, (4, 4), flip=True)
    built.data[:] = -1
    assert_array_equal(kernel, before)


def test_with_values_shares_structure(builder):
    spec = ConvSpec((20, 21), (3, 4), padding=3, padding_mode="reflect")
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((2, 3, 4))
    old = building.build(spec, first)
    new = building.with_values(spec, second.astype(np.complex64), old.indices, old.indptr)
    assert np.shares_memory(new.indices, old.indices)
    assert np.shares_memory(new.indptr, old.indptr)
    assert new.dtype == np.complex64
    assert_canonical(new)
    assert_array_equal(new.toarray(), building.build(spec, second.astype(np.complex64)).toarray())


def test_kernel2matrix_is_exported():
    assert convop.kernel2matrix is building.kernel2matrix


def test_no_format_warns():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for format in building.FORMATS:
            assert kernel2matrix(np.ones((3, 3)), (30, 30), padding="full", format=format).nnz >= 8100


@pytest.mark.parametrize(
    ("input_shape", "kernel_shape", "parameters"),
    [
        ((7, 6, 1), (3, 2, 1), {}),
        ((1, 7, 1, 6), (1, 3, 1, 2), {"stride": (3, 1, 5, 2), "padding_mode": "reflect", "padding": (0, 1, 0, 2)}),
        ((4, 1, 9, 1), (6, 2, 1, 3, 1), {"groups": 2}),
        ((1, 1), (1, 1), {}),
        ((3, 1), (2, 3, 1), {}),
    ],
)
def test_unit_axes_do_not_change_matrix(input_shape, kernel_shape, parameters, builder):
    kernel = np.arange(1.0, np.prod(kernel_shape) + 1).reshape(kernel_shape)
    dense, _ = oracle.dense_matrix(kernel, input_shape, **parameters)
    built = kernel2matrix(kernel, input_shape, **parameters)
    assert_canonical(built)
    assert_array_equal(built.toarray(), dense)


@pytest.mark.parametrize("input_shape", [(2**40, 2**40), (2**61, 2**61, 2**61)])
def test_shape_beyond_64_bits_is_refused(input_shape):
    with pytest.raises(ValueError, match="beyond 64-bit indices"):
        kernel2matrix(np.ones((1,) * len(input_shape)), input_shape, stride=2**39)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"format": np.array(["csr", "csc"])}, ValueError, "format must be one of"),
        ({"padding_mode": np.array(["zeros"])}, ValueError, "padding_mode must be one of"),
        ({"flip": "no"}, TypeError, "flip must be True or False, got 'no'"),
        (
            {"dtype": "nonsense"},
            TypeError,
            "dtype must be one of float32, float64, complex64, complex128; got 'nonsense'",
        ),
        ({"dtype": object()}, TypeError, "dtype must be one of"),
        ({"dtype": "f4,(2"}, TypeError, "dtype must be one of"),
    ],
)
def test_argument_of_wrong_value_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        kernel2matrix([1.0, 2.0], 5, **arguments)


def test_array_that_cannot_be_converted_is_refused():
    class Tensor:
        def __array__(self, dtype=None, copy=None):
            raise RuntimeError("can't call numpy() on a tensor that requires grad")

    with pytest.raises(TypeError, match="kernel must be a regular array of numbers: can't call numpy"):
        kernel2matrix(Tensor(), 5)


@pytest.mark.parametrize("wrong", ["unflipped", "transposed axes", "no merge", "shifted"])
def test_comparison_with_oracle_fails_for_wrong_builder(wrong):
    """Matrices as a wrong builder would make them differ from the oracle's."""
    kernel = np.arange(1.0, 7.0).reshape(2, 3)
    parameters = {"padding": 2, "padding_mode": "reflect"}
    dense, _ = oracle.dense_matrix(kernel, (4, 5), **parameters)
    made = {
        "unflipped": lambda: kernel2matrix(np.flip(kernel), (4, 5), **parameters),
        "transposed axes": lambda: kernel2matrix(kernel.reshape(3, 2).T, (4, 5), **parameters),
        "no merge": lambda: kernel2matrix(kernel, (4, 5), **{**parameters, "padding_mode": "zeros"}),
        "shifted": lambda: kernel2matrix(kernel, (4, 5), padding=((1, 3), 2), padding_mode="reflect"),
    }[wrong]()
    assert made.shape == dense.shape
    assert not np.array_equal(made.toarray(), dense)
