"""Inference of several images: blocks that fit the memory, and groups of similar scale."""

import numpy as np
import pytest
from sparse_coding_cases import objective_of, photographs, unit_filters

from convop.deconvnet import sparse_codes
from convop.deconvnet.inference import _groups_by_scale
from convop.deconvnet.problem import WORKING_ARRAYS, Problem
from convop.deconvnet.synthesis import Synthesis


@pytest.mark.parametrize(
    ("solver", "p"),
    [
        ("admm", 1.0),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in (("fista", 1.0), ("hqs", 1.0), ("admm", 0.8))),
    ],
)
def test_images_are_solved_in_blocks_that_fit_memory(monkeypatch, solver, p):
    images, filters = photographs(5, 24), unit_filters((1, 4, 5, 5))
    images[3] = 0
    apart = [sparse_codes(filters, image[None], lam=5, p=p, solver=solver) for image in images]
    each = apart[0].maps.nbytes
    symbols = Synthesis(filters, (24, 24)).nbytes
    blocks = []
    select = Problem.select
    monkeypatch.setattr(Problem, "select", lambda self, block: blocks.append(block) or select(self, block))

    def solve_with_free(free):
        blocks.clear()
        monkeypatch.setattr("convop.deconvnet.inference.available", lambda: free)
        return sparse_codes(filters, images, lam=5, p=p, solver=solver)

    # One by one the codes are exactly those of single images; by twos they are within the tolerance.
    codes = solve_with_free(5 * each + symbols + 2 * WORKING_ARRAYS * each)
    assert len(blocks) == 5
    np.testing.assert_array_equal(codes.maps, np.concatenate([code.maps for code in apart]))
    np.testing.assert_array_equal(codes.gap, np.concatenate([code.gap for code in apart]))
    assert codes.iterations == max(code.iterations for code in apart)
    codes = solve_with_free(5 * each + symbols + 4 * WORKING_ARRAYS * each)
    assert [block.start for block in blocks] == [0, 2, 0]  # the image of zeros is a group of its own
    np.testing.assert_allclose(
        codes.objective, np.concatenate([code.objective for code in apart]), rtol=3e-2 if p < 1 else 2e-3
    )
    np.testing.assert_allclose(codes.objective, objective_of(filters, codes.maps, images, 5, p), rtol=1e-9)
    for free in (None, 10**12):
        solve_with_free(free)
        assert len(blocks) == 2
    with pytest.raises(
        MemoryError, match=r"finding the maps of 4 images, 4 x 28 x 28 each, takes .* KiB, but only .* is free"
    ):
        solve_with_free(5 * each + symbols + WORKING_ARRAYS * each - 1)


@pytest.mark.slow
def test_images_of_different_scale_are_solved_apart():
    """An image of another scale does not change the codes of the others."""
    images, filters = photographs(3, 24), unit_filters((1, 4, 5, 5))
    for solver in ("admm", "fista", "hqs"):
        for dtype, factor in ((np.float64, 1e4), (np.float64, 1e-9), (np.float32, 1e25)):
            mixed = images.astype(dtype)
            mixed[1] *= dtype(factor)
            together = sparse_codes(filters, mixed, lam=8.0, solver=solver, maxiter=60)
            apart = sparse_codes(filters, mixed[::2], lam=8.0, solver=solver, maxiter=60)
            np.testing.assert_array_equal(together.maps[::2], apart.maps)
            np.testing.assert_array_equal(together.gap[::2], apart.gap)
            assert np.isfinite(together.gap).all()
            assert (together.gap >= 0).all()


def test_groups_by_scale_differ_by_factor_16_at_most():
    images = np.array([1.0, 0.1, 20, 0, 0.05, 300])[:, None, None, None]
    assert [group.tolist() for group in _groups_by_scale(images)] == [[2, 5], [0, 1], [4], [3]]


def test_memory_of_symbols_is_counted(monkeypatch):
    """With many channels the matrices of all frequencies take more memory than the maps."""
    filters, images = unit_filters((20, 2, 5, 5)), np.ones((1, 20, 16, 16))
    maps = 2 * 20 * 20 * 8
    monkeypatch.setattr("convop.deconvnet.inference.available", lambda: 100 * maps)
    with pytest.raises(MemoryError, match="finding the maps of 1 images"):
        sparse_codes(filters, images)
