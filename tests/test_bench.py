import itertools
import re
import sys
import time
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from convop import ConvSpec, bench, kernel2matrix
from convop.bench import builds, timing


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch):
    """Nothing here looks at times."""
    monkeypatch.setattr(timing, "_SETTLE", 0.0)
    monkeypatch.setattr(timing, "_WARM", 0.0)


def test_lines_hold_what_was_measured():
    line = bench.textbook_line(repeats=1)
    assert line.ratio == pytest.approx(line.seconds / line.against_seconds)
    assert line.as_dict()["entries"] == 16
    names = [line.name for line in bench.build_lines(quick=True, repeats=1)]
    assert len(names) == len(set(names)) == 5 * 2 + 1


def test_functions_are_timed_in_turn_after_a_warm_up():
    calls = []

    def ours():
        calls.append("ours")
        time.sleep(0.02)

    def theirs():
        calls.append("theirs")
        time.sleep(0.01)

    seconds, against, ratio = timing.in_turn(ours, theirs, 3)
    # each goes on for a while in every round, whatever its place
    assert len(list(itertools.groupby(calls))) > 2
    assert calls.count("theirs") >= 4 * 3
    assert seconds > against
    assert ratio > 1


def test_filling_has_the_sizes_of_the_matrix():
    spec = ConvSpec((40, 41), (3, 4), padding="same")
    built = kernel2matrix(np.ones((3, 4), "float32"), (40, 41), padding="same")
    assert [(a.size, a.dtype) for a in builds._filled(spec, np.float32)] == [
        (a.size, a.dtype) for a in (built.data, built.indices, built.indptr)
    ]


def test_a_wrong_peer_is_found_before_it_is_timed(monkeypatch):
    monkeypatch.setattr(builds, "_kron_sum", lambda kernel, size: 2 * kernel2matrix(kernel, (size, size)))
    with pytest.raises(AssertionError, match="another matrix"):
        list(bench.build_lines(quick=True, repeats=1))


def test_workloads_span_what_is_promised():
    entries = [ConvSpec(shape, kernel, **p).nnz for _, shape, kernel, p in builds._BUILDS]
    assert min(entries) > 9e6
    assert max(entries) < 2.2e8
    assert max(entries) > 1.6e8


def test_engines_and_peers_are_compared():
    results = bench.run(["applying"], quick=True, repeats=1)
    assert results.machine.gemm64 > 0 < results.machine.bandwidth
    assert len(results.applying) == 2 * 2 * 2
    for line in results.applying:
        assert line.engine in line.seconds
        assert line.ratio == min(line.ratios.values()) > 0
        assert line.fastest_peer in line.peers
        assert {"SciPy CSR"} <= set(line.peers)
        assert line.share > 0
    blur = results.applying[0]
    assert {"SciPy fftconvolve", "SciPy oaconvolve", "SciPy ndimage", "PyLops ConvolveND"} <= set(blur.peers)


def test_extras_are_measured():
    lines = list(bench.extra_lines(quick=True, repeats=1))
    names = " ".join(line.name for line in lines)
    for word in ("image 3^2", "Gaussian", "full rank", "two threads", "peak memory of A @ x", "a pixel"):
        assert word in names
    assert all(line.ratio > 0 and line.limit > 0 for line in lines)


def test_solvers_of_sparse_codes_are_compared():
    lines = list(bench.coding_lines(quick=True, repeats=1))
    assert [line.name for line in lines[:1]] == ["codes 32^2, 4 5x5, float64"]
    assert {line.name.split()[-1] for line in lines} == {"float64", "float32"}
    assert {"solver 'fista'"} <= {line.against for line in lines}
    assert all(line.ratio > 0 for line in lines)


class StandInForSporco:
    """Takes what SPORCO takes, and solves the problem by FISTA on SPORCO's own terms: periodic, over lam, where known."""

    factor = 1.0
    steps: ClassVar[list] = []

    class Options(dict):
        pass

    def __init__(self, D, s, lmbda, opt, dimK=None, mask=None):
        assert dimK == 0 or mask is not None
        assert D.dtype == s.dtype == opt["DataType"]
        self.mask = np.ones_like(s) if mask is None else mask
        self.spectra = np.fft.rfft2(D.transpose(2, 0, 1), s.shape)
        self.s, self.lmbda, self.opt, self.objectives = s, lmbda, opt, []

    def synthesis(self, x):
        return self.mask * np.fft.irfft2((self.spectra * np.fft.rfft2(x)).sum(axis=0), self.s.shape)

    def solve(self):
        self.steps.append((self.opt["MaxMainIter"], self.opt["FastSolve"]))
        x = v = np.zeros((len(self.spectra), *self.s.shape))
        length = 1 / (np.abs(self.spectra) ** 2).sum(axis=0).max()
        for step in range(self.opt["MaxMainIter"]):
            pull = np.fft.irfft2(
                self.spectra.conj() * np.fft.rfft2(self.mask * (self.s - self.synthesis(v))), self.s.shape
            )
            moved = v + length * pull
            new = np.sign(moved) * np.maximum(np.abs(moved) - length * self.lmbda, 0)
            v, x = new + step / (step + 3) * (new - x), new
            misfit = ((self.synthesis(x) - self.mask * self.s) ** 2).sum() / 2
            self.objectives.append(self.factor * (misfit + self.lmbda * np.abs(x).sum()))

    def getitstat(self):
        return None if self.opt["FastSolve"] else SimpleNamespace(ObjFun=self.objectives)


