import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from convop import kernel2matrix
from convop.arrays import memory
from convop.matrix import builders


def test_available_is_a_sensible_number():
    free = memory.available()
    assert isinstance(free, int)
    assert 2**20 < free < 2**50


def test_require_says_both_figures(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 3 * 2**30)
    memory.require(3 * 2**30, "this")
    with pytest.raises(MemoryError, match=r"^this takes 4.0 GiB, but only 3.0 GiB of memory is free$"):
        memory.require(4 * 2**30, "this")
    with pytest.raises(MemoryError, match="this takes 1048576 PiB"):
        memory.require(2**70, "this")


def test_a_few_bytes_are_not_asked_for(monkeypatch):
    asked = []
    monkeypatch.setattr(memory, "available", lambda: asked.append(1) or 2**40)
    memory.require(2**16, "this")
    assert not asked
    memory.require(2**16 + 1, "this")
    assert asked


def test_unknown_memory_refuses_nothing(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: None)
    memory.require(2**80, "this")
    monkeypatch.undo()
    for part in ("_machine", "_address_space"):
        monkeypatch.setattr(memory, part, lambda: None)
    monkeypatch.setattr(memory, "_control_groups", list)
    assert memory.available() is None


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux says of control groups")
def test_limits_of_control_groups_count(monkeypatch):
    files = {
        "/proc/self/cgroup": "0::/box/inner\n",
        "/sys/fs/cgroup/box/inner/memory.max": "max\n",
        "/sys/fs/cgroup/box/memory.max": "1000000\n",
        "/sys/fs/cgroup/box/memory.current": "700000\n",
        "/sys/fs/cgroup/box/memory.stat": "anon 5\ninactive_file 100000\n",
    }

    def read_text(self):
        try:
            return files[str(self)]
        except KeyError:
            raise OSError(str(self)) from None

    monkeypatch.setattr(Path, "read_text", read_text)
    assert memory._control_groups() == [400000]
    files["/proc/self/cgroup"] = "5:cpu,memory:/old\n"
    files["/sys/fs/cgroup/memory/old/memory.limit_in_bytes"] = "500\n"
    files["/sys/fs/cgroup/memory/old/memory.usage_in_bytes"] = "900\n"
    files["/sys/fs/cgroup/memory/old/memory.stat"] = "\n"
    assert memory._control_groups() == [0]


@pytest.mark.skipif(sys.platform != "linux", reason="address-space limits are POSIX")
def test_an_address_space_limit_counts():
    code = (
        "import resource, convop; from convop.arrays import memory; before = memory.available();"
        "resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32)); after = memory.available();"
        "assert after < 2**32 and after <= before; convop.kernel2matrix([1.0] * 9, 2**20);"
        "import pytest\n"
        "with pytest.raises(MemoryError, match='of memory is free'): convop.kernel2matrix([1.0] * 999, 2**20)"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def build_large(results, i):
    results[i] = kernel2matrix(np.arange(25.0).reshape(5, 5), (90, 90), padding=2)


def test_matrices_are_built_by_several_threads_at_once(monkeypatch):
    monkeypatch.setattr(builders, "SMALL", -1)
    results = [None] * 8
    threads = [threading.Thread(target=build_large, args=(results, i)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert all((r != results[0]).nnz == 0 for r in results)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_builds_matrices():
    expected = kernel2matrix(np.ones((9, 9)), (120, 120))  # compiled, in threads
    child = os.fork()
    if child == 0:  # pragma: no cover - in the child
        same = (kernel2matrix(np.ones((9, 9)), (120, 120)) != expected).nnz == 0
        os._exit(0 if same else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
