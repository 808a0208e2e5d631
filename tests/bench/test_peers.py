"""Peers compute the same results as the package."""

import pytest

from convop import bench
from convop.bench import peers

MACHINE = bench.Machine(1.0, 1.0, 1.0, 1)


@pytest.mark.parametrize("peer", ["csr_matrix", "pylops_convolve", "ndimage"])
def test_measure_workloads_rejects_a_peer_with_another_result(peer, monkeypatch):
    wrong = lambda problem, *_: (lambda: problem.x * 1.001, None)
    monkeypatch.setattr(peers, peer, wrong)
    with pytest.raises(AssertionError, match=r"blur 96.2 k5, float64: .* differs by"):
        list(bench.measure_workloads(MACHINE, quick=True, repeats=1))


def small_workloads():
    """Every workload of the benchmark at a small size, and even kernels with uneven padding."""
    for workload in bench.WORKLOADS:
        scale = [min(n, 40 if workload.is_single_channel else n) for n in workload.input_shape]
        if len(scale) == 1:
            scale = [400]
        if not workload.is_single_channel:
            scale = [*scale[:1], *(min(n, 20) for n in scale[1:])]
        yield bench.Workload(workload.name, tuple(scale), workload.kernel_shape, workload.parameters)
    even = {"padding": ((2, 1), (1, 0))}
    yield bench.Workload("even", (30, 31), (4, 2), even)
    yield bench.Workload("even circular", (30, 31), (4, 2), {**even, "padding_mode": "circular"})
    yield bench.Workload("even reflect", (30, 31), (4, 2), {**even, "padding_mode": "reflect"})


@pytest.mark.slow
def test_all_peers_agree_on_all_workloads_at_small_sizes():
    """In float64 and both directions; `measure_workloads` raises if two results differ."""
    small = [w for w in small_workloads() if max(w.kernel_shape[:2]) <= 64]
    lines = list(bench.measure_workloads(MACHINE, repeats=1, workloads=small, dtypes=["float64"]))
    assert len(lines) == 2 * len(small)
