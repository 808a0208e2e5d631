"""The stopping rule on sequences of objectives."""

import numpy as np

from convop.deconvnet.stopping import ConvergenceMonitor


def test_monitor_stops_at_small_gap_or_settled_objective():
    def last_iteration(objectives, bound):
        monitor = ConvergenceMonitor(1, 1e-3)
        stopped = [monitor.update(np.array([objective]), np.array([bound])) for objective in objectives]
        return stopped.index(True) + 1 if True in stopped else None

    assert last_iteration([2.0, 1.0011, 1.0009, 1.0], 1.0) == 3  # a small gap is enough
    assert last_iteration([1.0] * 40, 0.995) == 11  # settled, with a somewhat larger gap
    assert last_iteration([1.0] * 400, 0.98) is None  # settled, with a large gap
    # An error of 1/n goes on until it moves by a tenth of the tolerance over the last fifth of all iterations.
    falling = [1 + 1 / n for n in range(1, 4000)]
    assert falling[last_iteration(falling, 0.995) - 1] - 1 < 5e-4
    # Oscillation by more than the tolerance is not settled, even if two objectives are equal.
    assert last_iteration([1 + 0.002 * (n % 2) for n in range(400)], 0.995) is None


def test_monitor_waits_for_every_image_and_keeps_best_bounds():
    monitor = ConvergenceMonitor(2, 1e-3)
    assert not monitor.update(np.array([1.0, 2.0]), np.array([1.0, 1.0]))
    assert monitor.update(np.array([1.0, 1.0]), np.array([0.0, 0.0]))
