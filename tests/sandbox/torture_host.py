"""A host for the torture test: opens REPLs and prints its processes, until it is killed."""

from __future__ import annotations

import asyncio
import sys

from rlm.core.cells import Cell
from rlm.core.repl_spec import ReplLimits, ReplSpec
from rlm.core.subcalls import ModelQuery, Subcall, SubcallAnswer, SubcallOutcome
from rlm.sandbox.launchers.zygote import ZygoteLauncher
from rlm.sandbox.sandbox import WorkerSandbox

LIMITS = ReplLimits(memory_mb=256)


async def answer(subcall: Subcall) -> SubcallOutcome:
    assert isinstance(subcall, ModelQuery)
    return SubcallAnswer(subcall.prompt)


async def work(sandbox: WorkerSandbox, number: int) -> None:
    while True:
        repl = await sandbox.open(ReplSpec("x" * 10_000, limits=LIMITS))
        for turn in range(3):
            await repl.execute(Cell(1, turn, f"llm_query('{number}'); sum(range(10**5))"), answer)
        await repl.aclose()


async def main() -> None:
    launcher = ZygoteLauncher(sys.argv[1])
    sandbox = WorkerSandbox(launcher)
    await sandbox.open(ReplSpec("", limits=LIMITS))
    print(launcher.zygote_pid, flush=True)
    await asyncio.gather(*(work(sandbox, number) for number in range(4)))


if __name__ == "__main__":
    asyncio.run(main())
