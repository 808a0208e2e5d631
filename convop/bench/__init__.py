"""Measurements that anyone can repeat: this package and what it is compared with, in turn, in one run."""

from .applying import ApplyLine, apply_lines
from .builds import build_lines, startup_lines, textbook_line
from .calibrate import calibrated, keep_costs
from .coding import coding_lines
from .extras import extra_lines
from .machine import Machine
from .report import tables
from .runs import PARTS, Results, run
from .timing import Line
from .workloads import WORKLOADS, Problem, Workload

__all__ = [
    "PARTS",
    "WORKLOADS",
    "ApplyLine",
    "Line",
    "Machine",
    "Problem",
    "Results",
    "Workload",
    "apply_lines",
    "build_lines",
    "calibrated",
    "coding_lines",
    "extra_lines",
    "keep_costs",
    "run",
    "startup_lines",
    "tables",
    "textbook_line",
]
