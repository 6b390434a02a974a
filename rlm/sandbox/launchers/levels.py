"""Detection of the isolation levels that this machine offers, and the launcher of a requested level.

Levels are detected by trying them. Nothing falls back in silence: a requested level that is missing is an error that names
the missing feature. Code runs without confinement only for a caller who passed "unconfined".
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import field

from rlm.core.errors import ConfigurationError, SandboxError, SandboxUnavailableError
from rlm.core.values import frozen
from rlm.sandbox.launchers.launcher import Launcher
from rlm.sandbox.launchers.seatbelt import SeatbeltLauncher, seatbelt_reason
from rlm.sandbox.launchers.unconfined import UnconfinedLauncher
from rlm.sandbox.launchers.zygote import ZygoteLauncher
from rlm.sandbox.launchers.zygote_process import (
    MAX_MESSAGE_BYTES,
    START_TIMEOUT_S,
    TRIAL_ID,
    StartedZygote,
    ZygoteEndedError,
    check_readiness,
    start_process,
)

LINUX_LEVELS = ("strict", "landlock", "seccomp")
NAMES = ("auto", *LINUX_LEVELS, "seatbelt", "unconfined")
DRY_RUN_TIMEOUT_S = 20.0
SELFCHECK = "worker.confine.selfcheck:serve"  # a zygote that only serves a dry run imports nothing more
THREADS_UNBOUNDED = "start more threads than allowed"  # as worded by the self-check


GAPS: Mapping[str, str] = {
    "landlock": "Cells can find names, sizes and times of the host's files with os.stat, but never read them. They can find "
    "which process ids exist with os.stat, and read their own user and group ids.",
    "seccomp": "Cells can read their own process, user and group ids.",
    "unconfined": "Cells can do everything that you can.",
}
"""Leaks that a level cannot close, because the kernel's means do not cover them."""


@frozen
class Levels:
    """Result of a dry run.

    Attributes:
        best: the strongest level that works here; None if none does.
        missing: for each stronger level, the feature that it lacks.
        landlock: the version of Landlock in force at that level; 0 for none.
        notes: gaps of the level on this machine, one sentence each.
    """

    best: str | None
    missing: Mapping[str, str] = field(default_factory=dict)
    landlock: int = 0
    notes: tuple[str, ...] = ()


@frozen
class Trial:
    """A level that passed its dry run; fields as in ``Levels``."""

    landlock: int
    notes: tuple[str, ...] = ()


_held: dict[str, Trial] = {}
"""Levels that passed in this process. A failure is not cached, because its cause can be temporary."""


def find_level(prepared: StartedZygote | None = None) -> Levels:
    """Finds the strongest level that works, in about 0.1 s for each that is tried. A level that passed is not tried again.

    ``prepared`` is a zygote of the strongest level that was started already.

    Raises:
        ConfigurationError: ``prepared`` cannot import a package, which says nothing about the level.
    """
    missing: dict[str, str] = {}
    for level in LINUX_LEVELS if sys.platform == "linux" else ():
        try:
            trial = _try_once(level, prepared if level == LINUX_LEVELS[0] else None)
        except SandboxError as error:
            missing[level] = str(error)
        else:
            return Levels(level, missing, trial.landlock, trial.notes)
    reason = seatbelt_reason()
    if reason is None:
        return Levels("seatbelt", missing, notes=("seatbelt has never been tested",))
    missing["seatbelt"] = reason
    return Levels(None, missing)


def open_launcher(sandbox: str = "auto", *, packages: Sequence[str] = (), prepare: bool = False) -> Launcher:
    """Opens the launcher of a level.

    Args:
        sandbox: a level, which must work here; "auto" for the strongest one that does.
        packages: packages that cells can import beside the standard library, for instance ("numpy", "pandas").
        prepare: start the zygote at once and use it for the dry run, because a REPL will follow soon. The launcher must then
            be closed.

    The level "unconfined" runs model-written code as an ordinary process with all your rights.

    Raises:
        ConfigurationError: the level is unknown, or a package is not installed.
        SandboxUnavailableError: the level does not work here; names the missing feature.
    """
    if sandbox not in NAMES:
        raise ConfigurationError(f"`sandbox` must be one of {', '.join(NAMES)}; got {sandbox!r}")
    if sandbox == "unconfined":
        return UnconfinedLauncher()
    likely = LINUX_LEVELS[0] if sandbox == "auto" else sandbox
    launcher = ZygoteLauncher(likely, packages=packages)
    prepared = launcher.prepare() if prepare and sys.platform == "linux" and likely in LINUX_LEVELS else None
    try:
        level = _find_or_demand(sandbox, prepared)
    except BaseException:
        launcher.discard()
        raise
    if level == likely and level in LINUX_LEVELS:
        return launcher
    launcher.discard()
    return SeatbeltLauncher() if level == "seatbelt" else ZygoteLauncher(level, packages=packages)


