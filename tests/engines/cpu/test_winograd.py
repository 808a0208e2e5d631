"""The winograd engine: every transform against the oracle, cuts, errors, what a NaN reaches, and memory."""

from dataclasses import replace

import numpy as np
import oracle
import pytest
import strategies
from engine_cases import assert_close, integers, tolerance, with_results
from hypothesis import given
from hypothesis import strategies as st

import convop
from convop import Conv, ConvSpec
from convop.engines import make
from convop.engines.cpu.toom_cook import MOST_MULTIPLICATIONS
from convop.engines.cpu.tuning import Tuning
from convop.engines.cpu.winograd import WinogradEngine, WinogradGeometry, WinogradProblem, winograd_cut

DOUBLE = np.dtype(float)
RESULTS = Tuning.packaged().winograd.results


@pytest.mark.parametrize("results", RESULTS)
@given(case=strategies.cases(), seed=st.integers(0, 2**32 - 1))
def test_every_number_of_results_equals_oracle_matrix(results, case, seed):
    matrix, _ = oracle.dense_matrix(case.kernel, case.input_shape, flip=False, **case.parameters)
    spec = ConvSpec(case.input_shape, case.kernel.shape, **case.parameters)
    engine = WinogradEngine(spec, case.kernel, with_results(results))
    rng = np.random.default_rng(seed)
    for some, dense in ((engine, matrix), (engine.with_kernel(case.kernel.conj()), matrix.conj())):
        for apply, m in ((some.forward, dense), (some.adjoint, dense.conj().T)):
            x = integers(rng, (m.shape[1], 2), case.kernel.dtype)
            assert_close(apply(x), m @ x, tolerance("winograd", case.kernel.dtype))


@pytest.mark.parametrize("taps", [2, 3, 4, 5, 6, 7, 8, 9, 16, 31])
@pytest.mark.parametrize("results", RESULTS)
@pytest.mark.parametrize("adjoint", [False, True])
def test_kernels_of_many_taps_are_cut_into_parts(taps, results, adjoint):
    spec = ConvSpec((2, 70, 9), (3, 2, taps, 2), padding=1)
    kernel = np.random.default_rng(0).standard_normal(spec.kernel_shape)
    engine, direct = WinogradEngine(spec, kernel, with_results(results)), make("direct", spec, kernel)
    v = np.random.default_rng(1).standard_normal(spec.shape[not adjoint])
    got, expected = (e.adjoint(v) if adjoint else e.forward(v) for e in (engine, direct))
    assert_close(got, expected, 1e-13)


def test_transforms_take_all_taps_or_as_many_as_results():
    def transforms(taps):
        problem = WinogradProblem.of(ConvSpec((4, 60, 60), (4, 4, taps, 3)), False, DOUBLE)
        return problem.transforms(Tuning.packaged())

    assert transforms(1) == [(m, 1) for m in RESULTS]
    assert transforms(3) == [(1, 1), (1, 3), (2, 2), (2, 3), (3, 3), (4, 3), (5, 3), (6, 3)]
    assert transforms(31) == [(1, 1), (2, 2), (3, 3), (4, 4)]
    assert all(m + r - 1 <= MOST_MULTIPLICATIONS for taps in range(1, 40) for m, r in transforms(taps))


