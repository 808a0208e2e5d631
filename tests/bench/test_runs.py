"""Runs of the benchmark."""

from convop import bench


def test_run_times_engines_and_peers():
    results = bench.run(["applying"], quick=True, repeats=1)
    machine = results.machine
    assert min(machine.peak64, machine.peak32, machine.bandwidth) > 1e8
    assert len(results.applying) == 2 * 2 * 2
    for line in results.applying:
        assert line.engine in line.seconds
        assert line.ratio == min(line.ratios.values()) > 0
        assert line.fastest_peer in line.peers
        assert {"SciPy CSR"} <= set(line.peers)
        assert line.share > 0
        assert line.best_over_auto > 0
    blur = results.applying[0]
    assert {"SciPy fftconvolve", "SciPy oaconvolve", "SciPy ndimage", "PyLops ConvolveND"} <= set(blur.peers)