def _find_or_demand(sandbox: str, prepared: StartedZygote | None) -> str:
    """Selects the level to use. Raises SandboxUnavailableError."""
    if sandbox == "auto":
        levels = find_level(prepared)
        if levels.best is None:
            reasons = "; ".join(f"{level}: {why}" for level, why in levels.missing.items())
            raise SandboxUnavailableError(
                f"this machine offers no isolation for model-written code ({reasons}). Use a machine that allows user "
                "namespaces or Landlock. If nothing on this machine matters, pass sandbox='unconfined'."
            )
        return levels.best
    if sandbox != "seatbelt":
        _try_once(sandbox, prepared)
    elif (reason := seatbelt_reason()) is not None:
        raise SandboxUnavailableError(f"sandbox level 'seatbelt' is not available here: {reason}")
    return sandbox


def _try_once(level: str, prepared: StartedZygote | None) -> Trial:
    """As ``try_level``, but only once in this process if the level passes."""
    if level not in _held:
        _held[level] = try_level(level, prepared)
    return _held[level]


def try_level(level: str, prepared: StartedZygote | None = None) -> Trial:
    """Runs a dry run: a zygote at this level forks a process that attempts forbidden operations.

    Args:
        level: one of ``LINUX_LEVELS``.
        prepared: a running zygote to use, which stays usable. If it is None or was killed, a temporary one is started.

    Raises:
        SandboxUnavailableError: names the step that failed, or the forbidden operation that succeeded.
        ConfigurationError: ``prepared`` cannot import one of its packages.
    """
    if sys.platform != "linux":
        raise SandboxUnavailableError(f"sandbox level {level!r} needs Linux; this is {sys.platform}")
    if prepared is not None:
        try:
            return _try_in(prepared, level)
        except ZygoteEndedError:
            pass  # the cause can be temporary, so a new zygote is tried
    started = start_process(level, (), SELFCHECK, imports=False)
    try:
        return _try_in(started, level)
    finally:
        started.end()


def _try_in(zygote: StartedZygote, level: str) -> Trial:
    ready = check_readiness(_receive(zygote.control, level, START_TIMEOUT_S), zygote, level)
    escapes = _attempt_escapes(zygote.control, level)
    notes = []
    if level != "strict" and THREADS_UNBOUNDED in escapes:
        escapes.remove(THREADS_UNBOUNDED)
        notes.append("the number of threads is not limited: this process is root and cannot change its id")
    if escapes:
        raise SandboxUnavailableError(f"sandbox level {level!r} does not hold here: a REPL could {', '.join(escapes)}")
    return Trial(landlock=int(ready["landlock"]), notes=tuple(notes))


def _attempt_escapes(control: socket.socket, level: str) -> list[str]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    order = {"do": "spawn", "id": TRIAL_ID, "memory_bytes": 1 << 30, "cpu_s": 20, "tasks": 1, "selfcheck": True}
    with ours, theirs:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it died, so it has no answer
            socket.send_fds(control, [json.dumps(order).encode()], [theirs.fileno()])
        theirs.close()
        answer = _receive(control, level)
        if not answer:
            raise ZygoteEndedError(f"sandbox level {level!r} is not available here: its process ended")
        spawned = json.loads(answer)
        if spawned.get("is") != "spawned":
            raise SandboxUnavailableError(f"sandbox level {level!r} is not available here: {spawned.get('why')}")
        report = _receive(ours, level)
    if not report:
        raise SandboxUnavailableError(
            f"sandbox level {level!r} is not available here: its process could not confine itself"
        )
    escapes: list[str] = json.loads(report)
    return escapes


def _receive(sock: socket.socket, level: str, timeout_s: float = DRY_RUN_TIMEOUT_S) -> bytes:
    """Receives one message. The kernel closes descriptors that come with it, because none are accepted."""
    poll = select.poll()  # select() knows only the first 1,024 descriptors
    poll.register(sock, select.POLLIN)
    if not poll.poll(1000 * timeout_s):
        raise SandboxUnavailableError(f"sandbox level {level!r}: the dry run did not end within {timeout_s:.0f} s")
    try:
        return sock.recv(MAX_MESSAGE_BYTES)
    except ConnectionResetError:  # it was killed before it had read everything
        return b""
