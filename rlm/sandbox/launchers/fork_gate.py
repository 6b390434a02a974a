"""The gate before a REPL's forks: the kernel holds each one until the host has decided.

A REPL may have one copy of itself at a time (see ``worker.prefetch``), and only its main thread may make it: so copies make
none, a fork bomb is a bomb of one, and memory is bounded by twice the limit of one process. The host counts the children
itself, in /proc; nothing that the REPL says is believed. Deciding takes some 50 us and never waits.
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
    """Watches one REPL's gate on the running loop until ``close``.

    Args:
        descriptor: the gate, owned from now on.
        pid: the REPL's main thread, as the host numbers it.
    """

    def __init__(self, descriptor: int, pid: int) -> None:
        self._descriptor = descriptor
        self._pid = pid
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)
        asyncio.get_running_loop().add_reader(descriptor, self._decide)

    def close(self) -> None:
        """Safe to call twice. Forks fail from here on."""
        if self._descriptor >= 0:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _decide(self) -> None:
        if not any(events & select.POLLIN for _, events in self._poll.poll(0)):
            self.close()  # the last process behind the gate has ended
            return
        question = bytearray(_QUESTION.size)
        with contextlib.suppress(OSError):  # whoever asked may have been killed meanwhile
            fcntl.ioctl(self._descriptor, _RECEIVE, question)
            number, thread, _, _, _, _, flags, *_ = _QUESTION.unpack(question)
            allowed = thread == self._pid and flags == signal.SIGCHLD and not self._has_child()
            answer = (number, 0, 0, _LET_IT_RUN) if allowed else (number, 0, -errno.EPERM, 0)
            fcntl.ioctl(self._descriptor, _SEND, bytearray(_ANSWER.pack(*answer)))

    def _has_child(self) -> bool:
        try:
            return bool(Path(f"/proc/{self._pid}/task/{self._pid}/children").read_text(encoding="ascii").strip())
        except OSError:  # a kernel without this file: what cannot be counted is not allowed
            return True
