"""The process that is killed while its tools act: one run, started or resumed.

    python kill_program.py begin|resume STORE LOG DIE_AT DELAY_S host|below

Each action of a tool appends a line to LOG before and after. The process kills itself, or a process of its sandbox ("below"),
DELAY_S after its action number DIE_AT.
Prints the answer as JSON: the outcome of each call, as its cell saw it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import rlm
from rlm.core.messages import Request
from rlm.testing.scripted import ScriptedModel

SEEN = "seen = {}\ndef note(key, call):\n    try: seen[key] = call()\n    except ToolError as error: seen[key] = error.type\n"
CELLS = [
    SEEN + "for i in range(6): note(f'a{i}', lambda: act(f'a{i}'))\nprint(seen)",
    "import asyncio\n"
    "async def one(key, call):\n"
    "    try: seen[key] = await call(key)\n"
    "    except ToolError as error: seen[key] = error.type\n"
    "await asyncio.gather(*(one(f'b{i}', act_async) for i in range(6)), *(one(f'i{i}', again_async) for i in range(4)))\n"
    "print(seen)",
    "import threading\n"
    "threads = [threading.Thread(target=note, args=(f'c{i}', lambda i=i: act(f'c{i}'))) for i in range(5)]\n"
    "[t.start() for t in threads]; [t.join() for t in threads]\n"
    "for i in range(2): note(f'f{i}', lambda: fail(f'f{i}'))\n"
    "print(sorted(seen.items()))",
    "FINAL(seen)",
]
KEYS = [f"{group}{i}" for group, count in {"a": 6, "b": 6, "i": 4, "c": 5, "f": 2}.items() for i in range(count)]


class Actions:
    """Tools that leave marks in a file. ``die_at`` counts their actions; 0 is never."""

    def __init__(self, log: Path, die_at: int, delay_s: float, what: str) -> None:
        self._what = what
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._left = die_at
        self._delay_s = delay_s
        self._lock = threading.Lock()

    def _mark(self, what: str, key: str) -> None:
        os.write(self._log, f"{what} {key}\n".encode())
        with self._lock:
            self._left -= 1
            if self._left == 0:
                threading.Timer(self._delay_s, kill, (self._what,)).start()

    def act(self, key: str) -> str:
        """Acts once."""
        self._mark("begin", key)
        time.sleep(0.002)
        self._mark("end", key)
        return "done"

    async def again(self, key: str) -> str:
        """Acts, and can be repeated."""
        self._mark("begin", key)
        await asyncio.sleep(0.002)
        self._mark("end", key)
        return "done"

    def fail(self, key: str) -> None:
        """Acts, and fails."""
        self._mark("begin", key)
        raise ValueError(key)


def kill(what: str) -> None:
    pids = [os.getpid()] if what == "host" else processes_below(os.getpid())
    if pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pids[-1], signal.SIGKILL)  # the youngest: a REPL, if there is one


def processes_below(pid: int) -> list[int]:
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(") ")[2].split()[1])
    found, level = list[int](), [pid]
    while level:
        level = [child for child, parent in parents.items() if parent in level]
        found += level
    return found


def reply(request: Request) -> str:
    turn = sum(message.role == "assistant" for message in request.messages)
    return f"```repl\n{CELLS[turn]}\n```"


def main() -> None:
    what, store, log, die_at, delay_s, victim = sys.argv[1:]
    actions = Actions(Path(log), int(die_at), float(delay_s), victim)
    tools: list[Any] = [actions.act, rlm.tool(actions.again, idempotent=True), actions.fail]
    with rlm.RLM(ScriptedModel(reply), tools=tools, store=store) as engine:
        result = engine.run("act", "context") if what == "begin" else engine.resume("last")
    print(json.dumps(result.answer))


if __name__ == "__main__":
    main()
