"""Serves the sub-calls of cells: from the record, as a leaf call, as a child node, or from the run's budget.

Errors are the same whether a query becomes a leaf call or a child node. It must not know how models are called.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Coroutine, Mapping
from contextlib import nullcontext
from dataclasses import field, replace
from typing import Any, assert_never

from rlm.core.answer_form import AnswerForm
from rlm.core.cells import Cell, CellResult
from rlm.core.depth import decide_subcall
from rlm.core.errors import (
    BudgetExceededError,
    IncompleteRecordError,
    MalformedReplyError,
    ModelError,
    SchemaError,
)
from rlm.core.events import SubcallEnded, ToolEnded
from rlm.core.history import RecordedCall
from rlm.core.ids import CallId, NodeId, SubcallPlace
from rlm.core.messages import Image, Reply
from rlm.core.subcall_key import subcall_key
from rlm.core.subcalls import BudgetQuery, ModelQuery, Subcall, SubcallAnswer, SubcallFailure, SubcallOutcome, ToolCall
from rlm.core.tools import show_call
from rlm.core.values import slotted
from rlm.engine.calling.caller import Caller
from rlm.engine.driver.answers import open_form
from rlm.engine.driver.queries import (
    CellExecution,
    DriveNode,
    SubcallSite,
    drive_child,
    failure_of,
    find_images,
    find_model,
    leaf_call,
    read_value,
    shorten,
)
from rlm.engine.driver.tool_calls import ToolServer, outcome_of
from rlm.engine.replay.policy import ReplayPolicy
from rlm.engine.replay.superseding import Superseding
from rlm.engine.settings import TreeSettings
from rlm.engine.spending.limits import RunLimits
from rlm.engine.spending.stop import Stopped
from rlm.prompts import describe_limit

LARGE_CHARS = 1_000_000  # of a prompt and its context; smaller ones are hashed within a few milliseconds
MAX_REFUSALS = 200  # of one cell that are recorded one by one; further ones share one outcome and one event
MAX_BUDGET_QUERIES = 1000  # of one cell
NOT_MADE = "this call was not made before the cell ended with an error"


@slotted
class _Prefetched:
    """Count of a cell's prefetched calls, and those that a limit refused, by rank."""

    count: int = 0
    refused: dict[int, str] = field(default_factory=dict)

    def next_rank(self) -> int:
        self.count += 1
        return self.count - 1


@slotted
class _CellCounts:
    """Counts of one cell that has not ended. ``first`` is the first sub-call whose refusal is recorded with later ones."""

    budget_queries: int = 0
    refusals: int = 0
    first: SubcallSite | None = None
    failure: SubcallFailure = field(default_factory=lambda: SubcallFailure("", ""))


