"""A lookahead copy of the REPL, forked while the original waits for an answer, that finds the next prompts.

The copy has a socket to the original and nothing more: it cannot reach the host, print, or give an answer. It sends each
prompt that it reaches to the original, and continues with a placeholder in place of the reply. Anything that could make its
execution differ from the original's ends it: see ``placeholders``, and below for clocks, randomness, threads and event loops.

A copy is only forked in a confined process, whose code can touch nothing outside. This module must not know how the original
uses the prompts.
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

CPU_S = 5  # of one copy: the original does the same work again, so longer runs gain little
_CLOCKS = ("time", "monotonic", "perf_counter", "process_time", "thread_time")
_NONDETERMINISTIC = (  # functions that return something different in the original and in the copy
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
    """Forks; returns the copy's process id in the original, and 0 in the copy.

    Only the main thread can fork, and only without other threads. It uses the bare system call without any flag: the sandbox's
    gate allows this fork only, and recognises it by that.

    Raises:
        OSError: the sandbox allows no copy, or none at present.
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
    """The copy's end of the socket. At most ``ahead`` calls can be sent before the original uses one."""

    def __init__(self, sock: socket.socket, ahead: int) -> None:
        self._sock = sock
        self._room = ahead

    def ask(self, key: bytes, calls: int = 1) -> None:
        """Sends a prompt's key, which stands for ``calls`` calls; waits while too many are ahead."""
        while self._room < calls:
            used = self._sock.recv(4096)
            if not used:
                exit_copy()
            self._room += len(used)
        self._room -= calls
        self._sock.sendall(PREFIX.pack(len(key), 0) + key)


def become_copy(sock: socket.socket, ahead: int, namespace: dict[str, Any]) -> Copy:
    """Cuts this process off from everything except ``sock``. Never raises: a failure ends the copy."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        own = os.dup2(sock.fileno(), 3) if sock.fileno() != 3 else 3
        sock.detach()
        os.closerange(4, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
        gc.disable()  # finalizers run in the original only
        placeholders.prepare()
        _replace(namespace)
        return Copy(socket.socket(fileno=own), ahead)
    except BaseException:
        exit_copy()


def _replace(namespace: dict[str, Any]) -> None:
    """Replaces nondeterministic functions, including those that a cell imported."""
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
    set_methods(datetime.datetime, dict.fromkeys(("now", "utcnow", "today"), exit_copy))
    set_methods(datetime.date, {"today": exit_copy})
    set_methods(re.Pattern, {name: _on_known(getattr(re.Pattern, name)) for name in text_operations.MATCHING})
    for name, value in list(namespace.items()):
        if id(value) in swapped:
            namespace[name] = swapped[id(value)]
    sys.settrace(None)


def set_methods(kind: type, methods: Mapping[str, Callable[..., Any]]) -> None:
    """Sets methods of a built-in type, which ``setattr`` refuses."""
    gc.get_referents(kind.__dict__)[0].update(methods)
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(kind))


def _on_known(method: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a matching method so that an unknown text ends the copy. ``re`` can reject a text by its length alone."""

    def match(*arguments: Any, **options: Any) -> Any:
        if any(map(placeholders.is_unknown, (*arguments, *options.values()))):
            exit_copy()
        return method(*arguments, **options)

    return match


def _no_sleep(_seconds: float) -> None:
    """Returns at once, because a copy need not wait."""
