"""Tables and summaries of the benchmark."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from convop import bench
from convop.bench import report

PROBLEM = bench.Problem(bench.WORKLOADS[0], np.dtype("float64"))
ENGINES = {name: SimpleNamespace(name=name.replace("auto", "direct")) for name in ("auto", "direct", "fft")}
TIMES = {"auto": [2.0, 2.0, 9.0], "direct": [2.1, 2.1, 2.0], "fft": [1.5, 1.0, 1.6], "SciPy CSR": [1.0, 8.0, 9.0]}
LINE = bench.WorkloadTimes.of_times(PROBLEM, "forward", TIMES, ENGINES, 0.5)


def test_of_times_divides_medians_by_the_time_of_auto():
    assert LINE.engine == "direct"
    assert LINE.best_over_auto == 0.75
    assert LINE.share == 0.25
    assert LINE.ratio == 1.0  # the median of the ratios of each round
    assert LINE.as_dict()["best_over_auto"] == 0.75


def test_best_over_auto_leaves_out_the_time_of_auto_itself():
    times = {**TIMES, "auto": [0.5, 0.5, 0.5]}
    line = bench.WorkloadTimes.of_times(PROBLEM, "forward", times, ENGINES, 0.5)
    assert line.best_over_auto == 3.0


def test_table_has_the_limit_and_the_best_engine_of_each_line():
    table = report.applying_table([LINE])
    cells = {column.header: list(column.cells) for column in table.columns}
    assert cells["best engine\nover auto"] == ["0.75"]
    assert cells["limit\nover auto"] == ["0.25"]
    assert cells["engines ms"] == ["direct 2100, fft 1500"]


def test_summary_has_the_median_over_lines_of_the_best_engine():
    lines = [replace(LINE, best_over_auto=value) for value in (0.5, 0.9, 1.0)]
    last = report.summary(lines).splitlines()[-1]
    assert last == "best engine over auto: 0.90 in the median, 0.50 at least"


def test_first_line_has_the_rates_of_the_machine():
    machine = bench.Machine(peak64=96e9, peak32=192e9, bandwidth=32e9, threads=2)
    (line,) = report.tables(bench.Results(machine))
    for text in ("2 threads", "96 (float64)", "192 (float32)", "32.0 GB/s"):
        assert text in line


@pytest.mark.parametrize("name", ["peak64", "peak32", "bandwidth", "threads", "device"])
def test_json_has_the_rates_of_the_machine(name):
    machine = bench.Machine(peak64=96e9, peak32=192e9, bandwidth=32e9, threads=2)
    assert bench.Results(machine).as_dict()["machine"][name] == getattr(machine, name)
