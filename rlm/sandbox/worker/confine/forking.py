"""Forks the process of one REPL from the zygote.

If namespaces are available, one raw ``clone`` makes the child the first process of new user and pid namespaces. It can then
name no other process, its threads are counted separately, and every process that it starts dies with it. This needs no
capability.

Its thread id is 1, as is the zygote's in its own namespace. The C library caches that id and is not informed of the raw
``clone``, so both must be equal; ``is_first_process`` checks this.
"""

from __future__ import annotations

import ctypes
import os
import signal

from .kernel import call
from .namespaces import NEW_PID, NEW_USER

_CLONE_PIDFD = 0x1000


def is_first_process() -> bool:
    return os.getpid() == 1


def fork_into_namespaces() -> tuple[int, int]:
    """Forks into new user and pid namespaces.

    Returns:
        pid and pidfd in the parent; (0, -1) in the child.

    Raises:
        OSError: the kernel refuses, for instance at its limit of namespaces.
    """
    if not is_first_process():
        raise OSError(1, "clone: only the first process of a pid namespace can fork this way")
    pidfd = ctypes.c_int(-1)
    nothing = (0, 0)  # child's thread id and thread storage: their order depends on the machine, both are unused
    python = ctypes.pythonapi
    python.PyOS_BeforeFork()
    try:
        pid = call("clone", NEW_USER | NEW_PID | _CLONE_PIDFD | signal.SIGCHLD, 0, ctypes.byref(pidfd), *nothing)
    except OSError:
        python.PyOS_AfterFork_Parent()
        raise
    if pid == 0:
        python.PyOS_AfterFork_Child()
        return 0, -1
    python.PyOS_AfterFork_Parent()
    return pid, pidfd.value


def fork_plainly() -> tuple[int, int]:
    """Forks within the present namespaces. Returns the same as ``fork_into_namespaces``."""
    pid = os.fork()
    if pid == 0:
        return 0, -1
    return pid, os.pidfd_open(pid)  # only this process reaps it, so the number cannot have passed to another process
