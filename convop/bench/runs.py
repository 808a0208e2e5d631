"""All measurements, or some parts of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..geometry.arguments import one_of
from .applying import ApplyLine, apply_lines
from .builds import build_lines, startup_lines, textbook_line
from .coding import coding_lines
from .extras import extra_lines
from .gpu import gpu_apply_lines, gpu_limit_lines, gpu_machine
from .machine import Machine
from .timing import Line

__all__ = ["PARTS", "Results", "run"]

PARTS = ("applying", "extras", "building", "coding")


@dataclass(frozen=True)
class Results:
    """What was measured.

    Attributes
    ----------
    machine : Machine
        Rates of the machine.
    applying : list of ApplyLine
        Engines and peers.
    lines : list of Line
        Single comparisons.
    """

    machine: Machine
    applying: list[ApplyLine] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The measurements as plain values, for JSON."""
        return {
            "machine": asdict(self.machine),
            "applying": [line.as_dict() for line in self.applying],
            "lines": [line.as_dict() for line in self.lines],
        }


def run(
    parts: Sequence[str] = PARTS,
    *,
    quick: bool = False,
    repeats: int = 7,
    device: str = "cpu",
    progress: Callable[[str], object] = lambda _: None,
) -> Results:
    """Measure.

    Parameters
    ----------
    parts : sequence of {"applying", "extras", "building", "coding"}
        What is measured.
    quick : bool
        Small sizes, to see that it runs.
    repeats : int
        Measurements per line.
    device : {"cpu", "gpu"}
        Where. On a GPU the parts are applying, and how near it comes to the GPU's limits.
    progress : callable
        Called with the name of every line when it is done.

    Returns
    -------
    Results

    Raises
    ------
    RuntimeError
        If a GPU is asked for that cannot be used; the message says what is missing.
    """
    gpu = one_of("device", device, ("cpu", "gpu")) == "gpu"
    results = Results(gpu_machine(quick=quick) if gpu else Machine.measured(quick=quick))
    if "applying" in parts:
        for line in (gpu_apply_lines if gpu else apply_lines)(results.machine, quick=quick, repeats=repeats):
            results.applying.append(line)
            progress(line.workload)
    singles: list[Iterator[Line]] = []
    if gpu and "extras" in parts:
        singles.append(gpu_limit_lines(quick=quick, repeats=repeats))
    elif "extras" in parts:
        singles.append(extra_lines(quick=quick, repeats=repeats))
    if not gpu and "building" in parts:
        singles.append(build_lines(quick=quick, repeats=repeats))
        singles.append(iter([textbook_line(repeats=repeats)]))
        singles.append(startup_lines(repeats=min(repeats, 2) if quick else repeats))
    if not gpu and "coding" in parts:
        singles.append(coding_lines(quick=quick, repeats=repeats))
    for group in singles:
        for single in group:
            results.lines.append(single)
            progress(single.name)
    return results
