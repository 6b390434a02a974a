"""Serves what a cell asks for: each sub-call becomes a leaf call or a child node, by the depth rule, with the same errors.

What was answered before, in this process or in one that ended, is handed over again instead.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeAlias

import orjson

from rlm.core.actions import Finish
from rlm.core.bounds import least_tokens
from rlm.core.cells import Cell, CellResult, PlainValue, Subcall, SubcallAnswer, SubcallFailure, SubcallOutcome
from rlm.core.depth import decide_subcall
from rlm.core.errors import (
    BudgetExceededError,
    IncompleteRecordError,
    MalformedReplyError,
    ModelError,
    NoAnswerError,
    PromptTooLongError,
)
from rlm.core.events import SubcallEnded
from rlm.core.history import RecordedCall
from rlm.core.ids import CallId, NodeId, SubcallPlace
from rlm.core.messages import Message, Reply, Request
from rlm.engine.call import Call
from rlm.engine.calls import Caller
from rlm.engine.remaining import RunLimits
from rlm.engine.repetition import CellRun, Repetition, subcall_key
from rlm.engine.settings import NodeJob, TreeSettings
from rlm.engine.stop import Stopped
from rlm.engine.warming import Warming
from rlm.ports import Model
from rlm.prompts import DEFAULT_QUESTION, describe_limit

NOT_MADE = "this call was not made before the cell ended with an error"

DriveNode: TypeAlias = Callable[[NodeJob], Awaitable[Finish]]


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
        self._drive = drive
        self._limits = limits
        self._recorder = caller.recorder
        self._repetition = repetition
        self._warming = Warming(settings.warm_prefixes)
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
            if recorded is not None:  # the code, or who stopped it, did not wait for this answer, and does not again
                if run.stopped:
                    stop()
                await asyncio.get_running_loop().create_future()
            if run.failed:
                return SubcallFailure("CellEnded", NOT_MADE)
            self._repetition.refuse(place, f"it asked {subcall.prompt[:80]!r}, which it had not")
        outcome = await answer()
        if not replays_child:
            await run.after_recorded()
        return outcome

    async def _replay_child(
        self, place: SubcallPlace, told: SubcallOutcome, answer: Callable[[], Awaitable[SubcallOutcome]]
    ) -> None:
        """Drives a child again. Raises DivergenceError where something else comes of it."""
        try:
            outcome = await answer()
        except IncompleteRecordError:
            if isinstance(told, SubcallFailure):
                return  # a limit forbade its next turn, and so ended it here
            raise
        self._repetition.check_outcome(place, told, outcome)

    async def _answer(
        self, job: NodeJob, place: SubcallPlace, subcall: Subcall, key: str, limit: str | None
    ) -> SubcallOutcome:
        """A sub-call that is new. What is no plain reply is an event of its own, so that it can be told again."""
        recorder, stop = self._recorder, self._limits.stop
        began = recorder.at_s
        rank = self._ahead[job.id, place.turn, place.cell].next_rank() if subcall.prefetched else 0
        outcome: SubcallOutcome | Reply
        try:
            if subcall.budget:
                outcome = SubcallAnswer(self._limits.remaining.as_dict(self._settings.max_turns - place.turn))
            elif limit:
                told = f"{describe_limit(limit)} No more sub-calls. Answer now."
                outcome = SubcallFailure("BudgetExceeded", told)
            elif job.parent is not None:
                outcome = await self._make(job, place, subcall, key)  # ends with the root's sub-call that it serves
            else:
                with stop.interrupting():
                    outcome = await self._make(job, place, subcall, key)
            if isinstance(outcome, Reply):
                recorded = self._repetition.history.call(place)
                elapsed_s = recorded.elapsed_s if recorded and not recorded.prefetched else 0.0
                return SubcallAnswer(outcome.text if subcall.schema is None else parse_data(outcome), elapsed_s)
        except Stopped:
            met = describe_limit(stop.limit or "")
            told = f"{met} This call was ended, and no more are made. Answer now."
            outcome = SubcallFailure("BudgetExceeded", told)
        except BudgetExceededError as error:
            if subcall.prefetched:
                self._ahead[job.id, place.turn, place.cell].refused[rank] = error.limit
            outcome = SubcallFailure("BudgetExceeded", str(error))
        except ModelError as error:
            if error.ends_run:
                raise
            outcome = SubcallFailure(type(error).__name__, str(error))
        outcome = replace(outcome, elapsed_s=0.0 if subcall.prefetched else recorder.at_s - began)
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
                prefetched=subcall.prefetched,
            )
        )
        return outcome

    def _make(
        self, job: NodeJob, place: SubcallPlace, subcall: Subcall, key: str
    ) -> Coroutine[Any, Any, SubcallOutcome | Reply]:
        """A leaf call's reply, or what else comes of a sub-call, by the depth rule."""
        kind = decide_subcall(subcall, job.depth, self._settings.max_depth)
        if isinstance(kind, SubcallFailure):
            return _at_once(kind)
        model = self._model_for(job, subcall)
        if isinstance(model, SubcallFailure):
            return _at_once(model)
        if kind == "leaf":
            return self._ask_leaf(job, place, subcall, model, key)
        return self._drive_child(job, place, subcall, model, key)

    def _model_for(self, job: NodeJob, subcall: Subcall) -> Model | SubcallFailure:
        """The model of the next depth, or the one asked for by name, where the run has it."""
        if subcall.model is None:
            return self._settings.model_at(job.depth + 1)
        for model in self._settings.models:
            if subcall.model in (model.name, model.name.partition(":")[2]):
                return model
        names = ", ".join(sorted({model.name for model in self._settings.models}))
        return SubcallFailure("LLMQueryError", f"model={subcall.model!r} is not one of this run's models: {names}")

    async def _ask_leaf(self, job: NodeJob, place: SubcallPlace, subcall: Subcall, model: Model, key: str) -> Reply:
        if self._repetition.purpose == "replay":
            raise IncompleteRecordError(f"the record of this run ends at {place.path}: resume the run first")
        prompt = leaf_prompt(subcall)
        request = Request(
            (Message("user", prompt),),
            role="leaf",
            depth=job.depth + 1,
            temperature=self._settings.temperature,
            max_output_tokens=self._caller.meter.output_limit(model),
            schema=subcall.schema,
        )
        check_fits(model, request)
        need = self._caller.meter.call_need(model, request)
        if subcall.prefetched:
            need = replace(need, ahead=True)
        call = Call(
            self._caller.till,
            model,
            request,
            need,
            CallId(place.path),
            job.id,
            place.turn,
            place.cell,
            subcall.batch,
            key=key,
            prefetched=subcall.prefetched,
        )
        # JSON is not streamed: its beginning cannot be heard.
        if subcall.batch is None or subcall.schema is not None or not self._warming.concerns(model, prompt):
            reply = await self._caller.ask(call)
        else:
            batch = (job.id, place.turn, place.cell, subcall.batch)
            async with self._warming.join(model, batch, prompt) as ticket:
                if ticket.shared_chars:
                    call.request = replace(request, shared_chars=ticket.shared_chars)
                reply = ticket.reply = await self._caller.ask(call, ticket.first_word)
        self._warming.learn(model, reply)
        return reply

    async def _drive_child(
        self, job: NodeJob, place: SubcallPlace, subcall: Subcall, model: Model, key: str
    ) -> SubcallOutcome:
        question, context = (
            (subcall.prompt, subcall.context) if subcall.has_context else (DEFAULT_QUESTION, subcall.prompt)
        )
        if subcall.schema is not None:
            schema = orjson.dumps(subcall.schema).decode()
            question += f"\nAnswer with FINAL(value) from code, a value that follows this JSON schema: {schema}"
        child = NodeJob(
            NodeId(place.path),
            job.depth + 1,
            question,
            context,
            model,
            job.id,
            subcall.batch,
            key=key,
            prefetched=subcall.prefetched,
        )
        finish = await self._drive(child)
        if finish.error is None:
            text = isinstance(finish.answer, str) or subcall.schema is not None
            return SubcallAnswer(finish.answer if text else str(finish.answer))
        if isinstance(finish.error, NoAnswerError | ModelError):
            return SubcallFailure(type(finish.error).__name__, str(finish.error))
        raise finish.error


