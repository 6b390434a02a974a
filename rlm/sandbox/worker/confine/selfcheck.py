"""The self-check of a dry run: a REPL's process attempts forbidden operations and reports those that succeed.

A level counts as available only if every attempt fails: the kernel's answer decides, not its version.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import threading
from collections.abc import Callable
from typing import NoReturn

_SECRET = "/etc/passwd"  # noqa: S105 - a file that every machine has and every user can read


def serve(sock: socket.socket) -> NoReturn:
    """Sends the attempts that succeeded, as a JSON list of sentences, and exits."""
    escapes = [what for what, attempt in _ATTEMPTS.items() if _succeeds(attempt)]
    sock.sendall(json.dumps(escapes).encode() + b"\n")
    os._exit(0)


def _succeeds(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except (OSError, RuntimeError):  # "can't start new thread"
        return False
    return True


def _signal_parent() -> None:
    parent = os.getppid()
    if not parent:
        raise ProcessLookupError("the parent is not visible")
    os.kill(parent, 0)


def _start_second_thread() -> None:
    threading.Thread(target=int).start()


def _map_code() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    private_anonymous, read_write_execute = 0x22, 0x7
    address = libc.mmap(None, 4096, read_write_execute, private_anonymous, -1, 0)
    if address is None or address == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), "mmap")


_ATTEMPTS: dict[str, Callable[[], object]] = {
    "read a file of the machine": lambda: os.close(os.open(_SECRET, os.O_RDONLY)),
    "write a file": lambda: os.close(os.open("/tmp/rlm-selfcheck", os.O_WRONLY | os.O_CREAT)),  # noqa: S108
    "open a network socket": lambda: socket.socket().close(),
    "open a local socket": lambda: socket.socket(socket.AF_UNIX).close(),
    "start a program": lambda: os.execv("/bin/true", ["true"]),  # noqa: S606
    "fork": lambda: os.fork() or os._exit(0),
    "signal its parent": _signal_parent,
    "start more threads than allowed": _start_second_thread,
    "map writable memory as code": _map_code,
}
