"""Serves what a cell asks for: each sub-call becomes a leaf call or a child node, by the depth rule, with the same errors.

What was answered before, in this process or in one that ended, is handed over again instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeAlias

import orjson

from rlm.core.cells import Cell, PlainValue, Subcall, SubcallAnswer, SubcallFailure, SubcallOutcome
from rlm.core.depth import SubcallKind, decide_subcall
from rlm.core.errors import BudgetExceededError, IncompleteRecordError, MalformedReplyError, ModelError, NoAnswerError
from rlm.core.events import SubcallEnded
from rlm.core.history import RecordedCall
from rlm.core.ids import CallId, NodeId, SubcallPlace
from rlm.core.messages import Message, Reply, Request
from rlm.core.node import Finish
from rlm.engine.calls import Caller, CallPlace
from rlm.engine.recorder import Recorder
from rlm.engine.repetition import CellRun, Repetition, subcall_key
from rlm.engine.settings import NodeJob, TreeSettings
from rlm.ports import Model
from rlm.prompts import DEFAULT_QUESTION

DriveNode: TypeAlias = Callable[[NodeJob], Awaitable[Finish]]


class SubcallServer:
    """Answers the sub-calls of every node of a run; ``drive`` runs a child node to its end."""

    def __init__(
        self, settings: TreeSettings, caller: Caller, drive: DriveNode, recorder: Recorder, repetition: Repetition
    ) -> None:
        self._settings = settings
        self._caller = caller
        self._drive = drive
        self._recorder = recorder
        self._repetition = repetition

    async def serve(self, job: NodeJob, cell: Cell, subcall: Subcall, run: CellRun) -> SubcallOutcome:
        """The answer to one sub-call, or why there is none.

        Raises:
            RLMError: what ends the whole run.
        """
        kind = decide_subcall(subcall, job.depth, self._settings.max_depth)
        if isinstance(kind, SubcallFailure):
            return kind
        model = self._model_for(job, subcall)
        if isinstance(model, SubcallFailure):
            return model
        key = subcall_key(subcall)
        number, recorded = run.claim(key, subcall.number)
        place = SubcallPlace(job.id, cell.turn, cell.number, number)
        replays_child = kind == "child" and self._repetition.purpose == "replay"
        if recorded is not None and run.has_answer(recorded) and not replays_child:
            await run.in_order(recorded)
            return _recorded_outcome(recorded, subcall)
        if run.finished:
            if recorded is not None and not run.has_answer(recorded):
                await (
                    asyncio.get_running_loop().create_future()
                )  # nobody waited for its answer: the code gives it up again
            if recorded is None:
                self._repetition.refuse(place, f"it asked {subcall.prompt[:80]!r}, which it had not")
        if kind == "leaf" and self._repetition.purpose == "replay":
            raise IncompleteRecordError(f"the record of this run ends at {place.path}: resume the run first")
        outcome = await self._make(job, place, subcall, model, kind, key)
        if recorded is not None and replays_child and run.has_answer(recorded):
            self._repetition.check_outcome(place, _recorded_outcome(recorded, subcall), outcome)
            await run.in_order(recorded)
            return _recorded_outcome(recorded, subcall)
        return outcome

    async def _make(  # noqa: PLR0917  what a sub-call is, in parts
        self, job: NodeJob, place: SubcallPlace, subcall: Subcall, model: Model, kind: SubcallKind, key: str
    ) -> SubcallOutcome:
        """A sub-call that is new. What is no plain reply is an event of its own, so that it can be told again."""
        recorder = self._recorder
        began = recorder.at_s
        try:
            if kind == "leaf":
                return await self._ask_leaf(job, place, subcall, model, key)
            outcome = await self._drive_child(job, place, subcall, model, key)
        except BudgetExceededError as error:
            outcome = SubcallFailure("BudgetExceeded", str(error))
        except ModelError as error:
            if error.ends_run:
                raise
            outcome = SubcallFailure(type(error).__name__, str(error))
        outcome = replace(outcome, elapsed_s=recorder.at_s - began)
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
            )
        )
        await recorder.written()
        return outcome

    def _model_for(self, job: NodeJob, subcall: Subcall) -> Model | SubcallFailure:
        """The model of the next depth, or the one asked for by name, where the run has it."""
        if subcall.model is None:
            return self._settings.model_at(job.depth + 1)
        for model in self._settings.models:
            if subcall.model in (model.name, model.name.partition(":")[2]):
                return model
        names = ", ".join(sorted({model.name for model in self._settings.models}))
        return SubcallFailure("LLMQueryError", f"model={subcall.model!r} is not one of this run's models: {names}")

    async def _ask_leaf(
        self, job: NodeJob, place: SubcallPlace, subcall: Subcall, model: Model, key: str
    ) -> SubcallOutcome:
        request = Request(
            (Message("user", leaf_prompt(subcall)),),
            role="leaf",
            depth=job.depth + 1,
            temperature=self._settings.temperature,
            max_output_tokens=self._settings.max_output_tokens,
            schema=subcall.schema,
        )
        call_place = CallPlace(CallId(place.path), job.id, place.turn, place.cell, subcall.batch, key)
        reply = await self._caller.ask(model, request, call_place)
        recorded = self._repetition.history.call(place)
        elapsed_s = recorded.elapsed_s if recorded else 0.0
        return SubcallAnswer(reply.text if subcall.schema is None else parse_data(reply), elapsed_s)

    async def _drive_child(
        self, job: NodeJob, place: SubcallPlace, subcall: Subcall, model: Model, key: str
    ) -> SubcallOutcome:
        question, context = (
            (subcall.prompt, subcall.context) if subcall.has_context else (DEFAULT_QUESTION, subcall.prompt)
        )
        if subcall.schema is not None:
            schema = orjson.dumps(subcall.schema).decode()
            question += f"\nAnswer with FINAL(value) from code, a value that follows this JSON schema: {schema}"
        child = NodeJob(NodeId(place.path), job.depth + 1, question, context, model, job.id, subcall.batch, key)
        finish = await self._drive(child)
        if finish.error is None:
            text = isinstance(finish.answer, str) or subcall.schema is not None
            return SubcallAnswer(finish.answer if text else str(finish.answer))
        if isinstance(finish.error, NoAnswerError | ModelError):
            return SubcallFailure(type(finish.error).__name__, str(finish.error))
        raise finish.error


def _recorded_outcome(recorded: RecordedCall, subcall: Subcall) -> SubcallOutcome:
    """What the cell was told."""
    ended = recorded.ended
    if ended is not None:
        return ended.failure or SubcallAnswer(ended.value, recorded.elapsed_s)
    assert recorded.reply is not None
    if subcall.schema is None:
        return SubcallAnswer(recorded.reply.text, recorded.elapsed_s)
    try:
        return SubcallAnswer(parse_data(recorded.reply), recorded.elapsed_s)
    except MalformedReplyError as error:
        return SubcallFailure(type(error).__name__, str(error), recorded.elapsed_s)


def leaf_prompt(subcall: Subcall) -> str:
    """The one message of a leaf call: the instruction first, the data after it, so that prompts share their beginning."""
    if not subcall.has_context:
        return subcall.prompt
    data = subcall.context
    text = data if isinstance(data, str) else orjson.dumps(data, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    return f"{subcall.prompt}\n\n{text}"


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
