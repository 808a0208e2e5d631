"""Benchmarks that users can repeat: this package and others, timed in turn in one run."""

from .applying import WorkloadTimes, measure_workloads
from .builds import measure_builds, measure_startup, measure_textbook_matrix
from .calibrate import fit_costs, save_costs
from .coding import measure_coding
from .extras import measure_extras
from .machine import Machine
from .report import tables
from .runs import PARTS, Results, run
from .timing import Comparison
from .workloads import WORKLOADS, Problem, Workload

__all__ = [
    "PARTS",
    "WORKLOADS",
    "Comparison",
    "Machine",
    "Problem",
    "Results",
    "Workload",
    "WorkloadTimes",
    "fit_costs",
    "measure_builds",
    "measure_coding",
    "measure_extras",
    "measure_startup",
    "measure_textbook_matrix",
    "measure_workloads",
    "run",
    "save_costs",
    "tables",
]
