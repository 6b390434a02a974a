"""A REPL in a real process, shared by the tests of cells."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rlm.core.cells import Cell, CellResult, PlainValue
from rlm.core.repl_spec import ReplLimits, ReplSpec
from rlm.core.subcalls import ModelQuery, Subcall, SubcallAnswer, SubcallFailure, SubcallOutcome
from rlm.core.tools import ToolSpec
from rlm.sandbox.launchers.unconfined import UnconfinedLauncher
from rlm.sandbox.repl import WorkerRepl
from rlm.sandbox.sandbox import WorkerSandbox

SHORT = ReplLimits(cell_seconds=0.5)


class Bench:
    """A REPL with a model behind it whose reply depends on the prompt.

    - "fail ..." fails.
    - "budget ..." fails for lack of budget.
    - "slow ..." takes ``delay_s``.
    - "hang ..." never answers.
    - "boom ..." is an error of the run.
    - Any other prompt is answered with ``echo:PROMPT``, or with ``data`` if it has a schema.
    """

    def __init__(self, repl: WorkerRepl) -> None:
        self.repl = repl
        self.calls: list[ModelQuery] = []
        self.data: PlainValue = None
        self.delay_s = 0.05
        self.open = 0
        self.most_open = 0
        self.cancelled = 0
        self._number = 0

    async def serve(self, subcall: Subcall) -> SubcallOutcome:
        assert isinstance(subcall, ModelQuery)
        self.calls.append(subcall)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            return await self._answer(subcall)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.open -= 1

    async def _answer(self, subcall: ModelQuery) -> SubcallOutcome:
        match subcall.prompt.split(" ")[0]:
            case "fail":
                return SubcallFailure("RateLimitedError", "429, try later")
            case "budget":
                return SubcallFailure("BudgetExceededError", "no calls left")
            case "boom":
                raise ConnectionError("the run is broken")
            case "slow":
                await asyncio.sleep(self.delay_s)
            case "hang":
                await asyncio.Event().wait()
        return SubcallAnswer(self.data if subcall.schema is not None else f"echo:{subcall.prompt}")

    async def run(self, code: str) -> CellResult:
        self._number += 1
        return await self.repl.execute(Cell(1, self._number, code), self.serve)

    async def all(self, *codes: str) -> CellResult:
        """Runs cells one after another; returns the last result."""
        results = [await self.run(code) for code in codes]
        return results[-1]


@asynccontextmanager
async def open_bench(
    context: PlainValue = "the context",
    *,
    limits: ReplLimits | None = None,
    can_call: bool = True,
    setup_code: str | None = None,
    tools: tuple[ToolSpec, ...] = (),
) -> AsyncIterator[Bench]:
    sandbox = WorkerSandbox(UnconfinedLauncher())
    try:
        limits = limits or ReplLimits(cell_seconds=20)
        spec = ReplSpec(context, setup_code=setup_code, can_call=can_call, limits=limits, tools=tools)
        yield Bench(await sandbox.open(spec))
    finally:
        await sandbox.aclose()


def show(result: CellResult) -> str:
    """Everything shown to the model, for asserts that look for text anywhere."""
    parts = (result.stdout, result.stderr, result.echo, result.error, result.traceback, *result.notes)
    return "\n".join(part for part in parts if part)
