"""Calibration of the engines' costs."""

import pytest

from convop import bench
from convop.bench import calibrate
from convop.engines import costs
from convop.engines.cpu.tuning import packaged_constants


@pytest.mark.slow
def test_fit_costs_and_save_costs_write_the_users_file(tmp_path, monkeypatch):
    fitted, error = calibrate._fit_units([({"call": 1.0, "work": w}, 3e-6 + 2e-9 * w) for w in (10.0, 1e3, 1e5, 1e6)])
    assert fitted == pytest.approx({"call": 3e-6, "work": 2e-9})
    assert error < 1e-9
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    measured = bench.fit_costs(quick=True, repeats=1)
    assert measured["tuning"] == packaged_constants()  # the file can replace the package's
    path = bench.save_costs(measured)
    try:
        assert path == costs.costs_file()
        assert costs.seconds_per_unit()["direct"]["float64"]["call"] >= 0
        assert [p.name for p in path.parent.iterdir()] == ["costs.json"]
    finally:
        monkeypatch.undo()
        costs.seconds_per_unit.cache_clear()