class SubcallServer:
    """Serves the sub-calls of all nodes of a run; ``drive`` runs a child node to its end."""

    def __init__(  # noqa: PLR0917  the parts of a run
        self,
        settings: TreeSettings,
        caller: Caller,
        drive: DriveNode,
        limits: RunLimits,
        policy: ReplayPolicy,
        superseding: Superseding,
        tools: ToolServer,
        images: Mapping[str, Image] | None = None,
    ) -> None:
        self._settings = settings
        self._caller = caller
        self._drive = drive
        self._limits = limits
        self._recorder = caller.recorder
        self._policy = policy
        self._superseding = superseding
        self._tools = tools
        self._images = images or {}
        self._prefetched = defaultdict[tuple[NodeId, int, int], _Prefetched](_Prefetched)
        self._counts = defaultdict[tuple[NodeId, int, int], _CellCounts](_CellCounts)

    def count_refused(self, node: NodeId, cell: Cell, result: CellResult) -> None:
        """Counts the refused prefetches of a finished cell, but only those that the cell reached."""
        prefetched = self._prefetched.pop((node, cell.turn, cell.number), None)
        if prefetched is not None:
            self._caller.reservations.refused.update(
                limit for rank, limit in prefetched.refused.items() if rank < result.prefetches_used
            )

    def end_cell(self, node: NodeId, cell: Cell) -> None:
        """Records the refusals of a cell beyond ``MAX_REFUSALS`` as one event. Precedes the event of the cell's end."""
        counts = self._counts.pop((node, cell.turn, cell.number), None)
        if counts is not None and counts.first is not None:
            times = counts.refusals - MAX_REFUSALS
            call, key = CallId(counts.first.place.path), counts.first.key
            self._recorder.emit(SubcallEnded, node, call=call, key=key, failure=counts.failure, times=times)

    def serve(self, execution: CellExecution, subcall: Subcall) -> Awaitable[SubcallOutcome]:
        """Serves one sub-call of a cell.

        Raises:
            RLMError: an error that ends the whole run.
        """
        if isinstance(subcall, ModelQuery | ToolCall) and subcall.size > LARGE_CHARS:
            return self._serve_large(execution, subcall)
        return self._serve(execution, subcall, subcall_key(subcall))

    async def _serve_large(self, execution: CellExecution, subcall: Subcall) -> SubcallOutcome:
        """Serves a sub-call that is too large to be hashed on the event loop."""
        key = await asyncio.to_thread(subcall_key, subcall)
        return await self._serve(execution, subcall, key)

    def _serve(self, execution: CellExecution, subcall: Subcall, key: str) -> Awaitable[SubcallOutcome]:
        node, cell, answers = execution.node, execution.cell, execution.answers
        number, recorded = answers.claim(key, subcall.number)
        batch = subcall.batch if isinstance(subcall, ModelQuery) else None
        site = SubcallSite(node, SubcallPlace(node.id, cell.turn, cell.number, number), key, batch)
        if answers.is_new:
            return self._perform(site, subcall, execution.limit)
        return self._repeat(site, subcall, execution, recorded)

    async def _repeat(
        self, site: SubcallSite, subcall: Subcall, execution: CellExecution, recorded: RecordedCall | None
    ) -> SubcallOutcome:
        """Serves a sub-call of a cell that was executed before, from the record if it holds an answer."""
        answers, place = execution.answers, site.place
        if recorded is None and (refusal := answers.claim_refusal()) is not None:
            return refusal
        replays_child = self._policy.purpose == "replay" and NodeId(place.path) in self._policy.history.nodes
        if recorded is not None and answers.has_answer(recorded):
            outcome = _recorded_outcome(recorded, subcall, answers.finished)
            if replays_child:
                await self._replay_child(site, subcall, execution.limit, outcome)
            await answers.wait_in_order(recorded)
            return outcome
        if answers.finished:
            divergence = f"it asked {_describe(subcall)}, which it had not"
            if recorded is not None:  # the recorded cell ended without this answer, so this one must not wait for it
                if answers.stopped:
                    execution.stop()
                await answers.wait_for_end()
                divergence = f"it waits for the answer to {_describe(subcall)}, which it had never had"
            elif answers.failed and self._policy.strict:
                return SubcallFailure("CellEnded", NOT_MADE)
            self._policy.refuse(place, divergence)
        if recorded is not None and (failure := self._tools.refuse_again(recorded)) is not None:
            refused = self._end(site, failure, self._recorder.at_s)  # before it waits, as all new outcomes are
            await answers.wait_for_all()
            return refused
        if recorded is not None:
            self._superseding.ask_subcall(place)
        outcome = await self._perform(site, subcall, execution.limit)
        if not replays_child:
            await answers.wait_for_all()
        return outcome

    async def _replay_child(
        self, site: SubcallSite, subcall: Subcall, limit: str | None, recorded: SubcallOutcome
    ) -> None:
        """Drives a recorded child node again and compares the outcomes.

        A child that a limit or a stop ended from outside can still ask or answer in the replay. That is not a divergence.

        Raises:
            DivergenceError: the outcome differs.
        """
        failed = isinstance(recorded, SubcallFailure)
        was_cut = isinstance(recorded, SubcallFailure) and recorded.kind == "BudgetExceeded"
        try:
            outcome = await self._perform(site, subcall, limit)
        except IncompleteRecordError:
            if failed:
                return
            raise
        if not (was_cut and isinstance(outcome, SubcallAnswer)):
            self._policy.check_outcome(site.place, recorded, outcome)

    def _perform(self, site: SubcallSite, subcall: Subcall, limit: str | None) -> Awaitable[SubcallOutcome]:
        """Performs a sub-call. Emits every outcome but a plain reply or a tool's, which the call's own events record."""
        if isinstance(subcall, ToolCall):
            return self._perform_tool(site, subcall, limit)
        return self._perform_query(site, subcall, limit)

    async def _perform_query(
        self, site: SubcallSite, subcall: ModelQuery | BudgetQuery, limit: str | None
    ) -> SubcallOutcome:
        recorder, place = self._recorder, site.place
        started_s = recorder.at_s
        prefetched = isinstance(subcall, ModelQuery) and subcall.prefetched
        cell_key = (site.node.id, place.turn, place.cell)
        rank = self._prefetched[cell_key].next_rank() if prefetched else 0
        outcome: SubcallOutcome
        try:
            if limit and isinstance(subcall, ModelQuery):
                refusal = f"{describe_limit(limit)} No more sub-calls. Answer now."
                outcome = SubcallFailure("BudgetExceeded", refusal, limit=limit)
            elif isinstance(subcall, ModelQuery):
                # A stop ends the work of a deeper node together with the root's sub-call that it serves.
                with self._limits.stop.interrupting() if site.node.parent is None else nullcontext():
                    form = None if subcall.schema is None else await open_form(subcall.schema)
                    work = self._start(site, subcall, form)
                    response = work if isinstance(work, SubcallFailure) else await work
                if isinstance(response, Reply):
                    recorded = self._policy.history.call(place)
                    elapsed_s = recorded.elapsed_s if recorded and not recorded.prefetched else 0.0
                    return SubcallAnswer(read_value(response, subcall.schema), elapsed_s)
                outcome = response
            else:
                outcome = self._answer_budget(cell_key, place.turn - site.node.earlier_turns)
        except Stopped:
            outcome = self._stopped()
        except SchemaError as error:
            outcome = SubcallFailure("SchemaError", str(error))
        except BudgetExceededError as error:
            if prefetched:
                self._prefetched[cell_key].refused[rank] = error.limit
            outcome = SubcallFailure("BudgetExceeded", str(error), limit=error.limit)
        except ModelError as error:
            if error.ends_run:
                raise
            outcome = failure_of(error)
        return self._end_or_share(site, outcome, started_s, prefetched=prefetched)

    async def _perform_tool(self, site: SubcallSite, call: ToolCall, limit: str | None) -> SubcallOutcome:
        started_s = self._recorder.at_s
        try:
            ended = await self._call_tool(site, call, limit)
        except Stopped:
            ended = self._stopped()
        except BudgetExceededError as error:
            ended = SubcallFailure("BudgetExceeded", str(error), limit=error.limit)
        return outcome_of(ended) if isinstance(ended, ToolEnded) else self._end_or_share(site, ended, started_s)

    def _stopped(self) -> SubcallFailure:
        limit = self._limits.stop.limit or ""
        message = f"{describe_limit(limit)} This call was ended, and no more are made. Answer now."
        return SubcallFailure("BudgetExceeded", message, limit=limit)

    def _end_or_share(
        self, site: SubcallSite, outcome: SubcallOutcome, started_s: float, *, prefetched: bool = False
    ) -> SubcallOutcome:
        """Emits the outcome of a sub-call, unless it is one of many refusals."""
        if isinstance(outcome, SubcallFailure):
            outcome = replace(outcome, message=shorten(outcome.message))
            if not prefetched and (shared := self._share_refusal(site, outcome)) is not None:
                return shared
        return self._end(site, outcome, started_s, prefetched=prefetched)

    def _end(
        self, site: SubcallSite, outcome: SubcallOutcome, started_s: float, *, prefetched: bool = False
    ) -> SubcallOutcome:
        """Emits the outcome of a sub-call."""
        recorder = self._recorder
        outcome = replace(outcome, elapsed_s=0.0 if prefetched else recorder.at_s - started_s)
        recorder.emit(
            SubcallEnded,
            site.node.id,
            call=CallId(site.place.path),
            key=site.key,
            value=outcome.value if isinstance(outcome, SubcallAnswer) else None,
            failure=outcome if isinstance(outcome, SubcallFailure) else None,
            elapsed_s=outcome.elapsed_s,
            prefetched=prefetched,
        )
        return outcome

    async def _call_tool(self, site: SubcallSite, call: ToolCall, limit: str | None) -> ToolEnded | SubcallFailure:
        """The end of a tool's execution, or the reason for refusing it. A replay has no tools."""
        if self._policy.purpose == "replay":
            raise IncompleteRecordError(f"the record of this run ends at {site.place.path}: resume the run first")
        if limit:
            return SubcallFailure(
                "BudgetExceeded", f"{describe_limit(limit)} No more tool calls. Answer now.", limit=limit
            )
        with self._limits.stop.interrupting() if site.node.parent is None else nullcontext():
            return await self._tools.call(site, call)

    def _answer_budget(self, cell_key: tuple[NodeId, int, int], turn: int) -> SubcallOutcome:
        counts = self._counts[cell_key]
        counts.budget_queries += 1
        if counts.budget_queries > MAX_BUDGET_QUERIES:
            message = f"budget() was called {MAX_BUDGET_QUERIES:,} times in this cell. Store its value in a variable."
            return SubcallFailure("LLMQueryError", message)
        return SubcallAnswer(self._limits.remaining.as_dict(max(0, self._settings.max_turns - turn)))

    def _share_refusal(self, site: SubcallSite, failure: SubcallFailure) -> SubcallFailure | None:
        """Counts a refusal without events. Beyond ``MAX_REFUSALS``, returns the failure that they share."""
        place = site.place
        if self._policy.history.call(place) is not None or NodeId(place.path) in self._policy.history.nodes:
            return None
        counts = self._counts[site.node.id, place.turn, place.cell]
        counts.refusals += 1
        if counts.refusals <= MAX_REFUSALS:
            return None
        if counts.first is None:
            counts.first, counts.failure = site, failure
        return counts.failure

    def _start(
        self, site: SubcallSite, query: ModelQuery, form: AnswerForm | None
    ) -> SubcallFailure | Coroutine[Any, Any, SubcallOutcome | Reply]:
        """A leaf call or a child node by the depth rule, for the caller to await, or a refusal. ``form`` is a child's.

        Raises:
            IncompleteRecordError: a replay reached a leaf call without a recorded answer.
            PromptTooLongError: the prompt exceeds the model's window.
        """
        kind = decide_subcall(query, site.node.depth, self._settings.max_depth)
        if isinstance(kind, SubcallFailure):
            return kind
        model = find_model(self._settings, site.node.depth + 1, query.model)
        if isinstance(model, SubcallFailure):
            return model
        images = find_images(self._images, query, kind)
        if isinstance(images, SubcallFailure):
            return images
        if kind == "child":
            tools = self._tools.grant(site.node, query.tools)
            if isinstance(tools, SubcallFailure):
                return tools
            return drive_child(self._drive, site, query, model, form, tools)
        if self._policy.purpose == "replay":
            raise IncompleteRecordError(f"the record of this run ends at {site.place.path}: resume the run first")
        return self._caller.ask(
            leaf_call(self._caller.services, site, query, model, self._settings.temperature, images=images)
        )


def _describe(subcall: Subcall) -> str:
    match subcall:
        case ModelQuery():
            return repr(subcall.prompt[:80])
        case BudgetQuery():
            return "budget()"
        case ToolCall():
            return show_call(subcall.tool, subcall.args, subcall.kwargs, 80)
        case _:
            assert_never(subcall)


def _recorded_outcome(recorded: RecordedCall, subcall: Subcall, finished: bool) -> SubcallOutcome:
    """The outcome that the recorded cell received. A cell that did not finish gets the outcome of its tool in any case."""
    ended = recorded.ended
    elapsed_s = 0.0 if recorded.prefetched else recorded.elapsed_s  # the cell did not wait for a prefetched call
    returned = recorded.tool_outcome
    if returned is not None and not (finished and ended is not None):
        return outcome_of(returned)
    if ended is not None:
        return ended.failure or SubcallAnswer(ended.value, elapsed_s)
    assert recorded.reply is not None
    try:
        schema = subcall.schema if isinstance(subcall, ModelQuery) else None
        return SubcallAnswer(read_value(recorded.reply, schema), elapsed_s)
    except MalformedReplyError as error:
        return replace(failure_of(error), elapsed_s=elapsed_s)
