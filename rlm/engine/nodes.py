"""Drives nodes: performs the actions of a node's table one by one, and serves what its cells ask for.

The tree exists only here, as calls: a cell's sub-call that becomes a child drives that child to its end while the cell waits.
A waiting node holds no slot, and the number of open REPLs is limited for each depth apart, so nesting cannot deadlock.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import assert_never

from rlm.core.cells import (
    Cell,
    CellResult,
    ReplSpec,
    Subcall,
    SubcallFailure,
    SubcallOutcome,
)
from rlm.core.contexts import describe_context
from rlm.core.depth import can_call, makes_children
from rlm.core.errors import BudgetExceededError, ModelError
from rlm.core.events import CellExecuted, CellStarted, NodeFinished, NodeStarted, Status
from rlm.core.ids import turn_call
from rlm.core.messages import Request, Task
from rlm.core.node import (
    Action,
    Ask,
    AskFailed,
    Begun,
    Execute,
    Executed,
    Finish,
    LimitMet,
    Node,
    NodeEvent,
    NodeSpec,
    Read,
    Replied,
    ValueMissing,
    ValueRead,
    step,
)
from rlm.core.observations import INVENTED
from rlm.engine.calls import Caller, CallPlace
from rlm.engine.recorder import Recorder
from rlm.engine.settings import NodeJob, TreeSettings
from rlm.engine.subcalls import SubcallServer
from rlm.ports import Repl, Sandbox
from rlm.prompts import PromptFacts


class Tree:
    """Drives the nodes of one run."""

    def __init__(self, settings: TreeSettings, sandbox: Sandbox, caller: Caller, recorder: Recorder) -> None:
        self.settings = settings
        self._subcalls = SubcallServer(settings, caller, self.drive)
        self._sandbox = sandbox
        self._caller = caller
        self._recorder = recorder
        self._open_repls = defaultdict[int, asyncio.Semaphore](lambda: asyncio.Semaphore(settings.max_open_repls))

    async def drive(self, job: NodeJob) -> Finish:
        """Runs a node to its end, whatever that is.

        Raises:
            RLMError: what ends the whole run: the sandbox is gone, a provider refuses the key.
        """
        async with self._open_repls[job.depth]:
            node = Node(self._node_spec(job))
            try:
                repl = await self.open(job)
                try:
                    node, action = step(node, Begun())
                    while not isinstance(action, Finish):
                        node, action = step(node, await self._perform(job, repl, node, action))
                finally:
                    await repl.aclose()
            except BaseException as error:
                status: Status = "cancelled" if isinstance(error, asyncio.CancelledError) else "failed"
                self._emit_finished(job, node, status, Finish(), error)
                raise
            status = "failed" if action.error else "partial" if action.limit else "complete"
            self._emit_finished(job, node, status, action, action.error)
            return action

    async def open(self, job: NodeJob) -> Repl:
        """Begins a node: its first event, and its REPL."""
        self._emit_started(job)
        return await self._sandbox.open(self.repl_spec(job))

    def repl_spec(self, job: NodeJob) -> ReplSpec:
        """The REPL that a node needs."""
        settings = self.settings
        return ReplSpec(
            job.context,
            setup_code=settings.setup_code,
            can_call=can_call(job.depth, settings.max_depth),
            limits=settings.limits,
        )

    async def execute(self, job: NodeJob, repl: Repl, cell: Cell, limit: str | None = None) -> CellResult:
        """Runs one cell of a node, serving its sub-calls. ``limit`` names a limit that forbids them."""
        recorder = self._recorder
        recorder.emit(CellStarted(run=recorder.run, node=job.id, at_s=recorder.at_s, cell=cell))

        async def serve(subcall: Subcall) -> SubcallOutcome:
            if limit:
                return SubcallFailure("BudgetExceeded", f"The limit of {limit} is met; no more sub-calls. Answer now.")
            return await self._subcalls.serve(job, cell, subcall)

        result = await repl.execute(cell, serve)
        recorder.emit(CellExecuted(run=recorder.run, node=job.id, at_s=recorder.at_s, cell=cell, result=result))
        return result

    # The actions of a node.

    async def _perform(self, job: NodeJob, repl: Repl, node: Node, action: Action) -> NodeEvent:
        match action:
            case Ask():
                return await self._ask(job, action)
            case Execute(cell, limit):
                return Executed(await self.execute(job, repl, cell, limit))
            case Read(name):
                try:
                    return ValueRead(await repl.read(name))
                except KeyError:
                    return ValueMissing()
            case Finish():
                raise AssertionError("a finished node has nothing left to do")
            case _:
                assert_never(action)

    async def _ask(self, job: NodeJob, action: Ask) -> NodeEvent:
        settings = self.settings
        request = Request(
            action.messages,
            role="node",
            depth=job.depth,
            temperature=settings.temperature,
            max_output_tokens=settings.max_output_tokens,
            stop=INVENTED,
            cache_key=f"{self._recorder.run}:{job.id}",
            task=Task(job.question, job.depth, settings.max_depth, action.turn, settings.sub_prompt_chars(job.depth)),
        )
        place = CallPlace(turn_call(job.id, action.turn), job.id, action.turn)
        try:
            # Only the root's last turn is paid from what was held back.
            reply = await self._caller.ask(job.model, request, place, last_turn=action.last and job.parent is None)
        except BudgetExceededError as error:
            return LimitMet(error.limit)
        except ModelError as error:
            if error.ends_run:
                raise
            return AskFailed(error)
        return Replied(reply.text)

    # What a node starts with, and its events.

    def _node_spec(self, job: NodeJob) -> NodeSpec:
        settings = self.settings
        facts = PromptFacts(
            depth=job.depth,
            max_depth=settings.max_depth,
            can_call=can_call(job.depth, settings.max_depth),
            sub_calls_are_nodes=makes_children(job.depth, settings.max_depth),
            sub_prompt_chars=settings.sub_prompt_chars(job.depth),
            observation_chars=settings.observation_chars,
            sub_models=tuple(dict.fromkeys(model.name for model in settings.models[1:])),
        )
        return NodeSpec(
            question=job.question,
            context=describe_context(job.context),
            system=settings.family_of(job.model.name)(facts),
            max_turns=settings.max_turns,
            observation_chars=settings.observation_chars,
        )

    def _emit_started(self, job: NodeJob) -> None:
        recorder = self._recorder
        recorder.emit(
            NodeStarted(
                run=recorder.run,
                node=job.id,
                at_s=recorder.at_s,
                parent=job.parent,
                depth=job.depth,
                model=job.model.name,
                question=job.question,
                context=describe_context(job.context),
                batch=job.batch,
                prefetched=job.prefetched,
            )
        )

    def _emit_finished(
        self, job: NodeJob, node: Node, status: Status, finish: Finish, error: BaseException | None
    ) -> None:
        recorder = self._recorder
        recorder.emit(
            NodeFinished(
                run=recorder.run,
                node=job.id,
                at_s=recorder.at_s,
                status=status,
                answer=finish.answer,
                turns=node.turn,
                error=f"{type(error).__name__}: {error}" if error else None,
                limit=finish.limit,
            )
        )
