import subprocess
import sys
from pathlib import Path

import pytest

from convop.arrays import memory


def test_available_is_plausible():
    free = memory.available()
    assert isinstance(free, int)
    assert 2**20 < free < 2**50


def test_require_names_both_figures(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 3 * 2**30)
    memory.require(3 * 2**30, "this")
    with pytest.raises(MemoryError, match=r"^this takes 4.0 GiB, but only 3.0 GiB of memory is free$"):
        memory.require(4 * 2**30, "this")
    with pytest.raises(MemoryError, match="this takes 1048576 PiB"):
        memory.require(2**70, "this")


def test_require_does_not_read_limits_for_few_bytes(monkeypatch):
    calls = []
    monkeypatch.setattr(memory, "available", lambda: calls.append(1) or 2**40)
    memory.require(2**22, "this")
    assert not calls
    memory.require(2**22 + 1, "this")
    assert calls


def test_require_allows_everything_if_memory_is_unknown(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: None)
    memory.require(2**80, "this")
    monkeypatch.undo()
    for part in ("_machine", "_address_space"):
        monkeypatch.setattr(memory, part, lambda: None)
    monkeypatch.setattr(memory, "_control_groups", list)
    assert memory.available() is None


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux says of control groups")
def test_available_respects_limits_of_control_groups(monkeypatch):
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
@pytest.mark.slow
def test_available_respects_address_space_limit():
    code = (
        "import resource, convop; from convop.arrays import memory; before = memory.available();"
        "resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32)); after = memory.available();"
        "assert after < 2**32 and after <= before; convop.kernel2matrix([1.0] * 9, 2**20);"
        "import pytest\n"
        "with pytest.raises(MemoryError, match='of memory is free'): convop.kernel2matrix([1.0] * 999, 2**20)"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
