"""Recorded runs, executed again: the methods of ``RLM`` that resume and replay them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, overload

from rlm.core.budget import Budget
from rlm.core.cells import PlainValue
from rlm.core.result import Result
from rlm.documents.values import Documents
from rlm.engine.replay.policy import CellWatch, OnDivergence
from rlm.engine.run import Run
from rlm.ports import SinkLike
from rlm.runtime.arguments import PlainSchema, ResumeOptions, answer_form
from rlm.runtime.assembly import Assembly
from rlm.runtime.contexts import plain_context
from rlm.runtime.handles import EventLog, RunHandle
from rlm.runtime.loop import BACKGROUND

if TYPE_CHECKING:
    from typing_extensions import TypeForm

T = TypeVar("T")


class Reruns:
    """Resumes and replays the recorded runs of one ``RLM`` object."""

    def __init__(self, parts: Assembly) -> None:
        self._parts = parts

    @overload
    def resume(
        self, run_id: str, context: PlainValue = None, *, schema: PlainSchema = None, **more: Unpack[ResumeOptions]
    ) -> Result: ...
    @overload
    def resume(
        self, run_id: str, context: PlainValue = None, *, schema: TypeForm[T], **more: Unpack[ResumeOptions]
    ) -> Result[T]: ...
    def resume(
        self,
        run_id: str,
        context: PlainValue = None,
        *,
        schema: Any = None,
        budget: Budget | None = None,
        on_divergence: OnDivergence = "stop",
    ) -> Result:
        """Resumes a run that was killed, cancelled, failed, or met a limit, and waits for its answer. See ``aresume``."""
        return BACKGROUND.wait(_answer(self._resuming(run_id, context, schema, budget, on_divergence)))

    @overload
    async def aresume(
        self, run_id: str, context: PlainValue = None, *, schema: PlainSchema = None, **more: Unpack[ResumeOptions]
    ) -> Result: ...
    @overload
    async def aresume(
        self, run_id: str, context: PlainValue = None, *, schema: TypeForm[T], **more: Unpack[ResumeOptions]
    ) -> Result[T]: ...
    async def aresume(
        self,
        run_id: str,
        context: PlainValue = None,
        *,
        schema: Any = None,
        budget: Budget | None = None,
        on_divergence: OnDivergence = "stop",
    ) -> Result:
        """Resumes a run at the end of its record. Its cells are executed again with recorded answers; no answer is paid twice.

        Args:
            run_id: its id, or a unique prefix of it; "last" is the newest.
            context: needed if it was too large to be stored; must be the same.
            schema: the type that the run was asked for, so that the answer is an instance of it. Without it, a typed answer
                is plain data that follows the recorded schema.
            budget: limits of the whole run, including what it has already spent, in place of this object's. Its ``seconds``
                count from now on. A run that met a limit continues if a budget is given.
            on_divergence: the reaction to a cell that diverges from its recording: "stop" raises, "pay" continues and repeats
                calls if it must.

        Raises:
            UnknownRunError, IncompleteRecordError: the record is not sufficient.
            DivergenceError: a cell diverged from its recording.
            RLMError: as for ``arun``.
        """
        preparing = self._resuming(run_id, context, schema, budget, on_divergence)
        return await BACKGROUND.run(_answer(preparing))

    @overload
    def start_resume(
        self, run_id: str, context: PlainValue = None, *, schema: PlainSchema = None, **more: Unpack[ResumeOptions]
    ) -> RunHandle: ...
    @overload
    def start_resume(
        self, run_id: str, context: PlainValue = None, *, schema: TypeForm[T], **more: Unpack[ResumeOptions]
    ) -> RunHandle[T]: ...
    def start_resume(
        self,
        run_id: str,
        context: PlainValue = None,
        *,
        schema: Any = None,
        budget: Budget | None = None,
        on_divergence: OnDivergence = "stop",
    ) -> RunHandle:
        """Resumes a run as ``aresume`` does, and returns its handle once the record was read."""
        log = EventLog()
        run = BACKGROUND.wait(self._resuming(run_id, context, schema, budget, on_divergence, (log,))())
        return RunHandle(run, log)

    def _resuming(  # noqa: PLR0917  the arguments of its three callers
        self,
        run_id: str,
        context: PlainValue,
        schema: object,
        budget: Budget | None,
        on_divergence: OnDivergence,
        sinks: Sequence[SinkLike] = (),
    ) -> Callable[[], Coroutine[Any, Any, Run]]:
        """Prepares a resume. The type of the answer is compiled here, in the caller's thread."""
        form = answer_form(schema)
        return lambda: self._parts.resume(run_id, plain_input(context), budget, on_divergence, sinks, form=form)

    def replay(self, run_id: str, context: PlainValue = None, *, watch: CellWatch | None = None) -> Result:
        """Replays a recorded run and waits for its answer. See ``areplay``."""
        return BACKGROUND.wait(_answer(lambda: self._parts.replay(run_id, plain_input(context), watch)))

    async def areplay(self, run_id: str, context: PlainValue = None, *, watch: CellWatch | None = None) -> Result:
        """Executes a whole recorded run again without asking any model, and compares everything with the record.

        Args:
            run_id, context: as for ``aresume``.
            watch: awaited after each cell, with its node, the cell and the REPL.

        Raises:
            DivergenceError: names the first cell that diverges, or the first turn with another prompt.
            IncompleteRecordError: the record ends before the run does.
        """
        return await BACKGROUND.run(_answer(lambda: self._parts.replay(run_id, plain_input(context), watch)))

    def start_replay(self, run_id: str, context: PlainValue = None, *, watch: CellWatch | None = None) -> RunHandle:
        """Replays a run as ``areplay`` does, and returns its handle once the record was read."""
        log = EventLog()
        return RunHandle(BACKGROUND.wait(self._parts.replay(run_id, plain_input(context), watch, (log,))), log)


def plain_input(context: PlainValue) -> PlainValue:
    """The plain data of documents; any other context as ``plain_context`` makes it."""
    return context.context if isinstance(context, Documents) else plain_context(context)


async def _answer(prepare: Callable[[], Awaitable[Run]]) -> Result:
    run = await prepare()
    return await run.answer()
