"""When memory runs out, the REPL that holds most ends with an error that says so; its siblings keep what they have."""

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
ALLOWANCE_MB = 600  # that all REPLs of a test may hold together


def test_nobody_goes_while_memory_is_left_nor_for_nothing() -> None:
    assert choose_victims(PLENTY, [3_000, 10]) == []
    assert choose_victims(SCARCE, []) == []
    assert choose_victims(SCARCE, [150, 80, 3]) == []  # 384 are needed: somebody else has taken them
    assert choose_victims(SCARCE, [900], returning_mb=200) == []  # enough is on its way


def test_the_largest_go_and_no_more_than_are_needed() -> None:
    assert choose_victims(SCARCE, [100, 700, 300]) == [1]
    assert choose_victims(SCARCE, [190, 180, 200, 170]) == [2, 0]
    assert choose_victims(SCARCE, [190, 180, 200, 170], returning_mb=130) == [2]


def test_looks_are_the_more_frequent_the_less_is_left() -> None:
    looks = [next_check_s(Memory(free, 4_000)) for free in (4_000, 1_000, 600, 200, 10)]
    assert looks == sorted(looks, reverse=True)
    assert looks[-1] == SHORTEST_S
    assert next_check_s(Memory(100_000, 100_000)) == LONGEST_S


class SmallMachine:
    """Its memory is what the REPLs of one sandbox hold, measured, out of an allowance."""

    def __init__(self) -> None:
        self.repls: list[WorkerRepl] = []
        self.most_held = 0

    def read(self) -> Memory:
        held = sum(repl.memory_mb() for repl in self.repls)
        self.most_held = max(self.most_held, held)
        return Memory(max(0, 256 + ALLOWANCE_MB - held), 4_000)  # the reserve of a machine of 4 GB is 256


async def test_thirty_repls_that_all_take_what_they_may_do_not_take_the_machine() -> None:
    """30 x 128 MiB are wanted where 600 are to be had: some end, all others end well, and later there is room again."""
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
        assert not result.killed  # or it would be executed again at once, with the same end
        assert "Keep less in variables" in result.notes[0]
    assert machine.most_held < 3 * ALLOWANCE_MB  # of 3,840 MiB that were wanted
    after = await asyncio.gather(*(run_cell(repl, "held = None; kept") for repl in machine.repls))
    assert [result.echo for result in after if not result.state_lost] == ["1"] * len(
        [result for result in after if not result.state_lost]
    )
    await sandbox.aclose()


async def test_one_that_only_holds_much_is_told_when_it_runs_again() -> None:
    machine = SmallMachine()
    sandbox = WorkerSandbox(open_launcher(BEST), read_memory=machine.read)
    hoarder, other = [await sandbox.open(ReplSpec("", limits=LIMITS)) for _ in range(2)]
    machine.repls += [hoarder, other]
    assert (await run_cell(hoarder, "held = bytearray(b'x') * 400_000_000; len(held)")).echo == "400000000"
    result = await run_cell(other, "held = bytearray(b'x') * 300_000_000\nimport time; time.sleep(1.5); len(held)")
    assert (result.end, result.echo) == ("ok", "300000000")
    told = await hoarder.execute(Cell(1, 2, "1"), answer)
    assert told.state_lost
    assert told.error is not None
    assert "ran out of memory" in told.error
    assert (await run_cell(hoarder, "'held' in globals()")).echo == "False"
    await sandbox.aclose()


async def test_nothing_is_looked_at_while_no_cell_runs() -> None:
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


async def test_what_the_system_ended_first_is_told_apart_from_other_ends() -> None:
    kills = 7
    watch = MemoryWatch([], lambda: PLENTY, lambda: kills)
    assert not watch.kernel_killed_first()
    with watch.during_cell():
        await asyncio.sleep(5 * SHORTEST_S)
        assert not watch.kernel_killed_first()
        kills = 8
    assert watch.kernel_killed_first()  # by whomever of many it is asked
    assert watch.kernel_killed_first()
    with watch.during_cell():
        await asyncio.sleep(5 * SHORTEST_S)
        assert not watch.kernel_killed_first()


@pytest.mark.parametrize("level", AVAILABLE)
async def test_the_system_would_take_repls_first(level: str) -> None:
    launcher = ZygoteLauncher(level)
    worker = await launcher.launch(LIMITS)
    assert Path(f"/proc/{worker.pid}/oom_score_adj").read_text().strip() == "1000"
    worker.sock.close()
    await launcher.aclose()
