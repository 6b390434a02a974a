"""Free memory of the machine or of the container around this process, and the memory of one process.

It must not know REPLs.
"""

from __future__ import annotations

import re
from pathlib import Path

from rlm.core.values import frozen

MB = 1024 * 1024
UNLIMITED_MB = 2**40  # version 1 writes "no limit" as a huge number


@frozen
class Memory:
    """Memory in MiB. ``free`` can be used without swapping and without taking it from other processes."""

    free: int
    total: int


def _field(text: str, name: str) -> int:
    """The number after a name at the beginning of a line. Raises ValueError if there is none."""
    match = re.search(rf"^{name}\s+(\d+)", text, re.MULTILINE)
    if match is None:
        raise ValueError(name)
    return int(match[1])


@frozen
class _Group:
    """A control group with a limit of its own, and the file names of its interface version."""

    folder: Path
    limit: str
    usage: str
    cache: str

    def limit_mb(self) -> int:
        text = (self.folder / self.limit).read_text(encoding="ascii").strip()
        return UNLIMITED_MB if text == "max" else int(text) // MB

    def read(self) -> Memory:
        limit = self.limit_mb()
        used = int((self.folder / self.usage).read_text(encoding="ascii")) // MB
        cached = _field((self.folder / "memory.stat").read_text(encoding="ascii"), self.cache) // MB
        return Memory(max(0, limit - used + cached), limit)


class MemoryMeter:
    """Reads the smallest free memory: of the machine, and of each control group that limits this process.

    Args:
        root: folder that holds ``proc`` and ``sys``; for tests.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._meminfo = root / "proc/meminfo"
        self._groups = [group for group in _find_groups(root) if _is_limited(group)]

    def read(self) -> Memory | None:
        """The present values; None if the system does not report them (macOS)."""
        try:
            text = self._meminfo.read_text(encoding="ascii")
            least = Memory(_field(text, "MemAvailable:") // 1024, _field(text, "MemTotal:") // 1024)
        except (OSError, ValueError):
            return None
        for group in self._groups:
            try:
                memory = group.read()
            except (OSError, ValueError):  # it was removed, or its limit lifted
                continue
            if memory.free < least.free:
                least = memory
        return least


def _find_groups(root: Path) -> list[_Group]:
    """The control groups of this process up to the outermost visible one, of both interface versions."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    groups: list[_Group] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            top = root / "sys/fs/cgroup"
            names = ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            top = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        here = Path(path.lstrip("/"))
        groups += [_Group(top / folder, *names) for folder in (here, *here.parents)]
    return groups


def _is_limited(group: _Group) -> bool:
    try:
        return group.limit_mb() < UNLIMITED_MB
    except (OSError, ValueError):  # a container cannot always see its own group
        return False


def own_memory_mb(pid: int, context_bytes: int = 0) -> int:
    """Memory that the end of a process releases, without files. Zero if it has ended.

    Anonymous pages that it maps as shared count as its own, but for ``context_bytes`` of them, the shared context.
    """
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
        own, shared = _field(text, "RssAnon:"), _field(text, "RssShmem:")
    except (OSError, ValueError):  # a zombie has no memory
        return 0
    return (own + max(0, shared - context_bytes // 1024)) // 1024


def count_oom_kills() -> int:
    """Processes that the kernel killed for lack of memory since its start, on the machine or in a control group."""
    try:
        return _field(Path("/proc/vmstat").read_text(encoding="ascii"), "oom_kill")
    except (OSError, ValueError):
        return 0
