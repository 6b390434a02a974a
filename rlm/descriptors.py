"""File descriptors of this process: raises the soft limit once, and divides it between sockets and everything else."""

from __future__ import annotations

import contextlib
import os
import resource
from functools import cache

WANTED = 65_536  # more than any run needs; some systems slow down with millions
_PLENTY = 1_024  # above this limit, free descriptors are not counted
_FOLDER = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"  # noqa: PTH112  at import, for a constant


@cache
def raise_limit() -> None:
    """Raises the soft limit of this process towards its hard limit, at the start of its first run."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    wanted = WANTED if hard == unlimited else min(hard, WANTED)
    if soft != unlimited and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # macOS has a lower limit of its own
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def soft_limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return WANTED if soft == resource.RLIM_INFINITY else soft


def socket_capacity() -> int:
    """The sockets of model calls at most. REPLs, journals, files and the host's own program share the rest."""
    return max(4, soft_limit() // 2)


def are_scarce(needed: int) -> bool:
    """True if fewer than ``needed`` descriptors are free."""
    limit = soft_limit()
    if limit > _PLENTY:
        return False
    try:
        return limit - len(os.listdir(_FOLDER)) < needed  # noqa: PTH208  faster than Path
    except OSError:  # not even one for the folder
        return True
