"""Model queries of cells: their position in the run, and the leaf call or the child node that answers them.

A leaf call is a plain question to a model. A child node has a REPL of its own, one level deeper.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

import orjson

from rlm.core.actions import Finish
from rlm.core.answer_form import AnswerForm
from rlm.core.bounds import least_tokens
from rlm.core.cells import Cell, PlainValue
from rlm.core.errors import MalformedReplyError, ModelError, NoAnswerError, PromptTooLongError, RLMError
from rlm.core.ids import CallId, NodeId, SubcallPlace
from rlm.core.messages import Image, JsonSchema, Message, Reply, Request, Text
from rlm.core.plain import dump_json
from rlm.core.plain_repr import plain_text
from rlm.core.public_text import PUBLIC
from rlm.core.subcalls import ModelQuery, SubcallAnswer, SubcallFailure, SubcallOutcome
from rlm.core.values import frozen
from rlm.engine.calling.call import Call, CallServices
from rlm.engine.replay.ordering import RecordedAnswers
from rlm.engine.settings import NodeJob, TreeSettings
from rlm.ports import Model
from rlm.prompts import DEFAULT_QUESTION

MAX_FAILURE_CHARS = 2000
MAX_NAME_CHARS = 100

DriveNode: TypeAlias = Callable[[NodeJob], Awaitable[Finish]]
"""Runs a node to its end."""


@frozen
class CellExecution:
    """One execution of a cell, as its sub-calls see it.

    Attributes:
        node: the node that the cell belongs to.
        answers: the recorded answers to the cell's sub-calls.
        limit: the limit that forbids new sub-calls; None if they are allowed.
        stop: interrupts the cell, as the recorded one was interrupted while it waited for an answer.
    """

    node: NodeJob
    cell: Cell
    answers: RecordedAnswers
    limit: str | None
    stop: Callable[[], None]


@frozen
class SubcallSite:
    """Position of a sub-call in its run.

    Attributes:
        node: the node whose cell makes it.
        place: its path: node, turn, cell and number.
        key: hash of the request, by which replay finds the recorded outcome.
        batch: number of its batch within the cell; None for a single call.
    """

    node: NodeJob
    place: SubcallPlace
    key: str
    batch: int | None = None


def leaf_call(
    services: CallServices,
    site: SubcallSite,
    query: ModelQuery,
    model: Model,
    temperature: float | None,
    *,
    images: Sequence[Image] = (),
) -> Call:
    """The call of a query that becomes a leaf call. ``images`` are those that it shows.

    Raises:
        PromptTooLongError: the prompt exceeds the model's window.
    """
    meter, place, prompt = services.meter, site.place, leaf_prompt(query)
    request = Request(
        (Message("user", (Text(prompt), *images) if images else prompt),),
        role="leaf",
        depth=site.node.depth + 1,
        temperature=temperature,
        max_output_tokens=meter.output_limit(model),
        schema=query.schema,
    )
    check_fits(model, request)
    need = meter.call_need(model, request)
    if query.prefetched:
        need = replace(need, ahead=True)
    return Call(
        services,
        model,
        request,
        need,
        CallId(place.path),
        site.node.id,
        place.turn,
        place.cell,
        site.batch,
        key=site.key,
        prefetched=query.prefetched,
    )


def leaf_prompt(query: ModelQuery) -> str:
    """The message of a leaf call: instruction first, data after it, so that prompts of a batch share a prefix."""
    if not query.has_context:
        return query.prompt
    data = query.context
    text = data if isinstance(data, str) else dump_json(data)
    return f"{query.prompt}\n\n{text}"


def check_fits(model: Model, request: Request) -> None:
    """Rejects a prompt that no tokeniser could fit into the model's window.

    Raises:
        PromptTooLongError: the prompt is too long.
    """
    least = least_tokens(request.messages)
    if least > model.info.window_tokens:
        chars = sum(len(message.text) for message in request.messages)
        raise PromptTooLongError(
            f"the prompt has {chars:,} characters, at least {least:,} tokens; the window of {model.name} is "
            f"{model.info.window_tokens:,} tokens. It was not sent: "
            f"split it into {-(-least * 2 // model.info.window_tokens)} parts or more",
            model=model.name,
        )


def read_value(reply: Reply, schema: JsonSchema | None) -> PlainValue:
    """The reply's text, or its data if the query had a JSON schema.

    Raises:
        MalformedReplyError: the reply is not JSON.
    """
    if schema is None:
        return reply.text
    try:
        data: PlainValue = orjson.loads(reply.text)
    except orjson.JSONDecodeError as error:
        raise MalformedReplyError(f"{reply.model} did not reply with JSON: {error}", model=reply.model) from None
    return data


async def drive_child(  # noqa: PLR0917
    drive: DriveNode,
    site: SubcallSite,
    query: ModelQuery,
    model: Model,
    form: AnswerForm | None,
    tools: tuple[str, ...] = (),
) -> SubcallOutcome:
    """Answers a query with a child node. ``form`` is that of its answer, ``tools`` are those that it can call.

    Raises:
        RLMError: the child ended with an error that ends the whole run.
    """
    finish = await drive(_child_job(site, query, model, form, tools))
    if finish.error is None:
        keeps_type = isinstance(finish.answer, str) or query.schema is not None
        return SubcallAnswer(finish.answer if keeps_type else plain_text(finish.answer))
    if isinstance(finish.error, NoAnswerError | ModelError):
        return failure_of(finish.error)
    raise finish.error


def _child_job(
    site: SubcallSite, query: ModelQuery, model: Model, form: AnswerForm | None, tools: tuple[str, ...]
) -> NodeJob:
    question, context = (query.prompt, query.context) if query.has_context else (DEFAULT_QUESTION, query.prompt)
    return NodeJob(
        NodeId(site.place.path),
        site.node.depth + 1,
        question,
        context,
        model,
        site.node.id,
        site.batch,
        key=site.key,
        prefetched=query.prefetched,
        form=form,
        tools=tools,
    )


def failure_of(error: RLMError) -> SubcallFailure:
    """The failure that a cell, and so a model, is shown. Addresses and paths stay in the record of the call."""
    model = error.model if isinstance(error, ModelError) else ""
    return SubcallFailure(type(error).__name__, PUBLIC.clean(str(error), model))


def find_model(settings: TreeSettings, depth: int, name: str | None) -> Model | SubcallFailure:
    """The model of a depth, or the one of the run's models that the query names."""
    if name is None:
        return settings.model_at(depth)
    for model in settings.models:
        if name in (model.name, model.name.partition(":")[2]):
            return model
    names = ", ".join(sorted({model.name for model in settings.models}))
    name = shorten(name, MAX_NAME_CHARS)
    return SubcallFailure("LLMQueryError", f"model={name!r} is not one of this run's models: {names}")


def find_images(known: Mapping[str, Image], query: ModelQuery, kind: str) -> tuple[Image, ...] | SubcallFailure:
    """The images that a query shows. Only a plain call shows images; a child is given them in its context."""
    if not query.images:
        return ()
    if kind == "child":
        message = "images= goes to a plain call: add recursive=False, or give the images in context=."
        return SubcallFailure("LLMQueryError", message)
    found = tuple(known[id_] for id_ in query.images if id_ in known)
    if len(found) < len(query.images):
        return SubcallFailure(
            "LLMQueryError", "an image is not part of this run's input, or was not given again to resume it."
        )
    return found


def shorten(text: str, most: int = MAX_FAILURE_CHARS) -> str:
    """The text, or its beginning if it is too long to be repeated in an error."""
    return text if len(text) <= most else f"{text[:most]}... [{len(text) - most:,} more characters]"
