"""im2col and the kernel's gradient, against NumPy."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from convop import ConvSpec
from convop.engines.cpu.components import read_only
from convop.engines.cpu.filters import DirectFilter, residual_reading
from convop.engines.cpu.planes import Geometry
from convop.engines.cpu.tiling import tap_offsets
from convop.engines.kernels.gradient import gradient, im2col
from convop.engines.kernels.microkernels import DOT_TILES
from convop.engines.kernels.records import GradientPlan


def integers(rng, shape, dtype="float64"):
    return rng.integers(-9, 10, shape).astype(dtype)


def test_im2col_copies_the_run_of_each_offset():
    planes = np.arange(10.0)
    matrix = np.full((3, 4), -1.0)
    im2col(planes, np.array([0, 5, 1]), matrix)
    assert matrix.tolist() == [[0, 1, 2, 3], [5, 6, 7, 8], [1, 2, 3, 4]]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_im2col_of_a_padded_image_is_a_matrix_product(dtype):
    """3 x 3 taps on a 5 x 6 image: rows are taps, and columns the flat run of results."""
    x, w = integers(np.random.default_rng(0), (5, 6), dtype), integers(np.random.default_rng(1), (3, 3), dtype)
    offsets = (6 * np.arange(3)[:, None] + np.arange(3)).ravel()
    matrix = np.zeros((9, 2 * 6 + 4), dtype)
    im2col(x.ravel(), offsets, matrix)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3))
    results = np.concatenate([w.ravel() @ matrix, [0, 0]]).reshape(3, 6)[:, :4]
    assert_array_equal(results, np.einsum("ijab,ab->ij", windows, w))


def gradients(spec, x, y, outer, columns, dtype):
    """Returns what `gradient` adds to zeros for all blocks of so many rows and columns: (batch, group, plane, tap)."""
    geometry = Geometry(spec, False, np.dtype(dtype))
    first, last = geometry.plan.axes[0], geometry.plan.axes[-1]
    row = columns + last.halo
    layout = geometry.layout((outer + first.halo) * geometry.plan.rows_per_index * row + 40, row)
    (taps,) = geometry.phases
    offsets = tap_offsets(geometry.plan, taps, geometry.read, layout.plane_stride, row)
    plan = GradientPlan(
        tiling=geometry.tiling(outer, columns),
        reading=geometry.reading,
        residual=residual_reading(geometry),
        layout=layout,
        offsets=np.concatenate([offsets, np.full(max(DOT_TILES.values()), offsets[-1])]),
        tap_count=len(offsets),
    )
    blocks = -(-first.output_size // outer) * -(-last.output_size // columns) * spec.groups
    sums = np.zeros((len(y), spec.groups, geometry.written_planes, len(plan.offsets)), dtype)
    workspaces = np.full((geometry.read_planes + 1) * layout.plane_stride, np.nan, dtype)
    residuals = np.full(geometry.written_planes * layout.plane_stride, np.nan, dtype)
    source, residual = read_only(x.ravel()), read_only(y.ravel())
    half = blocks // 2
    for items in ((0, half), (half, blocks)):
        gradient(items, plan, source, residual, workspaces, residuals, sums)
    return sums[..., : len(offsets)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("outputs", [1, 2, 3, 4, 7])
@pytest.mark.parametrize(("outer", "columns"), [(7, 30), (2, 30), (3, 11), (1, 1)])
def test_gradient_equals_einsum(outer, columns, outputs, dtype):
    """K[o, c, a, b] = sum_ij x[c, i + a, j + b] y[o, i, j], for every number of planes and for blocks of any size."""
    rng = np.random.default_rng(0)
    x, y = integers(rng, (2, 9, 32), dtype), integers(rng, (2, outputs, 7, 30), dtype)
    spec = ConvSpec((2, 9, 32), (outputs, 2, 3, 3))
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))
    expected = np.einsum("cijab,poij->pocab", windows, y).reshape(2, 1, outputs, 18)
    assert_array_equal(gradients(spec, x, y, outer, columns, dtype), expected)


@pytest.mark.parametrize("outputs", [1, 2, 4])
@pytest.mark.parametrize("taps", range(1, 10))
def test_gradient_of_any_number_of_taps_equals_einsum(taps, outputs):
    """Dot tiles take 8, 4 or 3 taps at a time; the last tile of a row may be partly of taps that do not count."""
    rng = np.random.default_rng(0)
    x, y = integers(rng, 20 + taps - 1), integers(rng, (1, outputs, 20))
    windows = np.lib.stride_tricks.sliding_window_view(x, taps)
    expected = np.einsum("it,poi->pot", windows, y).reshape(1, 1, outputs, taps)
    spec = ConvSpec((1, len(x)), (outputs, 1, taps))
    assert_array_equal(gradients(spec, x, y, 1, 20, "float64"), expected)


def test_gradient_of_groups_strides_and_padding_equals_einsum():
    """Two groups, stride 2, padding 1: x is padded by hand."""
    rng = np.random.default_rng(0)
    x, y = integers(rng, (4, 8, 9)), integers(rng, (3, 6, 4, 5))
    spec = ConvSpec((4, 8, 9), (6, 2, 3, 3), stride=2, padding=1, groups=2)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1))).reshape(2, 2, 10, 11)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))[:, :, ::2, ::2]
    expected = np.einsum("gcijab,pgoij->pgocab", windows, y.reshape(3, 2, 3, 4, 5)).reshape(3, 2, 3, 18)
    got = gradients(spec, x, y, 2, 3, "float64")
    assert_array_equal(got, expected)


def test_gradient_of_long_runs_equals_einsum():
    """Runs beyond 512 elements are summed piece by piece."""
    rng = np.random.default_rng(0)
    x, y = integers(rng, 1502), integers(rng, (1, 1, 1500))
    expected = np.array([x[t : t + 1500] @ y[0, 0] for t in range(3)])
    assert_array_equal(gradients(ConvSpec(1502, 3), x, y, 1, 1500, "float64").ravel(), expected)
    assert_array_equal(DirectFilter(ConvSpec(1502, 3), x).adjoint(y.ravel()), expected)


def test_gradient_keeps_nan_to_the_taps_that_read_it():
    """Element 0 is read by tap 0 alone, and element 1 by taps 0 and 1."""
    x = np.ones(50)
    for element, taps in ((0, [True, False, False]), (1, [True, True, False]), (49, [False, False, True])):
        changed = x.copy()
        changed[element] = np.nan
        got = gradients(ConvSpec(50, 3), changed, np.ones((1, 1, 48)), 1, 10, "float64").ravel()
        assert np.isnan(got).tolist() == taps
