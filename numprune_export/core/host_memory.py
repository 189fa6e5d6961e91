"""Memory of this machine that a process may still take, within the limits of its container."""

from __future__ import annotations

from pathlib import Path

import psutil

CGROUP = Path("/sys/fs/cgroup")
"""Where Linux shows the limits of the present container: cgroup version 2, or 1 in `memory`."""
STATUS = Path("/proc/self/status")
_V2 = ("memory.max", "memory.current", "memory.stat")
_V1 = ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat")


def available_bytes() -> int:
    """The less of what the machine has free and what the container may still take.

    Pages of files that the system can drop count as free.
    """
    free = int(psutil.virtual_memory().available)
    within = [left for left in (_left(_V2), _left(_V1)) if left is not None]
    return min([free, *within])


def own_bytes() -> int:
    """Resident memory that belongs to this process alone; all resident memory where the system does
    not tell them apart. Pages of mapped files, which it can drop, do not count."""
    for line in (_read(STATUS) or "").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return int(psutil.Process().memory_info().rss)


def limit_bytes() -> int | None:
    """The container's limit; None: there is none."""
    texts = [_read(CGROUP / names[0]) for names in (_V2, _V1)]
    limits = [int(text) for text in texts if text is not None and text.strip().isdigit()]
    # Version 1 writes no limit as a number near 2⁶³.
    within = [limit for limit in limits if limit < psutil.virtual_memory().total]
    return min(within, default=None)


def _left(names: tuple[str, str, str]) -> int | None:
    """Bytes up to the container's limit; None: there is no limit."""
    limit, used, stat = (_read(CGROUP / name) for name in names)
    if limit is None or used is None or not limit.strip().isdigit():
        return None
    droppable = 0
    for line in (stat or "").splitlines():
        name, _, value = line.partition(" ")
        if name in ("inactive_file", "active_file"):
            droppable += int(value)
    return max(0, int(limit) - int(used) + droppable)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return None
