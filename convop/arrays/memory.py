"""Free memory of this process, checked before anything large is allocated."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

# Up to this number of bytes nothing is checked: reading the limits takes about 1 ms, as long as filling so many bytes.
_SMALL = 2**22


def available() -> int | None:
    """Bytes that can be allocated without swapping, or None where the system does not tell.

    The minimum of the machine's available memory, of the memory left to the control groups of this process
    (containers) and of the rest of its address-space limit.

    Returns
    -------
    int or None
    """
    limits = [_machine(), *_control_groups(), _address_space()]
    known = [limit for limit in limits if limit is not None]
    return min(known) if known else None


def require(nbytes: int, what: str) -> None:
    """Raise MemoryError, with the figures, if an allocation cannot fit.

    Parameters
    ----------
    nbytes : int
        Bytes that are about to be allocated.
    what : str
        Their purpose; the message begins with it.

    Raises
    ------
    MemoryError
        If `nbytes` exceeds `available`.
    """
    free = available() if nbytes > _SMALL else None
    if free is not None:
        check_fits(nbytes, free, what, "memory")


def check_fits(nbytes: int, free: int, what: str, memory: str) -> None:
    """Raise MemoryError, with the figures, if an allocation exceeds the free bytes of a memory."""
    if nbytes > free:
        raise MemoryError(f"{what} takes {_with_unit(nbytes)}, but only {_with_unit(free)} of {memory} is free")


def _with_unit(nbytes: int) -> str:
    """A number of bytes in the largest binary unit that fits."""
    if nbytes < 1024:
        return f"{nbytes} bytes"
    for power, unit in enumerate(("KiB", "MiB", "GiB", "TiB"), start=1):
        if nbytes < 1024 ** (power + 1):
            return f"{nbytes / 1024**power:.1f} {unit}"
    return f"{nbytes // 1024**5} PiB"  # integers: this may be beyond the largest float


def _machine() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    if sys.platform == "win32":
        return _windows()
    try:
        # The system does not estimate reclaimable memory: the physical memory is the bound.
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _windows() -> int | None:  # pragma: no cover - needs Windows
    class MemoryStatus(ctypes.Structure):
        _fields_ = [
            ("length", ctypes.c_ulong),
            ("load", ctypes.c_ulong),
            *((name, ctypes.c_ulonglong) for name in ("total", "free", "page", "page_free", "v", "v_free", "x")),
        ]

    status = MemoryStatus(length=ctypes.sizeof(MemoryStatus))
    kernel32 = ctypes.windll.kernel32  # type: ignore[attr-defined]
    return status.free if kernel32.GlobalMemoryStatusEx(ctypes.byref(status)) else None


def _control_groups() -> list[int]:
    """Bytes left under each memory limit of cgroup v2, from this process's group to the root, and of v1."""
    left: list[int] = []
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return left
    for line in lines:
        hierarchy, controllers, name = line.split(":", 2)
        if hierarchy == "0":
            root, limit, used = Path("/sys/fs/cgroup"), "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            root, limit, used = Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        group = root / name.lstrip("/")
        for folder in (group, *group.parents):
            try:
                maximum = int((folder / limit).read_text())
                current = int((folder / used).read_text())
                left.append(max(0, maximum - current + _page_cache(folder)))
            except (OSError, ValueError):  # no such group, or the limit is the word "max"
                pass
            if folder == root:
                break
    return left


def _page_cache(folder: Path) -> int:
    """Memory of a group that the kernel reclaims on demand: file pages not in active use."""
    for line in (folder / "memory.stat").read_text().splitlines():
        if line.startswith("inactive_file "):
            return int(line.split()[1])
    return 0


def _address_space() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return None
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return limit
    return max(0, limit - pages * os.sysconf("SC_PAGE_SIZE"))
