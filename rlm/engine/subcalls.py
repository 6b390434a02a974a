"""Serves what a cell asks for: each sub-call becomes a leaf call or a child node, by the depth rule, with the same errors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import orjson

from rlm.core.bounds import least_tokens
from rlm.core.cells import Cell, PlainValue, Subcall, SubcallAnswer, SubcallFailure, SubcallOutcome
from rlm.core.depth import decide_subcall
from rlm.core.errors import BudgetExceededError, MalformedReplyError, ModelError, NoAnswerError, PromptTooLongError
from rlm.core.ids import CallId, NodeId, SubcallPlace
from rlm.core.messages import Message, Reply, Request
from rlm.core.node import Finish
from rlm.engine.calls import Caller, CallPlace
from rlm.engine.remaining import Remaining
from rlm.engine.settings import NodeJob, TreeSettings
from rlm.ports import Model
from rlm.prompts import DEFAULT_QUESTION

DriveNode: TypeAlias = Callable[[NodeJob], Awaitable[Finish]]


class SubcallServer:
    """Answers the sub-calls of every node of a run; ``drive`` runs a child node to its end."""

    def __init__(self, settings: TreeSettings, caller: Caller, drive: DriveNode, remaining: Remaining) -> None:
        self._settings = settings
        self._caller = caller
        self._drive = drive
        self._remaining = remaining

    async def serve(self, job: NodeJob, cell: Cell, subcall: Subcall) -> SubcallOutcome:
        """The answer to one sub-call, or why there is none.

        Raises:
            RLMError: what ends the whole run.
        """
        if subcall.budget:
            return SubcallAnswer(self._remaining.as_dict(self._settings.max_turns - cell.turn))
        kind = decide_subcall(subcall, job.depth, self._settings.max_depth)
        if isinstance(kind, SubcallFailure):
            return kind
        model = self._model_for(job, subcall)
        if isinstance(model, SubcallFailure):
            return model
        place = SubcallPlace(job.id, cell.turn, cell.number, subcall.number)
        try:
            if kind == "leaf":
                return await self._ask_leaf(job, place, subcall, model)
            return await self._drive_child(job, place, subcall, model)
        except BudgetExceededError as error:
            return SubcallFailure("BudgetExceeded", str(error))
        except ModelError as error:
            if error.ends_run:
                raise
            return SubcallFailure(type(error).__name__, str(error))

    def _model_for(self, job: NodeJob, subcall: Subcall) -> Model | SubcallFailure:
        """The model of the next depth, or the one asked for by name, where the run has it."""
        if subcall.model is None:
            return self._settings.model_at(job.depth + 1)
        for model in self._settings.models:
            if subcall.model in (model.name, model.name.partition(":")[2]):
                return model
        names = ", ".join(sorted({model.name for model in self._settings.models}))
        return SubcallFailure("LLMQueryError", f"model={subcall.model!r} is not one of this run's models: {names}")

    async def _ask_leaf(self, job: NodeJob, place: SubcallPlace, subcall: Subcall, model: Model) -> SubcallOutcome:
        request = Request(
            (Message("user", leaf_prompt(subcall)),),
            role="leaf",
            depth=job.depth + 1,
            temperature=self._settings.temperature,
            max_output_tokens=self._caller.meter.output_limit(model),
            schema=subcall.schema,
        )
        check_fits(model, request)
        call_place = CallPlace(CallId(place.path), job.id, place.turn, place.cell, subcall.batch, subcall.prefetched)
        reply = await self._caller.ask(model, request, call_place, self._caller.meter.call_need(model, request))
        return SubcallAnswer(reply.text if subcall.schema is None else parse_data(reply))

    async def _drive_child(self, job: NodeJob, place: SubcallPlace, subcall: Subcall, model: Model) -> SubcallOutcome:
        question, context = (
            (subcall.prompt, subcall.context) if subcall.has_context else (DEFAULT_QUESTION, subcall.prompt)
        )
        if subcall.schema is not None:
            schema = orjson.dumps(subcall.schema).decode()
            question += f"\nAnswer with FINAL(value) from code, a value that follows this JSON schema: {schema}"
        child = NodeJob(
            NodeId(place.path), job.depth + 1, question, context, model, job.id, subcall.batch, subcall.prefetched
        )
        finish = await self._drive(child)
        if finish.error is None:
            text = isinstance(finish.answer, str) or subcall.schema is not None
            return SubcallAnswer(finish.answer if text else str(finish.answer))
        if isinstance(finish.error, NoAnswerError | ModelError):
            return SubcallFailure(type(finish.error).__name__, str(finish.error))
        raise finish.error


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
