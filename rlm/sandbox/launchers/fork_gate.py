"""Decides the forks of a REPL: the kernel suspends each one until the host has answered.

A REPL can have one lookahead copy of itself at a time (see ``worker.lookahead``), and only its main thread can fork it. So
copies cannot fork, a fork bomb stops at one process, and memory is bounded by twice the limit of one process. The host counts
the children itself, in /proc, and believes nothing that the REPL claims. A decision takes some 50 us and never waits. A REPL
that asks for forks in a loop gets its refusals later and later, because the event loop belongs to other REPLs too.
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
from time import perf_counter

from rlm.sandbox.loop_share import LoopShare

# From linux/seccomp.h: struct seccomp_notif (id, pid, flags, then struct seccomp_data), struct seccomp_notif_resp.
_QUESTION = struct.Struct("QIIiIQ6Q")
_ANSWER = struct.Struct("QqiI")
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_LET_IT_RUN = 1
REFUSAL_SHARE, REFUSAL_BURST_S = 0.02, 0.01  # loop time for refused forks of one REPL


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
        self._share = LoopShare(REFUSAL_SHARE, REFUSAL_BURST_S)
        self._later: asyncio.TimerHandle | None = None
        asyncio.get_running_loop().add_reader(descriptor, self._decide)

    def close(self) -> None:
        """Closes the gate; forks fail from here on. Safe to call twice."""
        if self._later is not None:
            self._later.cancel()
        if self._descriptor >= 0:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _decide(self) -> None:
        if not any(events & select.POLLIN for _, events in self._poll.poll(0)):
            self.close()  # the last process behind the gate has ended
            return
        started = perf_counter()
        question = bytearray(_QUESTION.size)
        with contextlib.suppress(OSError):  # the process that asked can have been killed meanwhile
            fcntl.ioctl(self._descriptor, _RECEIVE, question)
            number, thread, _, _, _, _, flags, *_ = _QUESTION.unpack(question)
            allowed = thread == self._pid and flags == signal.SIGCHLD and not self._has_child()
            answer = (number, 0, 0, _LET_IT_RUN) if allowed else (number, 0, -errno.EPERM, 0)
            fcntl.ioctl(self._descriptor, _SEND, bytearray(_ANSWER.pack(*answer)))
            if not allowed:
                self._slow_down(started)

    def _slow_down(self, started: float) -> None:
        now = perf_counter()
        pause_s = self._share.spend(now - started, now)
        if pause_s:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._descriptor)
            self._later = loop.call_later(pause_s, loop.add_reader, self._descriptor, self._decide)

    def _has_child(self) -> bool:
        try:
            return bool(Path(f"/proc/{self._pid}/task/{self._pid}/children").read_text(encoding="ascii").strip())
        except OSError:  # a kernel without this file: children that cannot be counted are not allowed
            return True
