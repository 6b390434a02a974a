"""The zygote: imports what cells need, confines itself, and from then on only forks REPLs when the host asks.

It reads its host's control socket and nothing else; no REPL has a way to reach it. It knows nothing of cells: what a REPL
does on its socket is the function ``serve`` that it is started with.

    host to zygote                                         zygote to host
    {"do": "confine", ...} + pidfd of the host             {"is": "ready", ...} or {"is": "unfit", "why": ...}
    {"do": "spawn", "id": n, ...} + the REPL's socket,     {"is": "spawned", "id": n} + pidfd of the REPL, or
      and its shared context where it has one              {"is": "unborn", "id": n, "why": ...}
      with "selfcheck": a process that does that in place of serving a REPL
                                                           {"is": "gated", "id": n} + descriptor, from the REPL itself
                                                           {"is": "ended", "id": n, "status": as waitpid has it}
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
QUIET_MS = 5  # without an order before a spare is made: while many REPLs are born at once it would only take their time
_REPL_SOCKET, _LAST_DESCRIPTOR = 3, 0xFFFFFFFF
_ABOVE_ALL_OURS = 16  # where descriptors wait that must not be overwritten while others are renumbered
_ARENA_MAX, _ARENAS = -8, 2  # each arena reserves 64 MB of the address space that the memory limit counts
_THREAD_STACK_BYTES = 2 * 1024 * 1024  # likewise: the C library's 8 MB each would let 200 threads exhaust 2 GB


def main(control_fd: int, serve: Serve, warm_up: Step | None = None, prefault: Step | None = None) -> NoReturn:
    """Obeys the host on the control socket until the host is gone.

    Args:
        control_fd: the socket.
        serve: what a REPL does on its own socket.
        warm_up: done once, before confinement.
        prefault: done by each process that is forked before it is asked for; without it there are none.
    """
    control = socket.socket(fileno=control_fd)
    order, descriptors = receive(control)
    host_pidfd = descriptors[0]
    try:
        places = _prepare(order, warm_up)
        os.dup2(0, 2)  # until here, what the interpreter complained about was for the host to read
        confinement = confine_zygote(order["level"], places)
    except (CannotConfineError, preload.MissingPackageError, OSError) as error:
        _send(control, {"is": "unfit", "kind": type(error).__name__, "why": str(error)})
        os._exit(EXIT_NOT_CONFINED)
    version = ".".join(map(str, sys.version_info[:3]))
    _send(control, {"is": "ready", "landlock": confinement.landlock, "python": version})
    _Zygote(control, host_pidfd, confinement, serve, prefault).run()


def _prepare(order: dict[str, Any], warm_up: Step | None) -> list[str]:
    """Imports, and sets what all REPLs are to inherit. Returns the places of the packages asked for."""
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
    shared_text.supports_mapped_text()  # answered once, for all
    if warm_up is not None:
        warm_up()
    gc.collect()
    gc.freeze()  # a collection in a REPL must not touch, and so copy, what it shares with its siblings
    return places


class _Zygote:
    """The loop after confinement."""

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
        self._children: dict[int, tuple[int | None, int]] = {}  # pidfd -> the host's id, None for a spare; pid
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
                    os._exit(0)  # the host may leave copies of its socket behind; its death is what counts
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
        """An order that comes meanwhile waits for one fork."""
        self._wants_prefork = False
        try:
            self._preforked = PreforkedProcess.fork(self._confinement.has_namespaces, self._become_preforked)
        except OSError:
            return  # so does the next order find, and says so
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
            waiting.detach()  # its number is the REPL's socket's from now on
        self._become_repl(order, descriptors, control, self._serve)

    def _become_repl(self, order: dict[str, Any], descriptors: list[int], control: int, serve: Serve) -> NoReturn:
        with _or_exit():
            with_forks = self._offer_gate(order["id"], control) if order.get("forks") else None
            _renumber(descriptors)  # while descriptors are not limited yet: a zygote of many REPLs holds many
            limits = Limits(order["memory_bytes"], order["cpu_s"], order["tasks"])
            program = limit_repl(self._confinement, limits)
            preload.reseed()
            privileges.filter_calls(with_forks or program)
        serve(socket.socket(fileno=_REPL_SOCKET))
        os._exit(0)

    def _offer_gate(self, number: int, control: int) -> Program | None:
        """Hands the host the gate for this REPL's forks. None where there is no such thing: then no fork is possible."""
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
            self._preforked = None  # and no other before the next order: whatever ended it may end that one too


@contextlib.contextmanager
def _or_exit() -> Iterator[None]:
    """Whatever goes wrong in it, code must not run in a process that is half confined."""
    try:
        yield
    except BaseException:
        os._exit(EXIT_NOT_CONFINED)


def _renumber(descriptors: list[int]) -> None:
    """The given descriptors become 3 and what follows; every other is closed."""
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
