"""Cost of a confined REPL, beside a plain process in the same run: ``python benchmarks/sandbox.py [--level L] [--quick]``.

Ratios are comparable between machines, milliseconds are not, so each figure stands beside that of a plain worker process.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from rlm.core.cells import Cell, CellResult
from rlm.core.repl_spec import ReplLimits, ReplSpec
from rlm.core.subcalls import Subcall, SubcallAnswer, SubcallOutcome
from rlm.sandbox.launchers.levels import open_launcher
from rlm.sandbox.launchers.zygote import ZygoteLauncher
from rlm.sandbox.repl import WorkerRepl
from rlm.sandbox.sandbox import WorkerSandbox

LIMITS = ReplLimits(cell_seconds=600, memory_mb=4096)
GIGABYTE = 10**9
WORK = """
import re, time
from collections import Counter
started = time.perf_counter()
found = len(re.findall(r"[a-z]+ing\\\\b", context))
words = context.split()
top = Counter(words).most_common(3)
lines = [line.upper() for line in context.splitlines() if "number" in line]
print(time.perf_counter() - started)
"""
LINE = "some line of a log, saying something at number 12345\n"


@dataclass(frozen=True, slots=True)
class Figure:
    """Measured value with its target."""

    name: str
    value: float
    unit: str
    target: float
    plain: float | None = None
    at_least: bool = False

    def __str__(self) -> str:
        good = self.value >= self.target if self.at_least else self.value <= self.target
        plain = "" if self.plain is None else f"   plain process {self.plain:,.2f} {self.unit}"
        sign = ">=" if self.at_least else "<="
        verdict = "ok  " if good else "MISS"
        return f"{verdict}  {self.name:<44}{self.value:>10,.2f} {self.unit:<4} (target {sign} {self.target:g}){plain}"


async def answer(_subcall: Subcall) -> SubcallOutcome:
    return SubcallAnswer("x")


async def run(repl: WorkerRepl, code: str) -> CellResult:
    result = await repl.execute(Cell(1, 1, code), answer)
    assert result.end == "ok", result
    return result


async def median_ms(times: int, action: Callable[[], Awaitable[object]]) -> float:
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        await action()
        taken.append((time.perf_counter() - started) * 1000)
    return statistics.median(taken)


async def first_cell_ms(sandbox: WorkerSandbox, times: int) -> float:
    opened: list[WorkerRepl] = []

    async def once() -> None:
        repl = await sandbox.open(ReplSpec("x", limits=LIMITS))
        opened.append(repl)
        await run(repl, "1 + 1")

    await once()
    taken = await median_ms(times, once)
    for repl in opened:
        await repl.aclose()
    return taken


async def callback_us(sandbox: WorkerSandbox, times: int) -> float:
    repl = await sandbox.open(ReplSpec("x", limits=LIMITS))
    code = f"""
import time
taken = []
for _ in range({times}):
    started = time.perf_counter()
    llm_query("x")
    taken.append(time.perf_counter() - started)