@given(case=strategies.cases(), adjoint=st.booleans())
def test_problem_of_a_spec_has_the_sizes_of_its_geometry(case, adjoint):
    """Costs are predicted from the spec alone, without the tables of a plan."""
    spec = ConvSpec(case.input_shape, case.kernel.shape, **case.parameters)
    problem = WinogradProblem.of(spec, adjoint, case.kernel.dtype)
    geometry = WinogradGeometry(spec, adjoint, case.kernel.dtype, Tuning.packaged())
    plan = geometry.plan
    first, last = plan.axes[0], plan.axes[-1]
    assert (problem.outer_size, problem.outer_halo) == (first.output_size, first.halo)
    assert (problem.row_size, problem.row_halo) == (last.output_size, last.halo)
    assert (problem.read_rows, problem.result_rows) == (plan.rows_per_index, len(plan.row_offsets))
    assert problem.read == geometry.read_planes
    assert problem.written == geometry.written_planes * len(geometry.phases)
    parts = len({(phase, shift // geometry.cut.taps) for phase, shift in problem.shifts})
    weights = sum(len(offsets) for offsets in geometry.offsets) * geometry.written_planes
    assert problem.entries * parts == weights


def test_cut_saves_multiplications_where_there_are_many_channels():
    few, many = ConvSpec((100, 100), (3, 3)), ConvSpec((64, 56, 56), (64, 64, 3, 3), padding=1)
    tuning = Tuning.packaged()
    assert winograd_cut(few, False, DOUBLE, tuning).results <= 2
    for adjoint in (False, True):
        cut = winograd_cut(many, adjoint, DOUBLE, tuning)
        assert (cut.results, cut.taps) in {(4, 3), (5, 3), (6, 3)}


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("results", RESULTS)
def test_nan_and_infinity_stay_in_rows_of_tiles_that_read_them(results, value):
    spec = ConvSpec((40, 30), (3, 4), padding=1)
    kernel = np.random.default_rng(0).standard_normal((3, 4))
    engine, matrix = WinogradEngine(spec, kernel, with_results(results)), make("csr", spec, kernel)
    for apply, exact, size in ((engine.forward, matrix.forward, 1), (engine.adjoint, matrix.adjoint, 0)):
        x = np.ones(spec.shape[size])
        x[615] = value
        got, expected = (np.isfinite(f(x)) for f in (apply, exact))
        assert not (got & ~expected).any()
        rows = np.flatnonzero(~got.reshape(-1, 29 if size else 30).all(axis=1))
        assert 0 < np.ptp(rows) + 1 <= 2 * results + 3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_errors_are_at_most_those_of_the_direct_sum_times_the_amplification(dtype):
    spec = ConvSpec((32, 40, 40), (32, 32, 3, 3), padding=1)
    rng = np.random.default_rng(0)
    kernel, x = rng.standard_normal(spec.kernel_shape).astype(dtype), rng.standard_normal(spec.shape[1]).astype(dtype)
    wide = np.longdouble if dtype == "float64" else np.float64
    exact = exact_product(kernel.astype(wide), x.reshape(spec.input_shape).astype(wide))

    def error(engine):
        return float(np.sqrt(((engine.forward(x).reshape(exact.shape) - exact) ** 2).mean()))

    direct = error(make("direct", spec, kernel))
    for results in RESULTS:
        engine = WinogradEngine(spec, kernel, with_results(results))
        amplification = engine._build_geometry(False, np.dtype(dtype)).transform.amplification
        assert error(engine) <= 1.5 * amplification * direct


def exact_product(kernel, x):
    """Returns the convolution with padding 1, tap by tap in the dtype of its arguments."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    rows, columns = x.shape[1:]
    y = np.zeros((len(kernel), rows, columns), kernel.dtype)
    for i in range(3):
        for j in range(3):
            window = padded[:, i : i + rows, j : j + columns].reshape(len(x), -1)
            y += (kernel[:, :, i, j] @ window).reshape(y.shape)
    return y


def test_dottest_passes_in_single_precision_with_many_channels():
    kernel = np.random.default_rng(0).standard_normal((32, 48, 3, 3)).astype("float32")
    A = Conv(kernel, (48, 30, 31), padding=1, padding_mode="reflect", engine="winograd")
    assert convop.testing.dottest(A)
    assert convop.testing.dottest(A.T)


def test_transformed_kernel_that_does_not_fit_is_refused(monkeypatch):
    monkeypatch.setattr(convop.arrays.memory, "available", lambda: 10**6)
    A = Conv(np.ones((200, 200, 3, 3)), (200, 20, 20), engine="winograd")
    with pytest.raises(MemoryError, match=r"the transformed kernel of ConvSpec.*engine 'winograd'.* only 976.6 KiB"):
        A @ np.ones(A.dims)


def test_blocks_have_nearly_the_same_number_of_rows():
    problem = WinogradProblem.of(ConvSpec((8, 100, 40), (8, 8, 3, 3), padding=1), False, DOUBLE)
    tuning = Tuning.packaged()
    rows = replace(tuning, winograd=replace(tuning.winograd, tile_rows=(8,)))
    assert problem.tile_rows(4, rows) == [7]  # 25 rows of tiles in 4 blocks: not 8 + 8 + 8 + 1
