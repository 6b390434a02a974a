"""System calls that have no function in Python, through ctypes.

The C library is loaded as ``PyDLL``, so the interpreter's lock stays held during a call. A raw ``clone`` needs that: its child
starts with one thread and must not wait for a lock.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any

from .machine import this_machine

_libc = ctypes.PyDLL(None, use_errno=True)
_machine = this_machine()

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_SECUREBITS = 28
PR_SET_NO_NEW_PRIVS = 38
PR_CAPBSET_DROP = 24
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4


def call(name: str, *arguments: Any) -> int:
    """Makes one system call. Integers are passed as machine words, ``bytes`` and ctypes objects by address.

    Raises:
        OSError: the call failed; names the call. ENOSYS also if this machine has no such call.
    """
    number = _machine.syscalls.get(name) if _machine else None
    if number is None:
        raise OSError(38, f"{name}: this machine has no table of system calls")
    words = [ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments]
    function = _libc.syscall
    function.restype = ctypes.c_long
    result: int = function(ctypes.c_long(number), *words)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}")
    return result


def prctl(option: int, *arguments: int) -> int:
    """Calls ``prctl`` with unused arguments set to zero, as the kernel requires for most options."""
    padded = (*arguments, 0, 0, 0, 0)[:4]
    return call("prctl", option, *padded)


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    call("mount", source.encode(), os.fsencode(target), kind.encode(), flags, options.encode())
