import tracemalloc
import warnings

import numpy as np
import oracle
import pytest
import scipy.sparse as sp
from hypothesis import example, given
from numpy.testing import assert_array_equal
from strategies import DTYPES, MODES, Case, cases

import convop
from convop import ConvSpec, kernel2matrix
from convop.arrays import memory
from convop.matrix import build as building
from convop.matrix import builders


def assert_canonical(built):
    """Sorted indices, each entry once, and SciPy told so; checked by SciPy anew, not by the flags."""
    assert built.has_canonical_format
    assert built.has_sorted_indices
    fresh = sp.csr_array((built.data, built.indices, built.indptr), shape=built.shape)
    fresh.check_format(full_check=True)
    assert fresh.has_canonical_format


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
def test_matrix_is_the_oracles(builder, case):
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


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("input_shape", "kernel_shape", "parameters"),
    [
        ((150, 140), (7, 6), {"padding": "same"}),
        ((70_000,), (5,), {"padding": ((3, 9),), "stride": 2}),
        ((30, 29, 28), (3, 4, 5), {"padding": (2, 0, 3), "dilation": (2, 1, 3)}),
        ((6, 40, 41), (9, 2, 3, 4), {"padding": "full", "groups": 3}),
        ((300, 2), (3, 2), {"padding": ((50, 70), 3)}),
        ((4, 3, 5), (4, 4, 9, 11), {"padding": "same"}),
    ],
)
def test_builders_agree_at_size(mode, input_shape, kernel_shape, parameters, monkeypatch):
    """Beyond the oracle's reach: two builders that share no code but the tables give the same arrays."""
    kernel = np.random.default_rng(0).standard_normal(kernel_shape)
    built = []
    for limit in (2**62, -1):
        monkeypatch.setattr(builders, "SMALL", limit)
        built.append(kernel2matrix(kernel, input_shape, padding_mode=mode, **parameters))
    assert_canonical(built[1])
    for name in ("indptr", "indices", "data"):
        assert_array_equal(getattr(built[0], name), getattr(built[1], name))


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_blocks_of_any_size_give_the_same_matrix(threads, monkeypatch):
    kernel = np.random.default_rng(0).standard_normal((4, 2, 3, 3))
    arguments = {"padding": 1, "groups": 2, "padding_mode": "circular"}
    monkeypatch.setattr(builders, "SMALL", -1)
    expected = kernel2matrix(kernel, (4, 37, 31), **arguments)
    monkeypatch.setattr(builders, "thread_count", lambda: threads)
    monkeypatch.setattr(builders, "_BLOCKS_PER_WORKER", 13)
    assert (kernel2matrix(kernel, (4, 37, 31), **arguments) != expected).nnz == 0


def test_int64_indices_where_int32_do_not_reach(builder, monkeypatch):
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
def test_index_dtype_at_the_boundary(input_shape, kernel_shape, expected):
    spec = ConvSpec(input_shape, kernel_shape)
    assert spec.index_dtype == expected
    assert (max(spec.nnz, *spec.shape) < 2**31) == (expected == np.int32)


@pytest.mark.parametrize("format", ["csr", "csc", "coo", "bsr", "dia", "lil", "dok"])
def test_formats(format):
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
def test_dtypes_kept(given_dtype, expected):
    kernel = np.ones((2, 2), dtype=given_dtype)
    assert kernel2matrix(kernel, (3, 3)).dtype == np.dtype(expected)


def test_integers_never_wrap():
    image = np.full((3, 3), 200, dtype=np.uint8)
    assert (kernel2matrix(np.full((1, 1), 200, dtype=np.uint8), (3, 3)) @ image.ravel() == 40000).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtype_overrides(dtype):
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
def test_kernels_refused(kernel, dtype, message):
    with pytest.raises(TypeError, match=message):
        kernel2matrix(kernel, (3,), dtype=dtype)


@pytest.mark.parametrize("kernel", [5.0, np.zeros(0), np.zeros((2, 0))])
def test_empty_kernels_refused(kernel):
    with pytest.raises(ValueError, match="kernel must have at least one axis and one element"):
        kernel2matrix(kernel, (3, 3))


