"""What the scripted server receives and sends, as types: calls, replies, and their two wire formats.

Pure: no sockets, no clock. ``rlm.testing.server`` does the input and output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from rlm.core.messages import Message, Role, Usage
from rlm.testing.prefix import AnthropicCache, PrefixCache, estimate_tokens

Api: TypeAlias = Literal["openai", "anthropic"]
Json: TypeAlias = dict[str, Any]


@dataclass(slots=True)
class ChatCall:
    """One call as the server saw it.

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
        return self.messages[-1].content if self.messages else ""

    @property
    def system(self) -> str:
        return "\n".join(message.content for message in self.messages if message.role == "system")

    @property
    def is_root(self) -> bool:
        """Whether it looks like a node's turn: it has a system prompt."""
        return any(message.role == "system" for message in self.messages)

    @property
    def turn(self) -> int:
        """Which reply of its conversation this call asks for, from 1."""
        return 1 + sum(message.role == "assistant" for message in self.messages)


@dataclass(slots=True)
class StreamShape:
    """How a reply is streamed, well or badly, to a client that asks for a stream.

    Attributes:
        pieces: the text of each event; by words where None. Their sum is the reply's text.
        delay_s: between events.
        break_after: closes the connection after so many events.
        garbage_after: sends an event that is none after so many.
        error_after: sends an error object after so many.
        reason: whether the stream says why it ended. done: whether ``[DONE]`` follows.
        usage: whether it reports its usage at the end. counts: whether every event does.
        write_bytes: sends so many bytes at a time, wherever characters and lines end.
        line_end: of the lines of events.
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


@dataclass(slots=True)
class ScriptedReply:
    """What the server answers, and how well or badly.

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
        stream: how it is streamed, where a stream was asked for; None: the server does not stream.
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
        messages.append(Message("system", content_text(body["system"])))
    for entry in entries:
        if not isinstance(entry, dict) or entry.get("role") not in {"system", "developer", "user", "assistant"}:
            raise ValueError("every message needs a 'role' of system, developer, user or assistant")
        role: Role = "system" if entry["role"] == "developer" else entry["role"]
        messages.append(Message(role, content_text(entry.get("content"))))
    return tuple(messages)


def content_text(content: object) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return ""


def measure_usage(call: ChatCall, reply: ScriptedReply, cache: PrefixCache | AnthropicCache) -> Usage:
    """Tokens by estimate, with the prefix that ``cache`` knows; ``reply`` may overrule any of it."""
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
    return "\0".join([f"{message.role}\0{message.content}" for message in messages])


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
