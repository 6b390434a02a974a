"""Names of processes that write runs, and a check that such a process is alive."""

from __future__ import annotations

import os
import socket
from functools import cache
from pathlib import Path


def this_process() -> str:
    """Name of this process, unique while the machine runs: a process id alone is used again."""
    return _name_of(os.getpid())


@cache
def _name_of(pid: int) -> str:
    return f"{socket.gethostname()}:{pid}:{_start_time(pid)}"


def is_of_this_machine(owner: str) -> bool:
    return owner.partition(":")[0] == socket.gethostname()


def is_alive(owner: str) -> bool:
    """True if the process of this name runs, or could run on another machine."""
    _, pid, start = owner.split(":")
    if not is_of_this_machine(owner):
        return True
    return _start_time(int(pid)) == start if start else False


def _start_time(pid: int) -> str:
    """Start time from the kernel, "-" if it gives none. An empty string if the process has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(") ")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        return "-"
    return "-"
