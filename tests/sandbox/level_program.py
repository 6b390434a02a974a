"""Prints as JSON the levels of this machine and the outcome of requesting each: ``python level_program.py``."""

from __future__ import annotations

import asyncio
import json
import os

from rlm.core.cells import Cell
from rlm.core.errors import SandboxUnavailableError
from rlm.core.repl_spec import ReplSpec
from rlm.core.subcalls import ModelQuery, Subcall, SubcallAnswer, SubcallOutcome
from rlm.sandbox.launchers.levels import LINUX_LEVELS, find_level, open_launcher
from rlm.sandbox.sandbox import WorkerSandbox


async def answer(subcall: Subcall) -> SubcallOutcome:
    assert isinstance(subcall, ModelQuery)
    return SubcallAnswer(subcall.prompt.upper())


async def first_cell(level: str) -> str:
    try:
        sandbox = WorkerSandbox(open_launcher(level))
    except SandboxUnavailableError as error:
        return f"unavailable: {error}"
    try:
        repl = await sandbox.open(ReplSpec("some context"))
        result = await repl.execute(Cell(1, 1, "print(llm_query(context))"), answer)
        return f"{sandbox.level}: {result.stdout.strip()}"
    finally:
        await sandbox.aclose()


async def main() -> None:
    levels = find_level()
    asked = {level: await first_cell(level) for level in ("auto", *LINUX_LEVELS)}
    report = {
        "user": os.getuid(),
        "best": levels.best,
        "missing": dict(levels.missing),
        "asked": asked,
        "notes": levels.notes,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    asyncio.run(main())
