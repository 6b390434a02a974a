"""Which isolation this machine offers, found by trying it, and the launcher for the level that was asked for.

Nothing falls back in silence: a level that was named and is not there is an error that names what is missing, and code is
run without confinement only for a caller who wrote "unconfined".
"""

from __future__ import annotations

import functools
import json
import select
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rlm.core.errors import ConfigurationError, RLMError, SandboxUnavailableError
from rlm.sandbox.launch import Launcher
from rlm.sandbox.process import ProcessLauncher
from rlm.sandbox.seatbelt import SeatbeltLauncher, seatbelt_reason
from rlm.sandbox.zygote import ZygoteLauncher
from rlm.sandbox.zygote_process import MAX_MESSAGE_BYTES, check_readiness, end_process, start_process

LINUX_LEVELS = ("strict", "landlock", "seccomp")
NAMES = ("auto", *LINUX_LEVELS, "seatbelt", "unconfined")
DRY_RUN_TIMEOUT_S = 20.0
SELFCHECK = "worker.confine.selfcheck:serve"
THREADS_UNBOUNDED = "start more threads than it may"  # as the self-check words it


@dataclass(frozen=True, slots=True)
class Levels:
    """What a dry run found.

    Attributes:
        best: the strongest level that works here, None where none does.
        missing: for each stronger level, what it lacks.
        landlock: the version of Landlock in force at that level, 0 for none.
        notes: what the level does not cover on this machine, one sentence each.
    """

    best: str | None
    missing: Mapping[str, str] = field(default_factory=dict)
    landlock: int = 0
    notes: tuple[str, ...] = ()


@functools.cache
def find_level() -> Levels:
    """Tries the levels from the strongest down, each in a process of its own. Takes about 0.1 s, once per process."""
    missing: dict[str, str] = {}
    for level in LINUX_LEVELS if sys.platform == "linux" else ():
        try:
            landlock, notes = try_level(level)
        except RLMError as error:
            missing[level] = str(error)
        else:
            return Levels(level, missing, landlock, notes)
    reason = seatbelt_reason()
    if reason is None:
        return Levels("seatbelt", missing, notes=("seatbelt was written with care and never tested",))
    missing["seatbelt"] = reason
    return Levels(None, missing)


def open_launcher(sandbox: str = "auto", *, packages: Sequence[str] = (), prepare: bool = False) -> Launcher:
    """The launcher of a level.

    Args:
        sandbox: "auto" takes the strongest level that works here; "strict", "landlock", "seccomp" and "seatbelt" demand
            one; "unconfined" runs model-written code as an ordinary process with all your rights.
        packages: what cells may import beside the standard library, for instance ("numpy", "pandas").
        prepare: a REPL will be wanted soon: its zygote starts at once, beside the dry run. The launcher has then to be closed.

    Raises:
        ConfigurationError: for a name that is no level, or a package that is not installed.
        SandboxUnavailableError: when the level does not work here; names what is missing.
    """
    if sandbox not in NAMES:
        raise ConfigurationError(f"sandbox={sandbox!r}: choose one of {', '.join(NAMES)}")
    if sandbox == "unconfined":
        return ProcessLauncher()
    likely = LINUX_LEVELS[0] if sandbox == "auto" else sandbox
    launcher = ZygoteLauncher(likely, packages=packages)
    if prepare and sys.platform == "linux" and likely in LINUX_LEVELS:
        launcher.prepare()
    try:
        level = _find_or_demand(sandbox)
    except BaseException:
        launcher.discard()
        raise
    if level == likely and level in LINUX_LEVELS:
        return launcher
    launcher.discard()
    return SeatbeltLauncher() if level == "seatbelt" else ZygoteLauncher(level, packages=packages)


def _find_or_demand(sandbox: str) -> str:
    """The level to use. Raises SandboxUnavailableError."""
    if sandbox == "auto":
        found = find_level()
        if found.best is None:
            reasons = "; ".join(f"{level}: {why}" for level, why in found.missing.items())
            raise SandboxUnavailableError(
                f"this machine offers no isolation for model-written code ({reasons}). Run it where user namespaces or "
                "Landlock are allowed, or, if nothing on this machine matters, say sandbox='unconfined'."
            )
        return found.best
    _demand(sandbox)
    return sandbox


@functools.cache
def _demand(level: str) -> None:
    if level != "seatbelt":
        try_level(level)
    elif (reason := seatbelt_reason()) is not None:
        raise SandboxUnavailableError(f"sandbox level 'seatbelt' is not available here: {reason}")


def try_level(level: str) -> tuple[int, tuple[str, ...]]:
    """A dry run: a zygote at this level forks a process that attempts what it must not be able to do.

    Returns:
        the version of Landlock in force, and notes on what is not covered.

    Raises:
        SandboxUnavailableError: naming the step that failed, or what could be done although it must not.
    """
    if sys.platform != "linux":
        raise SandboxUnavailableError(f"sandbox level {level!r} needs Linux; this is {sys.platform}")
    process, control = start_process(level, (), SELFCHECK, imports=False)
    try:
        ready = check_readiness(_receive(control, level), process, level)
        escapes = _attempt_escapes(control, level)
    finally:
        control.close()
        end_process(process)
    notes = []
    if level != "strict" and THREADS_UNBOUNDED in escapes:
        escapes.remove(THREADS_UNBOUNDED)
        notes.append("threads of a REPL are not bounded: this process is the kernel's root and cannot change its id")
    if escapes:
        raise SandboxUnavailableError(f"sandbox level {level!r} does not hold here: a REPL could {', '.join(escapes)}")
    return int(ready["landlock"]), tuple(notes)


def _attempt_escapes(control: socket.socket, level: str) -> list[str]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    order = {"do": "spawn", "id": 1, "memory_bytes": 1 << 30, "cpu_s": 20, "tasks": 1}
    with ours, theirs:
        socket.send_fds(control, [json.dumps(order).encode()], [theirs.fileno()])
        theirs.close()
        spawned = json.loads(_receive(control, level) or b"{}")
        if spawned.get("is") != "spawned":
            raise SandboxUnavailableError(f"sandbox level {level!r} is not available here: {spawned.get('why')}")
        report = _receive(ours, level)
    if not report:
        raise SandboxUnavailableError(
            f"sandbox level {level!r} is not available here: its process could not confine itself"
        )
    escapes: list[str] = json.loads(report)
    return escapes


def _receive(sock: socket.socket, level: str) -> bytes:
    """One message. Descriptors that come with it are not taken up, so the kernel closes them."""
    if not select.select([sock], [], [], DRY_RUN_TIMEOUT_S)[0]:
        raise SandboxUnavailableError(
            f"sandbox level {level!r}: the dry run did not end within {DRY_RUN_TIMEOUT_S:.0f} s"
        )
    try:
        return sock.recv(MAX_MESSAGE_BYTES)
    except ConnectionResetError:  # it was killed with something of ours unread
        return b""