def test_unknown_format_refused():
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


def test_zeros_of_the_kernel_are_stored(builder):
    built = kernel2matrix([[0, 1], [2, 3]], (3, 3))
    assert built.nnz == 16
    assert np.count_nonzero(built.data) == 12


def test_inputs_are_not_changed_nor_held(builder):
    kernel = np.arange(4.0).reshape(2, 2)
    before = kernel.copy()
    built = kernel2matrix(kernel, (4, 4), flip=True)
    built.data[:] = -1
    assert_array_equal(kernel, before)


def test_new_values_share_the_structure(builder):
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


def test_package_function_is_the_modules():
    assert convop.kernel2matrix is building.kernel2matrix


def test_no_warning_for_any_format():
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
def test_unit_axes_change_nothing(input_shape, kernel_shape, parameters, builder):
    kernel = np.arange(1.0, np.prod(kernel_shape) + 1).reshape(kernel_shape)
    dense, _ = oracle.dense_matrix(kernel, input_shape, **parameters)
    built = kernel2matrix(kernel, input_shape, **parameters)
    assert_canonical(built)
    assert_array_equal(built.toarray(), dense)


def test_thirty_three_dimensions():
    """More than a broadcast over outputs and entries has axes for."""
    built = kernel2matrix(np.arange(1.0, 9).reshape((1,) * 30 + (2, 2, 2)), (2,) * 3 + (1,) * 27 + (3, 3, 3))
    expected = sp.kron(sp.eye_array(8), kernel2matrix(np.arange(1.0, 9).reshape(2, 2, 2), (3, 3, 3)))
    assert (built != expected).nnz == 0


def test_read_only_kernels_are_not_compiled_for_again():
    from convop.matrix import loops

    kernel = np.ones((9, 9))
    kernel2matrix(kernel, (150, 150))
    compiled = len(loops.fill_values.signatures)
    kernel.setflags(write=False)
    kernel2matrix(kernel, (150, 150))
    kernel2matrix(kernel[::-1], (150, 150), flip=True)
    assert len(loops.fill_values.signatures) == compiled


@pytest.mark.parametrize(
    ("input_shape", "kernel_shape", "parameters"),
    [
        (250, 250, {"padding": 10**6}),
        (1, 10001, {"padding": 10**6, "padding_mode": "replicate"}),
        (1000, 3, {"padding": 10**8}),
        (2000, 2000, {"padding": "full", "padding_mode": "reflect"}),
    ],
)
def test_tables_and_fillings_count_as_memory(input_shape, kernel_shape, parameters, monkeypatch):
    """A matrix may be small and what it is made from large: nothing beyond the free memory is touched."""
    free = 100 * 2**20
    monkeypatch.setattr(memory, "available", lambda: free)
    tracemalloc.start()
    message = "built"
    try:
        kernel2matrix(np.ones(kernel_shape), input_shape, **parameters)
    except MemoryError as error:
        message = str(error)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert message == "built" or message.endswith("of memory is free")  # ours, and not NumPy's after the fact
    assert peak < 1.2 * free


@pytest.mark.parametrize("input_shape", [(2**40, 2**40), (2**61, 2**61, 2**61)])
def test_shapes_beyond_64_bits_are_refused(input_shape):
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
def test_words_that_are_none(arguments, error, message):
    with pytest.raises(error, match=message):
        kernel2matrix([1.0, 2.0], 5, **arguments)


def test_arrays_of_other_libraries_that_refuse_are_named():
    class Tensor:
        def __array__(self, dtype=None, copy=None):
            raise RuntimeError("can't call numpy() on a tensor that requires grad")

    with pytest.raises(TypeError, match="kernel must be a regular array of numbers: can't call numpy"):
        kernel2matrix(Tensor(), 5)


@pytest.mark.parametrize("wrong", ["unflipped", "transposed axes", "no merge", "shifted"])
def test_the_comparison_catches_wrong_builders(wrong):
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
