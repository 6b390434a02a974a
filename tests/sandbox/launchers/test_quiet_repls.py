"""REPLs that use nothing of the machine between cells, and little of the event loop in any case."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from zygote_kit import AVAILABLE, SMALL, answer, linux_only, sandbox_at

from rlm.core.cells import Cell, CellResult
from rlm.core.repl_spec import ReplSpec
from rlm.sandbox.repl import IDLE_S, WorkerRepl

pytestmark = linux_only
TICK_S = 1 / os.sysconf("SC_CLK_TCK")

BUSY = {
    "threads": "import threading\ncount = 0\ndef work():\n    global count\n    while True: count += 1\n"
    "for _ in range(4): threading.Thread(target=work, daemon=True).start()",
    "threads that start later": "import threading, time\ncount = 0\ndef work():\n    global count\n    time.sleep(0.2)\n"
    "    while True: count += 1\nthreading.Thread(target=work, daemon=True).start()",
    "timers": "import threading\ncount = 0\ndef work():\n    global count\n    count += 1\n"
    "    threading.Timer(0, work).start()\nwork()",
    "an executor": "from concurrent.futures import ThreadPoolExecutor\ncount = 0\ndef work():\n    global count\n"
    "    while True: count += 1\nThreadPoolExecutor(2).submit(work) and None",
}


def processor_s(repl: WorkerRepl) -> float:
    assert repl._worker is not None
    fields = Path(f"/proc/{repl._worker.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S


async def execute(repl: WorkerRepl, number: int, code: str) -> CellResult:
    return await repl.execute(Cell(1, number, code), answer)


@pytest.mark.parametrize("level", AVAILABLE)
@pytest.mark.parametrize("name", BUSY)
async def test_left_over_work_pauses_between_cells(level: str, name: str) -> None:
    async with sandbox_at(level) as sandbox:
        repl = await sandbox.open(ReplSpec("c", limits=SMALL))
        assert (await execute(repl, 1, BUSY[name])).end == "ok"
        await asyncio.sleep(IDLE_S + 0.1)
        before = processor_s(repl)
        await asyncio.sleep(0.5)
        assert processor_s(repl) - before < 0.05
        result = await execute(repl, 2, "import time\nbefore = count\ntime.sleep(0.4)\ncount > before")
        assert result.echo == "True", result.shown
        assert await repl.read("before") is not None


@pytest.mark.parametrize("level", AVAILABLE)
async def test_paused_repl_closes(level: str) -> None:
    async with sandbox_at(level) as sandbox:
        repl = await sandbox.open(ReplSpec("c", limits=SMALL))
        await execute(repl, 1, "x = 1")
        await asyncio.sleep(IDLE_S + 0.05)
        start = time.monotonic()
        await repl.aclose()
        assert time.monotonic() - start < 2


LOOPS = {
    "refused forks": """
import os
while True:
    try:
        if os.fork() == 0:
            os._exit(0)
    except OSError:
        pass
""",
    "programs": """
import subprocess
while True:
    try:
        subprocess.run(["true"])
    except OSError:
        pass
""",
    "forks of a thread": """
import os, threading
def work():
    while True:
        try:
            os.fork()
        except OSError:
            pass
thread = threading.Thread(target=work)
thread.start()
thread.join()
""",
}


@pytest.mark.skipif("strict" not in AVAILABLE, reason="forks are refused by the kernel at other levels")
@pytest.mark.parametrize("name", LOOPS)
async def test_refused_forks_use_little_of_the_loop(name: str) -> None:
    async with sandbox_at("strict") as sandbox:
        repl = await sandbox.open(ReplSpec("c", limits=replace(SMALL, cell_seconds=1.5, prefetch_ahead=8)))
        running = asyncio.create_task(execute(repl, 1, LOOPS[name]))
        await asyncio.sleep(0.3)
        before = time.thread_time()
        await asyncio.sleep(0.8)
        assert time.thread_time() - before < 0.1
        assert (await running).end in {"timeout", "died"}
