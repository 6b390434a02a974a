"""A worker process that a zygote forked, as its host sees it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from pathlib import Path

from rlm.sandbox.launchers.fork_gate import ForkGate


class ZygoteWorker:
    """Implements WorkerProcess: a REPL that a zygote forked. Signals go through its pidfd, so they never hit another."""

    def __init__(self, sock: socket.socket, pidfd: int, shared_fd: int | None) -> None:
        self.shared_fd = shared_fd
        self._sock = sock
        self._pidfd = pidfd
        self._pid = _pid_behind(pidfd)
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._gate: ForkGate | None = None

    @property
    def sock(self) -> socket.socket:
        return self._sock

    @property
    def pid(self) -> int:
        return self._pid

    def interrupt(self) -> None:
        self._send(signal.SIGINT)

    def kill(self) -> None:
        self._send(signal.SIGKILL)

    async def wait(self) -> str:
        return await asyncio.shield(self._ended)

    def _send(self, number: signal.Signals) -> None:
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def guard_forks(self, gate: int) -> None:
        """Set by the zygote's reader, where the REPL may ask for forks."""
        self._gate = ForkGate(gate, self._pid)

    def duplicate_pidfd(self) -> int:
        """For who waits until the process is gone, whatever is told of it."""
        return os.dup(self._pidfd)

    def end(self, how: str) -> None:
        """Set by the zygote's reader, once."""
        if self._gate is not None:
            self._gate.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        if not self._ended.done():
            self._ended.set_result(how)


def _pid_behind(pidfd: int) -> int:
    """A pidfd's process id in our own numbering, -1 when it has ended."""
    for line in Path(f"/proc/self/fdinfo/{pidfd}").read_text(encoding="ascii").splitlines():
        if line.startswith("Pid:"):
            return int(line.split()[1])
    return -1
