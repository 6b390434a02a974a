"""Pre-forked processes of a zygote: there is one, it becomes the next REPL, and its loss does no harm."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest
from zygote_kit import AVAILABLE, SMALL, children_of, is_alive, linux_only, run_cell, vanish

from rlm.core.repl_spec import ReplSpec
from rlm.sandbox.launchers.zygote import ZygoteLauncher
from rlm.sandbox.launchers.zygote_worker import ZygoteWorker
from rlm.sandbox.sandbox import WorkerSandbox

pytestmark = linux_only
EVERY_LEVEL = pytest.mark.parametrize("level", AVAILABLE)


async def preforked_beside(worker: ZygoteWorker, *others: ZygoteWorker) -> int:
    """The pre-forked child of the worker's zygote; waits until there is one."""
    others_pids = {worker.pid, *(other.pid for other in others)}
    deadline = time.monotonic() + 10
    while not (unassigned := children_of(worker) - others_pids):
        assert time.monotonic() < deadline, "the zygote pre-forked no process"
        await asyncio.sleep(0.01)
    (preforked,) = unassigned
    return preforked


@EVERY_LEVEL
async def test_preforked_process_becomes_next_repl(level: str) -> None:
    launcher = ZygoteLauncher(level)
    first = await launcher.launch(SMALL)
    preforked = await preforked_beside(first)
    second = await launcher.launch(SMALL)
    assert second.pid == preforked
    assert is_alive(await preforked_beside(first, second))
    for worker in (first, second):
        worker.kill()
        assert await worker.wait() == "killed by signal 9 (SIGKILL)"
        worker.sock.close()
    await launcher.aclose()


@EVERY_LEVEL
async def test_killed_preforked_process_does_no_harm(level: str) -> None:
    launcher = ZygoteLauncher(level)
    sandbox = WorkerSandbox(launcher)
    first = await launcher.launch(SMALL)
    preforked = await preforked_beside(first)
    os.kill(preforked, signal.SIGKILL)
    assert await vanish(preforked) == []
    await asyncio.sleep(0.05)
    assert children_of(first) == {
        first.pid
    }  # no replacement before it is needed, because the cause of this end could end the next one too
    repl = await sandbox.open(ReplSpec("context", limits=SMALL))
    assert (await run_cell(repl, "print(llm_query(context))")).stdout == "echo:context\n"
    first.sock.close()
    await sandbox.aclose()


@EVERY_LEVEL
async def test_preforked_process_ends_with_zygote(level: str) -> None:
    launcher = ZygoteLauncher(level)
    first = await launcher.launch(SMALL)
    preforked = await preforked_beside(first)
    assert launcher.zygote_pid is not None
    os.kill(launcher.zygote_pid, signal.SIGKILL)
    assert await vanish(preforked, first.pid) == []
    first.sock.close()
    await launcher.aclose()


@EVERY_LEVEL
async def test_preforked_siblings_differ_in_randomness(level: str) -> None:
    sandbox = WorkerSandbox(ZygoteLauncher(level))
    drawn = []
    for _ in range(4):
        repl = await sandbox.open(ReplSpec("", limits=SMALL))
        drawn.append((await run_cell(repl, "import random, threading\nrandom.random(), threading.active_count()")).echo)
        await asyncio.sleep(0.03)
    assert len(set(drawn)) == len(drawn)
    assert all(echo and echo.endswith(", 1)") for echo in drawn)
    await sandbox.aclose()


@EVERY_LEVEL
async def test_limits_follow_the_order(level: str) -> None:
    """Limits do not depend on those of earlier orders."""
    sandbox = WorkerSandbox(ZygoteLauncher(level))
    code = "import resource\n[resource.getrlimit(limit) for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_CPU)]"
    echoes = []
    for _ in range(3):
        repl = await sandbox.open(ReplSpec("", limits=SMALL))
        echoes.append((await run_cell(repl, code)).echo)
        big = await run_cell(repl, "x = bytearray(600_000_000)")
        assert big.error == "MemoryError"
        await asyncio.sleep(0.03)
    assert set(echoes) == {"[(256, 256), (14400, 14400)]"}
    await sandbox.aclose()
