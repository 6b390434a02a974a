"""How worker processes come to be: the seam between the REPLs and the ways to start and confine a process."""

from __future__ import annotations

import socket
from typing import Protocol

from rlm.core.repl_spec import ReplLimits


class WorkerProcess(Protocol):
    """A process that serves one REPL on the other end of ``sock``.

    Attributes:
        sock: our end, a connected non-blocking stream socket. Whoever takes it closes it.
        pid: its process id, as seen from the host.
        shared_fd: the number under which it holds the descriptor that ``launch`` was given; None where it was given none.
    """

    @property
    def sock(self) -> socket.socket: ...

    @property
    def pid(self) -> int: ...

    @property
    def shared_fd(self) -> int | None: ...

    def interrupt(self) -> None:
        """Sends SIGINT. Does nothing when the process has ended."""
        ...

    def kill(self) -> None:
        """Sends SIGKILL. Does nothing when the process has ended."""
        ...

    async def wait(self) -> str:
        """Returns how it ended, for instance "killed by signal 9 (SIGKILL)". May be called more than once."""
        ...


class Launcher(Protocol):
    """Starts worker processes. ``level`` names the isolation that they have."""

    @property
    def level(self) -> str: ...

    async def launch(self, limits: ReplLimits, shared: int | None = None) -> WorkerProcess:
        """A new process, ready to be sent its first message.

        Args:
            limits: of the REPL that it is to serve.
            shared: the descriptor of a shared context, which the process inherits.

        Raises:
            SandboxUnavailableError: when none could be started.
        """
        ...

    async def aclose(self) -> None:
        """Releases what the launcher itself holds; its processes are ended by those who own them."""
        ...
