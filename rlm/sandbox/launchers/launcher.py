"""Protocols between REPLs and the ways to start and confine a process."""

from __future__ import annotations

import socket
from typing import Protocol

from rlm.core.repl_spec import ReplLimits


class WorkerProcess(Protocol):
    """A process that serves one REPL on the other end of ``sock``.

    Attributes:
        sock: the host's end, a connected non-blocking stream socket. Its receiver closes it.
        pid: its process id, as seen from the host.
        shared_fd: its number for the descriptor passed to ``launch``; None without one.
    """

    @property
    def sock(self) -> socket.socket: ...

    @property
    def pid(self) -> int: ...

    @property
    def shared_fd(self) -> int | None: ...

    def interrupt(self) -> None:
        """Sends SIGINT. Does nothing if the process has ended."""
        ...

    def kill(self) -> None:
        """Sends SIGKILL. Does nothing if the process has ended."""
        ...

    def pause(self) -> None:
        """Stops its threads until ``resume``. Does nothing if the process could survive the host in this state."""
        ...

    def resume(self) -> None:
        """Continues a paused process."""
        ...

    async def wait(self) -> str:
        """Waits for its end; returns a description such as "killed by signal 9 (SIGKILL)". Safe to call twice."""
        ...


class Launcher(Protocol):
    """Starts worker processes. ``level`` names their isolation."""

    @property
    def level(self) -> str: ...

    async def launch(self, limits: ReplLimits, shared: int | None = None) -> WorkerProcess:
        """Starts a process that is ready for its first message.

        Args:
            limits: limits of the REPL that it serves.
            shared: descriptor of a shared context, which the process inherits.

        Raises:
            SandboxUnavailableError: no process could be started.
        """
        ...

    async def aclose(self) -> None:
        """Releases the launcher's own resources. The owners of its processes end them."""
        ...
