"""Isolation levels: the steps that the zygote takes once, and those that each REPL takes before its first cell.

strict      user, mount, pid, net, ipc, uts, cgroup namespaces; empty root; Landlock if the kernel has it; seccomp
landlock    Landlock and seccomp, in the machine's own namespaces
seccomp     seccomp alone: no file can be opened at all
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found] # no enums: pages that a REPL touches at its start become its own copies
import functools
import os
import resource
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass

from . import landlock, namespaces, policy, privileges
from .bpf import Program
from .kernel import PR_SET_PDEATHSIG, prctl
from .machine import this_machine

LEVELS = ("strict", "landlock", "seccomp")


SIGINT, SIGKILL = int(_signal.SIGINT), int(_signal.SIGKILL)


_NO_PID = 0x7FFF_FFFF  # a number that no process has


class CannotConfineError(Exception):
    """This machine does not allow a step of the level; the text names it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one REPL: bytes of memory beyond the interpreter's own, CPU seconds of its whole life, threads."""

    memory_bytes: int
    cpu_s: int
    tasks: int


@dataclass(frozen=True, slots=True)
class Confinement:
    """Result of the zygote's confinement, which every REPL inherits.

    Attributes:
        level: one of ``LEVELS``.
        landlock: the version in force; 0 for none.
        base_bytes: address space in use before any cell, from which limits are counted.
        tasks_before: tasks that already count against this user's limit.
        zygote: the zygote's process id.
        program: the REPLs' filter; below "strict" each REPL substitutes its own process id for ``_NO_PID``.
        program_with_forks: the filter of REPLs with a fork gate; None without a pid namespace to contain the forks.
    """

    level: str
    landlock: int
    base_bytes: int
    tasks_before: int
    zygote: int
    program: Program
    program_with_forks: Program | None = None

    @property
    def has_namespaces(self) -> bool:
        return self.level == "strict"


def library_places() -> tuple[list[str], list[str]]:
    """Paths of Python's library: those that stay readable, and those within them that must not."""
    readable = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), "/usr/share/zoneinfo"}
    present = sorted(path for path in readable if os.path.isdir(path))
    hidden = [os.path.join(path, name) for path in present for name in ("site-packages", "dist-packages")]
    return present, hidden


def confine_zygote(level: str, packages: Sequence[str]) -> Confinement:
    """Confines this process and all its future children.

    At ``strict`` only the returning process is confined. It is a new one, the first of its pid namespace. Its parent only waits,
    and ends when it ends.

    Args:
        level: one of ``LEVELS``.
        packages: paths of packages, beside the library, that stay readable.

    Raises:
        CannotConfineError: a step failed; names it.
    """
    machine = this_machine()
    if machine is None:
        raise CannotConfineError(f"seccomp: no table of system calls for {sys.platform} on {os.uname().machine}")
    readable, hidden = library_places()
    base_bytes = _address_space()
    try:
        tasks_before = 0
        if level == "strict":
            namespaces.enter([*readable, *packages], hidden)
            _fork_under_guard()
        else:
            if os.geteuid() == 0:
                namespaces.become_unprivileged()
            tasks_before = _tasks_of(os.geteuid())
        privileges.give_up_privileges()
        version = landlock.version()
        if level == "landlock" or (level == "strict" and version):
            landlock.restrict([*_without(readable, hidden), *packages], known_version=version)
        elif level == "seccomp":
            version = 0
    except OSError as error:
        raise CannotConfineError(str(error)) from error
    only_pid = None if level == "strict" else _NO_PID
    program = policy.build(machine, policy.Policy(files=version > 0 or level == "strict", only_pid=only_pid))
    program.kernel_struct  # noqa: B018 - built here, so that no REPL has to
    with_forks = None
    if level == "strict":
        with_forks = policy.build(machine, policy.Policy(files=True, forks=True))
        with_forks.kernel_struct, _gate().kernel_struct
    return Confinement(level, version, base_bytes, tasks_before, os.getpid(), program, with_forks)


def open_gate() -> int:
    """Installs the fork gate for this process; returns its descriptor for the host. Raises OSError."""
    return privileges.filter_with_gate(_gate())


@functools.cache
def _gate() -> Program:
    machine = this_machine()
    assert machine is not None
    return policy.gate(machine)


def begin_repl(confinement: Confinement) -> None:
    """Takes the first steps of a REPL's confinement, which need no limits. ``limit_repl`` and its filter must follow.

    Raises:
        OSError: a step failed; the process must then end.
    """
    os.setsid()  # signals to its own group must not reach the zygote and the siblings
    prctl(PR_SET_PDEATHSIG, SIGKILL)
    if not confinement.has_namespaces and os.getppid() != confinement.zygote:
        raise OSError(3, "the zygote ended too early")
    _signal.signal(SIGINT, _signal.default_int_handler)
    if confinement.has_namespaces:
        privileges.drop_capabilities()  # a new user namespace starts with all of them
    if confinement.landlock >= 6:
        landlock.separate()


def limit_repl(confinement: Confinement, limits: Limits) -> Program:
    """Sets the limits of a REPL. The returned filter must be installed last.

    Raises:
        OSError: a step failed; the process must then end.
    """
    privileges.limit_resources(
        memory_bytes=confinement.base_bytes + limits.memory_bytes,
        cpu_s=limits.cpu_s,
        tasks=confinement.tasks_before + limits.tasks,
    )
    if not confinement.has_namespaces:
        confinement.program.substitute(_NO_PID, os.getpid())
    return confinement.program


def _fork_under_guard() -> None:
    """Continues as the first process of the new pid namespace. The old process only waits for its end."""
    pid = os.fork()
    if pid:
        os.closerange(0, 1024)
        _, status = os.waitpid(pid, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0x7F)
    prctl(PR_SET_PDEATHSIG, SIGKILL)


def _without(folders: Sequence[str], hidden: Sequence[str]) -> list[str]:
    """Replaces a folder that has hidden children with its other children, because Landlock rules cannot exclude a path."""
    places: list[str] = []
    for folder in folders:
        inside = {path for path in hidden if os.path.dirname(path) == folder}
        if not any(os.path.lexists(path) for path in inside):
            places.append(folder)
            continue
        children = (os.path.join(folder, name) for name in os.listdir(folder))
        places += [child for child in children if child not in inside]
    return places


def _address_space() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def _tasks_of(user: int) -> int:
    """Number of threads of this user on the whole machine, because the kernel's limit counts them together."""
    tasks = 0
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if os.stat(f"/proc/{entry}").st_uid == user:
                    tasks += len(os.listdir(f"/proc/{entry}/task"))
            except OSError:
                continue  # it ended meanwhile
    return tasks
