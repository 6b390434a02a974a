"""Launches workers as plain child processes, confined only by an empty environment, an empty folder and a new session."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from rlm.core.errors import SandboxUnavailableError
from rlm.core.repl_spec import ReplLimits
from rlm.sandbox.launchers import zygote_process

WORKER = Path(__file__).parents[1] / "worker"
ENVIRONMENT = {
    **zygote_process.ENVIRONMENT,
    "LC_ALL": "C.UTF-8",
    "MALLOC_ARENA_MAX": "2",  # each further arena takes 64 MB of the address space that the memory limit counts
}


def describe_status(code: int) -> str:
    """Describes the end of a process, given the return code of ``subprocess``."""
    if code >= 0:
        return f"exited with status {code}"
    with contextlib.suppress(ValueError):
        return f"killed by signal {-code} ({signal.Signals(-code).name})"
    return f"killed by signal {-code}"


class ChildProcess:
    """Implements WorkerProcess for a child process. Its end is awaited through a pidfd if available, otherwise in a thread."""

    def __init__(
        self, process: subprocess.Popen[bytes], sock: socket.socket, folder: str, shared_fd: int | None = None
    ) -> None:
        self.shared_fd = shared_fd
        self._process = process
        self._sock = sock
        self._folder = folder
        self._pidfd = os.pidfd_open(process.pid) if hasattr(os, "pidfd_open") else None
        self._ended = asyncio.create_task(self._reap())

    @property
    def sock(self) -> socket.socket:
        return self._sock

    @property
    def pid(self) -> int:
        return self._process.pid

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)  # Popen polls first, so a reused process id is never hit

    def kill(self) -> None:
        self._process.kill()

    def pause(self) -> None:
        """Does nothing: a paused process would not notice the end of the host."""

    def resume(self) -> None:
        """See ``pause``."""

    async def wait(self) -> str:
        return await asyncio.shield(self._ended)

    async def _reap(self) -> str:
        if self._pidfd is None:
            code = await asyncio.to_thread(self._process.wait)
        else:
            await self._until_readable(self._pidfd)
            os.close(self._pidfd)
            code = self._process.wait()
        # No thread: none can be started while the interpreter shuts down.
        _remove(self._folder)
        return describe_status(code)

    async def _until_readable(self, fd: int) -> None:
        loop = asyncio.get_running_loop()
        readable = loop.create_future()
        loop.add_reader(fd, lambda: None if readable.done() else readable.set_result(None))
        try:
            await readable
        finally:
            loop.remove_reader(fd)


class UnconfinedLauncher:
    """Implements Launcher with the level "unconfined"."""

    level = "unconfined"

    async def launch(self, limits: ReplLimits, shared: int | None = None) -> ChildProcess:
        """Starts a worker. It receives its limits with the first message and sets its own rlimits."""
        import tempfile  # noqa: PLC0415  slow to import, and most processes start no worker of this kind

        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        folder = tempfile.mkdtemp(prefix="rlm-repl-")
        command = [
            sys.executable,
            *zygote_process.OPTIONS,
            str(WORKER),
            "--fd",
            str(theirs.fileno()),
            "--parent",
            str(os.getpid()),
        ]
        try:
            # Started in the loop's own thread: the worker dies with the thread that started it (PR_SET_PDEATHSIG).
            process = subprocess.Popen(  # noqa: ASYNC220, S603  returns at exec, in about a millisecond
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                close_fds=True,
                pass_fds=(theirs.fileno(),) if shared is None else (theirs.fileno(), shared),
                start_new_session=True,
                env=ENVIRONMENT,
                cwd=folder,
            )
        except OSError as error:
            ours.close()
            _remove(folder)
            raise SandboxUnavailableError(f"could not start a worker process: {error}") from error
        finally:
            theirs.close()
        ours.setblocking(False)
        return ChildProcess(process, ours, folder, shared)

    async def aclose(self) -> None:
        """Does nothing: the launcher holds no resources."""


def _remove(folder: str) -> None:
    import shutil  # noqa: PLC0415  slow to import, and most processes start no worker of this kind

    shutil.rmtree(folder, ignore_errors=True)
