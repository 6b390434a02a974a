"""Drops privileges of a process for good: capabilities, ways to regain them, inspection by others, unlimited resources."""

from __future__ import annotations

import contextlib
import ctypes
import resource
import struct

from .bpf import Program
from .kernel import (
    PR_CAP_AMBIENT,
    PR_CAP_AMBIENT_CLEAR_ALL,
    PR_CAPBSET_DROP,
    PR_SET_DUMPABLE,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_SECUREBITS,
    call,
    prctl,
)

_CAPABILITY_VERSION_3 = 0x20080522
_ALL_SECUREBITS_LOCKED = 0b11101111  # noroot, no setuid fixup, no ambient raise, each with its lock
_SECCOMP_SET_MODE_FILTER = 1
_WITH_DESCRIPTOR = 8

MAX_DESCRIPTORS = 256
MAX_PENDING_SIGNALS = 64


def drop_capabilities() -> None:
    """Drops every capability of every kind for good."""
    with contextlib.suppress(OSError):  # needs CAP_SETPCAP, and only a process with it has anything to drop
        for number in range(64):
            prctl(PR_CAPBSET_DROP, number)
    with contextlib.suppress(OSError):
        prctl(PR_SET_SECUREBITS, _ALL_SECUREBITS_LOCKED)
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    call("capset", struct.pack("Ii", _CAPABILITY_VERSION_3, 0), bytes(24))


def give_up_privileges() -> None:
    """Drops all capabilities. None can be gained by exec, and processes of the same user cannot read core or memory."""
    drop_capabilities()
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_DUMPABLE, 0)


def die_first() -> None:
    """Makes the kernel's OOM killer choose this process and its children before any other."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")


def limit_resources(*, memory_bytes: int, cpu_s: int, tasks: int) -> None:
    """Sets the kernel's resource limits for one REPL.

    The hard limit of memory stays open until the REPL has its context, whose size is added to it. The REPL must set it before the
    first cell.
    """
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, resource.RLIM_INFINITY))
    for limit, value in (
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_NPROC, tasks),
        (resource.RLIMIT_NOFILE, MAX_DESCRIPTORS),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_SIGPENDING, MAX_PENDING_SIGNALS),
    ):
        _lower(limit, value)


def _lower(limit: int, value: int) -> None:
    _, hard = resource.getrlimit(limit)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(limit, (value, value))


def filter_calls(program: Program) -> None:
    """Installs a filter for good. ``no_new_privs`` must be set."""
    call("seccomp", _SECCOMP_SET_MODE_FILTER, 0, ctypes.byref(program.kernel_struct))


def filter_with_gate(program: Program) -> int:
    """Installs a filter whose decisions the holder of the returned descriptor makes.

    Raises:
        OSError: the kernel does not support it, or an outer filter has a descriptor already.
    """
    return call("seccomp", _SECCOMP_SET_MODE_FILTER, _WITH_DESCRIPTOR, ctypes.byref(program.kernel_struct))
