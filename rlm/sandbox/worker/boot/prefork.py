"""Processes forked in advance, so that most of the work of starting a REPL is done before it is requested.

Forking the zygote, and the first writes to pages shared with it, take longer than a REPL's first cell. A pre-forked process
has done both. It is confined as far as possible without knowing its limits, and waits for its order from the zygote alone.
It never runs a cell before that. This module must not know the meaning of orders.
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
        """Forks a process that calls ``become`` with its end of a socket. Raises OSError if no process can be created."""
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
        """Hands the process its order, once. Returns False if it has died."""
        with self._sock:
            try:
                socket.send_fds(self._sock, [json.dumps(order).encode()], descriptors)
            except OSError:
                return False
        return True

    def close(self) -> None:
        self._sock.close()


def receive(sock: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Receives an order with its descriptors. Ends this process if the sender is gone."""
    data, descriptors, _, _ = socket.recv_fds(sock, MAX_MESSAGE_BYTES, MAX_DESCRIPTORS)
    if not data:
        os._exit(0)
    return json.loads(data), descriptors
