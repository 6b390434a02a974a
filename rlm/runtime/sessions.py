"""Sessions: several questions over one context, one REPL and one conversation. Each question is a run of its own."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, overload

from rlm.core.budget import Budget
from rlm.core.cells import PlainValue, Variable
from rlm.core.errors import BudgetExceededError, ConfigurationError, RLMError
from rlm.core.ids import RunId
from rlm.core.question import Question
from rlm.core.result import Result
from rlm.core.usage import UsageReport
from rlm.core.values import frozen, slotted
from rlm.engine.continuation import Continuation
from rlm.engine.run import Run
from rlm.ports import SinkLike
from rlm.runtime.arguments import PlainSchema, QuestionOptions, answer_form
from rlm.runtime.assembly import Assembly, recorded_question
from rlm.runtime.handles import EventLog, RunHandle
from rlm.runtime.loop import BACKGROUND

if TYPE_CHECKING:
    from typing_extensions import TypeForm

T = TypeVar("T")

SHARED_LIMITS = ("usd", "tokens", "calls", "seconds")
"""The limits that the questions of a session share. The others apply to each question."""


@frozen
class CutOffQuestion:
    """A recorded question whose process ended before it had an answer."""

    run_id: RunId
    text: str


@slotted
class SessionSetup:
    """Everything a session consists of.

    Attributes:
        parts: makes its runs.
        question: has the context of all questions; its query is not used.
        continuation: the state after the questions so far.
        budget: limits all questions of this object together.
        run_ids: the runs of the questions so far.
        cut_off: the question that ``resume`` continues.
    """

    parts: Assembly
    question: Question
    continuation: Continuation
    budget: Budget | None = None
    run_ids: tuple[RunId, ...] = ()
    cut_off: CutOffQuestion | None = None


class BaseSession:
    """The questions of a session, one at a time. ``Session`` waits for their answers, ``AsyncSession`` awaits them."""

    def __init__(self, setup: SessionSetup) -> None:
        self._setup = setup
        setup.continuation.keeps_repl = True
        self._lock = threading.Lock()
        self._closed = False
        self._current: RunHandle | None = None
        self._turns_before = 0
        self._last: Result | None = None
        self._usage = UsageReport()
        self._used: Counter[str] = Counter()

    @property
    def run_ids(self) -> tuple[RunId, ...]:
        """The runs of the questions so far, in order."""
        self._settle()
        return self._setup.run_ids

    @property
    def last_result(self) -> Result | None:
        """The result of the newest question, also of one that failed; None before the first."""
        self._settle()
        return self._last

    @property
    def usage(self) -> UsageReport:
        """Tokens, calls and dollars of all questions that this object asked."""
        self._settle()
        return self._usage

    @property
    def cut_off(self) -> CutOffQuestion | None:
        """The question at which the process of a restored session ended. ``resume`` continues it, the next question drops it."""
        return self._setup.cut_off

    @property
    def variables(self) -> tuple[Variable, ...]:
        """Names, types and sizes of the REPL's variables after the last cell."""
        cells = self._setup.continuation.cells
        result = cells[-1].result if cells else None
        return () if result is None else result.variables

    @overload
    def start(self, query: str, *, schema: PlainSchema = None, **more: Unpack[QuestionOptions]) -> RunHandle: ...
    @overload
    def start(self, query: str, *, schema: TypeForm[T], **more: Unpack[QuestionOptions]) -> RunHandle[T]: ...
    def start(
        self, query: str, *, schema: Any = None, on_event: SinkLike | None = None, sinks: Sequence[SinkLike] = ()
    ) -> RunHandle:
        """Starts the next question and returns its handle. ``schema`` is the type of its answer, as for ``RLM.run``.

        Raises:
            ConfigurationError: another question is being answered, or the session is closed.
            BudgetExceededError: the budget of the session is spent.
        """
        setup, context = self._setup, self._setup.question
        form = answer_form(schema)

        def prepare(log: EventLog) -> Run:
            question = Question.of(
                query,
                context.context,
                sources=context.sources,
                side_table=context.side_table,
                continues=self._newest(),
                form=form,
            )
            events = (*sinks, *(() if on_event is None else (on_event,)), log)
            setup.cut_off = None
            return setup.parts.new_run(question, events, budget=self._allowed(), continuation=setup.continuation)

        return self._start(prepare)

    def start_resume(self, *, on_event: SinkLike | None = None, sinks: Sequence[SinkLike] = ()) -> RunHandle:
        """Continues the question at which the session's process ended. Recorded answers are not paid again.

        Raises:
            ConfigurationError: no question was cut off.
        """
        setup = self._setup

        def prepare(log: EventLog) -> Run:
            if setup.cut_off is None:
                raise ConfigurationError("No question of this session was cut off: ask the next one.")
            events = (*sinks, *(() if on_event is None else (on_event,)), log)
            resuming = setup.parts.resume(
                setup.cut_off.run_id,
                setup.question.context,
                self._allowed(),
                "stop",
                events,
                continuation=setup.continuation,
            )
            run = BACKGROUND.wait(resuming)
            setup.cut_off = None
            return run

        return self._start(prepare)

    def _start(self, prepare: Callable[[EventLog], Run]) -> RunHandle:
        with self._lock:
            if self._closed:
                raise ConfigurationError("This session is closed: open a new one.")
            if self._current is not None and not self._current.done:
                raise ConfigurationError("This session is answering a question: wait for it, or open a second session.")
            self._settle_current()
            log = EventLog()
            run = prepare(log)
            self._turns_before = self._setup.continuation.turns
            self._current = RunHandle(run, log)
            return self._current

    def _newest(self) -> str:
        return self._setup.run_ids[-1] if self._setup.run_ids else ""

    def _settle(self) -> None:
        with self._lock:
            self._settle_current()

    def _settle_current(self) -> None:
        """Counts the newest question once it has ended. One without a turn leaves nothing that the next could continue."""
        handle = self._current
        if handle is None or not handle.done:
            return
        handle.wait_ended()
        self._current = None
        self._last = handle.outcome()
        if self._setup.continuation.turns > self._turns_before:
            self._setup.run_ids = (*self._setup.run_ids, handle.run_id)
        if self._last is not None:
            self._usage = self._usage + self._last.usage
            self._used.update({limit: use.used for limit, use in self._last.used.items()})

    def _allowed(self) -> Budget | None:
        """The budget of the next question: its own, or less if the session has less left."""
        total = self._setup.budget
        if total is None:
            return None
        limits = dict(self._setup.parts.budget.limits)
        for name, limit in total.limits.items():
            left = limit - self._used[name] if name in SHARED_LIMITS else limit
            if name in SHARED_LIMITS and left <= 0:
                raise BudgetExceededError(
                    f"The session's limit of {limit:g} {name} is spent. Open another session, or allow more.",
                    limit=name,
                )
            limits[name] = min(left, limits.get(name, left))
        return Budget(**limits)

    def _close(self) -> None:
        with self._lock:
            self._closed = True
            handle = self._current
        if handle is not None:
            handle.cancel()
            handle.outcome()
            handle.wait_ended()
        BACKGROUND.wait(self._setup.continuation.aclose())


