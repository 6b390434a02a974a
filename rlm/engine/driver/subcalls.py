"""Serves what a cell asks for, with the same errors whether it becomes a leaf call or a child node.

What was answered before, in this process or in one that ended, is handed over again; what is new is made and goes on record.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import assert_never

from rlm.core.cells import Cell, CellResult, PlainValue
from rlm.core.errors import (
    BudgetExceededError,
    IncompleteRecordError,
    MalformedReplyError,
    ModelError,
)
from rlm.core.events import SubcallEnded
from rlm.core.history import RecordedCall
from rlm.core.ids import CallId, NodeId, SubcallPlace
from rlm.core.messages import Reply
from rlm.core.subcalls import BudgetQuery, ModelQuery, Subcall, SubcallAnswer, SubcallFailure, SubcallOutcome
from rlm.engine.calling.caller import Caller
from rlm.engine.driver.making import DriveNode, SubcallMaker, parse_data
from rlm.engine.replay.policy import CellRun, Repetition, subcall_key
from rlm.engine.settings import NodeJob, TreeSettings
from rlm.engine.spending.limits import RunLimits
from rlm.engine.spending.stop import Stopped
from rlm.prompts import describe_limit

NOT_MADE = "this call was not made before the cell ended with an error"


@dataclass(slots=True)
class _AskedAhead:
    """How many calls of a cell were asked ahead, and which of them the budget refused, by the limit that did."""

    count: int = 0
    refused: dict[int, str] = field(default_factory=dict)

    def next_rank(self) -> int:
        self.count += 1
        return self.count - 1


class SubcallServer:
    """Answers the sub-calls of every node of a run; ``drive`` runs a child node to its end."""

    def __init__(
        self, settings: TreeSettings, caller: Caller, drive: DriveNode, limits: RunLimits, repetition: Repetition
    ) -> None:
        self._settings = settings
        self._caller = caller
        self._limits = limits
        self._recorder = caller.recorder
        self._repetition = repetition
        self._maker = SubcallMaker(settings, caller, drive, replays=repetition.purpose == "replay")
        self._ahead = defaultdict[tuple[NodeId, int, int], _AskedAhead](_AskedAhead)

    def count_refused(self, node: NodeId, cell: Cell, result: CellResult) -> None:
        """A cell is over: of its calls that were asked ahead and refused, those count that it came to, in the order of asking."""
        ahead = self._ahead.pop((node, cell.turn, cell.number), None)
        if ahead is not None:
            self._caller.holds.refused.update(
                limit for rank, limit in ahead.refused.items() if rank < result.prefetches_used
            )

    def serve(  # noqa: PLR0917  what a sub-call is, where it stands and what holds there
        self,
        job: NodeJob,
        cell: Cell,
        subcall: Subcall,
        run: CellRun,
        limit: str | None,
        stop: Callable[[], None],
    ) -> Awaitable[SubcallOutcome]:
        """The answer to one sub-call, or why there is none.

        ``limit`` names a limit that forbids new ones; ``stop`` ends the cell, as it was ended when it had waited for a call
        that was never answered.

        Raises:
            RLMError: what ends the whole run.
        """
        key = subcall_key(subcall)
        number, recorded = run.claim(key, subcall.number)
        place = SubcallPlace(job.id, cell.turn, cell.number, number)
        answer = partial(self._answer, job, place, subcall, key, limit)
        if run.is_new:
            return answer()
        return self._repeat(place, subcall, run, recorded, stop, answer)

    async def _repeat(  # noqa: PLR0917  as ``serve``
        self,
        place: SubcallPlace,
        subcall: Subcall,
        run: CellRun,
        recorded: RecordedCall | None,
        stop: Callable[[], None],
        answer: Callable[[], Awaitable[SubcallOutcome]],
    ) -> SubcallOutcome:
        """A sub-call of a cell that was executed before. ``answer`` makes it, where that is to be done again."""
        replays_child = self._repetition.purpose == "replay" and NodeId(place.path) in self._repetition.history.nodes
        if recorded is not None and run.has_answer(recorded):
            told = _recorded_outcome(recorded, subcall)
            if replays_child:
                await self._replay_child(place, told, answer)
            await run.in_order(recorded)
            return told
        if run.finished:
            asked = f"it asked {_describe(subcall)}, which it had not"
            if recorded is not None:  # the code, or who stopped it, did not wait for this answer, and should not again
                if run.stopped:
                    stop()
                await run.end()
                asked = f"it waits for the answer to {_describe(subcall)}, which it had never had"
            elif run.failed and self._repetition.strict:
                return SubcallFailure("CellEnded", NOT_MADE)
            self._repetition.refuse(place, asked)
        outcome = await answer()
        if not replays_child:
            await run.after_recorded()
        return outcome

    async def _replay_child(
        self, place: SubcallPlace, told: SubcallOutcome, answer: Callable[[], Awaitable[SubcallOutcome]]
    ) -> None:
        """Drives a child again. Raises DivergenceError where something else comes of it.

        One that a limit or a stop ended from outside may have been about to ask, or to answer.
        """
        cut = isinstance(told, SubcallFailure) and told.kind == "BudgetExceeded"
        try:
            outcome = await answer()
        except IncompleteRecordError:
            if isinstance(told, SubcallFailure):
                return
            raise
        if not (cut and isinstance(outcome, SubcallAnswer)):
            self._repetition.check_outcome(place, told, outcome)

    async def _answer(
        self, job: NodeJob, place: SubcallPlace, subcall: Subcall, key: str, limit: str | None
    ) -> SubcallOutcome:
        """A sub-call that is new, made. What is no plain reply is an event of its own, so that it can be told again."""
        recorder, stop = self._recorder, self._limits.stop
        began = recorder.at_s
        prefetched = _is_prefetched(subcall)
        rank = self._ahead[job.id, place.turn, place.cell].next_rank() if prefetched else 0
        outcome: SubcallOutcome | Reply
        try:
            match subcall:
                case BudgetQuery():
                    turns_left = max(0, self._settings.max_turns - place.turn)
                    outcome = SubcallAnswer(self._limits.remaining.as_dict(turns_left))
                case ModelQuery():
                    outcome = await self._query(job, place, subcall, key, limit)
                    if isinstance(outcome, Reply):
                        recorded = self._repetition.history.call(place)
                        elapsed_s = recorded.elapsed_s if recorded and not recorded.prefetched else 0.0
                        return SubcallAnswer(_reply_value(outcome, subcall), elapsed_s)
                case _:
                    assert_never(subcall)
        except Stopped:
            met = describe_limit(stop.limit or "")
            told = f"{met} This call was ended, and no more are made. Answer now."
            outcome = SubcallFailure("BudgetExceeded", told)
        except BudgetExceededError as error:
            if prefetched:
                self._ahead[job.id, place.turn, place.cell].refused[rank] = error.limit
            outcome = SubcallFailure("BudgetExceeded", str(error))
        except ModelError as error:
            if error.ends_run:
                raise
            outcome = SubcallFailure(type(error).__name__, str(error))
        outcome = replace(outcome, elapsed_s=0.0 if prefetched else recorder.at_s - began)
        recorder.emit(
            SubcallEnded(
                run=recorder.run,
                node=job.id,
                at_s=recorder.at_s,
                call=CallId(place.path),
                key=key,
                value=outcome.value if isinstance(outcome, SubcallAnswer) else None,
                failure=outcome if isinstance(outcome, SubcallFailure) else None,
                elapsed_s=outcome.elapsed_s,
                prefetched=prefetched,
            )
        )
        return outcome

    async def _query(
        self, job: NodeJob, place: SubcallPlace, query: ModelQuery, key: str, limit: str | None
    ) -> SubcallOutcome | Reply:
        """A leaf call's reply, or the outcome of a child node or a refusal."""
        if limit:
            return SubcallFailure("BudgetExceeded", f"{describe_limit(limit)} No more sub-calls. Answer now.")
        if job.parent is not None:  # a stop ends it together with the root's sub-call that it serves
            return await self._maker.make(job, place, query, key)
        with self._limits.stop.interrupting():
            return await self._maker.make(job, place, query, key)


def _reply_value(reply: Reply, subcall: Subcall) -> PlainValue:
    """Text, or data if the query had a schema. Raises MalformedReplyError."""
    has_schema = isinstance(subcall, ModelQuery) and subcall.schema is not None
    return parse_data(reply) if has_schema else reply.text


def _describe(subcall: Subcall) -> str:
    match subcall:
        case ModelQuery():
            return repr(subcall.prompt[:80])
        case BudgetQuery():
            return "budget()"
        case _:
            assert_never(subcall)


def _is_prefetched(subcall: Subcall) -> bool:
    return isinstance(subcall, ModelQuery) and subcall.prefetched


def _recorded_outcome(recorded: RecordedCall, subcall: Subcall) -> SubcallOutcome:
    """The outcome that the recorded cell received."""
    ended = recorded.ended
    elapsed_s = 0.0 if recorded.prefetched else recorded.elapsed_s  # nobody waited for what was asked ahead
    if ended is not None:
        return ended.failure or SubcallAnswer(ended.value, elapsed_s)
    assert recorded.reply is not None
    try:
        return SubcallAnswer(_reply_value(recorded.reply, subcall), elapsed_s)
    except MalformedReplyError as error:
        return SubcallFailure(type(error).__name__, str(error), elapsed_s)