async def _at_once(outcome: SubcallOutcome) -> SubcallOutcome:
    return outcome


def _recorded_outcome(recorded: RecordedCall, subcall: Subcall) -> SubcallOutcome:
    """What the cell was told."""
    ended = recorded.ended
    elapsed_s = 0.0 if recorded.prefetched else recorded.elapsed_s  # nobody waited for what was asked ahead
    if ended is not None:
        return ended.failure or SubcallAnswer(ended.value, elapsed_s)
    assert recorded.reply is not None
    if subcall.schema is None:
        return SubcallAnswer(recorded.reply.text, elapsed_s)
    try:
        return SubcallAnswer(parse_data(recorded.reply), elapsed_s)
    except MalformedReplyError as error:
        return SubcallFailure(type(error).__name__, str(error), elapsed_s)


def leaf_prompt(subcall: Subcall) -> str:
    """The one message of a leaf call: the instruction first, the data after it, so that prompts share their beginning."""
    if not subcall.has_context:
        return subcall.prompt
    data = subcall.context
    text = data if isinstance(data, str) else orjson.dumps(data, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    return f"{subcall.prompt}\n\n{text}"


def check_fits(model: Model, request: Request) -> None:
    """Spares a call that cannot succeed.

    Raises:
        PromptTooLongError: the prompt is larger than the model's window, by whatever tokeniser.
    """
    least = least_tokens(request.messages)
    if least > model.window_tokens:
        chars = sum(len(message.content) for message in request.messages)
        raise PromptTooLongError(
            f"the prompt has {chars:,} characters, at least {least:,} tokens; the window of {model.name} is "
            f"{model.window_tokens:,} tokens. It was not sent: "
            f"split it into {-(-least * 2 // model.window_tokens)} parts or more",
            model=model.name,
        )


def parse_data(reply: Reply) -> PlainValue:
    """The data of a reply that had to follow a JSON schema.

    Raises:
        MalformedReplyError: the reply is not JSON.
    """
    try:
        data: PlainValue = orjson.loads(reply.text)
    except orjson.JSONDecodeError as error:
        raise MalformedReplyError(f"{reply.model} did not reply with JSON: {error}", model=reply.model) from None
    return data
