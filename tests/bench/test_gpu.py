import pytest

from convop import bench
from convop.bench import gpu


@pytest.mark.slow
def test_benchmarks_run_on_gpu(cupy, monkeypatch):
    """The stand-in's times are not compared with anything."""
    monkeypatch.setattr(gpu, "_CALLS", (2, 2))
    monkeypatch.setattr(gpu, "_MAX_SETS", 2)
    results = bench.run(["applying", "extras"], quick=True, repeats=1, device="gpu")
    assert results.machine.device
    assert results.machine.threads == 0
    assert {(line.dtype, line.direction) for line in results.applying} == {
        (dtype, direction) for dtype in ("float32", "float64") for direction in ("forward", "adjoint")
    }
    for line in results.applying:
        assert {"auto", "csr", "direct", "fft"} <= set(line.seconds)
        if line.workload.startswith("blur"):
            assert {"CuPy fftconvolve", "CuPy oaconvolve", "CuPy ndimage"} <= set(line.peers)
    assert len(results.comparisons) == 2 * 2 * 3
    assert all(isinstance(table, object) for table in bench.tables(results))
    monkeypatch.setattr(gpu, "gpu_peers", lambda problem: {"wrong": (lambda: 2 * problem.x, None)})
    with pytest.raises(AssertionError, match="wrong differs by"):
        bench.run(["applying"], quick=True, repeats=1, device="gpu")
