import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import convop
from convop import kernel2matrix
from convop.arrays import memory
from convop.matrix import builders
from convop.threads import blocks, sizes


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


def test_small_transforms_are_done_by_one_thread(monkeypatch):
    monkeypatch.setattr(sizes, "workers", lambda: 5)
    assert (sizes.transform_workers(2**16 - 1), sizes.transform_workers(2**16)) == (1, 5)


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


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("length", [0, 1, 5, 1000])
@pytest.mark.parametrize("count", [1, 3, 64])
def test_blocks_cover_everything_once(threads, length, count):
    seen, lock = [], threading.Lock()

    def work(start, stop):
        with lock:
            seen.extend(range(start, stop))

    blocks.run_blocks(work, length, threads=threads, blocks=count)
    assert sorted(seen) == list(range(length))


@pytest.mark.parametrize("threads", [1, 3])
def test_errors_of_blocks_come_out(threads):
    def work(start, stop):
        raise ZeroDivisionError(f"{start}")

    with pytest.raises(ZeroDivisionError, match="0"):
        blocks.run_blocks(work, 9, threads=threads, blocks=3)


def test_workers_respect_the_affinity(monkeypatch):
    assert sizes.workers() >= 1
    monkeypatch.delitem(sys.modules, "threadpoolctl", raising=False)  # with the limit of the libraries it knows
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    assert sizes.workers() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    assert sizes.workers() == (os.cpu_count() or 1)


def test_set_num_threads(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(sizes, "_limit", lambda: 100)
    try:
        convop.set_num_threads(3)
        assert sizes.workers() == sizes.chosen_threads() == 3
        for wrong, error in ((0, ValueError), (-2, ValueError), (1.5, TypeError), (True, TypeError), ("2", TypeError)):
            with pytest.raises(error, match=r"^count must be"):
                convop.set_num_threads(wrong)
        assert sizes.workers() == 3
    finally:
        convop.set_num_threads(None)
    assert sizes.workers() == 4


def test_limits_of_threadpoolctl_hold(monkeypatch):
    import threadpoolctl

    if not threadpoolctl.ThreadpoolController().select(user_api="blas").lib_controllers:
        return  # a NumPy whose BLAS threadpoolctl does not know
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    with threadpoolctl.threadpool_limits(1):
        assert sizes.workers() == 1
        seen = set()
        blocks.run_items(lambda a, b: seen.add(threading.get_ident()), 100, work=10**9)
        assert seen == {threading.get_ident()}
    with threadpoolctl.threadpool_limits(2):
        assert sizes.workers() == 2


def test_little_work_wakes_no_thread(monkeypatch):
    monkeypatch.setattr(sizes, "workers", lambda: 4)
    monkeypatch.setattr(blocks, "_submit", lambda *_: pytest.fail("threads for little work"))
    seen = []
    blocks.run_items(lambda a, b: seen.extend(range(a, b)), 10, work=1000)
    assert seen == list(range(10))


def test_work_goes_on_while_the_pool_is_busy():
    """Blocks that no thread of the pool has begun when the caller is done with the others are not waited for."""
    release = threading.Event()
    helpers = blocks._submit(release.wait, 2)
    try:
        seen = []
        blocks.run_blocks(lambda a, b: seen.extend(range(a, b)), 50, threads=3, blocks=10)
        assert sorted(seen) == list(range(50))
    finally:
        release.set()
        for helper in helpers:
            helper.result()


def test_work_is_done_while_the_interpreter_shuts_down():
    code = (
        "import atexit\n"
        "from convop.threads import blocks\n"
        "seen = []\n"
        "def work():\n"
        "    blocks.run_blocks(lambda a, b: seen.extend(range(a, b)), 20, threads=3, blocks=20)\n"
        "    print(sorted(seen) == list(range(20)))\n"
        "class Late:\n"
        "    def __del__(self):\n"
        "        work()\n"
        "late = Late()\n"
        "atexit.register(work)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split()[0] == "True"
    assert "Error" not in result.stderr


def test_no_block_is_begun_after_an_error():
    begun = []

    def work(start, stop):
        begun.append(start)
        raise KeyError(start)

    with pytest.raises(KeyError):
        blocks.run_blocks(work, 1000, threads=2, blocks=1000)
    assert len(begun) <= 4


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
