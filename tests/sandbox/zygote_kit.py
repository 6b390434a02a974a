"""Shared by tests of confined REPLs: levels of this machine, helper programs, and checks that processes end."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from rlm.core.cells import Cell, CellResult
from rlm.core.errors import SandboxUnavailableError
from rlm.core.repl_spec import ReplLimits, ReplSpec
from rlm.core.subcalls import ModelQuery, Subcall, SubcallAnswer, SubcallOutcome
from rlm.sandbox.launchers.launcher import WorkerProcess
from rlm.sandbox.launchers.levels import LINUX_LEVELS, open_launcher, try_level
from rlm.sandbox.repl import WorkerRepl
from rlm.sandbox.sandbox import WorkerSandbox

FOLDER = Path(__file__).parent
REPOSITORY = FOLDER.parents[1]
SMALL = ReplLimits(cell_seconds=10, memory_mb=256)

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="the levels are Linux's")
root_only = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root can run a test as somebody else"
)


def _is_available(level: str) -> bool:
    try:
        try_level(level)
    except SandboxUnavailableError:
        return False
    return True


AVAILABLE = tuple(level for level in LINUX_LEVELS if sys.platform == "linux" and _is_available(level))
"""Levels that work here. A developer's Linux machine should have all; tests of levels check it for the machine of CI."""


async def answer(subcall: Subcall) -> SubcallOutcome:
    assert isinstance(subcall, ModelQuery)
    return SubcallAnswer(f"echo:{subcall.prompt}")


@asynccontextmanager
async def sandbox_at(level: str, packages: tuple[str, ...] = ()) -> AsyncIterator[WorkerSandbox]:
    sandbox = WorkerSandbox(open_launcher(level, packages=packages))
    try:
        yield sandbox
    finally:
        await sandbox.aclose()


async def run_cell(repl: WorkerRepl, code: str) -> CellResult:
    return await repl.execute(Cell(1, 1, code), answer)


async def run_once(sandbox: WorkerSandbox, code: str, limits: ReplLimits = SMALL) -> CellResult:
    """Runs a cell in a new REPL."""
    repl = await sandbox.open(ReplSpec("context", limits=limits))
    try:
        return await run_cell(repl, code)
    finally:
        await repl.aclose()


def run_program(program: Path, *arguments: str, ordinary: bool = False, timeout_s: float = 100) -> str:
    """Runs a program; returns its standard output. Fails the test if it fails."""
    prefix = [str(FOLDER / "ordinary_user.py")] if ordinary else []
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    ended = subprocess.run(
        [sys.executable, *prefix, str(program), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env=environment,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    return ended.stdout


def children_of(worker: WorkerProcess) -> set[int]:
    """All processes with the worker's parent: the zygote's REPLs, and its pre-forked process."""
    parent = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()[1]
    return {int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()}


def is_alive(pid: int) -> bool:
    """True if the process runs; False for a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except (FileNotFoundError, ProcessLookupError):
        return False


async def vanish(*pids: int, within_s: float = 10.0) -> list[int]:
    """Waits for processes to end; returns those that still run after this time."""
    deadline = time.monotonic() + within_s
    while (left := [pid for pid in pids if is_alive(pid)]) and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    return left
