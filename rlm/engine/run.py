"""One run: a question over an input, from its first event to its result."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import field, replace
from typing import Any

from rlm.core.actions import Finish
from rlm.core.budget import Budget, LimitUse
from rlm.core.errors import (
    AnswerDoesNotFitError,
    BudgetExceededError,
    NoAnswerError,
    RLMError,
    RunCancelledError,
    StoreError,
)
from rlm.core.events import AnyEvent, RunFinished, RunReopened, RunStarted, Status
from rlm.core.ids import ROOT, RunId
from rlm.core.ledger import Ledger
from rlm.core.pool import Pool
from rlm.core.question import Question
from rlm.core.result import CoverageOfRun, Result
from rlm.core.superseding import is_lifted_by_resume
from rlm.core.tree import find_unfinished
from rlm.core.values import frozen
from rlm.engine.calling.cache import CountingCache
from rlm.engine.calling.call import CallServices
from rlm.engine.calling.caller import Caller
from rlm.engine.calling.streaming import DRAIN_TIMEOUT_S
from rlm.engine.continuation import Continuation
from rlm.engine.driver.evidence import ShownTexts, corpus_of, prepare
from rlm.engine.driver.nodes import Tree
from rlm.engine.recorder import Recorder
from rlm.engine.replay.policy import ReplayPolicy
from rlm.engine.replay.resume import Resume
from rlm.engine.settings import NodeJob, TreeSettings
from rlm.engine.spending.limits import Remaining, RunLimits
from rlm.engine.spending.meter import Meter, PriceOf
from rlm.engine.spending.reservations import Reservations
from rlm.engine.spending.stop import Deadline, Stop
from rlm.engine.tools import AnyTool, RunTools
from rlm.ports import AnswerCache, JournalOpener, Sandbox, Scheduler, SinkLike


@frozen
class RunSetup:
    """Everything a run consists of.

    Attributes:
        record: stores its events; None stores nothing.
        past: the events of an earlier process, from the journal, for a resumed run.
        reopened: the run resumes with other limits than those that ended it.
        policy: the replay policy for ``past``, whose history is built from it.
        epoch_s: the time of day at its start, as its cells see it; 0 leaves them the real clock.
        cache: answers of leaf calls in earlier runs.
        pool: the usage of a budget that the run shares with others.
        tools: the tools that its cells can call.
        coverage: collect what is needed to measure the coverage of the context; None does so for documents.
        continuation: the state of the session that this question continues; the run extends it.
    """

    id: RunId
    question: Question
    settings: TreeSettings
    sandbox: Sandbox
    scheduler: Scheduler
    price_of: PriceOf
    budget: Budget = Budget()
    pool: Pool | None = None
    sinks: Sequence[SinkLike] = ()
    record: JournalOpener | None = None
    past: Sequence[AnyEvent] = ()
    reopened: bool = False
    policy: ReplayPolicy = field(default_factory=ReplayPolicy)
    epoch_s: float = 0.0
    cache: AnswerCache | None = None
    coverage: bool | None = None
    tools: Sequence[AnyTool] = ()
    continuation: Continuation | None = None


class Run:
    """One run. ``tree`` drives its nodes; ``recorder`` holds its events so far."""

    def __init__(self, setup: RunSetup) -> None:
        self._setup = setup
        policy = setup.policy
        for event in setup.past:
            policy.history.note(event)
        fed = policy.history if policy.purpose == "run" else None
        self.corpus = corpus_of(setup.question.context, setup.question.side_table)
        self._shown = ShownTexts() if setup.coverage or (setup.coverage is None and self.corpus.has_documents) else None
        sinks = setup.sinks if self._shown is None else (*setup.sinks, self._shown)
        self.recorder = Recorder(setup.id, sinks, fed)
        settings, budget = setup.settings, setup.budget
        self.stop = Stop()
        self.ledger = Ledger(budget, setup.pool)
        self.reservations = Reservations(self.ledger, self.stop)
        meter = Meter(budget, setup.price_of, self.ledger, settings.max_output_tokens)
        meter.check_prices(dict.fromkeys(model.name for model in settings.models))
        services = CallServices(self.reservations, meter, self.recorder)
        cache = None if setup.cache is None else CountingCache(setup.cache, setup.past)
        caller = Caller(setup.scheduler, services, cache, hedge=settings.hedge, warm_prefixes=settings.warm_prefixes)
        self._resume = Resume(services, settings.models, counts_tokens=meter.counts_tokens)
        self._drain = caller.drain
        self._deadline = None if budget.seconds is None else Deadline(self.stop, budget.seconds)
        allowed = budget if setup.pool is None else budget.tightened(setup.pool.spec.limits)
        self._remaining = Remaining(allowed, self.ledger, self._deadline)
        limits = RunLimits(self.stop, self._deadline, self._remaining)
        self._tools = _tools_of(setup)
        self.tree = Tree(
            settings,
            setup.sandbox,
            caller,
            limits,
            policy,
            setup.epoch_s,
            self.corpus,
            self._tools,
            setup.continuation,
            setup.question.images,
        )
        self._task: asyncio.Task[object] | None = None
        self._cancelled = False

    @property
    def id(self) -> RunId:
        return self._setup.id

    def root_job(self) -> NodeJob:
        """The root node."""
        question = self._setup.question
        model = self._setup.settings.model_at(question.depth)
        tools = tuple(spec.tool for spec in self._tools.specs)
        earlier = 0 if self._setup.continuation is None else self._setup.continuation.turns
        return NodeJob(
            ROOT,
            question.depth,
            question.query,
            question.context,
            model,
            tools=tools,
            form=question.form,
            earlier_turns=earlier,
        )

    def begin(self) -> None:
        """Emit the run's first event, or recall the events of the process that it resumes."""
        settings, question = self._setup.settings, self._setup.question
        if self._setup.past and self._setup.policy.purpose == "run":
            self._resume.restore(self._setup.past)
            self._tools.restore(self._setup.past)
            if not self._setup.reopened and self._was_stopped():
                self.tree.superseding.reopen()
            elif self._setup.reopened:
                notice = self._remaining.notice_at_reopening() if self.tree.superseding.reopen() else None
                self.recorder.emit(RunReopened, ROOT, notice=notice)
            return
        self.recorder.emit(
            RunStarted,
            ROOT,
            question=question.query,
            context=self.corpus.description,
            models=tuple(model.name for model in settings.models),
            max_depth=settings.max_depth,
            sandbox=self._setup.sandbox.level,
            side_table=question.side_table,
            tools=self._tools.specs,
            continues=question.continues,
            schema=None if question.form is None else question.form.schema,
        )

    def _was_stopped(self) -> bool:
        """True if a stop or the time limit had cut work off, and the run then ended without an answer."""
        last = self._setup.past[-1]
        ended = isinstance(last, RunFinished) and last.status in ("complete", "partial")
        return not ended and is_lifted_by_resume(self._setup.policy.history)

    async def answer(self) -> Result[Any]:
        """Run the whole tree.

        Raises:
            RLMError: there is no answer. Its ``result`` holds what the run reached.
            RunCancelledError: ``cancel`` was called.
            asyncio.CancelledError: the task was cancelled.
        """
        try:
            await self._open_tools()
            return await self._answer_on_record()
        finally:
            await self._tools.aclose()

    async def _open_tools(self) -> None:
        self._task = asyncio.current_task()  # a server of tools can take long to start: ``cancel`` ends that too
        try:
            await self._tools.open()
        except asyncio.CancelledError:
            if not self._cancelled:
                raise
            raise RunCancelledError("The run was cancelled before it started: its tools were being opened.") from None
        finally:
            self._task = None

    async def _answer_on_record(self) -> Result:
        self.recorder.start()
        await prepare(self.corpus)
        record = self._setup.record
        journal = self.recorder.journal = None if record is None else await record.begin(self._setup.question)
        try:
            return await self._answer()
        finally:
            if journal is not None:
                journal.end()
            self._extend_session()

    def _extend_session(self) -> None:
        continuation, settings = self._setup.continuation, self._setup.settings
        if continuation is not None:
            continuation.add(
                self._setup.policy.history.nodes.get(ROOT),
                cut_replies=settings.cut_replies,
                observation_chars=settings.observation_chars,
            )

    async def _answer(self) -> Result[Any]:
        self.begin()
        try:
            finish = await self._drive_in_time(self.root_job())
            if finish.error:
                raise finish.error
            answer = self._build(finish)
            deadline = self._deadline
            await self._drain.finish(DRAIN_TIMEOUT_S if deadline is None else min(DRAIN_TIMEOUT_S, deadline.left_s))
        except BaseException as error:
            await self._drain.finish(timeout_s=0.0)
            raised = error
            if self._cancelled and isinstance(error, asyncio.CancelledError):
                raised = RunCancelledError(
                    "The run was cancelled before it had an answer. Its result holds what it reached."
                )
            cancelled = isinstance(raised, asyncio.CancelledError | RunCancelledError)
            result = self._end("cancelled" if cancelled else "failed", None, raised)
            with contextlib.suppress(StoreError):  # the error being raised says more
                self.recorder.flush()
            if isinstance(raised, RLMError):
                raised.result = result
            if raised is not error:
                raise raised from None
            raise
        result = self._end("partial" if finish.limit else "complete", finish, None)
        self.recorder.flush()
        return result if answer is finish.answer else replace(result, answer=answer)

    def _build(self, finish: Finish) -> object:
        """The answer that the caller receives: an instance of the type that it asked for.

        Raises:
            AnswerDoesNotFitError: the class rejects the recorded answer of an earlier process.
        """
        form = self._setup.question.form
        try:
            return finish.answer if form is None else form.build(finish.answer)
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
            raise AnswerDoesNotFitError(
                f"The answer on record does not fit the type: {problem}. Resume without `schema` to receive plain data.",
                problems=(problem,),
                value=finish.answer,
            ) from error

    def finish(self) -> None:
        """Make the run answer with what it has, or cancel it if it has nothing yet. To be called on the run's loop."""
        root = self.recorder.tree.root
        if root is None or not any(call.reply is not None for call in root.turns):
            self.cancel()
        else:
            self.stop.trigger("stopped")

    def cancel(self) -> None:
        """Cancel cells, calls and children; ``answer`` raises RunCancelledError. To be called on the run's loop."""
        self._cancelled = True
        if self._task is not None:
            self._task.cancel()

    async def _drive_in_time(self, job: NodeJob) -> Finish:
        """Drive the root, and cancel everything at the time limit.

        Raises:
            BudgetExceededError: the time limit passed before there was an answer.
        """
        self._task = asyncio.current_task()
        if self._cancelled:
            raise asyncio.CancelledError
        seconds = self._setup.budget.seconds
        if self._deadline is not None:
            self._deadline.start()
        try:
            async with asyncio.timeout(seconds):
                return await self.tree.drive(job)
        except TimeoutError:
            raise BudgetExceededError(
                f"The limit of {seconds:g} s was met before the model answered. Allow more with Budget(seconds=...).",
                limit="seconds",
            ) from None
        finally:
            self._task = None
            if self._deadline is not None:
                self._deadline.end()

    def _end(self, status: Status, finish: Finish | None, error: BaseException | None) -> Result[Any]:
        recorder = self.recorder
        answer = finish.answer if finish else None
        citations = finish.citations if finish else ()
        limit = finish.limit if finish else None
        if limit is None and isinstance(error, BudgetExceededError | NoAnswerError):
            limit = error.limit
        message = f"{type(error).__name__}: {error}" if error else None
        recorder.emit(RunFinished, ROOT, status=status, answer=answer, error=message, limit=limit, citations=citations)
        return Result(
            answer=answer,
            data=answer,
            status=status,
            usage=recorder.usage,
            run_id=self._setup.id,
            tree=recorder.tree.root,
            elapsed_s=recorder.at_s,
            sandbox=self._setup.sandbox.level,
            limit=limit,
            error=message,
            used=self._uses(),
            unfinished=find_unfinished(recorder.tree.root, self.reservations.refused_calls),
            citations=citations,
            measurement=None if self._shown is None else CoverageOfRun(self.corpus, self._shown.texts),
        )

    def _uses(self) -> dict[str, LimitUse]:
        elapsed, allowed = self.recorder.at_s, self._setup.budget.seconds
        if allowed is not None and self._setup.past and self._setup.policy.purpose == "run":
            allowed += self._setup.past[-1].at_s  # the time limit of a resumed run counts from its resumption
        left = None if allowed is None else max(0.0, allowed - elapsed)
        return {**self.ledger.uses(), "seconds": LimitUse(elapsed, allowed, left)}


def _tools_of(setup: RunSetup) -> RunTools:
    """The tools of a run. One that is resumed or replayed keeps those of its record."""
    recorded = next((event.tools for event in setup.past if isinstance(event, RunStarted)), None)
    over = setup.record is None and bool(setup.past)  # every result is in its record
    replays = setup.policy.purpose == "replay" or over
    return RunTools(setup.tools, recorded, replays=replays, root_depth=setup.question.depth)
