"""One run: a question over an input, from its first event to its result."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from rlm.core.budget import Budget, Ledger
from rlm.core.cells import PlainValue
from rlm.core.contexts import describe_context
from rlm.core.errors import RLMError, StoreError
from rlm.core.events import AnyEvent, CallFailed, RunFinished, RunResumed, RunStarted, Status
from rlm.core.history import LOST
from rlm.core.ids import ROOT, RunId
from rlm.core.node import Finish
from rlm.core.result import Result
from rlm.engine.calls import Caller, PriceOf
from rlm.engine.nodes import Tree
from rlm.engine.recorder import Recorder
from rlm.engine.repetition import Repetition
from rlm.engine.settings import NodeJob, TreeSettings
from rlm.ports import Clock, Journal, Sandbox, Scheduler, Sink


@dataclass(frozen=True, slots=True)
class RunSetup:
    """Everything a run is made of.

    Attributes:
        depth: where its root stands: 0, unless an outer tree asked for this run.
        journal: keeps its events; None keeps nothing.
        past: what an earlier process has done of it, from the journal.
        repetition: how that is done again; its history is made from ``past``.
        epoch_s: the time of day at its beginning, which its cells see; 0 leaves them the real clock.
    """

    id: RunId
    settings: TreeSettings
    sandbox: Sandbox
    scheduler: Scheduler
    clock: Clock
    price_of: PriceOf
    budget: Budget = Budget()
    sinks: Sequence[Sink] = ()
    depth: int = 0
    journal: Journal | None = None
    past: Sequence[AnyEvent] = ()
    repetition: Repetition = field(default_factory=Repetition)
    epoch_s: float = 0.0


class Run:
    """``tree`` drives its nodes; ``recorder`` holds what has happened so far."""

    def __init__(self, setup: RunSetup) -> None:
        self._setup = setup
        repetition = setup.repetition
        for event in setup.past:
            repetition.history.note(event)
        fed = repetition.history if repetition.purpose == "run" else None
        self.recorder = Recorder(setup.id, setup.clock, setup.sinks, setup.journal, fed)
        caller = Caller(setup.scheduler, Ledger(setup.budget), self.recorder, setup.price_of)
        self.tree = Tree(setup.settings, setup.sandbox, caller, self.recorder, repetition, setup.epoch_s)

    def root_job(self, question: str, context: PlainValue) -> NodeJob:
        """The root node."""
        setup = self._setup
        return NodeJob(ROOT, setup.depth, question, context, setup.settings.model_at(setup.depth))

    def begin(self, question: str, context: PlainValue) -> None:
        """Emits the run's first event, or takes up what there is of it."""
        settings = self._setup.settings
        if self._setup.past and self._setup.repetition.purpose == "run":
            self._take_up()
            return
        self.recorder.emit(
            RunStarted(
                run=self._setup.id,
                node=ROOT,
                at_s=self.recorder.at_s,
                question=question,
                context=describe_context(context),
                models=tuple(model.name for model in settings.models),
                max_depth=settings.max_depth,
                sandbox=self._setup.sandbox.level,
            )
        )

    async def answer(self, question: str, context: PlainValue) -> Result:
        """Runs the whole tree.

        Raises:
            RLMError: when there is no answer; its ``result`` says what the run had reached.
            asyncio.CancelledError: when it was stopped.
        """
        self.begin(question, context)
        try:
            finish = await self.tree.drive(self.root_job(question, context))
            if finish.error:
                raise finish.error
        except BaseException as error:
            status: Status = "cancelled" if isinstance(error, asyncio.CancelledError) else "failed"
            result = self._end(status, None, error)
            with contextlib.suppress(StoreError):  # the error that is under way says more
                await self.recorder.written()
            if isinstance(error, RLMError):
                error.result = result
            raise
        result = self._end("partial" if finish.limit else "complete", finish, None)
        await self.recorder.written()
        return result

    def _take_up(self) -> None:
        recorder = self.recorder
        recorder.recall(self._setup.past)
        recorder.emit(RunResumed(run=self._setup.id, node=ROOT, at_s=recorder.at_s))
        for call in self._setup.repetition.history.lost:
            recorder.emit(
                CallFailed(
                    run=self._setup.id,
                    node=call.node,
                    at_s=recorder.at_s,
                    call=call.call,
                    role=call.role,
                    depth=call.depth,
                    model=call.model,
                    error=LOST,
                    message="in flight when its process ended",
                    elapsed_s=recorder.at_s - call.at_s,
                )
            )

    def _end(self, status: Status, finish: Finish | None, error: BaseException | None) -> Result:
        recorder = self.recorder
        answer = finish.answer if finish else None
        limit = finish.limit if finish else None
        told = f"{type(error).__name__}: {error}" if error else None
        recorder.emit(
            RunFinished(
                run=self._setup.id,
                node=ROOT,
                at_s=recorder.at_s,
                status=status,
                answer=answer,
                error=told,
                limit=limit,
            )
        )
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
        )
