"""The zygote: imports the modules that cells need, confines itself, and then only forks REPLs on request.

It reads its host's control socket and nothing more, and no REPL can reach it. It knows nothing about cells: it is started
with a function ``serve`` that each REPL runs on its own socket.

    host to zygote                                         zygote to host
    {"do": "confine", ...} + pidfd of the host             {"is": "ready", ...} or {"is": "unfit", "why": ...}
    {"do": "spawn", "id": n, ...} + the REPL's socket,     {"is": "spawned", "id": n} + pidfd of the REPL, or
      and its shared context if it has one                 {"is": "unborn", "id": n, "why": ...}
      with "selfcheck": a process that runs the self-check instead of a REPL
                                                           {"is": "gated", "id": n} + descriptor, from the REPL itself
                                                           {"is": "ended", "id": n, "status": as returned by waitpid}
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import json
import os
import resource
import select
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from ..confine import forking, preload, privileges, selfcheck
from ..confine.bpf import Program
from ..confine.kernel import call
from ..confine.levels import (
    CannotConfineError,
    Confinement,
    Limits,
    begin_repl,
    confine_zygote,
    limit_repl,
    open_gate,
)
from . import shared_text
from .prefork import PreforkedProcess, receive

Serve = Callable[[socket.socket], NoReturn]
Step = Callable[[], None]

EXIT_NOT_CONFINED = 71
QUIET_MS = 5  # time without an order before a pre-fork: while many REPLs start at once it would only delay them
_REPL_SOCKET, _LAST_DESCRIPTOR = 3, 0xFFFFFFFF
_ABOVE_ALL_OURS = 16  # numbers for descriptors that must not be overwritten while others are renumbered
_ARENA_MAX, _ARENAS = -8, 2  # each arena reserves 64 MB of the address space that the memory limit counts
_THREAD_STACK_BYTES = (
    2 * 1024 * 1024
)  # for the same reason: with the C library's 8 MB each, 200 threads would exhaust 2 GB


def main(control_fd: int, serve: Serve, warm_up: Step | None = None, prefault: Step | None = None) -> NoReturn:
    """Serves the host's orders on the control socket until the host is gone.

    Args:
        control_fd: the socket.
        serve: runs a REPL on its own socket.
        warm_up: runs once, before confinement.
        prefault: runs in each pre-forked process; without it nothing is pre-forked.
    """
    control = socket.socket(fileno=control_fd)
    order, descriptors = receive(control)
    host_pidfd = descriptors[0]
    try:
        places = _prepare(order, warm_up)
        os.dup2(0, 2)  # the interpreter's complaints were for the host to read until this point
        confinement = confine_zygote(order["level"], places)
    except (CannotConfineError, preload.MissingPackageError, OSError) as error:
        _send(control, {"is": "unfit", "kind": type(error).__name__, "why": str(error)})
        os._exit(EXIT_NOT_CONFINED)
    version = ".".join(map(str, sys.version_info[:3]))
    _send(control, {"is": "ready", "landlock": confinement.landlock, "python": version})
    _Zygote(control, host_pidfd, confinement, serve, prefault).run()


def _prepare(order: dict[str, Any], warm_up: Step | None) -> list[str]:
    """Imports modules and configures everything that REPLs inherit. Returns the paths of the requested packages."""
    os.environ.clear()
    privileges.die_first()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # it holds one descriptor for each REPL
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_ARENA_MAX, _ARENAS)
    threading.stack_size(_THREAD_STACK_BYTES)
    if order["imports"]:
        preload.import_library(everything=order["level"] != "strict")  # later nothing, or less, can be read
    places = preload.import_packages(order["packages"], order["folders"], everything=order["level"] == "seccomp")
    shared_text.supports_mapped_text()  # cached for all children
    if warm_up is not None:
        warm_up()
    gc.collect()
    gc.freeze()  # a collection in a REPL must not touch, and so copy, the pages that it shares with its siblings
    return places


class _Zygote:
    """The zygote's loop after confinement."""

    def __init__(
        self,
        control: socket.socket,
        host_pidfd: int,
        confinement: Confinement,
        serve: Serve,
        prefault: Step | None,
    ) -> None:
        self._control = control
        self._host_pidfd = host_pidfd
        self._confinement = confinement
        self._serve = serve
        self._prefault = prefault
        self._children: dict[
            int, tuple[int | None, int]
        ] = {}  # pidfd -> the host's id (None for a pre-forked process), pid
        self._preforked: PreforkedProcess | None = None
        self._wants_prefork = prefault is not None
        self._poll = select.poll()

    def run(self) -> NoReturn:
        self._poll.register(self._control, select.POLLIN)
        self._poll.register(self._host_pidfd, select.POLLIN)
        while True:
            ready = self._poll.poll(QUIET_MS if self._wants_prefork else None)
            if not ready:
                self._prefork()
            for descriptor, _ in ready:
                if descriptor == self._host_pidfd:
                    os._exit(0)  # its death decides: the host can leave copies of its socket open in other processes
                if descriptor == self._control.fileno():
                    self._obey()
                elif descriptor in self._children:
                    self._bury(descriptor)

    def _obey(self) -> None:
        order, descriptors = receive(self._control)
        try:
            if order["do"] == "spawn":
                self._spawn(order, descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _spawn(self, order: dict[str, Any], descriptors: list[int]) -> None:
        checks = bool(order.get("selfcheck"))
        pidfd = None if checks else self._take_preforked(order, descriptors)
        if pidfd is None:
            try:
                pidfd = self._fork(order, descriptors, selfcheck.serve if checks else self._serve)
            except OSError as error:
                _send(self._control, {"is": "unborn", "id": order["id"], "why": str(error)})
                return
        socket.send_fds(self._control, [_encode({"is": "spawned", "id": order["id"]})], [pidfd])

    def _fork(self, order: dict[str, Any], descriptors: list[int], serve: Serve) -> int:
        pid, pidfd = forking.fork_into_namespaces() if self._confinement.has_namespaces else forking.fork_plainly()
        if pid == 0:
            with _or_exit():
                begin_repl(self._confinement)
            self._become_repl(order, descriptors, self._control.detach(), serve)
        self._adopt(order["id"], pid, pidfd)
        return pidfd

    def _prefork(self) -> None:
        """Forks one process in advance. An order that arrives meanwhile waits for one fork."""
        self._wants_prefork = False
        try:
            self._preforked = PreforkedProcess.fork(self._confinement.has_namespaces, self._become_preforked)
        except OSError:
            return  # the next order meets the same error and reports it
        self._adopt(None, self._preforked.pid, self._preforked.pidfd)

    def _take_preforked(self, order: dict[str, Any], descriptors: list[int]) -> int | None:
        preforked, self._preforked = self._preforked, None
        self._wants_prefork = self._prefault is not None
        if preforked is None or not preforked.hand(order, [self._control.fileno(), *descriptors]):
            return None
        self._children[preforked.pidfd] = (order["id"], preforked.pid)
        return preforked.pidfd

    def _adopt(self, number: int | None, pid: int, pidfd: int) -> None:
        self._children[pidfd] = (number, pid)
        self._poll.register(pidfd, select.POLLIN)

    def _become_preforked(self, sock: socket.socket) -> NoReturn:
        with _or_exit():
            self._control.detach()
            _renumber([sock.detach()])
            begin_repl(self._confinement)
            if self._prefault is not None:
                self._prefault()
            waiting = socket.socket(fileno=_REPL_SOCKET)
            order, (control, *descriptors) = receive(waiting)
            waiting.detach()  # its number belongs to the REPL's socket from now on
        self._become_repl(order, descriptors, control, self._serve)

    def _become_repl(self, order: dict[str, Any], descriptors: list[int], control: int, serve: Serve) -> NoReturn:
        with _or_exit():
            with_forks = self._offer_gate(order["id"], control) if order.get("forks") else None
            _renumber(descriptors)  # before descriptors are limited: a zygote of many REPLs holds many
            limits = Limits(order["memory_bytes"], order["cpu_s"], order["tasks"])
            program = limit_repl(self._confinement, limits)
            preload.reseed()
            privileges.filter_calls(with_forks or program)
        serve(socket.socket(fileno=_REPL_SOCKET))
        os._exit(0)

    def _offer_gate(self, number: int, control: int) -> Program | None:
        """Hands the host the gate for this REPL's forks. Returns None if gates are not supported, so that no fork is possible."""
        if self._confinement.program_with_forks is None:
            return None
        try:
            gate = open_gate()
        except OSError:
            return None
        with socket.socket(fileno=control) as host:
            socket.send_fds(host, [_encode({"is": "gated", "id": number})], [gate])
        return self._confinement.program_with_forks

    def _bury(self, pidfd: int) -> None:
        number, pid = self._children.pop(pidfd)
        self._poll.unregister(pidfd)
        os.close(pidfd)
        _, status = os.waitpid(pid, 0)
        if number is not None:
            _send(self._control, {"is": "ended", "id": number, "status": status})
        elif self._preforked is not None and self._preforked.pidfd == pidfd:
            self._preforked.close()
            self._preforked = None  # no other before the next order: the cause of its end could end that one too


@contextlib.contextmanager
def _or_exit() -> Iterator[None]:
    """Ends the process on any error, because code must not run in a process that is only partly confined."""
    try:
        yield
    except BaseException:
        os._exit(EXIT_NOT_CONFINED)


def _renumber(descriptors: list[int]) -> None:
    """Renumbers the given descriptors from 3 on, and closes all others."""
    high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, _ABOVE_ALL_OURS) for descriptor in descriptors]
    for number, descriptor in enumerate(high, start=_REPL_SOCKET):
        os.dup2(descriptor, number)
    call("close_range", _REPL_SOCKET + len(high), _LAST_DESCRIPTOR, 0)


def _send(control: socket.socket, message: dict[str, Any]) -> None:
    try:
        control.send(_encode(message))
    except OSError:
        os._exit(0)  # the host is gone


def _encode(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode()
