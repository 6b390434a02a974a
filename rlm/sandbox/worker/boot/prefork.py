"""A process forked before it is asked for: most of what a REPL's birth takes is done when the next one is wanted.

To fork the zygote, and to write for the first time to pages that are shared with it, take longer than a REPL's first cell. A
spare has both behind it, and waits, confined as far as that goes without knowing its limits, for its order from the zygote
alone. It never runs a cell as a spare. It must not know what orders mean.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from ..confine import forking

MAX_MESSAGE_BYTES = 64 * 1024
MAX_DESCRIPTORS = 8


class PreforkedProcess:
    """The zygote's side of one waiting process."""

    def __init__(self, pid: int, pidfd: int, sock: socket.socket) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self._sock = sock

    @classmethod
    def fork(cls, in_namespaces: bool, become: Callable[[socket.socket], NoReturn]) -> PreforkedProcess:
        """``become`` is what the new process does with its end of a socket. Raises OSError where no process can be made."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                pid, pidfd = forking.fork_into_namespaces() if in_namespaces else forking.fork_plainly()
            except OSError:
                ours.close()
                raise
            if pid == 0:
                become(theirs)
        return cls(pid, pidfd, ours)

    def hand(self, order: dict[str, Any], descriptors: Sequence[int]) -> bool:
        """Gives it its order. False where it has died; either way it is no spare any more."""
        with self._sock:
            try:
                socket.send_fds(self._sock, [json.dumps(order).encode()], descriptors)
            except OSError:
                return False
        return True

    def close(self) -> None:
        self._sock.close()


def receive(sock: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """An order with its descriptors; ends this process where nobody is left to give one."""
    data, descriptors, _, _ = socket.recv_fds(sock, MAX_MESSAGE_BYTES, MAX_DESCRIPTORS)
    if not data:
        os._exit(0)
    return json.loads(data), descriptors
