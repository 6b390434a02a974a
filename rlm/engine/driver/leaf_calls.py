"""Leaf calls: builds the request of a model query, sends it and reads the reply.

A leaf call is a plain question to a model, without a REPL of its own.
"""

from __future__ import annotations

from dataclasses import replace

import orjson

from rlm.core.bounds import least_tokens
from rlm.core.cells import PlainValue
from rlm.core.errors import IncompleteRecordError, MalformedReplyError, PromptTooLongError
from rlm.core.ids import CallId
from rlm.core.messages import JsonSchema, Message, Reply, Request
from rlm.core.plain import dump_json
from rlm.core.subcalls import ModelQuery
from rlm.engine.calling.call import Call
from rlm.engine.calling.caller import Caller
from rlm.engine.calling.prefix_warmup import PrefixWarmup
from rlm.engine.driver.subcall_site import SubcallSite
from rlm.engine.settings import TreeSettings
from rlm.ports import Model


class LeafCaller:
    """Makes the leaf calls of one run. With ``replays`` there are no models, so it makes none."""

    def __init__(self, settings: TreeSettings, caller: Caller, *, replays: bool) -> None:
        self._settings = settings
        self._caller = caller
        self._replays = replays
        self._warmup = PrefixWarmup(settings.warm_prefixes)

    async def ask(self, site: SubcallSite, query: ModelQuery, model: Model) -> Reply:
        """Asks a model one query.

        Raises:
            IncompleteRecordError: a replay reached a call without a recorded answer.
            PromptTooLongError: the prompt exceeds the model's window.
            ModelError: the call failed.
        """
        place = site.place
        if self._replays:
            raise IncompleteRecordError(f"the record of this run ends at {place.path}: resume the run first")
        prompt = leaf_prompt(query)
        call = self._call(site, query, model, prompt)
        # A reply in JSON is not streamed, so it has no first word to wait for.
        if site.batch is None or query.schema is not None or not self._warmup.applies(model, prompt):
            reply = await self._caller.ask(call)
        else:
            batch = (site.node.id, place.turn, place.cell, site.batch)
            async with self._warmup.join(model, batch, prompt) as ticket:
                if ticket.shared_chars:
                    call.request = replace(call.request, shared_chars=ticket.shared_chars)
                reply = ticket.reply = await self._caller.ask(call, ticket.first_text)
        self._warmup.observe(model, reply)
        return reply

    def _call(self, site: SubcallSite, query: ModelQuery, model: Model, prompt: str) -> Call:
        request = Request(
            (Message("user", prompt),),
            role="leaf",
            depth=site.node.depth + 1,
            temperature=self._settings.temperature,
            max_output_tokens=self._caller.meter.output_limit(model),
            schema=query.schema,
        )
        check_fits(model, request)
        need = self._caller.meter.call_need(model, request)
        if query.prefetched:
            need = replace(need, ahead=True)
        return Call(
            self._caller.services,
            model,
            request,
            need,
            CallId(site.place.path),
            site.node.id,
            site.place.turn,
            site.place.cell,
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
