"""Runs a Python program while some system calls fail, as in a container: ``restricted.py CALLS PROGRAM [ARG ...]``.

CALLS are names joined by commas. They fail with EPERM in this process and all its children. ``userns`` stands for every call
that creates a user namespace.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from rlm.sandbox.worker.confine.bpf import ALLOW, Rule, Test, assemble, errno_action
from rlm.sandbox.worker.confine.kernel import PR_SET_NO_NEW_PRIVS, call, prctl
from rlm.sandbox.worker.confine.machine import this_machine

NEW_USER = 0x10000000
EPERM = errno_action(1)


def main() -> None:
    names, *command = sys.argv[1:]
    machine = this_machine()
    assert machine is not None
    rules = []
    for name in names.split(","):
        if name == "userns":
            no_user = Test(0, (0,), mask=NEW_USER)
            rules += [Rule("unshare", (no_user,)), Rule("clone", (no_user,)), Rule("clone3", action=errno_action(38))]
        else:
            rules.append(Rule(name, action=EPERM))
    program = assemble(machine, rules, default=ALLOW, unknown_from=1 << 29, unknown=ALLOW)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    call("seccomp", 1, 0, ctypes.byref(program.kernel_struct))
    os.execv(sys.executable, [sys.executable, *command])


if __name__ == "__main__":
    main()
