"""A scripted reply as a stream of events, in both wire formats. Pure: ``responses`` sends them."""

from __future__ import annotations

from dataclasses import replace

import orjson

from rlm.core.messages import Usage
from rlm.testing.prefix import estimate_tokens
from rlm.testing.wire import STOP_REASONS, ChatCall, Json, ScriptedReply, StreamShape, anthropic_usage, openai_usage

GARBAGE = b"data: {this is no JSON"


def make_events(call: ChatCall, reply: ScriptedReply, shape: StreamShape) -> list[bytes]:
    """The events of a stream, without the empty lines between them. The sender implements ``break_after``."""
    events = _anthropic(call, reply, shape) if call.api == "anthropic" else _openai(call, reply, shape)
    if shape.garbage_after is not None:
        events.insert(shape.garbage_after, GARBAGE)
    if shape.error_after is not None:
        events.insert(
            shape.error_after, _line({"error": {"message": "overloaded", "type": "overloaded_error"}}, "error")
        )
    return [event.replace(b"\n", shape.line_end.encode()) for event in events]


def _pieces(text: str, shape: StreamShape) -> list[str]:
    if shape.pieces is not None:
        return list(shape.pieces)
    pieces = [piece + " " for piece in text.split(" ")]
    return [*pieces[:-1], pieces[-1][:-1]]


def _line(data: Json, name: str = "") -> bytes:
    return (f"event: {name}\n".encode() if name else b"") + b"data: " + orjson.dumps(data)


def _openai(call: ChatCall, reply: ScriptedReply, shape: StreamShape) -> list[bytes]:
    head = {"id": f"chatcmpl-{call.number}", "object": "chat.completion.chunk", "created": 0, "model": call.model}
    first: Json = {"role": "assistant", "content": ""}
    if reply.refusal is not None:
        first["refusal"] = reply.refusal
    deltas: list[Json] = [first | dict(reply.extra), *({"content": piece} for piece in _pieces(reply.text, shape))]
    chunks = [{**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    if shape.counts:
        for number, chunk in enumerate(chunks):
            chunk["usage"] = openai_usage(_so_far(call.usage, deltas[: number + 1]))
    if shape.reason:
        chunks.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": reply.finish_reason}]})
    if shape.usage and (call.body.get("stream_options") or {}).get("include_usage"):
        chunks.append({**head, "choices": [], "usage": openai_usage(call.usage)})
    return [*map(_line, chunks), *([b"data: [DONE]"] if shape.done else [])]


def _so_far(usage: Usage, deltas: list[Json]) -> Usage:
    text = "".join(delta.get("content", "") for delta in deltas)
    return replace(usage, output_tokens=estimate_tokens(text))


def _anthropic(call: ChatCall, reply: ScriptedReply, shape: StreamShape) -> list[bytes]:
    usage = anthropic_usage(call.usage)
    message = {"id": f"msg_{call.number}", "type": "message", "role": "assistant", "model": call.model, "content": []}
    started = message | {"stop_reason": None, "stop_sequence": None, "usage": usage | {"output_tokens": 1}}
    events: list[Json] = [
        {"type": "message_start", "message": started},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
    ]
    events += (
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}
        for piece in _pieces(reply.text, shape)
    )
    events.append({"type": "content_block_stop", "index": 0})
    if shape.reason:
        delta = {"stop_reason": STOP_REASONS.get(reply.finish_reason, reply.finish_reason), "stop_sequence": None}
        ended: Json = {"type": "message_delta", "delta": delta}
        if shape.usage:
            ended["usage"] = {"output_tokens": usage["output_tokens"]}
        events.append(ended)
    if shape.done:
        events.append({"type": "message_stop"})
    return [_line(event, event["type"]) for event in events]
