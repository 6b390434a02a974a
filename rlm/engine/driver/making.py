"""Makes what a cell asks for and was never answered: a leaf call, or a child node, by the depth rule."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any, TypeAlias

import orjson

from rlm.core.actions import Finish
from rlm.core.bounds import least_tokens
from rlm.core.cells import PlainValue
from rlm.core.depth import decide_subcall
from rlm.core.errors import IncompleteRecordError, MalformedReplyError, ModelError, NoAnswerError, PromptTooLongError
from rlm.core.ids import CallId, NodeId, SubcallPlace
from rlm.core.messages import Message, Reply, Request
from rlm.core.plain import dump_json
from rlm.core.subcalls import ModelQuery, SubcallAnswer, SubcallFailure, SubcallOutcome
from rlm.engine.calling.call import Call
from rlm.engine.calling.caller import Caller
from rlm.engine.calling.prefix_warmup import Warming
from rlm.engine.settings import NodeJob, TreeSettings
from rlm.ports import Model
from rlm.prompts import DEFAULT_QUESTION

DriveNode: TypeAlias = Callable[[NodeJob], Awaitable[Finish]]


class SubcallMaker:
    """One for each run; ``drive`` runs a child node to its end. ``replays``: there are no models, so no leaf calls."""

    def __init__(self, settings: TreeSettings, caller: Caller, drive: DriveNode, *, replays: bool) -> None:
        self._settings = settings
        self._caller = caller
        self._drive = drive
        self._replays = replays
        self._warming = Warming(settings.warm_prefixes)

    def make(
        self, job: NodeJob, place: SubcallPlace, subcall: ModelQuery, key: str
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

    def _model_for(self, job: NodeJob, subcall: ModelQuery) -> Model | SubcallFailure:
        """The model of the next depth, or the one asked for by name, where the run has it."""
        if subcall.model is None:
            return self._settings.model_at(job.depth + 1)
        for model in self._settings.models:
            if subcall.model in (model.name, model.name.partition(":")[2]):
                return model
        names = ", ".join(sorted({model.name for model in self._settings.models}))
        return SubcallFailure("LLMQueryError", f"model={subcall.model!r} is not one of this run's models: {names}")

    async def _ask_leaf(self, job: NodeJob, place: SubcallPlace, subcall: ModelQuery, model: Model, key: str) -> Reply:
        if self._replays:
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
        self, job: NodeJob, place: SubcallPlace, subcall: ModelQuery, model: Model, key: str
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


def leaf_prompt(subcall: ModelQuery) -> str:
    """The one message of a leaf call: the instruction first, the data after it, so that prompts share their beginning."""
    if not subcall.has_context:
        return subcall.prompt
    data = subcall.context
    text = data if isinstance(data, str) else dump_json(data, default=str)
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