class Session(BaseSession):
    """Several questions over one REPL and one conversation, for threads and notebooks. Created by ``RLM.session``.

    Variables that an earlier question defined are there for the next one. A session answers one question at a time.
    """

    @overload
    def ask(self, query: str, *, schema: PlainSchema = None, on_event: SinkLike | None = None) -> Result: ...
    @overload
    def ask(self, query: str, *, schema: TypeForm[T], on_event: SinkLike | None = None) -> Result[T]: ...
    def ask(self, query: str, *, schema: Any = None, on_event: SinkLike | None = None) -> Result:
        """Answers the next question. Ctrl-C cancels the question, not the session.

        ``schema`` is the type of its answer, as for ``RLM.run``.

        Raises:
            RLMError: there is no answer, as for ``RLM.run``. The session can go on.
        """
        return _result(self.start(query, schema=schema, on_event=on_event))

    def resume(self, *, on_event: SinkLike | None = None) -> Result:
        """Answers the question at which the process of a restored session ended. See ``start_resume``."""
        return _result(self.start_resume(on_event=on_event))

    def close(self) -> None:
        """Cancels a question that is being answered, and closes the REPL."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncSession(BaseSession):
    """Several questions over one REPL and one conversation, for any event loop. Created by ``RLM.asession``."""

    @overload
    async def ask(self, query: str, *, schema: PlainSchema = None, on_event: SinkLike | None = None) -> Result: ...
    @overload
    async def ask(self, query: str, *, schema: TypeForm[T], on_event: SinkLike | None = None) -> Result[T]: ...
    async def ask(self, query: str, *, schema: Any = None, on_event: SinkLike | None = None) -> Result:
        """Answers the next question, as ``Session.ask``. Cancelling the task cancels the question, not the session."""
        return await (await asyncio.to_thread(lambda: self.start(query, schema=schema, on_event=on_event)))

    async def resume(self, *, on_event: SinkLike | None = None) -> Result:
        """Answers the question at which the process of a restored session ended. See ``start_resume``."""
        return await (await asyncio.to_thread(self.start_resume, on_event=on_event))

    async def aclose(self) -> None:
        """Cancels a question that is being answered, and closes the REPL."""
        await asyncio.to_thread(self._close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _result(handle: RunHandle) -> Result:
    try:
        return handle.result()
    except BaseException as error:
        if not isinstance(error, RLMError):
            handle.cancel()
            handle.outcome()
        raise


async def restore_session(
    parts: Assembly, run_id: str, context: PlainValue = None, budget: Budget | None = None
) -> SessionSetup:
    """The setup of a recorded session after one of its questions. See ``RLM.resume_session``."""
    past = await parts.records.recall(run_id, context)
    questions = await asyncio.to_thread(parts.records.recall_session, past.info.id)
    continuation, question = Continuation(questions[0][0]), recorded_question(past)
    cut_off = CutOffQuestion(past.info.id, question.query) if past.info.status is None else None
    earlier = questions if cut_off is None else questions[:-1]
    for _, events in earlier:
        parts.extend(continuation, events)
    run_ids = tuple(run for run, _ in earlier)
    return SessionSetup(parts, question, continuation, budget, run_ids, cut_off)
