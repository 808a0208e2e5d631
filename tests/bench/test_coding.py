"""Benchmark of sparse coding, and its comparison with SPORCO."""

import re
import sys
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from convop import bench


@pytest.mark.slow
def test_measure_coding_compares_solvers():
    lines = list(bench.measure_coding(quick=True, repeats=1))
    assert [line.name for line in lines[:1]] == ["codes 32^2, 4 5x5, float64"]
    assert {line.name.split()[-1] for line in lines} == {"float64", "float32"}
    assert {"solver 'fista'"} <= {line.against for line in lines}
    assert all(line.ratio > 0 for line in lines)


class SporcoStandIn:
    """Has the interface of SPORCO's solvers, and solves the same problem by FISTA: periodic, divided by lam, with a mask."""

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
        step_size = 1 / (np.abs(self.spectra) ** 2).sum(axis=0).max()
        for step in range(self.opt["MaxMainIter"]):
            gradient = -np.fft.irfft2(
                self.spectra.conj() * np.fft.rfft2(self.mask * (self.s - self.synthesis(v))), self.s.shape
            )
            moved = v - step_size * gradient
            new = np.sign(moved) * np.maximum(np.abs(moved) - step_size * self.lmbda, 0)
            v, x = new + step / (step + 3) * (new - x), new
            misfit = ((self.synthesis(x) - self.mask * self.s) ** 2).sum() / 2
            self.objectives.append(self.factor * (misfit + self.lmbda * np.abs(x).sum()))

    def getitstat(self):
        return None if self.opt["FastSolve"] else SimpleNamespace(ObjFun=self.objectives)


def install_stand_in(monkeypatch):
    cbpdn = SimpleNamespace(
        ConvBPDN=SporcoStandIn,
        AddMaskSim=lambda kind, D, s, mask, lmbda, opt: kind(D, s, lmbda, opt, mask=mask),
    )
    monkeypatch.setitem(sys.modules, "sporco", SimpleNamespace(__spec__=1))
    monkeypatch.setitem(sys.modules, "sporco.admm", SimpleNamespace(cbpdn=cbpdn))


@pytest.mark.slow
def test_sporco_is_timed_with_the_iterations_that_it_needs(monkeypatch):
    install_stand_in(monkeypatch)
    monkeypatch.setattr(SporcoStandIn, "steps", [])
    lines = list(bench.measure_coding(quick=True, repeats=1))
    assert len(lines) == 6
    matches = [re.fullmatch(r"SPORCO .*, (\d+) iterations", line.against) for line in lines[1:3]]
    masked, periodic = (int(match[1]) for match in matches)
    assert masked != periodic
    assert SporcoStandIn.steps[:2] == [(200, False), (200, False)]
    assert {(masked, True), (periodic, True)} <= set(SporcoStandIn.steps)


@pytest.mark.slow
def test_sporco_with_another_minimum_is_rejected(monkeypatch):
    install_stand_in(monkeypatch)
    monkeypatch.setattr(SporcoStandIn, "factor", 1.01)
    with pytest.raises(AssertionError, match=r"SPORCO AddMaskSim ends at an objective of .*, where the minimum is"):
        list(bench.measure_coding(quick=True, repeats=1))
