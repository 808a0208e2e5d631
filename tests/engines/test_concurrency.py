"""One operator in eight threads at once, and in a forked child."""

import os
import signal
import threading

import numpy as np
import pytest
from engine_cases import assert_close

from convop import Conv


@pytest.mark.parametrize("name", ["direct", "fft", "gemm", "separable", "winograd"])
def test_operator_applies_in_eight_threads_at_once(name):
    K = np.random.default_rng(0).standard_normal((5, 5))
    A = Conv(K, (300, 200), padding=2, padding_mode="circular", engine=name)
    reference = Conv(K, (300, 200), padding=2, padding_mode="circular", engine="csr")
    inputs = np.random.default_rng(1).standard_normal((8, 60000))
    results, barrier = [None] * 8, threading.Barrier(8)

    def work(i):
        barrier.wait()
        results[i] = [(A @ inputs[i], A.H @ inputs[i]) for _ in range(4)]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for i in range(8):
        for forward, adjoint in results[i]:
            assert_close(forward, reference @ inputs[i], 1e-12)
            assert_close(adjoint, reference.H @ inputs[i], 1e-12)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("name", ["direct", "fft", "separable", "winograd"])
def test_operator_applies_in_a_forked_child(name):
    A = Conv(np.random.default_rng(0).standard_normal((9, 9)), (400, 400), padding=4, engine=name)
    x = np.ones(160000)
    expected = A @ x  # with a thread pool, which the child does not have
    child = os.fork()
    if child == 0:  # pragma: no cover - in the child
        signal.alarm(60)
        os._exit(0 if np.array_equal(A @ x, expected) else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
