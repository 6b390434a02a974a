"""Siblings of a hostile cell: their slowdown beside each kind, compared with a neighbour that computes honestly.

    python -m benchmarks.siblings [--rounds N] [--level L] [KIND ...].

A sibling computes and makes sub-calls that are answered at once. Its neighbour in the same sandbox is an honest endless loop, or
a hostile cell. Both take one core, so the ratio of the sibling's times leaves out fair competition for processors, and other
load of the machine. Phases alternate; the ratio is that of the medians. The target is at most 1.10.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import sys
import time
from collections.abc import AsyncIterator

from rlm.core.cells import Cell
from rlm.core.errors import RLMError
from rlm.core.repl_spec import ReplLimits, ReplSpec
from rlm.core.subcalls import ModelQuery, Subcall, SubcallAnswer, SubcallFailure, SubcallOutcome
from rlm.sandbox.launchers.levels import open_launcher
from rlm.sandbox.sandbox import WorkerSandbox

TARGET = 1.10
WARM_UP_S = 1.5  # for the neighbour to be in the middle of its work, after its bursts
CELLS = 4  # of the sibling in each phase
LIMITS = ReplLimits(cell_seconds=600, memory_mb=256)
SIBLING = "for _ in range(25):\n    llm_query('x')\n    sum(range(60_000))"
FRAMES = """
import json, os, socket, stat, struct
def is_socket(fd):
    try: return stat.S_ISSOCK(os.fstat(fd).st_mode)
    except OSError: return False
fd = next(fd for fd in range(3, 256) if is_socket(fd))
head = json.dumps({'t': 'part'}).encode()
data = (struct.pack('>II', len(head), 0) + head) * 1000
while True: os.write(fd, data)
"""
HONEST = "while True: pass"
KINDS = {
    "busy threads between cells": (
        "import threading\ndef spin():\n    while True: pass\n"
        "for _ in range(8): threading.Thread(target=spin, daemon=True).start()"
    ),
    "refused forks": "import os\nwhile True:\n    try: os.fork() or os._exit(0)\n    except OSError: pass",
    "empty frames": FRAMES,
    "prints": "while True: print('x' * 1000)",
    "prints of one character": "while True: print('x', flush=True)",
    "refused sub-calls": "while True: llm_query_batch(['refuse'] * 500, model='y' * 900)",
    "sub-calls of 0.2 s": "while True: llm_query_batch(['slow'] * 500)",
    "huge values": "FINAL([list(range(480_000)), {str(n): [n] for n in range(60_000)}])",
    "many variables": "for n in range(1000): globals()[f'v{n}_' + 'x' * 900] = n",
    "memory hog": (
        "kept = []\nwhile True:\n    try: kept.append(bytearray(1 << 20))\n    except MemoryError: kept.clear()"
    ),
    "exceptions": "raise ValueError('x' * 1_000_000)",
    "endings of its process": "import os\nos._exit(1)",
}


async def serve(subcall: Subcall) -> SubcallOutcome:
    if isinstance(subcall, ModelQuery) and subcall.prompt == "refuse":
        return SubcallFailure("ModelNotFoundError", "no such model")
    if isinstance(subcall, ModelQuery) and subcall.prompt == "slow":
        await asyncio.sleep(0.2)
    return SubcallAnswer("y")


@contextlib.asynccontextmanager
async def neighbour(sandbox: WorkerSandbox, code: str) -> AsyncIterator[None]:
    """A REPL that executes ``code`` without end, and is replaced if it is ended."""
    task = asyncio.create_task(_repeat(sandbox, code))
    try:
        await asyncio.sleep(WARM_UP_S)
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _repeat(sandbox: WorkerSandbox, code: str) -> None:
    while True:
        repl = await sandbox.open(ReplSpec("", limits=LIMITS))
        try:
            number = 0
            while True:
                number += 1
                await repl.execute(Cell(1, number, code), serve)
                if "Thread" in code:
                    await asyncio.sleep(3600)
        except RLMError:
            pass
        finally:
            await repl.aclose()


async def measure(level: str, code: str, rounds: int) -> tuple[float, float]:
    """Median seconds of the sibling's cell beside an honest neighbour, and beside ``code``."""
    times: dict[str, list[float]] = {HONEST: [], code: []}
    sandbox = WorkerSandbox(open_launcher(level))
    try:
        sibling = await sandbox.open(ReplSpec("", limits=LIMITS))
        for number in range(rounds):
            for beside in (HONEST, code) if number % 2 else (code, HONEST):
                async with neighbour(sandbox, beside):
                    for cell in range(CELLS):
                        began = time.perf_counter()
                        await sibling.execute(Cell(number + 1, cell, SIBLING), serve)
                        times[beside].append(time.perf_counter() - began)
    finally:
        await sandbox.aclose()
    return statistics.median(times[HONEST]), statistics.median(times[code])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.siblings")
    parser.add_argument("kinds", nargs="*", help="only kinds whose name contains one of these words")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--level", default="auto")
    options = parser.parse_args()
    missed = 0
    for name, code in KINDS.items():
        if options.kinds and not any(word in name for word in options.kinds):
            continue
        honest, hostile = asyncio.run(measure(options.level, code, options.rounds))
        ratio = hostile / honest
        missed += ratio > TARGET
        verdict = "ok" if ratio <= TARGET else "MISSED"
        print(f"{name:28} {1000 * honest:8.1f} ms {1000 * hostile:8.1f} ms {ratio:6.2f} {verdict}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
