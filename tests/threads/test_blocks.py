"""Blocks of Python work on the thread pool of the standard library."""

import subprocess
import sys
import threading

import pytest

from convop.threads import blocks, sizes


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("length", [0, 1, 5, 1000])
@pytest.mark.parametrize("count", [1, 3, 64])
def test_run_blocks_covers_the_range_once(threads, length, count):
    seen, lock = [], threading.Lock()

    def work(start, stop):
        with lock:
            seen.extend(range(start, stop))

    blocks.run_blocks(work, length, threads=threads, blocks=count)
    assert sorted(seen) == list(range(length))


@pytest.mark.parametrize("threads", [1, 3])
def test_run_blocks_raises_the_first_error(threads):
    def work(start, stop):
        raise ZeroDivisionError(f"{start}")

    with pytest.raises(ZeroDivisionError, match="0"):
        blocks.run_blocks(work, 9, threads=threads, blocks=3)


def test_run_items_does_little_work_in_the_caller(monkeypatch):
    monkeypatch.setattr(sizes, "thread_count", lambda: 4)
    monkeypatch.setattr(blocks, "_submit", lambda *_: pytest.fail("threads for little work"))
    seen = []
    blocks.run_items(lambda a, b: seen.extend(range(a, b)), 10, work=1000)
    assert seen == list(range(10))


def test_run_blocks_does_not_wait_for_a_busy_pool():
    """The caller does the blocks that no thread of the pool has begun."""
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


def test_run_blocks_works_while_the_interpreter_shuts_down():
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


def test_run_blocks_begins_no_block_after_an_error():
    begun = []

    def work(start, stop):
        begun.append(start)
        raise KeyError(start)

    with pytest.raises(KeyError):
        blocks.run_blocks(work, 1000, threads=2, blocks=1000)
    assert len(begun) <= 4
