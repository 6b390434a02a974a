"""REPLs whose processes are killed while they start, the first time or as a replacement."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref

import pytest
from zygote_kit import AVAILABLE, SMALL, linux_only, run_cell

from rlm.core.errors import SandboxDiedError, SandboxUnavailableError
from rlm.core.repl_spec import ReplLimits, ReplSpec
from rlm.sandbox.launchers.launcher import WorkerProcess
from rlm.sandbox.launchers.levels import open_launcher
from rlm.sandbox.sandbox import WorkerSandbox

pytestmark = linux_only


class Killer:
    """A launcher that kills a given number of another launcher's processes at once."""

    def __init__(self, kills: int = 0) -> None:
        self._inner = open_launcher(AVAILABLE[0])
        self.kills = kills
        self.launched = 0

    @property
    def level(self) -> str:
        return self._inner.level

    async def launch(self, limits: ReplLimits, shared: int | None = None) -> WorkerProcess:
        worker = await self._inner.launch(limits, shared)
        self.launched += 1
        if self.kills:
            self.kills -= 1
            worker.kill()
        return worker

    async def aclose(self) -> None:
        await self._inner.aclose()


@pytest.mark.parametrize("setup", [None, "n = 1"])
async def test_process_killed_at_start_is_retried(setup: str | None) -> None:
    launcher = Killer(2)
    sandbox = WorkerSandbox(launcher)
    repl = await sandbox.open(ReplSpec("context", setup_code=setup, limits=SMALL))
    assert launcher.launched == 3
    assert (await run_cell(repl, "print(context, llm_query('?'))")).stdout == "context echo:?\n"
    await sandbox.aclose()


async def test_replacement_killed_at_start_is_retried() -> None:
    launcher = Killer()
    sandbox = WorkerSandbox(launcher)
    repl = await sandbox.open(ReplSpec("context", limits=SMALL))
    launcher.kills = 2
    ended = await run_cell(repl, "import os\nos._exit(3)")
    assert (ended.end, ended.state_lost, ended.killed) == ("died", True, False)
    assert (await run_cell(repl, "print(context)")).stdout == "context\n"
    await sandbox.aclose()


async def test_repeated_kills_at_start_are_error() -> None:
    launcher = Killer(100)
    sandbox = WorkerSandbox(launcher)
    with pytest.raises(SandboxUnavailableError, match=r"ended .* signal 9"):
        await sandbox.open(ReplSpec("context", limits=SMALL))
    assert launcher.launched == 3
    launcher.kills = 0
    repl = await sandbox.open(ReplSpec("context", limits=SMALL))
    launcher.kills = 100
    with pytest.raises(SandboxDiedError, match="could not be replaced"):
        await run_cell(repl, "import os\nos._exit(3)")
    await sandbox.aclose()


async def test_closed_sandbox_starts_no_replacement() -> None:
    launcher = Killer()
    sandbox = WorkerSandbox(launcher)
    slow = ReplSpec("context", setup_code="import time\ntime.sleep(30)", limits=SMALL)
    opening = asyncio.create_task(sandbox.open(slow))
    while not launcher.launched:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    began = time.monotonic()
    await sandbox.aclose()
    with pytest.raises(SandboxUnavailableError):
        await opening
    assert launcher.launched == 1
    assert time.monotonic() - began < 10


async def test_cancelled_close_leaves_no_repl() -> None:
    sandbox = WorkerSandbox(Killer())
    repls = []
    for _ in range(3):
        repl = await sandbox.open(ReplSpec("", limits=SMALL))
        closing = asyncio.create_task(repl.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.gather(closing, return_exceptions=True)
        repls.append(weakref.ref(repl))
        del repl, closing
    while any(repl() for repl in repls):  # until the timeout of the test
        await asyncio.sleep(0.01)
        gc.collect()
    await sandbox.aclose()
