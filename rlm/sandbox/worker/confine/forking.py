"""Making the process of one REPL out of the zygote.

Where namespaces are to be had, one raw ``clone`` makes the child the first process of a user and a pid namespace of its own:
it can name no other process, its threads are counted apart from everybody else's, and whatever it may have started dies
with it. No capability is needed for that. Its thread id is 1, as the zygote's is in its namespace: that is what the C
library, which was not asked, goes on believing; ``is_first_process`` guards it.
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
        OSError: where the kernel refuses, for instance at its limit of namespaces.
    """
    if not is_first_process():
        raise OSError(1, "clone: only the first process of a pid namespace may fork this way")
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
    """Forks within the present namespaces. The same result as ``fork_into_namespaces``."""
    pid = os.fork()
    if pid == 0:
        return 0, -1
    return pid, os.pidfd_open(pid)  # nobody but us reaps it, so the number cannot have passed to another process
