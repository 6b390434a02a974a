"""Calls and replies of the scripted server, and their two wire formats. Pure: ``rlm.testing.server`` does the I/O."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import field
from hashlib import blake2b
from typing import Any, Literal, TypeAlias, cast

from rlm.core.messages import Image, ImageType, Message, Part, Role, Text, Usage
from rlm.core.values import slotted
from rlm.testing.prefix import AnthropicCache, PrefixCache, estimate_tokens

Api: TypeAlias = Literal["openai", "anthropic"]
Json: TypeAlias = dict[str, Any]


@slotted
class ChatCall:
    """One call as the server received it.

    Attributes:
        number: counts the server's calls from 1, in the order of arrival.
        messages: the conversation; Anthropic's ``system`` is its first message.
        body: the whole JSON body.
        in_flight: how many calls were open when this one arrived, itself included.
        started_s, ended_s: on the server's monotonic clock; ``ended_s`` is None while it is open.
        status: the HTTP status sent; 0 while open, and for a hang, a reset or a cancelled call.
        cancelled: the client went away before the reply.
    """

    number: int
    api: Api
    model: str
    messages: tuple[Message, ...]
    headers: Mapping[str, str]
    body: Json
    in_flight: int
    started_s: float
    ended_s: float | None = None
    status: int = 0
    cancelled: bool = False
    usage: Usage = field(default_factory=Usage)

    @property
    def prompt(self) -> str:
        """The newest message."""
        return self.messages[-1].text if self.messages else ""

    @property
    def system(self) -> str:
        return "\n".join(message.text for message in self.messages if message.role == "system")

    @property
    def is_root(self) -> bool:
        """True for a node's turn, recognised by its system prompt."""
        return any(message.role == "system" for message in self.messages)

    @property
    def turn(self) -> int:
        """The number of the requested reply in its conversation, from 1."""
        return 1 + sum(message.role == "assistant" for message in self.messages)


@slotted
class StreamShape:
    """The form of a streamed reply, and its faults.

    Attributes:
        pieces: the text of each event; None splits the reply's text into words.
        delay_s: the time between events.
        break_after: closes the connection after that many events.
        garbage_after: sends a malformed event after that many.
        error_after: sends an error object after that many.
        reason: the stream has a finish reason.
        done: ``[DONE]`` follows.
        usage: the usage is reported at the end.
        counts: every event reports the usage so far.
        write_bytes: sends that many bytes at a time, regardless of characters and lines.
        line_end: the line end of events.
    """

    pieces: Sequence[str] | None = None
    delay_s: float = 0.0
    break_after: int | None = None
    garbage_after: int | None = None
    error_after: int | None = None
    reason: bool = True
    done: bool = True
    usage: bool = True
    counts: bool = False
    write_bytes: int | None = None
    line_end: str = "\n"


@slotted
class ScriptedReply:
    """A reply of the server, and its faults.

    Attributes:
        text: the reply, or for an error status its message.
        latency_s: before the first byte; None means the server's own.
        status: the HTTP status; from 400 on the body is an error object.
        headers: sent besides, for instance ``{"Retry-After": "1"}``.
        finish_reason: in OpenAI's words ("stop", "length", "content_filter"); translated for Anthropic.
        refusal: OpenAI's ``refusal`` field.
        error_code, error_type: in the error object.
        usage: instead of the estimate; ``cached_tokens`` replaces that part alone.
        body: sent instead of everything above, byte for byte, as ``content_type``.
        hang: never answers. reset: closes the connection with RST instead of answering.
        cut: sends half of the body, then closes the connection.
        slow_body_s: time between the first and the last byte of the body.
        stream: the form of a requested stream; None for a server that does not stream.
        extra: further fields of the message object, for instance ``{"reasoning_content": "..."}``.
    """

    text: str = ""
    latency_s: float | None = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    finish_reason: str = "stop"
    refusal: str | None = None
    error_code: str | None = None
    error_type: str | None = None
    usage: Usage | None = None
    cached_tokens: int | None = None
    body: bytes | str | None = None
    content_type: str = "application/json"
    hang: bool = False
    reset: bool = False
    cut: bool = False
    slow_body_s: float = 0.0
    stream: StreamShape | None = field(default_factory=StreamShape)
    extra: Mapping[str, Any] = field(default_factory=dict)


