"""Launches workers on macOS under ``sandbox-exec``, with a watchdog on their memory. NEVER TESTED on a Mac.

macOS has no namespaces and no system call filter, and does not enforce ``RLIMIT_AS``. Instead this level uses:

- A Seatbelt profile that denies everything except reading Python's own files.
- One process per REPL, slow to start because there is no zygote.
- A sampled limit on resident memory.

It is weaker than the levels of Linux: between two samples memory can exceed its limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

from rlm.core.errors import SandboxUnavailableError
from rlm.core.repl_spec import ReplLimits
from rlm.sandbox.launchers.unconfined import ENVIRONMENT, WORKER, ChildProcess
from rlm.sandbox.launchers.zygote_process import OPTIONS

SANDBOX_EXEC = "/usr/bin/sandbox-exec"
SAMPLE_S = 0.25
TRY_TIMEOUT_S = 20.0

PROFILE = """
(version 1)
(deny default)
(deny network*)
(deny process-fork)
(allow process-exec (literal (param "PYTHON")))
(allow file-read* (subpath (param "PREFIX")) (subpath (param "LIBRARY")) (subpath (param "WORKER"))
  (subpath "/usr/lib") (subpath "/System/Library") (subpath "/usr/share/zoneinfo") (literal "/dev/urandom"))
(allow file-read-metadata (literal "/"))
(allow file-read* file-write-data (literal "/dev/null"))
(allow sysctl-read)
(allow signal (target self))
(allow mach-lookup (global-name "com.apple.system.opendirectoryd.libinfo"))
"""


def command(executable: str = sys.executable) -> list[str]:
    """The ``sandbox-exec`` command with profile and parameters, to which the program and its arguments are appended."""
    import sysconfig  # noqa: PLC0415  slow to import, and most processes start no worker of this kind

    python = os.path.realpath(executable)
    parameters = {
        "PYTHON": python,
        "PREFIX": os.path.realpath(sys.base_prefix),
        "LIBRARY": os.path.realpath(sysconfig.get_path("stdlib")),
        "WORKER": os.path.realpath(WORKER),
    }
    options = [part for name, value in parameters.items() for part in ("-D", f"{name}={value}")]
    return [SANDBOX_EXEC, "-p", PROFILE, *options, python]


def seatbelt_reason() -> str | None:
    """The reason why this level does not work here, from a dry run; None if it works."""
    if sys.platform != "darwin":
        return f"Seatbelt needs macOS; this is {sys.platform}"
    if not os.access(SANDBOX_EXEC, os.X_OK):
        return f"{SANDBOX_EXEC} is missing"
    attempt = (
        "import socket\n"
        "for attempt in (lambda: open('/etc/passwd'), lambda: socket.create_connection(('127.0.0.1', 9), 1)):\n"
        "    try: attempt()\n"
        "    except PermissionError: continue\n"
        "    raise SystemExit('not confined')\n"
    )
    try:
        ended = subprocess.run(  # noqa: S603 - our own interpreter
            [*command(), *OPTIONS, "-c", attempt],
            env=ENVIRONMENT,
            cwd="/",
            capture_output=True,
            timeout=TRY_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return None if ended.returncode == 0 else ended.stderr.decode(errors="replace").strip() or "the dry run failed"


class SeatbeltLauncher:
    """Implements Launcher with the level "seatbelt"."""

    level = "seatbelt"

    def __init__(self) -> None:
        self._watches: set[asyncio.Task[None]] = set()

    async def launch(self, limits: ReplLimits, shared: int | None = None) -> ChildProcess:
        """Starts a worker under the profile, and watches its memory until it ends.

        Raises:
            SandboxUnavailableError: it cannot be started.
        """
        import tempfile  # noqa: PLC0415  slow to import, and most processes start no worker of this kind

        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        folder = tempfile.mkdtemp(prefix="rlm-repl-")
        program = [*command(), *OPTIONS, str(WORKER), "--fd", str(theirs.fileno()), "--parent", str(os.getpid())]
        try:
            child = subprocess.Popen(  # noqa: ASYNC220, S603 - returns at exec
                program,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                close_fds=True,
                pass_fds=(theirs.fileno(),) if shared is None else (theirs.fileno(), shared),
                start_new_session=True,
                env=ENVIRONMENT,
                cwd="/",
            )
        except OSError as error:
            ours.close()
            Path(folder).rmdir()  # noqa: ASYNC240 - one call on a local folder
            raise SandboxUnavailableError(f"could not start a worker under Seatbelt: {error}") from error
        finally:
            theirs.close()
        ours.setblocking(False)
        worker = ChildProcess(child, ours, folder, shared)
        watch = asyncio.create_task(self._watch(worker, limits.memory_mb * 1024))
        self._watches.add(watch)
        watch.add_done_callback(self._watches.discard)
        return worker

    async def aclose(self) -> None:
        """Stops the watchdogs. The owners of the processes end them."""
        for watch in list(self._watches):
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch

    async def _watch(self, worker: ChildProcess, limit_kb: int) -> None:
        """Kills a worker whose resident memory exceeds the limit."""
        ended = asyncio.ensure_future(worker.wait())
        while not ended.done():
            if await asyncio.to_thread(_resident_kb, worker.pid) > limit_kb:
                worker.kill()
            await asyncio.wait((ended,), timeout=SAMPLE_S)


def _resident_kb(pid: int) -> int:
    """Resident memory as reported by ``ps``; 0 if the process has ended."""
    shown = subprocess.run(["/bin/ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=False)  # noqa: S603
    return int(shown.stdout.strip() or 0)
