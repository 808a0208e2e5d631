import numpy as np
import pytest
from gpu_cases import ENGINES

from convop import Conv
from convop.engines.gpu import choose


def test_auto_depends_on_number_of_taps(cupy):
    assert Conv(cupy.asarray(np.ones((3, 3))), (64, 64)).engine == "direct"
    assert Conv(cupy.asarray(np.ones((31, 31))), (64, 64)).engine == "fft"
    A = Conv(cupy.asarray(np.ones((31, 31))), (64, 64))
    assert A.with_kernel(cupy.asarray(np.zeros((31, 31)))).engine == "fft"


def test_measure_times_engines_once_per_spec(cupy, monkeypatch):
    stream = type("Stream", (), {"synchronize": lambda self: None})
    monkeypatch.setattr(cupy.cuda, "get_current_stream", stream, raising=False)
    monkeypatch.setattr(choose.SELECTOR, "_winners", {})
    with monkeypatch.context() as patch:
        patch.setattr(
            cupy.cuda.runtime, "memGetInfo", lambda: (10**4, 10**9)
        )  # too little for the matrix or transforms
        assert Conv(cupy.asarray(np.ones((3, 3))), (30, 30), engine="measure").engine == "direct"
    A = Conv(cupy.asarray(np.ones((3, 3))), (20, 20), engine="measure")
    assert A.engine in ENGINES
    monkeypatch.setattr(choose.SELECTOR, "_measure", lambda *_: pytest.fail("measured again"))
    assert A.with_kernel(cupy.asarray(np.zeros((3, 3)))).engine == A.engine