def read_messages(api: Api, body: Json) -> tuple[Message, ...]:
    """The conversation of a request body; content given as parts is joined.

    Raises:
        ValueError: when the body has no usable ``messages``.
    """
    entries = body.get("messages")
    if not isinstance(entries, list) or not entries:
        raise ValueError("'messages' must be a non-empty list")
    messages = []
    if api == "anthropic" and body.get("system"):
        messages.append(Message("system", _read_content(body["system"])))
    for entry in entries:
        if not isinstance(entry, dict) or entry.get("role") not in {"system", "developer", "user", "assistant"}:
            raise ValueError("every message needs a 'role' of system, developer, user or assistant")
        role: Role = "system" if entry["role"] == "developer" else entry["role"]
        messages.append(Message(role, _read_content(entry.get("content"))))
    return tuple(messages)


def _read_content(content: object) -> str | tuple[Part, ...]:
    """Plain text if all parts are text."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = tuple(_read_part(part) for part in content if isinstance(part, dict))
        return parts if any(isinstance(part, Image) for part in parts) else Message("user", parts).text
    return ""


def _read_part(part: Json) -> Part:
    match part:
        case {"type": "image_url", "image_url": {"url": str(url)}} if url.startswith("data:"):
            media_type, _, data = url.removeprefix("data:").partition(";base64,")
            return Image(cast("ImageType", media_type), base64.b64decode(data, validate=True))
        case {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}:
            return Image(media_type, base64.b64decode(data, validate=True))
        case {"type": "image_url" | "image"}:
            raise ValueError("an image must be given as data")
        case _:
            return Text(str(part.get("text", "")))


def measure_usage(call: ChatCall, reply: ScriptedReply, cache: PrefixCache | AnthropicCache) -> Usage:
    """Estimated tokens, with the prefix that ``cache`` knows. ``reply`` can override any of it."""
    if reply.usage is not None:
        return reply.usage
    written = 0
    if isinstance(cache, AnthropicCache):
        cached, written = cache.read_and_written(call.body)
    else:
        cached = cache.cached_tokens(join_messages(call.messages))
    if reply.cached_tokens is not None:
        cached = reply.cached_tokens
    input_tokens = max(estimate_tokens(join_messages(call.messages)), cached + written)
    return Usage(1, input_tokens, cached, written, estimate_tokens(reply.text))


def join_messages(messages: Sequence[Message]) -> str:
    """A conversation as one text, for prefix caches and estimates; an image is its hash."""
    return "\0".join([f"{message.role}\0{_describe(message)}" for message in messages])


def _describe(message: Message) -> str:
    content = message.content
    if isinstance(content, str):
        return content
    return "".join(part.text if isinstance(part, Text) else f"\0{blake2b(part.data).hexdigest()}" for part in content)


def success_body(call: ChatCall, reply: ScriptedReply) -> Json:
    if call.api == "anthropic":
        return _anthropic_body(call, reply)
    message: Json = {"role": "assistant", "content": reply.text, **reply.extra}
    if reply.refusal is not None:
        message |= {"content": None, "refusal": reply.refusal}
    return {
        "id": f"chatcmpl-{call.number}",
        "object": "chat.completion",
        "created": 0,
        "model": call.model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": reply.finish_reason}],
        "usage": openai_usage(call.usage),
    }


def openai_usage(usage: Usage) -> Json:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}


def _anthropic_body(call: ChatCall, reply: ScriptedReply) -> Json:
    return {
        "id": f"msg_{call.number}",
        "type": "message",
        "role": "assistant",
        "model": call.model,
        "content": [{"type": "text", "text": reply.text}] if reply.text else [],
        "stop_reason": STOP_REASONS.get(reply.finish_reason, reply.finish_reason),
        "stop_sequence": None,
        "usage": anthropic_usage(call.usage),
    }


def anthropic_usage(usage: Usage) -> Json:
    return {
        "input_tokens": usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "output_tokens": usage.output_tokens,
    }


def error_body(api: Api, message: str, code: str | None = None, kind: str | None = None) -> Json:
    if api == "anthropic":
        return {"type": "error", "error": {"type": kind or "invalid_request_error", "message": message}}
    return {"error": {"message": message, "type": kind or "scripted_error", "param": None, "code": code}}
