"""A copy of the REPL that runs ahead of it, to find out which prompts come next. Forked while the original waits for an answer.

The copy has a socket to the original and nothing else: it cannot reach the host, prints nowhere, and gives no answer. Each
prompt that it comes to goes to the original, and a placeholder stands for the reply. Everything that could make its way differ
from the original's ends it: see ``placeholders``, and below for clocks, chance, threads and event loops.

It is only ever made in a confined process, where code can touch nothing that it shares with anybody. It must not know how the
original uses the prompts.
"""

from __future__ import annotations

import _thread
import asyncio
import builtins
import ctypes
import datetime
import gc
import os
import random
import re
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from ..confine.kernel import call
from ..wire.frames import PREFIX
from . import placeholders, text_operations
from .placeholders import exit_copy

CPU_S = 5  # of one copy: it does what the original will do again, so there is little to be gained by more
_CLOCKS = ("time", "monotonic", "perf_counter", "process_time", "thread_time")
_NONDETERMINISTIC = (  # what gives the original something else than the copy
    (
        time,
        ("time_ns", "monotonic_ns", "perf_counter_ns", "process_time_ns", "strftime", "ctime", "localtime", "gmtime"),
    ),
    (os, ("urandom", "getrandom", "times", "fork")),
    (random, ("_urandom", "seed")),
    (threading, ("_start_new_thread", "_start_joinable_thread")),
    (_thread, ("start_new_thread", "start_new", "start_joinable_thread")),
    (asyncio, ("run", "new_event_loop", "get_event_loop")),
    (asyncio.runners, ("run",)),
)


def fork() -> int:
    """The copy's process id in the original, 0 in the copy. Only the main thread may do this, and only when it is alone.

    The bare system call, with no flag at all: that is what the sandbox's gate lets through, and how it tells this fork from
    any other.

    Raises:
        OSError: where the sandbox allows no copy, or none now.
    """
    chance = random.getstate()
    python = ctypes.pythonapi
    python.PyOS_BeforeFork()
    try:
        pid = call("clone", int(signal.SIGCHLD), 0, 0, 0, 0)
    except OSError:
        python.PyOS_AfterFork_Parent()
        raise
    if pid:
        python.PyOS_AfterFork_Parent()
        return pid
    python.PyOS_AfterFork_Child()
    random.setstate(chance)
    return 0


class Copy:
    """The copy's own end of the socket. ``ahead`` calls may be sent before the original has used one."""

    def __init__(self, sock: socket.socket, ahead: int) -> None:
        self._sock = sock
        self._room = ahead

    def ask(self, key: bytes, calls: int = 1) -> None:
        """Tells the original that ``key`` will be asked, which makes so many calls; waits while too many are ahead."""
        while self._room < calls:
            used = self._sock.recv(4096)
            if not used:
                exit_copy()
            self._room += len(used)
        self._room -= calls
        self._sock.sendall(PREFIX.pack(len(key), 0) + key)


def become_copy(sock: socket.socket, ahead: int, namespace: dict[str, Any]) -> Copy:
    """Cuts this process off from everything but ``sock``. Never raises: what fails ends the copy."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        own = os.dup2(sock.fileno(), 3) if sock.fileno() != 3 else 3
        sock.detach()
        os.closerange(4, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
        gc.disable()  # finalizers are the original's business
        placeholders.prepare()
        _replace(namespace)
        return Copy(socket.socket(fileno=own), ahead)
    except BaseException:
        exit_copy()


def _replace(namespace: dict[str, Any]) -> None:
    """Puts other functions in place of those that give every process something else; also where a cell imported them."""
    swapped: dict[int, Any] = {}

    def swap(owner: Any, name: str, new: Any) -> None:
        old = getattr(owner, name, None)
        if old is not None:
            swapped[id(old)] = new
            setattr(owner, name, new)

    for clock in _CLOCKS:
        swap(time, clock, placeholders.Moment)
    swap(time, "sleep", _no_sleep)
    for owner, names in _NONDETERMINISTIC:
        for name in names:
            swap(owner, name, exit_copy)
    for name, new in text_operations.IN_COPIES.items():
        setattr(builtins, name, new)
    _set_methods(datetime.datetime, dict.fromkeys(("now", "utcnow", "today"), exit_copy))
    _set_methods(datetime.date, {"today": exit_copy})
    _set_methods(re.Pattern, {name: _on_known(getattr(re.Pattern, name)) for name in text_operations.MATCHING})
    for name, value in list(namespace.items()):
        if id(value) in swapped:
            namespace[name] = swapped[id(value)]
    sys.settrace(None)


def _set_methods(kind: type, methods: Mapping[str, Callable[..., Any]]) -> None:
    """Of a built-in type, which ``setattr`` refuses."""
    gc.get_referents(kind.__dict__)[0].update(methods)
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(kind))


def _on_known(method: Callable[..., Any]) -> Callable[..., Any]:
    """A matching method that ends the copy on an unknown text: by its length, ``re`` may give up without looking at it."""

    def match(*arguments: Any, **options: Any) -> Any:
        if any(map(placeholders.is_unknown, (*arguments, *options.values()))):
            exit_copy()
        return method(*arguments, **options)

    return match


def _no_sleep(_seconds: float) -> None:
    """A copy need not wait for what the original waits for."""
