"""Copies, pickles, lazy matrices and error messages of `Conv`, `ConvTranspose` and `ConvFilter`."""

import copy
import importlib
import os
import pickle
import signal
import threading

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from convop import Conv, ConvFilter, kernel2matrix
from convop.engines.cpu import csr


def test_kernel_is_a_read_only_copy():
    K = np.arange(4.0).reshape(2, 2)
    A = Conv(K, (3, 3))
    K[:] = 0
    assert A.kernel.tolist() == [[0, 1], [2, 3]]
    with pytest.raises(ValueError, match="read-only"):
        A.kernel[0, 0] = 1


def test_pickles_and_copies_equal_the_original():
    rng = np.random.default_rng(0)
    A = Conv(rng.standard_normal((2, 3)) * 1j, (5, 6), stride=2, padding="same", flip=True, name="blur")
    F = ConvFilter(rng.standard_normal((5, 6)), (2, 3), padding_mode="circular", padding=1)
    for op in (A, A.T, A.H, F, F.H):
        for same in (pickle.loads(pickle.dumps(op)), copy.deepcopy(op), copy.copy(op)):
            assert type(same) is type(op)
            assert (same.name, same.dims, same.dimsd, same.dtype) == (op.name, op.dims, op.dimsd, op.dtype)
            assert_array_equal(same.todense(), op.todense())
    assert pickle.loads(pickle.dumps(A.T)) == A.T


def test_eight_threads_build_one_matrix(monkeypatch):
    built = []
    original = csr.build
    monkeypatch.setattr(csr, "build", lambda *arguments: built.append(1) or original(*arguments))
    A = Conv(np.random.default_rng(0).standard_normal((5, 5)), (64, 64), padding=2, engine="csr")
    expected = kernel2matrix(A.kernel, (64, 64), padding=2) @ np.ones(4096)
    results, barrier = [None] * 8, threading.Barrier(8)

    def work(i):
        barrier.wait()
        results[i] = (A @ np.ones(4096), A.H @ np.ones(4096))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sum(built) == 1
    for forward, adjoint in results:
        assert_array_equal(forward, expected)
        assert_array_equal(adjoint, results[0][1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize(
    ("op", "builder"),
    [
        (Conv(np.ones(3), 50, engine="csr"), "csr.build"),
        (ConvFilter(np.ones(50), 3, engine="csr"), "filters.group_matrices"),
    ],
)
def test_child_forked_while_a_thread_builds_does_not_hang(op, builder, monkeypatch):
    """The child inherits a lock that is held by a thread which does not exist there."""
    module, name = builder.split(".")
    original = getattr(importlib.import_module(f"convop.engines.cpu.{module}"), name)
    parent, is_building, may_finish = os.getpid(), threading.Event(), threading.Event()

    def build(*args, **named):
        if os.getpid() == parent:
            is_building.set()
            may_finish.wait(60)
        return original(*args, **named)

    monkeypatch.setattr(f"convop.engines.cpu.{builder}", build)
    thread = threading.Thread(target=lambda: op @ np.ones(op.shape[1]))
    thread.start()
    try:
        assert is_building.wait(60)
        child = os.fork()
        if child == 0:  # pragma: no cover - in the child
            signal.alarm(20)
            os._exit(0 if np.isfinite(op @ np.ones(op.shape[1])).all() else 1)
        _, status = os.waitpid(child, 0)
    finally:
        may_finish.set()
        thread.join()
    assert os.waitstatus_to_exitcode(status) == 0


@pytest.mark.parametrize("op", [ConvFilter, Conv])
def test_errors_name_the_argument(op):
    name = "x" if op is ConvFilter else "kernel"
    for value, error in ((5.0, ValueError), ([], ValueError), (np.ones(3, "longdouble"), TypeError)):
        with pytest.raises(error, match=rf"^{name} must"):
            op(value, 3)
    with pytest.raises(TypeError, match=f"would drop the imaginary part of a complex128 {name}"):
        op(np.ones(3) * 1j, 3, dtype=float)
    with pytest.raises(TypeError, match="flip must be True or False"):
        op(np.ones(3), 3, flip=1)
    with pytest.raises(ValueError, match="engine must be one of"):
        op(np.ones(3), 3, engine=["csr"])
    with pytest.raises(ValueError, match="backend must be one of numpy, cupy; got 'jax'"):
        op(np.ones(3), 3).todense(backend="jax")
