"""Eviction of the largest REPL when memory runs out. Its error gives the reason, and its siblings keep their state."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from zygote_kit import AVAILABLE, answer, linux_only, run_cell

from rlm.core.cells import Cell
from rlm.core.repl_spec import ReplLimits, ReplSpec
from rlm.sandbox.launchers.levels import open_launcher
from rlm.sandbox.launchers.zygote import ZygoteLauncher
from rlm.sandbox.memory.eviction import LONGEST_S, SHORTEST_S, MemoryWatch, choose_victims, next_check_s
from rlm.sandbox.memory.meter import Memory
from rlm.sandbox.repl import WorkerRepl
from rlm.sandbox.sandbox import WorkerSandbox

pytestmark = linux_only
BEST = AVAILABLE[0] if AVAILABLE else "strict"
LIMITS = ReplLimits(cell_seconds=60, memory_mb=512)
SCARCE, PLENTY = Memory(60, 4_000), Memory(3_000, 4_000)
ALLOWANCE_MB = 600  # memory that all REPLs of a test can use together


def test_no_eviction_without_need_or_effect() -> None:
    assert choose_victims(PLENTY, [3_000, 10]) == []
    assert choose_victims(SCARCE, []) == []
    assert choose_victims(SCARCE, [150, 80, 3]) == []  # 384 are needed: other processes hold them
    assert choose_victims(SCARCE, [900], returning_mb=200) == []  # enough is being released


def test_largest_repls_are_evicted_first() -> None:
    assert choose_victims(SCARCE, [100, 700, 300]) == [1]
    assert choose_victims(SCARCE, [190, 180, 200, 170]) == [2, 0]
    assert choose_victims(SCARCE, [190, 180, 200, 170], returning_mb=130) == [2]


def test_checks_are_more_frequent_under_pressure() -> None:
    looks = [next_check_s(Memory(free, 4_000)) for free in (4_000, 1_000, 600, 200, 10)]
    assert looks == sorted(looks, reverse=True)
    assert looks[-1] == SHORTEST_S
    assert next_check_s(Memory(100_000, 100_000)) == LONGEST_S


class SmallMachine:
    """A machine with a memory allowance, of which the REPLs of one sandbox use what is measured."""

    def __init__(self) -> None:
        self.repls: list[WorkerRepl] = []
        self.most_held = 0

    def read(self) -> Memory:
        held = sum(repl.memory_mb() for repl in self.repls)
        self.most_held = max(self.most_held, held)
        return Memory(max(0, 256 + ALLOWANCE_MB - held), 4_000)  # the reserve of a machine of 4 GB is 256


async def test_thirty_greedy_repls_leave_machine_usable() -> None:
    """The REPLs request 30 x 128 MiB out of 600. Some are evicted, all others finish, and later there is room again."""
    machine = SmallMachine()
    sandbox = WorkerSandbox(open_launcher(BEST), read_memory=machine.read)
    machine.repls += await asyncio.gather(
        *(sandbox.open(ReplSpec("", limits=LIMITS, setup_code="kept = 1")) for _ in range(30))
    )
    fill = "held = []\nfor n in range(32):\n    held.append(bytearray(b'x') * 4_194_304)\nlen(held)"
    results = await asyncio.gather(*(run_cell(repl, fill) for repl in machine.repls))
    ended = [result for result in results if result.state_lost]
    assert {result.echo for result in results if not result.state_lost} <= {"32"}
    assert ended
    for result in ended:
        assert result.end == "died"
        assert result.error is not None
        assert "MemoryError: the machine ran out of memory" in result.error
        assert not result.killed  # otherwise the engine would execute it again at once, with the same end
        assert "Store less in variables" in result.notes[0]
    assert machine.most_held < 3 * ALLOWANCE_MB  # of 3,840 MiB that were requested
    after = await asyncio.gather(*(run_cell(repl, "held = None; kept") for repl in machine.repls))
    assert [result.echo for result in after if not result.state_lost] == ["1"] * len(
        [result for result in after if not result.state_lost]
    )
    await sandbox.aclose()


async def test_evicted_idle_repl_reports_lost_state_later() -> None:
    machine = SmallMachine()
    sandbox = WorkerSandbox(open_launcher(BEST), read_memory=machine.read)
    hoarder, other = [await sandbox.open(ReplSpec("", limits=LIMITS)) for _ in range(2)]
    machine.repls += [hoarder, other]
    assert (await run_cell(hoarder, "held = bytearray(b'x') * 400_000_000; len(held)")).echo == "400000000"
    result = await run_cell(other, "held = bytearray(b'x') * 300_000_000\nimport time; time.sleep(1.5); len(held)")
    assert (result.end, result.echo) == ("ok", "300000000")
    result = await hoarder.execute(Cell(1, 2, "1"), answer)
    assert result.state_lost
    assert result.error is not None
    assert "ran out of memory" in result.error
    assert (await run_cell(hoarder, "'held' in globals()")).echo == "False"
    await sandbox.aclose()


async def test_no_memory_checks_while_idle() -> None:
    looks = 0

    def read() -> Memory:
        nonlocal looks
        looks += 1
        return SCARCE

    watch = MemoryWatch([], read)
    with watch.during_cell(), watch.during_cell():
        await asyncio.sleep(5 * SHORTEST_S)
    assert looks >= 2
    before = looks
    await asyncio.sleep(5 * SHORTEST_S)
    assert looks == before


async def test_kernel_oom_kills_are_recognised() -> None:
    kills = 7
    watch = MemoryWatch([], lambda: PLENTY, lambda: kills)
    assert not watch.kernel_killed_first()
    with watch.during_cell():
        await asyncio.sleep(5 * SHORTEST_S)
        assert not watch.kernel_killed_first()
        kills = 8
    assert watch.kernel_killed_first()  # for every caller
    assert watch.kernel_killed_first()
    with watch.during_cell():
        await asyncio.sleep(5 * SHORTEST_S)
        assert not watch.kernel_killed_first()


@pytest.mark.parametrize("level", AVAILABLE)
async def test_kernel_would_kill_repls_first(level: str) -> None:
    launcher = ZygoteLauncher(level)
    worker = await launcher.launch(LIMITS)
    assert Path(f"/proc/{worker.pid}/oom_score_adj").read_text().strip() == "1000"
    worker.sock.close()
    await launcher.aclose()
