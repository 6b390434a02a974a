"""A REPL's first moments, gone through once in the zygote: what is touched there for the first time, no REPL need touch.

Code that has run once is specialised by the interpreter, and caches are filled; in a forked process each of these writes
would copy a page. A rehearsal halves what a REPL writes before its first answer. It leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import builtins
import socket
import types
import warnings
from collections.abc import Sequence

from . import steady
from .calls import Calls
from .channel import Channel, Guard
from .execution import Executor
from .loops import Loops
from .main import serve
from .prefetch import Prefetcher
from .queries import Queries
from .scaffold import Scaffold

__all__ = ["rehearse", "serve"]

ROUNDS = 3  # the interpreter specialises what it meets again
CELLS = ("1 + 1", "x = [n for n in range(9)]; print(x)", "def f(a): return a\nf(1)", "1 / 0", "await asyncio.sleep(0)")


def rehearse(*, briefly: bool = False) -> None:
    """Runs a few cells in a REPL that is connected to nobody.

    Args:
        briefly: once and without any cell, in a process that is to become a REPL: it then has its own copies of the pages
            that every REPL writes to.
    """
    steady.prepare()
    kept = asyncio.run, asyncio.runners.run, warnings.showwarning
    ours, theirs = socket.socketpair()
    with ours, theirs, warnings.catch_warnings():
        for _ in range(1 if briefly else ROUNDS):
            _play(ours, () if briefly else CELLS)
    asyncio.run, asyncio.runners.run, warnings.showwarning = kept


def _play(sock: socket.socket, cells: Sequence[str]) -> None:
    guard = Guard()
    channel = Channel(sock, guard, lambda _message: None)
    namespace: dict[str, object] = types.ModuleType("__main__").__dict__
    namespace.update(__builtins__=builtins, asyncio=asyncio, print=lambda *_values: None)
    calls = Calls(channel.send, guard)
    prefetcher = Prefetcher(calls, channel, namespace, 0, lambda: None)
    scaffold = Scaffold(namespace, Queries(calls, channel, prefetcher, True, lambda: None), "")
    loops = Loops()
    executor = Executor(namespace, scaffold, loops, guard)
    for cell in cells:
        executor.execute("0.0", cell)
    loops.close()
