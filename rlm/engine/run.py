"""One run: a question over an input, from its first event to its result."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from rlm.core.actions import Finish
from rlm.core.budget import Budget, LimitUse
from rlm.core.describe import describe_context
from rlm.core.errors import BudgetExceededError, NoAnswerError, RLMError, RunCancelledError, StoreError
from rlm.core.events import AnyEvent, RunFinished, RunReopened, RunStarted, Status
from rlm.core.ids import ROOT, RunId
from rlm.core.ledger import Ledger
from rlm.core.question import Question
from rlm.core.result import Result
from rlm.core.tree import find_unfinished
from rlm.engine.calling.call import CallServices
from rlm.engine.calling.caller import Caller, CountingCache
from rlm.engine.calling.streaming import LAST_WORDS_S
from rlm.engine.driver.nodes import Tree
from rlm.engine.recorder import Recorder
from rlm.engine.replay.policy import ReplayPolicy
from rlm.engine.replay.resume import Resume
from rlm.engine.settings import NodeJob, TreeSettings
from rlm.engine.spending.limits import Remaining, RunLimits
from rlm.engine.spending.meter import Meter, PriceOf
from rlm.engine.spending.reservations import Reservations
from rlm.engine.spending.stop import Deadline, Stop
from rlm.ports import AnswerCache, Record, Sandbox, Scheduler, Sink


@dataclass(frozen=True, slots=True)
class RunSetup:
    """Everything a run is made of.

    Attributes:
        record: where its events are kept; None keeps nothing.
        past: what an earlier process has done of it, from the journal.
        reopened: it goes on with other limits than it had met.
        policy: how that is done again; its history is made from ``past``.
        epoch_s: the time of day at its beginning, which its cells see; 0 leaves them the real clock.
        cache: answers of leaf calls in earlier runs.
    """

    id: RunId
    question: Question
    settings: TreeSettings
    sandbox: Sandbox
    scheduler: Scheduler
    price_of: PriceOf
    budget: Budget = Budget()
    sinks: Sequence[Sink] = ()
    record: Record | None = None
    past: Sequence[AnyEvent] = ()
    reopened: bool = False
    policy: ReplayPolicy = field(default_factory=ReplayPolicy)
    epoch_s: float = 0.0
    cache: AnswerCache | None = None


class Run:
    """``tree`` drives its nodes; ``recorder`` holds what has happened so far."""

    def __init__(self, setup: RunSetup) -> None:
        self._setup = setup
        policy = setup.policy
        for event in setup.past:
            policy.history.note(event)
        fed = policy.history if policy.purpose == "run" else None
        self.recorder = Recorder(setup.id, setup.sinks, fed)
        settings, budget = setup.settings, setup.budget
        self.stop = Stop()
        self.ledger = Ledger(budget)
        self.holds = Reservations(self.ledger, self.stop)
        meter = Meter(budget, setup.price_of, self.ledger, settings.max_output_tokens)
        meter.check_prices(dict.fromkeys(model.name for model in settings.models))
        till = CallServices(self.holds, meter, self.recorder)
        cache = None if setup.cache is None else CountingCache(setup.cache, setup.past)
        caller = Caller(setup.scheduler, till, cache)
        self._resume = Resume(till, settings.models, counts_tokens=budget.counts_tokens)
        self._rests = caller.rests
        self._deadline = None if budget.seconds is None else Deadline(self.stop, budget.seconds)
        self._remaining = Remaining(budget, self.ledger, self._deadline)
        limits = RunLimits(self.stop, self._deadline, self._remaining)
        self.tree = Tree(settings, setup.sandbox, caller, limits, policy, setup.epoch_s)
        self._task: asyncio.Task[object] | None = None
        self._cancelled = False

    @property
    def id(self) -> RunId:
        return self._setup.id

    def root_job(self) -> NodeJob:
        """The root node."""
        question = self._setup.question
        model = self._setup.settings.model_at(question.depth)
        return NodeJob(ROOT, question.depth, question.query, question.context, model)

    def begin(self) -> None:
        """Emits the run's first event, or takes up what there is of it."""
        settings, question = self._setup.settings, self._setup.question
        if self._setup.past and self._setup.policy.purpose == "run":
            self._resume.restore(self._setup.past)
            if self._setup.reopened:
                notice = self._remaining.notice_at_reopening() if self.tree.superseding.reopen() else None
                self.recorder.emit(RunReopened, ROOT, notice=notice)
            return
        self.recorder.emit(
            RunStarted,
            ROOT,
            question=question.query,
            context=describe_context(question.context),
            models=tuple(model.name for model in settings.models),
            max_depth=settings.max_depth,
            sandbox=self._setup.sandbox.level,
        )

    async def answer(self) -> Result:
        """Runs the whole tree.

        Raises:
            RLMError: when there is no answer; its ``result`` says what the run had reached.
            RunCancelledError: it was stopped by ``cancel``.
            asyncio.CancelledError: its task was cancelled.
        """
        self.recorder.start()
        record = self._setup.record
        journal = self.recorder.journal = None if record is None else await record.begin(self._setup.question)
        try:
            return await self._answer()
        finally:
            if journal is not None:
                journal.end()

    async def _answer(self) -> Result:
        self.begin()
        try:
            finish = await self._drive_in_time(self.root_job())
            if finish.error:
                raise finish.error
            await self._rests.end(LAST_WORDS_S if self._deadline is None else min(LAST_WORDS_S, self._deadline.left_s))
        except BaseException as error:
            await self._rests.end(patience_s=0.0)
            ended = error
            if self._cancelled and isinstance(error, asyncio.CancelledError):
                ended = RunCancelledError(
                    "The run was cancelled before it had an answer. Its result holds what it reached."
                )
            stopped = isinstance(ended, asyncio.CancelledError | RunCancelledError)
            result = self._end("cancelled" if stopped else "failed", None, ended)
            with contextlib.suppress(StoreError):  # the error that is under way says more
                self.recorder.flush()
            if isinstance(ended, RLMError):
                ended.result = result
            if ended is not error:
                raise ended from None
            raise
        result = self._end("partial" if finish.limit else "complete", finish, None)
        self.recorder.flush()
        return result

    def finish(self) -> None:
        """Has the run answer with what it has; one that has nothing yet to answer from is cancelled. On the run's loop."""
        root = self.recorder.tree.root
        if root is None or not any(call.reply is not None for call in root.turns):
            self.cancel()
        else:
            self.stop.throw("stopped")

    def cancel(self) -> None:
        """Stops the run now: cells, calls and children end, and ``answer`` raises RunCancelledError. On the run's loop."""
        self._cancelled = True
        if self._task is not None:
            self._task.cancel()

    async def _drive_in_time(self, job: NodeJob) -> Finish:
        """Drives the root; at the deadline everything still under way is cancelled, whatever it is.

        Raises:
            BudgetExceededError: the deadline passed before there was an answer.
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
                f"The limit of {seconds:g} s was met before the model had answered. Allow more with Budget(seconds=...).",
                limit="seconds",
            ) from None
        finally:
            self._task = None
            if self._deadline is not None:
                self._deadline.end()

    def _end(self, status: Status, finish: Finish | None, error: BaseException | None) -> Result:
        recorder = self.recorder
        answer = finish.answer if finish else None
        limit = finish.limit if finish else None
        if limit is None and isinstance(error, BudgetExceededError | NoAnswerError):
            limit = error.limit
        told = f"{type(error).__name__}: {error}" if error else None
        recorder.emit(RunFinished, ROOT, status=status, answer=answer, error=told, limit=limit)
        return Result(
            answer=answer,
            status=status,
            usage=recorder.usage,
            run_id=self._setup.id,
            tree=recorder.tree.root,
            elapsed_s=recorder.at_s,
            sandbox=self._setup.sandbox.level,
            limit=limit,
            error=told,
            used=self._uses(),
            unfinished=find_unfinished(recorder.tree.root, self.holds.refused_calls),
        )

    def _uses(self) -> dict[str, LimitUse]:
        elapsed, allowed = self.recorder.at_s, self._setup.budget.seconds
        if allowed is not None and self._setup.past and self._setup.policy.purpose == "run":
            allowed += self._setup.past[-1].at_s  # the seconds of a run that is taken up count from then on
        left = None if allowed is None else max(0.0, allowed - elapsed)
        return {**self.ledger.uses(), "seconds": LimitUse(elapsed, allowed, left)}
