"""Drives nodes: performs the actions of a node's table one by one.

A resumed node is driven from its beginning. The same table receives its recorded replies, and a new REPL executes its
recorded cells with their recorded answers. At the end of the recording the node continues with new calls.

The tree is the call stack: a sub-call that becomes a child drives the child to its end while the cell waits. A waiting node
holds no slot, and open REPLs are limited for each depth separately, so nesting cannot deadlock.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from functools import partial
from typing import assert_never

from rlm.core.actions import (
    Action,
    Ask,
    CheckQuotes,
    Compact,
    Execute,
    Executed,
    Finish,
    NodeEvent,
    QuotesChecked,
    Read,
    Started,
    Validate,
    ValueMissing,
    ValueRead,
)
from rlm.core.cells import Cell, CellResult
from rlm.core.corpus import Corpus
from rlm.core.depth import can_call, makes_children
from rlm.core.describe import describe_context
from rlm.core.events import NodeFinished, NodeQueued, NodeStarted, Status
from rlm.core.ids import RunId
from rlm.core.ledger import NOTHING
from rlm.core.messages import Image
from rlm.core.node import Node, step
from rlm.core.node_spec import NodeSpec
from rlm.core.repl_spec import ReplLimits, ReplSpec
from rlm.engine.calling.caller import Caller
from rlm.engine.continuation import Continuation
from rlm.engine.driver.answers import AnswerChecker
from rlm.engine.driver.cells import CellDriver
from rlm.engine.driver.evidence import check_quotes
from rlm.engine.driver.subcalls import SubcallServer
from rlm.engine.driver.tool_calls import ToolServer
from rlm.engine.driver.turns import Turns
from rlm.engine.replay.policy import ReplayPolicy
from rlm.engine.replay.superseding import Superseding
from rlm.engine.settings import NodeJob, TreeSettings
from rlm.engine.spending.limits import RunLimits
from rlm.engine.spending.meter import PromptCount
from rlm.engine.tools import RunTools
from rlm.ports import Repl, Sandbox
from rlm.prompts import PromptFacts

# Grace between the stop signal and the interrupt of the root's cell: time to catch BudgetExceeded and print results.
CELL_GRACE_S = 0.5


class Tree:
    """Drives all nodes of one run."""

    def __init__(  # noqa: PLR0917  the services of a run
        self,
        settings: TreeSettings,
        sandbox: Sandbox,
        caller: Caller,
        limits: RunLimits,
        policy: ReplayPolicy | None = None,
        epoch_s: float = 0.0,
        corpus: Corpus | None = None,
        tools: RunTools | None = None,
        continuation: Continuation | None = None,
        images: Mapping[str, Image] | None = None,
    ) -> None:
        """``epoch_s`` is the time of day at which the recorder's time is 0. With 0, cells see the real clock.

        ``corpus`` holds the sources of the run, ``tools`` its tools. The root continues from ``continuation``, and leaves its
        REPL there.
        """
        self.settings = settings
        self._corpus = corpus or Corpus(None)
        self._continuation = continuation
        self._has_images = bool(images)
        self.policy = policy or ReplayPolicy()
        history = self.policy.history if self.policy.purpose == "run" else None
        self.superseding = superseding = Superseding(history, caller.recorder)
        self._tools = tools or RunTools()
        tool_server = ToolServer(self._tools, caller.recorder, caller.reservations)
        self._subcalls = subcalls = SubcallServer(
            settings, caller, self.drive, limits, self.policy, superseding, tool_server, images
        )
        earlier = continuation.cells if continuation else ()
        self._cells = CellDriver(
            subcalls, caller.recorder, self.policy, superseding, limits.remaining, epoch_s, earlier
        )
        self._answers = AnswerChecker(caller.recorder, self.policy)
        self._turns = Turns(settings, caller, limits, self.policy, superseding, continuation=continuation)
        self._limits = limits
        self._sandbox = sandbox
        self._caller = caller
        self._recorder = caller.recorder
        self._open_repls = defaultdict[int, asyncio.Semaphore](lambda: asyncio.Semaphore(settings.max_open_repls))

    async def drive(self, job: NodeJob) -> Finish:
        """Runs a node to its end, with or without an answer.

        Raises:
            RLMError: a failure that ends the whole run: the sandbox is lost, a provider refuses the key.
        """
        async with self._open_repls[job.depth]:
            node, count = Node(self._node_spec(job)), PromptCount()
            try:
                async with self._repl(job) as repl:
                    node, action = step(node, Started())
                    while not isinstance(action, Finish):
                        node, action = step(node, await self._perform(job, repl, node, action, count))
                if job.parent is None and action.error is None and action.limit is None:
                    action = replace(action, limit=self._limit_met())
            except BaseException as error:
                status: Status = "cancelled" if isinstance(error, asyncio.CancelledError) else "failed"
                self._emit_finished(job, node, status, Finish(), error)
                raise
            if action.error is None:  # after an error the run can be resumed, and use those cells again
                self.superseding.settle_reply(job.id)
            status = "failed" if action.error else "partial" if action.limit else "complete"
            self._emit_finished(job, node, status, action, action.error)
            return action

    @contextlib.asynccontextmanager
    async def _repl(self, job: NodeJob) -> AsyncIterator[Repl]:
        """The REPL of a node, closed at the end. The root of a session leaves it open, unless it fails or is cancelled."""
        continuation = self._continuation if job.parent is None else None
        try:
            repl = await (self.open(job) if continuation is None else self._continue_root(job, continuation))
            try:
                yield repl
            except BaseException:
                if continuation is not None:
                    continuation.repl = None
                await repl.aclose()
                raise
            if continuation is None or not continuation.keeps_repl:
                await repl.aclose()
        finally:
            self._caller.reservations.retain_for_last_turn(job.id, NOTHING)

    async def _continue_root(self, job: NodeJob, continuation: Continuation) -> Repl:
        """The open REPL of a session, or a new one in which the cells of earlier questions are executed again.

        Raises:
            DivergenceError: a cell gave another output than before.
        """
        if continuation.repl is not None:
            self._announce(job)
            return continuation.repl
        repl = await self.open(job)
        try:
            await self._cells.restore(job, repl)
        except BaseException:
            await repl.aclose()
            raise
        continuation.repl = repl if continuation.keeps_repl else None
        return repl

    def _announce(self, job: NodeJob) -> None:
        """Emits a node's first event, unless the node is resumed."""
        if self.policy.purpose == "replay" or job.id not in self.policy.history.nodes:
            self._emit_started(job)

    async def open(self, job: NodeJob) -> Repl:
        """Emits a node's first event, unless it is resumed, and opens its REPL."""
        self._announce(job)
        return await self._sandbox.open(self.repl_spec(job))

    def repl_spec(self, job: NodeJob) -> ReplSpec:
        """Specifies the REPL of a node."""
        settings = self.settings
        return ReplSpec(
            job.context,
            setup_code=settings.setup_code,
            can_call=can_call(job.depth, settings.max_depth),
            limits=self._limits_of(job),
            seed=f"{self._first_run(job)}:{job.id}",
            run=self._recorder.run,
            side_table=self._corpus.side_table_for(job.context),
            tools=self._tools.described(job.tools),
            is_typed=job.form is not None or self._continuation is not None,
            depth=job.depth,
            on_queued=partial(self._emit_queued, job),
        )

    def _limits_of(self, job: NodeJob) -> ReplLimits:
        """The limits of a REPL. Children with tools act, so they are not started before their cell reaches them."""
        limits = self.settings.limits
        acts = makes_children(job.depth, self.settings.max_depth) and self._tools.granted(job.depth + 1)
        return replace(limits, prefetch_ahead=0) if acts else limits

    async def execute(self, job: NodeJob, repl: Repl, cell: Cell, limit: str | None = None) -> CellResult:
        """Executes one cell of a node and serves its sub-calls. A ``limit`` forbids them."""
        return (await self._execute(job, repl, cell, limit)).result

    async def _execute(self, job: NodeJob, repl: Repl, cell: Cell, limit: str | None) -> Executed:
        async with self._stoppable(job, repl):
            executed = await self._cells.execute(job, repl, cell, limit)
        self._subcalls.count_refused(job.id, cell, executed.result)
        return executed

    @contextlib.asynccontextmanager
    async def _stoppable(self, job: NodeJob, repl: Repl) -> AsyncIterator[None]:
        """Interrupts the root's cell shortly after the run is stopped. Other cells end with the calls that wait for them."""
        if job.parent is not None:
            yield
            return

        async def stop_cell() -> None:
            await self._limits.stop.wait()
            deadline = self._limits.deadline
            step_s = CELL_GRACE_S if deadline is None else deadline.step_s
            await asyncio.sleep(step_s)
            repl.stop(step_s)

        watcher = asyncio.create_task(stop_cell())
        try:
            yield
        finally:
            watcher.cancel()

    def _limit_met(self) -> str | None:
        """Returns the limit that left work undone although the root answered as usual."""
        refused = next(iter(self._caller.reservations.refused), None)
        return self._limits.stop.limit or refused or self.policy.history.undone.limit

    # The actions of a node.

    async def _perform(self, job: NodeJob, repl: Repl, node: Node, action: Action, count: PromptCount) -> NodeEvent:
        match action:
            case Ask():
                event = await self._turns.ask(job, action, count)
                self._recorder.flush()  # before anything acts on it; ``CellDriver`` does the same
                return event
            case Compact():
                event = await self._turns.summarise(job, action)
                self._recorder.flush()
                return event
            case Execute(cell, limit):
                return await self._execute(job, repl, cell, limit)
            case Read(name):
                try:
                    return ValueRead(await repl.read(name))
                except KeyError:
                    return ValueMissing()
            case Validate(value):
                return await self._answers.check(job, node.turn, value)
            case CheckQuotes(quotes):
                return QuotesChecked(await check_quotes(self._corpus, quotes))
            case Finish():
                raise AssertionError("a finished node performs no action")
            case _:
                assert_never(action)

    # The start of a node, and its events.

    def _node_spec(self, job: NodeJob) -> NodeSpec:
        settings, corpus = self.settings, self._corpus
        is_root = job.parent is None
        earlier = (self._continuation if is_root else None) or Continuation(self._recorder.run)
        has_documents = corpus.has_documents and (is_root or bool(corpus.side_table_for(job.context)))
        cites = corpus.has_documents if settings.citations is None else settings.citations
        facts = PromptFacts(
            depth=job.depth,
            max_depth=settings.max_depth,
            can_call=can_call(job.depth, settings.max_depth),
            sub_calls_are_nodes=makes_children(job.depth, settings.max_depth),
            sub_prompt_chars=settings.sub_prompt_chars(job.depth),
            observation_chars=settings.observation_chars,
            sub_models=tuple(dict.fromkeys(model.name for model in settings.models[1:])),
            has_documents=has_documents,
            has_tables=has_documents and corpus.has_tables,
            cites=is_root and cites,
            has_images=self._has_images,
            tools=tuple(spec.line for spec in self._tools.described(job.tools)),
        )
        return NodeSpec(
            question=job.question,
            context=self._describe(job),
            system=settings.family_of(job.model.name)(facts),
            max_turns=max(earlier.turns + settings.max_turns, self.policy.recorded_turns(job.id)),
            observation_chars=settings.observation_chars,
            window_tokens=self._turns.window_tokens(job.model),
            cut_replies=settings.cut_replies,
            checks_quotes=is_root,
            first_lines=corpus.first_lines() if is_root and corpus.has_documents else (),
            earlier=earlier.messages,
            earlier_turns=earlier.turns,
            earlier_output=earlier.output,
            answer_outline="" if job.form is None else job.form.outline,
        )

    def _first_run(self, job: NodeJob) -> RunId:
        return self._continuation.first_run if self._continuation and job.parent is None else self._recorder.run

    def _describe(self, job: NodeJob) -> str:
        return self._corpus.description if job.parent is None else describe_context(job.context)

    def _emit_started(self, job: NodeJob) -> None:
        self._recorder.emit(
            NodeStarted,
            job.id,
            parent=job.parent,
            depth=job.depth,
            model=job.model.name,
            question=job.question,
            context=self._describe(job),
            batch=job.batch,
            key=job.key,
            prefetched=job.prefetched,
            tools=job.tools,
            schema=None if job.form is None or job.parent is None else job.form.schema,
        )

    def _emit_queued(self, job: NodeJob, place: int) -> None:
        self._recorder.emit(NodeQueued, job.id, place=place)

    def _emit_finished(
        self, job: NodeJob, node: Node, status: Status, finish: Finish, error: BaseException | None
    ) -> None:
        self._recorder.emit(
            NodeFinished,
            job.id,
            status=status,
            answer=finish.answer,
            turns=node.turn - node.spec.earlier_turns,
            error=f"{type(error).__name__}: {error}" if error else None,
            limit=finish.limit,
        )
