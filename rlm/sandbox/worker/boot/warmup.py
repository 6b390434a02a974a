"""A REPL's first moments, gone through once in the zygote, and its objects, made there: what need not be written is shared.

Code that has run once is specialised by the interpreter, and caches are filled; in a forked process each of these writes, and
each count of references, would copy a page.
"""

from __future__ import annotations

import asyncio
import socket
import warnings
from typing import NoReturn

from .. import main
from . import determinism

ROUNDS = 3  # the interpreter specialises what it meets again
CELLS = ("1 + 1", "x = [n for n in range(9)]; print(x)", "def f(a): return a\nf(1)", "1 / 0", "await asyncio.sleep(0)")

_ready: list[main.Worker] = []


def warm_up() -> None:
    """Runs a few cells in REPLs that are connected to nobody, and makes the one that every forked process finds ready."""
    determinism.prepare()
    kept = asyncio.run, asyncio.runners.run, warnings.showwarning
    with warnings.catch_warnings():
        for _ in range(ROUNDS):
            worker = main.Worker()
            worker.warm_up(CELLS)
    asyncio.run, asyncio.runners.run, warnings.showwarning = kept
    _ready.append(main.Worker())


def prefault() -> None:
    """In a forked process, before it is asked for."""
    _ready[0].prefault()


def serve(sock: socket.socket) -> NoReturn:
    """Runs one REPL on ``sock``. It is not made for it, but taken."""
    main.serve(sock, _ready.pop() if _ready else None)
