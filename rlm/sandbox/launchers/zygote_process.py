"""Functions that start and end a zygote's process. Used by the launcher and by dry runs of levels."""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlm.core.errors import ConfigurationError, SandboxUnavailableError

# Id of a dry run's process. Those of a launcher start with 1, and the launcher ignores messages about this one.
TRIAL_ID = 0
WORKER = Path(__file__).parents[1] / "worker"
START_TIMEOUT_S = 60.0  # importing pandas from a cold disk takes seconds
MAX_MESSAGE_BYTES = 64 * 1024
MAX_COMPLAINT_BYTES = 4000

ENTRY = "worker.boot.warmup:serve"
"""The function that REPLs run."""

ENVIRONMENT = {"PYTHONHASHSEED": "0", "TZ": "UTC0"}
"""Environment of cells. Sets must iterate in the same order when a cell is executed again, on any machine."""
OPTIONS = ("-P", "-s", "-S", "-X", "utf8")
"""As ``-I -S``, except that the environment can set the hash seed; it holds nothing but our own variables."""

BOOT = """
import importlib, importlib.util, sys
folder, control, entry = sys.argv[1:]
spec = importlib.util.spec_from_file_location("worker", folder + "/__init__.py", submodule_search_locations=[folder])
sys.modules["worker"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["worker"])
sys.argv[:] = [""]
module, _, function = entry.partition(":")
program = importlib.import_module(module)
steps = (getattr(program, name, None) for name in ("warm_up", "prefault"))
importlib.import_module("worker.boot.zygote").main(int(control), getattr(program, function), *steps)
"""


@dataclass(eq=False, slots=True)
class StartedZygote:
    """A started zygote process, the host's end of its control socket, and a flag set once it has reported that it is ready."""

    process: subprocess.Popen[bytes]
    control: socket.socket
    is_ready: bool = False

    def end(self) -> None:
        """Ends the process. Safe to call twice."""
        self.control.close()
        end_process(self.process)


class ZygoteEndedError(SandboxUnavailableError):
    """The zygote ended before it sent anything: it was killed, or failed in an unforeseen way."""


def start_process(level: str, packages: Sequence[str], entry: str, *, imports: bool = True) -> StartedZygote:
    """Starts a zygote and orders its confinement. The next message on its socket reports the outcome.

    Raises:
        SandboxUnavailableError: the interpreter cannot be executed.
        ConfigurationError: a package is not installed.
    """
    order = {
        "do": "confine",
        "level": level,
        "imports": imports,
        "packages": list(packages),
        "folders": _folders_of(packages),
    }
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and program
            [sys.executable, *OPTIONS, "-c", BOOT, str(WORKER), str(theirs.fileno()), entry],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            close_fds=True,
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
            env=ENVIRONMENT,
            cwd="/",
        )
    except OSError as error:
        ours.close()
        raise SandboxUnavailableError(f"could not start the zygote: {error}") from error
    finally:
        theirs.close()
    ours.setblocking(False)
    host = os.pidfd_open(os.getpid())
    try:
        with contextlib.suppress(
            BrokenPipeError, ConnectionResetError
        ):  # it died already, which the reader will notice
            socket.send_fds(ours, [json.dumps(order).encode()], [host])
    finally:
        os.close(host)
    return StartedZygote(process, ours)


class EarlyZygote:
    """A zygote that a program starts before its other imports, so that both run at the same time.

    The first launcher with the same level takes it. If none does, it ends with this process.
    """

    def __init__(self) -> None:
        self._started: tuple[str, int, StartedZygote] | None = None

    def start(self, level: str) -> None:
        """Starts it. A failure is left to the launcher, which meets it again and reports it."""
        self.discard()
        with contextlib.suppress(ConfigurationError, SandboxUnavailableError):
            self._started = level, os.getpid(), start_process(level, (), ENTRY)
            atexit.register(self.discard)

    def take(self, level: str, packages: Sequence[str], entry: str) -> StartedZygote | None:
        """Hands it over, once. None if it is of another kind, or belongs to another process."""
        if self._started is None or (level, os.getpid()) != self._started[:2] or packages or entry != ENTRY:
            return None
        *_, zygote = self._started
        self._started = None
        return zygote

    def discard(self) -> None:
        """Ends it, if no launcher has taken it."""
        if self._started is not None and self._started[1] == os.getpid():
            self._started[2].end()
            self._started = None


EARLY = EarlyZygote()


def check_readiness(answer: bytes, zygote: StartedZygote, level: str) -> dict[str, Any]:
    """Reads the zygote's first message, and marks the zygote as ready if it says so.

    Raises:
        ConfigurationError: a package cannot be imported.
        ZygoteEndedError: the message is empty.
        SandboxUnavailableError: this machine does not offer the level.
    """
    where = f"sandbox level {level!r} is not available here"
    if not answer:
        assert zygote.process.stderr is not None
        zygote.process.kill()
        complaint = zygote.process.stderr.read(MAX_COMPLAINT_BYTES).decode(errors="replace").strip()
        raise ZygoteEndedError(f"{where}: its process ended: {complaint or 'no message'}")
    message: dict[str, Any] = json.loads(answer)
    if message.get("is") == "ready":
        zygote.is_ready = True
        return message
    if message.get("kind") == "MissingPackageError":
        raise ConfigurationError(f"sandbox_packages: {message['why']}")
    raise SandboxUnavailableError(f"{where}: {message['why']}")


def _folders_of(packages: Sequence[str]) -> list[str]:
    """The folders of installed packages in which the host finds these packages."""
    folders: list[str] = []
    for name in packages:
        spec = importlib.util.find_spec(name.partition(".")[0])
        if spec is None or (spec.origin is None and not spec.submodule_search_locations):
            raise ConfigurationError(f"sandbox_packages: {name!r} is not installed; install it or leave it out")
        places = list(spec.submodule_search_locations or [spec.origin or ""])
        folder = str(Path(places[0]).parent)
        if folder not in folders:
            folders.append(folder)
    return folders


def end_process(process: subprocess.Popen[bytes]) -> None:
    """Kills the zygote and waits for its end; the kernel ends all its children with it. Safe to call twice."""
    process.kill()
    process.wait()
    if process.stderr is not None:
        process.stderr.close()
