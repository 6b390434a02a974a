"""Decides the forks of a REPL: the kernel suspends each one until the host has answered.

A REPL can have one lookahead copy of itself at a time (see ``worker.lookahead``), and only its main thread can fork it. So
copies cannot fork, a fork bomb stops at one process, and memory is bounded by twice the limit of one process. The host counts
the children itself, in /proc, and believes nothing that the REPL claims. A decision takes some 50 us and never waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import select
import signal
import struct
from pathlib import Path

# From linux/seccomp.h: struct seccomp_notif (id, pid, flags, then struct seccomp_data), struct seccomp_notif_resp.
_QUESTION = struct.Struct("QIIiIQ6Q")
_ANSWER = struct.Struct("QqiI")
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_LET_IT_RUN = 1


class ForkGate:
    """Answers one REPL's fork requests on the running loop until ``close``.

    Args:
        descriptor: the seccomp listener, owned from now on.
        pid: the REPL's main thread, as the host numbers it.
    """

    def __init__(self, descriptor: int, pid: int) -> None:
        self._descriptor = descriptor
        self._pid = pid
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)
        asyncio.get_running_loop().add_reader(descriptor, self._decide)

    def close(self) -> None:
        """Closes the gate; forks fail from here on. Safe to call twice."""
        if self._descriptor >= 0:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _decide(self) -> None:
        if not any(events & select.POLLIN for _, events in self._poll.poll(0)):
            self.close()  # the last process behind the gate has ended
            return
        question = bytearray(_QUESTION.size)
        with contextlib.suppress(OSError):  # the process that asked can have been killed meanwhile
            fcntl.ioctl(self._descriptor, _RECEIVE, question)
            number, thread, _, _, _, _, flags, *_ = _QUESTION.unpack(question)
            allowed = thread == self._pid and flags == signal.SIGCHLD and not self._has_child()
            answer = (number, 0, 0, _LET_IT_RUN) if allowed else (number, 0, -errno.EPERM, 0)
            fcntl.ioctl(self._descriptor, _SEND, bytearray(_ANSWER.pack(*answer)))

    def _has_child(self) -> bool:
        try:
            return bool(Path(f"/proc/{self._pid}/task/{self._pid}/children").read_text(encoding="ascii").strip())
        except OSError:  # a kernel without this file: children that cannot be counted are not allowed
            return True