print(sorted(taken)[len(taken) // 2] * 1e6)
"""
    result = await run(repl, code)
    await repl.aclose()
    return float(result.stdout)


def proportional_kb(pid: int) -> int:
    """Proportional set size of a process."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


def family_kb(pid: int) -> int:
    """Proportional set size of a process and all its descendants."""
    family = [pid]
    for parent in family:
        family += map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split())
    return sum(proportional_kb(member) for member in family)


async def many(level: str, count: int) -> list[Figure]:
    """Memory of idle REPLs, and the time to open and use all of them concurrently."""
    launcher = ZygoteLauncher(level)
    sandbox = WorkerSandbox(launcher)
    await (await sandbox.open(ReplSpec("x"))).aclose()
    zygote = launcher.zygote_pid
    assert zygote is not None
    before = family_kb(zygote)
    started = time.perf_counter()
    repls = await asyncio.gather(*(sandbox.open(ReplSpec(f"context {n}")) for n in range(count)))
    opened_s = time.perf_counter() - started
    idle = (family_kb(zygote) - before) / count / 1024
    started = time.perf_counter()
    results = await asyncio.gather(*(run(repl, "print(llm_query(context), sum(range(1000)))") for repl in repls))
    used_s = time.perf_counter() - started
    assert all(result.stdout == "x 499500\n" for result in results)
    await sandbox.aclose()
    return [
        Figure(f"own memory of an idle REPL (of {count})", idle, "MB", 3.0),
        Figure(f"{count} REPLs opened concurrently", opened_s, "s", 0.02 * count),
        Figure(f"{count} REPLs: one cell with a call in each", used_s, "s", 0.02 * count),
    ]


async def large_context(level: str, size: int) -> list[Figure]:
    launcher = ZygoteLauncher(level)
    sandbox = WorkerSandbox(launcher)
    text = LINE * (size // len(LINE))
    started = time.perf_counter()
    first = await sandbox.open(ReplSpec(text, limits=LIMITS))
    shared_s = time.perf_counter() - started
    zygote = launcher.zygote_pid
    assert zygote is not None
    repls: list[WorkerRepl] = []

    async def once() -> None:
        repl = await sandbox.open(ReplSpec(text, limits=LIMITS))
        repls.append(repl)
        assert (await run(repl, "len(context), context[-7:]")).echo == f"({len(text)}, {text[-7:]!r})"

    visible = await median_ms(9, once)
    before = family_kb(zygote)
    further = [await sandbox.open(ReplSpec(text, limits=LIMITS)) for _ in range(5)]
    for repl in further:
        await run(repl, "len(context)")
    extra = (family_kb(zygote) - before) / len(further) / 1024
    await run(first, "context.count('number')")
    await sandbox.aclose()
    name = f"{size / GIGABYTE:g} GB context"
    return [
        Figure(f"{name}: written once", shared_s, "s", 5.0),
        Figure(f"{name}: spawn to first cell that reads it", visible, "ms", 50.0),
        Figure(f"{name}: memory of a further REPL", extra, "MB", 5.0),
    ]


async def work_ratio(level: str, size: int) -> Figure:
    """Ratio of a cell with regex, split and Counter to the same code in a plain interpreter, best of several each."""
    text = LINE * (size // len(LINE))
    sandbox = WorkerSandbox(open_launcher(level))
    repl = await sandbox.open(ReplSpec(text, limits=LIMITS))
    program = f"context = {LINE!r} * ({size} // {len(LINE)})\n{WORK}"
    confined, plain = [], []
    for _ in range(5):
        confined.append(float((await run(repl, WORK)).stdout))
        ended = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True
        )
        plain.append(float(ended.stdout))
    await sandbox.aclose()
    return Figure(f"{size / 1e6:g} MB of regex, split and Counter", min(confined) / min(plain), "x", 1.3)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--level", default="strict")
    parser.add_argument("--quick", action="store_true", help="use smaller sizes")
    options = parser.parse_args()
    times = 10 if options.quick else 40
    figures = []
    print(
        f"level {options.level}, Python {sys.version.split()[0]}, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors"
    )
    confined, plain = WorkerSandbox(open_launcher(options.level)), WorkerSandbox(open_launcher("unconfined"))
    spawn, spawn_plain = await first_cell_ms(confined, times), await first_cell_ms(plain, times)
    figures.append(Figure("spawn to first cell, median", spawn, "ms", 8.0, spawn_plain))
    figures.append(Figure("spawn: speed-up over a plain process", spawn_plain / spawn, "x", 8.0, at_least=True))
    call, call_plain = await callback_us(confined, 50 * times), await callback_us(plain, 50 * times)
    figures.append(Figure("sub-call round trip, median", call, "us", 150.0, call_plain))
    await confined.aclose()
    await plain.aclose()
    figures += await many(options.level, 50 if options.quick else 300)
    figures += await large_context(options.level, GIGABYTE // 10 if options.quick else GIGABYTE)
    figures.append(await work_ratio(options.level, 10_000_000))
    for figure in figures:
        print(figure)


if __name__ == "__main__":
    asyncio.run(main())
