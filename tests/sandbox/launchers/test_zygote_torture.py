"""``kill -9`` of a REPL, of the zygote or of the host at random moments: no orphan, no hang, no wrong answer.

A few rounds each; ``RLM_TORTURE_ROUNDS=200`` for the long run.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from zygote_kit import AVAILABLE, FOLDER, REPOSITORY, SMALL, answer, linux_only, vanish

from rlm.core.cells import Cell
from rlm.core.errors import RLMError, SandboxError
from rlm.core.repl_spec import ReplSpec
from rlm.sandbox.launchers.zygote import ZygoteLauncher
from rlm.sandbox.repl import WorkerRepl
from rlm.sandbox.sandbox import WorkerSandbox

pytestmark = [linux_only, pytest.mark.timeout(1200)]
ROUNDS = int(os.environ.get("RLM_TORTURE_ROUNDS", "5"))
LEVELS = pytest.mark.parametrize("level", [level for level in AVAILABLE if level != "seccomp"])
CHANCE = random.Random(os.environ.get("RLM_TORTURE_SEED", "7"))


def family_of(pid: int) -> list[int]:
    """A process and all its descendants."""
    pids = [pid]
    for parent in pids:
        with contextlib.suppress(OSError):
            pids += [int(child) for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
    return pids


async def open_counter(sandbox: WorkerSandbox) -> WorkerRepl:
    """Opens a REPL. One killed at its start is a typed error, and the next one opens."""
    for _ in range(20):
        with contextlib.suppress(RLMError):
            return await sandbox.open(ReplSpec("", limits=SMALL, setup_code="n = 0"))
    raise AssertionError("no REPL could be opened twenty times in a row")


async def count(sandbox: WorkerSandbox, turns: int) -> tuple[int, int]:
    """Runs cells that count; returns the numbers of completed and failed cells. Fails on a wrong count."""
    good = bad = expected = 0
    repl = await open_counter(sandbox)
    for turn in range(turns):
        try:
            result = await repl.execute(Cell(1, turn, "n += 1; answer_ = llm_query(str(n)); print(n, answer_)"), answer)
        except SandboxError:
            bad += 1
            repl, expected = await open_counter(sandbox), 0
            continue
        if result.end == "ok":
            good, expected = good + 1, expected + 1
            assert result.stdout == f"{expected} echo:{expected}\n"
        else:
            assert (result.end, result.state_lost) == ("died", True)
            bad, expected = bad + 1, 0
    await repl.aclose()
    return good, bad


@LEVELS
@pytest.mark.parametrize("victim", ["repl", "zygote"])
async def test_repls_and_zygotes_are_replaced(level: str, victim: str) -> None:
    launcher = ZygoteLauncher(level)
    seen: set[int] = set()
    dying: list[int] = []
    killed = 0

    async def kill_some() -> None:
        nonlocal killed, dying
        while killed < ROUNDS:
            await asyncio.sleep(CHANCE.uniform(0.01, 0.15))
            zygote = launcher.zygote_pid
            if zygote is None:
                continue
            family = family_of(zygote)
            seen.update(family)
            # at "strict" the first two are the guard and the zygote itself, below it only the first
            repls = family[2:] if level == "strict" else family[1:]
            target = (
                CHANCE.choice(repls)
                if victim == "repl" and repls
                else CHANCE.choice(family[: len(family) - len(repls)])
            )
            if victim == "repl" and target not in repls:
                continue
            with contextlib.suppress(ProcessLookupError):
                os.kill(target, signal.SIGKILL)
                killed += 1
                dying = [target] if target in repls else family

    async with contextlib.aclosing(WorkerSandbox(launcher)) as sandbox:
        kept = await sandbox.open(ReplSpec("", limits=SMALL))
        killer = asyncio.create_task(kill_some())
        good = 0
        while not killer.done():
            results = await asyncio.wait_for(asyncio.gather(*(count(sandbox, 5) for _ in range(3))), 120)
            good += sum(result[0] for result in results)
        await killer
        # on a busy machine the others end a moment after the one that was killed
        assert await vanish(*dying) == []
        assert await count(sandbox, 5) == (5, 0)
        assert good > 0
        await kept.aclose()
    assert await vanish(*seen) == []


@LEVELS
async def test_killed_host_leaves_no_orphan(level: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    for _ in range(ROUNDS):
        host = subprocess.Popen(
            [sys.executable, str(FOLDER / "torture_host.py"), level], stdout=subprocess.PIPE, env=environment
        )
        assert host.stdout is not None
        with host, host.stdout:
            zygote = int(await asyncio.to_thread(host.stdout.readline))
            family: set[int] = set()
            until = time.monotonic() + CHANCE.uniform(0.0, 0.3)
            while time.monotonic() < until:
                family.update(family_of(zygote))
                await asyncio.sleep(0.01)
            family.update(family_of(zygote))
            host.kill()
        assert await vanish(zygote, *family) == []