def stand_in(monkeypatch):
    cbpdn = SimpleNamespace(
        ConvBPDN=StandInForSporco,
        AddMaskSim=lambda kind, D, s, mask, lmbda, opt: kind(D, s, lmbda, opt, mask=mask),
    )
    monkeypatch.setitem(sys.modules, "sporco", SimpleNamespace(__spec__=1))
    monkeypatch.setitem(sys.modules, "sporco.admm", SimpleNamespace(cbpdn=cbpdn))


def test_sporco_is_timed_for_as_many_iterations_as_it_takes(monkeypatch):
    stand_in(monkeypatch)
    monkeypatch.setattr(StandInForSporco, "steps", [])
    lines = list(bench.coding_lines(quick=True, repeats=1))
    assert len(lines) == 6
    told = [re.fullmatch(r"SPORCO .*, (\d+) iterations", line.against) for line in lines[1:3]]
    masked, periodic = (int(match[1]) for match in told)
    assert masked != periodic
    assert StandInForSporco.steps[:2] == [(200, False), (200, False)]
    assert {(masked, True), (periodic, True)} <= set(StandInForSporco.steps)


def test_a_sparse_coder_that_solves_something_else_is_not_timed(monkeypatch):
    stand_in(monkeypatch)
    monkeypatch.setattr(StandInForSporco, "factor", 1.01)
    with pytest.raises(AssertionError, match=r"SPORCO AddMaskSim ends at an objective of .*, where the minimum is"):
        list(bench.coding_lines(quick=True, repeats=1))


@pytest.mark.parametrize("peer", ["_csr", "_pylops", "_ndimage"])
def test_a_peer_that_computes_something_else_is_not_timed(peer, monkeypatch):
    from convop.bench import peers

    wrong = lambda problem, *_: (lambda: problem.x * 1.001, None)
    monkeypatch.setattr(peers, peer, wrong)
    with pytest.raises(AssertionError, match=r"blur 96.2 k5, float64: .* differs by"):
        list(bench.apply_lines(bench.Machine(1.0, 1.0, 1.0, 1), quick=True, repeats=1))


def peer_workloads():
    for workload in bench.WORKLOADS:
        scale = [min(n, 40 if workload.one_channel else n) for n in workload.input_shape]
        if len(scale) == 1:
            scale = [400]
        if not workload.one_channel:
            scale = [*scale[:1], *(min(n, 20) for n in scale[1:])]
        yield bench.Workload(workload.name, tuple(scale), workload.kernel_shape, workload.parameters)
    even = {"padding": ((2, 1), (1, 0))}
    yield bench.Workload("even", (30, 31), (4, 2), even)
    yield bench.Workload("even circular", (30, 31), (4, 2), {**even, "padding_mode": "circular"})
    yield bench.Workload("even reflect", (30, 31), (4, 2), {**even, "padding_mode": "reflect"})


def test_all_peers_agree_on_small_forms_of_all_workloads(monkeypatch):
    """In float64 and both directions; comparing raises where they do not."""
    small = [w for w in peer_workloads() if max(w.kernel_shape[:2]) <= 64]
    lines = list(bench.apply_lines(bench.Machine(1.0, 1.0, 1.0, 1), repeats=1, workloads=small, dtypes=["float64"]))
    assert len(lines) == 2 * len(small)


def test_calibration_is_fitted_and_kept(tmp_path, monkeypatch):
    from convop.bench import calibrate
    from convop.engines import costs

    fitted, error = calibrate._fitted([({"call": 1.0, "work": w}, 3e-6 + 2e-9 * w) for w in (10.0, 1e3, 1e5, 1e6)])
    assert fitted == pytest.approx({"call": 3e-6, "work": 2e-9})
    assert error < 1e-9
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    measured = bench.calibrated(quick=True, repeats=1)
    path = bench.keep_costs(measured)
    try:
        assert path == costs.costs_file()
        assert costs.seconds_per_unit()["direct"]["float64"]["call"] >= 0
        assert [p.name for p in path.parent.iterdir()] == ["costs.json"]
    finally:
        monkeypatch.undo()
        costs.seconds_per_unit.cache_clear()
