"""Runs the parts of the benchmark, and collects their results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..geometry.arguments import one_of
from .applying import WorkloadTimes, measure_workloads
from .builds import measure_builds, measure_startup, measure_textbook_matrix
from .coding import measure_coding
from .extras import measure_extras
from .gpu import measure_gpu, measure_gpu_limits, measure_gpu_workloads
from .machine import Machine
from .solving import measure_solving
from .timing import Comparison

PARTS = ("applying", "extras", "building", "coding", "solving")


@dataclass(frozen=True)
class Results:
    """Results of a run.

    Attributes
    ----------
    machine : Machine
        Rates of the machine.
    applying : list of WorkloadTimes
        Engines and peers.
    comparisons : list of Comparison
        The other parts.
    """

    machine: Machine
    applying: list[WorkloadTimes] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return the results as plain values, for JSON; the comparisons are under ``"lines"``."""
        return {
            "machine": asdict(self.machine),
            "applying": [times.as_dict() for times in self.applying],
            "lines": [comparison.as_dict() for comparison in self.comparisons],
        }


def run(
    parts: Sequence[str] = PARTS,
    *,
    quick: bool = False,
    repeats: int = 7,
    device: str = "cpu",
    progress: Callable[[str], object] = lambda _: None,
) -> Results:
    """Run parts of the benchmark.

    Parameters
    ----------
    parts : sequence of {"applying", "extras", "building", "coding", "solving"}
        The parts to run.
    quick : bool
        Use small sizes, to check that everything runs.
    repeats : int
        Number of rounds.
    device : {"cpu", "gpu"}
        The device. On a GPU, "applying" times engines and peers, "extras" compares with the GPU's limits, and the other
        parts are empty.
    progress : callable
        Called with the name of every measurement when it is complete.

    Returns
    -------
    Results

    Raises
    ------
    RuntimeError
        If `device` is "gpu" and no GPU can be used; the message names the missing part.
    """
    on_gpu = one_of("device", device, ("cpu", "gpu")) == "gpu"
    results = Results(measure_gpu(quick=quick) if on_gpu else Machine.measure(quick=quick))
    if "applying" in parts:
        measure = measure_gpu_workloads if on_gpu else measure_workloads
        for times in measure(results.machine, quick=quick, repeats=repeats):
            results.applying.append(times)
            progress(times.workload)
    for comparison in _comparisons(parts, on_gpu=on_gpu, quick=quick, repeats=repeats):
        results.comparisons.append(comparison)
        progress(comparison.name)
    return results


def _comparisons(parts: Sequence[str], *, on_gpu: bool, quick: bool, repeats: int) -> Iterator[Comparison]:
    if "extras" in parts:
        yield from (measure_gpu_limits if on_gpu else measure_extras)(quick=quick, repeats=repeats)
    if on_gpu:
        return
    if "building" in parts:
        yield from measure_builds(quick=quick, repeats=repeats)
        yield measure_textbook_matrix(repeats=repeats)
        yield from measure_startup(repeats=min(repeats, 2) if quick else repeats)
    if "coding" in parts:
        yield from measure_coding(quick=quick, repeats=repeats)
    if "solving" in parts:
        yield from measure_solving(quick=quick, repeats=repeats)
