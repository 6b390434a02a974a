"""A short form for the events that come by the thousand: a leaf call begins, leaves, and is answered with a short text.

Each is a list of its fields in a fixed order: a fifth of the bytes, and of the time, of the general form in ``codec``. What
does not fit it in every respect takes the general form.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from rlm.core.events import AnyEvent, CallReplied, CallSent, CallStarted
from rlm.core.ids import CallId, NodeId, RunId
from rlm.core.messages import Message, Reply, Request, Usage

Fields: TypeAlias = list[Any]

BEGUN, LEFT, ANSWERED = "+", ">", "="


def to_brief(event: AnyEvent, max_chars: int) -> tuple[str, Fields] | None:
    """The short form; None where the event has something it cannot say."""
    if isinstance(event, CallReplied):
        reply = event.reply
        if len(reply.text) > max_chars or not event.billed:
            return None
        usage = reply.usage
        return ANSWERED, [
            event.node, event.at_s, event.call, event.role, event.depth, event.model, event.cost_usd, event.elapsed_s,
            event.cached, reply.text, reply.model, reply.cost_usd, usage.calls, usage.input_tokens, usage.cached_tokens,
            usage.cache_write_tokens, usage.output_tokens, usage.reasoning_tokens,
        ]  # fmt: skip
    if isinstance(event, CallStarted):
        request = event.request
        if event.role != "leaf" or len(request.messages) != 1 or event.limit is not None:
            return None
        if request.schema is not None or request.stop or request.cache_key or request.task:
            return None
        message = request.messages[0]
        if message.role != "user" or len(message.content) > max_chars:
            return None
        return BEGUN, [
            event.node, event.at_s, event.call, event.depth, event.model, event.turn, event.cell, event.batch, event.key,
            event.prefetched, message.content, request.depth, request.max_output_tokens, request.temperature,
        ]  # fmt: skip
    if isinstance(event, CallSent):
        return LEFT, [event.node, event.at_s, event.call, event.attempt]
    return None


def _begun(run: RunId, fields: Fields) -> CallStarted:
    node, at_s, call, depth, model, turn, cell, batch, key, prefetched, content, request_depth, most, temperature = (
        fields
    )
    return CallStarted(
        run=run,
        node=NodeId(node),
        at_s=at_s,
        call=CallId(call),
        role="leaf",
        depth=depth,
        model=model,
        turn=turn,
        request=Request((Message("user", content),), "leaf", request_depth, most, temperature),
        cell=cell,
        batch=batch,
        key=key,
        prefetched=prefetched,
    )


def _left(run: RunId, fields: Fields) -> CallSent:
    node, at_s, call, attempt = fields
    return CallSent(run=run, node=NodeId(node), at_s=at_s, call=CallId(call), attempt=attempt)


def _answered(run: RunId, fields: Fields) -> CallReplied:
    node, at_s, call, role, depth, model, cost_usd, elapsed_s, cached, text, reply_model, reply_cost, *used = fields
    return CallReplied(
        run=run,
        node=NodeId(node),
        at_s=at_s,
        call=CallId(call),
        role=role,
        depth=depth,
        model=model,
        reply=Reply(text, Usage(*used), reply_model, reply_cost),
        cost_usd=cost_usd,
        elapsed_s=elapsed_s,
        cached=cached,
    )


FROM_BRIEF: dict[str, Callable[[RunId, Fields], AnyEvent]] = {BEGUN: _begun, LEFT: _left, ANSWERED: _answered}
