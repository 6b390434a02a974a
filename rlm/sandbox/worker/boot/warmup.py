"""Warm-up of the zygote: runs a REPL's first steps once, and creates the objects that all its children share.

The interpreter specialises code that has run, and fills caches. In a forked process each of these writes, and each reference
count, would copy a page.
"""

from __future__ import annotations

import asyncio
import socket
import warnings
from typing import NoReturn

from .. import main
from . import determinism

ROUNDS = 3  # the interpreter specialises code that runs repeatedly
CELLS = ("1 + 1", "x = [n for n in range(9)]; print(x)", "def f(a): return a\nf(1)", "1 / 0", "await asyncio.sleep(0)")

_ready: list[main.Worker] = []


def warm_up() -> None:
    """Runs a few cells in unconnected REPLs, and creates the worker that every forked process uses."""
    determinism.prepare()
    kept = asyncio.run, asyncio.runners.run, warnings.showwarning
    with warnings.catch_warnings():
        for _ in range(ROUNDS):
            worker = main.Worker()
            worker.warm_up(CELLS)
    asyncio.run, asyncio.runners.run, warnings.showwarning = kept
    _ready.append(main.Worker())


def prefault() -> None:
    """Prepares a pre-forked process."""
    _ready[0].prefault()


def serve(sock: socket.socket) -> NoReturn:
    """Runs one REPL on ``sock``, with the prepared worker if there is one."""
    main.serve(sock, _ready.pop() if _ready else None)
