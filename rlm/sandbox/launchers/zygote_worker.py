"""A worker process forked by a zygote, as seen from the host."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from pathlib import Path

from rlm.sandbox.launchers.fork_gate import ForkGate


class ZygoteWorker:
    """Implements WorkerProcess for a child of a zygote. Signals go through its pidfd, so they cannot hit another process."""

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

    def pause(self) -> None:
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        self._send(signal.SIGCONT)

    async def wait(self) -> str:
        return await asyncio.shield(self._ended)

    def _send(self, number: signal.Signals) -> None:
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def guard_forks(self, gate: int) -> None:
        """Installs the fork gate of a REPL that can request forks. Called by the zygote's client."""
        self._gate = ForkGate(gate, self._pid)

    def duplicate_pidfd(self) -> int:
        """Duplicates the pidfd, for a caller that waits until the process is gone, independently of the zygote's messages."""
        return os.dup(self._pidfd)

    def end(self, how: str) -> None:
        """Records the end of the process. Called once, by the zygote's client."""
        if self._gate is not None:
            self._gate.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        if not self._ended.done():
            self._ended.set_result(how)


def _pid_behind(pidfd: int) -> int:
    """The process id behind a pidfd, as the host numbers it; -1 if the process has ended."""
    for line in Path(f"/proc/self/fdinfo/{pidfd}").read_text(encoding="ascii").splitlines():
        if line.startswith("Pid:"):
            return int(line.split()[1])
    return -1
