"""A sandbox without processes: cells are Python coroutines written by the test. For engines under virtual time.

It runs no model-written code: a cell's code selects the script, or is passed to it as text.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from rlm.core.cells import Answer, Cell, CellEnd, CellResult, PlainValue, Variable
from rlm.core.errors import SandboxDiedError
from rlm.core.repl_spec import ReplSpec, ReplVariables
from rlm.core.subcalls import BudgetQuery, ModelQuery, Subcall, SubcallAnswer, SubcallFailure, SubcallOutcome, ToolCall
from rlm.ports import Flush, ServeSubcall

CellScript: TypeAlias = "Callable[[ScriptedCell], Awaitable[None]]"
"""Plays one cell through the methods of ``ScriptedCell``."""


class CellFailed(Exception):
    """Raised by ``ScriptedCell.query`` if a sub-call fails. ``kind`` is as in ``SubcallFailure``."""

    def __init__(self, failure: SubcallFailure) -> None:
        super().__init__(failure.message)
        self.kind = failure.kind


class _AnswerGiven(Exception):
    pass


class ScriptedCell:
    """A running cell, with the operations that code in a REPL has.

    Attributes:
        code: the cell's text.
        context: the node's context.
        variables: the REPL's variables, shared by its cells.
    """

    def __init__(
        self,
        cell: Cell,
        context: PlainValue,
        variables: dict[str, PlainValue],
        serve: ServeSubcall,
        flush: Flush | None = None,
    ) -> None:
        self.code = cell.code
        self.context = context
        self.variables = variables
        self.printed: list[str] = []
        self.answer: Answer | None = None
        self._serve = serve
        self._flush = flush
        self._calls = 0
        self._batches = 0

    async def ask(self, prompt: str, *, recursive: bool | None = None, batch: int | None = None) -> SubcallOutcome:
        """Makes one sub-call; returns its outcome."""
        self._calls += 1
        return await self._answer(ModelQuery(self._calls, prompt, recursive=recursive, batch=batch))

    async def _answer(self, subcall: Subcall) -> SubcallOutcome:
        outcome = await self._serve(subcall)
        if self._flush is not None:
            self._flush()
        return outcome

    async def query(self, prompt: str, *, recursive: bool | None = None) -> PlainValue:
        """Makes one sub-call; returns its answer. Raises CellFailed."""
        outcome = await self.ask(prompt, recursive=recursive)
        if isinstance(outcome, SubcallFailure):
            raise CellFailed(outcome)
        return outcome.value

    async def batch(self, prompts: list[str], *, recursive: bool | None = None) -> list[SubcallOutcome]:
        """Makes sub-calls at once; returns their outcomes in order."""
        self._batches += 1
        number = self._batches
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.ask(prompt, recursive=recursive, batch=number)) for prompt in prompts]
        return [task.result() for task in tasks]

    async def budget(self) -> PlainValue:
        self._calls += 1
        outcome = await self._answer(BudgetQuery(self._calls))
        assert isinstance(outcome, SubcallAnswer)
        return outcome.value

    async def tool(self, name: str, *args: PlainValue, **kwargs: PlainValue) -> PlainValue:
        """Calls a tool; returns its result. Raises CellFailed."""
        self._calls += 1
        outcome = await self._answer(ToolCall(self._calls, name, args, kwargs))
        if isinstance(outcome, SubcallFailure):
            raise CellFailed(outcome)
        return outcome.value

    def print(self, text: object) -> None:
        self.printed.append(f"{text}\n")

    def final(self, value: PlainValue) -> None:
        """Gives the answer and ends the cell."""
        self.answer = Answer(value)
        raise _AnswerGiven


class ScriptedRepl:
    """Implements Repl. Created by ``ScriptedSandbox.open``."""

    def __init__(self, spec: ReplSpec, script: Callable[[str], CellScript]) -> None:
        self._spec = spec
        self._script = script
        self._variables: dict[str, PlainValue] = {}
        self._task: asyncio.Task[None] | None = None
        self._stopped = False
        self.closed = False

    async def execute(self, cell: Cell, serve: ServeSubcall, flush: Flush | None = None) -> CellResult:
        """See ``rlm.ports.Repl.execute``."""
        if self.closed:
            raise SandboxDiedError("this REPL is closed; open a new one")
        running = ScriptedCell(cell, self._spec.context, self._variables, serve, flush)
        self._stopped = False
        end: CellEnd = "ok"
        error: str | None = None
        task = self._task = asyncio.ensure_future(self._play(running))
        try:
            await task
        except asyncio.CancelledError:
            if not self._stopped:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                raise
            end = "interrupted"
        except CellFailed as failure:
            end, error = "error", f"{failure.kind}: {failure}"
        except BaseExceptionGroup as errors:  # an error of the run, raised in a batch
            raise errors.exceptions[0] from None
        finally:
            self._task = None
        variables = tuple(Variable(name, type(value).__name__) for name, value in self._variables.items())
        return CellResult(end, "".join(running.printed), error=error, answer=running.answer, variables=variables)

    async def _play(self, running: ScriptedCell) -> None:
        try:
            await self._script(running.code)(running)
        except _AnswerGiven:
            return

    async def read(self, name: str) -> PlainValue:
        """See ``rlm.ports.Repl.read``."""
        return self._variables[name]

    async def variables(self) -> ReplVariables:
        """See ``rlm.ports.Repl.variables``."""
        return dict(self._variables)

    def stop(self, patience_s: float | None = None) -> None:
        """See ``rlm.ports.Repl.stop``."""
        if self._task is not None:
            self._stopped = True
            self._task.cancel()

    async def aclose(self) -> None:
        """See ``rlm.ports.Repl.aclose``."""
        self.closed = True


class ScriptedSandbox:
    """Implements Sandbox: a script plays every cell.

    Args:
        script: a coroutine function that plays any cell, or a mapping from a cell's stripped code to one.

    Attributes:
        opened: every REPL that was opened, in order.
    """

    def __init__(self, script: CellScript | Mapping[str, CellScript]) -> None:
        self._script: Callable[[str], CellScript]
        if isinstance(script, Mapping):
            by_code = dict(script)
            self._script = lambda code: by_code[code.strip()]
        else:
            always = script
            self._script = lambda _: always
        self.opened: list[ScriptedRepl] = []

    @property
    def level(self) -> str:
        return "scripted"

    async def open(self, spec: ReplSpec) -> ScriptedRepl:
        """See ``rlm.ports.Sandbox.open``."""
        repl = ScriptedRepl(spec, self._script)
        self.opened.append(repl)
        return repl

    async def aclose(self) -> None:
        """See ``rlm.ports.Sandbox.aclose``."""
        for repl in self.opened:
            await repl.aclose()
