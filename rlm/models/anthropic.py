"""Anthropic's Messages API, natively: cache marks, structured outputs, and usage that counts cached tokens apart.

One ask is one attempt. It must know nothing of retries, budgets or concurrency.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

import orjson

from rlm.core.messages import Message, Reply, Request, Usage
from rlm.models.bad_replies import empty, malformed, refused, truncated
from rlm.models.faults import Speaker, make_fault, read_error_object, read_fault
from rlm.models.http import HttpEndpoint
from rlm.models.json_schema import WireSchema, instruct, prepare_schema, read_json
from rlm.models.streams import ReplyStream
from rlm.models.windows import window_tokens as known_window
from rlm.ports import OnText

ANTHROPIC_URL = "https://api.anthropic.com"
_API_VERSION = "2023-06-01"

# `max_tokens` is required here. Without streaming the API wants replies that end within ten minutes.
DEFAULT_MAX_OUTPUT_TOKENS = 16_000
_OLD_MAX_OUTPUT_TOKENS = 4_096  # all that Claude 3 allows
_OLD = re.compile(r"claude-3-(opus|sonnet|haiku)")
# Newer models reject sampling parameters (since Opus 4.7), older ones know no structured outputs (before 4.5).
_TAKES_TEMPERATURE = re.compile(r"claude-(3|(opus|sonnet|haiku)-4-([0-6]|\d{8})(-|$))")
_HAS_STRUCTURED_OUTPUT = re.compile(r"claude-(opus|sonnet|haiku|mythos)-(4-[5-9]|[5-9]|\d\d)(-|$)")
# From how many tokens on a marked prompt is cached; a mark on less is ignored.
_PREFIX_TOKENS = (
    (re.compile(r"claude-(3-7-sonnet|(opus|sonnet)-4(-[015])?(-\d{8})?$|opus-4-1)"), 1024),
    (re.compile(r"claude-(3-|sonnet-4-6)"), 2048),
)
_MOST_PREFIX_TOKENS = 4096
_CUT = frozenset({"max_tokens", "model_context_window_exceeded"})
_WHOLE = frozenset({"end_turn", "stop_sequence"})
_MARK = {"type": "ephemeral"}


class AnthropicMessages:
    """A Claude model behind ``POST {base_url}/v1/messages``.

    Args:
        model_id: Anthropic's name of the model.
        api_key: sent as ``x-api-key``; None sends none (gateways that add their own).
        base_url: with or without the ``/v1`` at its end.
        provider: first half of the full name.
        window_tokens: by default from a table of model families.
        timeout_s: for one whole call; None leaves it to whoever asks.
        headers, extra_body: added to every request.
        key_variable: the environment variable to name when the key is refused.
    """

    def __init__(
        self,
        model_id: str,
        *,
        api_key: str | None,
        base_url: str = ANTHROPIC_URL,
        provider: str = "anthropic",
        window_tokens: int | None = None,
        timeout_s: float | None = None,
        headers: Mapping[str, str] | None = None,
        extra_body: Mapping[str, Any] | None = None,
        key_variable: str | None = None,
    ) -> None:
        self._id = model_id
        self.prefix_tokens = next(
            (least for family, least in _PREFIX_TOKENS if family.match(model_id)), _MOST_PREFIX_TOKENS
        )
        self._name = f"{provider}:{model_id}"
        self._window_tokens = window_tokens or known_window(model_id)
        self._extra_body = dict(extra_body or {})
        key = {"x-api-key": api_key} if api_key else {}
        self._endpoint = HttpEndpoint(
            base_url.rstrip("/").removesuffix("/v1") + "/v1/messages",
            model=self._name,
            headers={"anthropic-version": _API_VERSION, **key, **(headers or {})},
            timeout_s=timeout_s,
        )
        self._speaker = Speaker(self._name, self._endpoint.address, api_key, key_variable)

    @property
    def name(self) -> str:
        return self._name

    @property
    def window_tokens(self) -> int:
        return self._window_tokens

    def __repr__(self) -> str:
        return f"AnthropicMessages({self._name!r})"

    async def ask(self, request: Request) -> Reply:
        wire = prepare_schema(request.schema) if request.schema is not None else None
        reply = await self._endpoint.post(orjson.dumps(self._body(request, wire)))
        if not 200 <= reply.status < 300:
            raise read_fault(self._speaker, reply.status, reply.headers, reply.body, time.time())
        return self._read(reply.body, wire)

    async def stream(self, request: Request, hear: OnText) -> Reply:
        """As ``ask``, streamed."""
        if request.schema is not None:
            return await self.ask(request)
        stream = MessageStream(self._speaker, hear)
        body = orjson.dumps(self._body(request, None) | {"stream": True})
        reply = await self._endpoint.post_for_stream(body, stream.take)
        if not 200 <= reply.status < 300:
            raise read_fault(self._speaker, reply.status, reply.headers, reply.body, time.time())
        if not stream.began:
            return self._read(reply.body, None)
        stream.finish()
        return self._read(orjson.dumps(stream.as_body()), None)

    async def aclose(self) -> None:
        await self._endpoint.aclose()

    def _body(self, request: Request, wire: WireSchema | None) -> dict[str, Any]:
        messages = request.messages
        default_limit = _OLD_MAX_OUTPUT_TOKENS if _OLD.match(self._id) else DEFAULT_MAX_OUTPUT_TOKENS
        body: dict[str, Any] = {"model": self._id, "max_tokens": request.max_output_tokens or default_limit}
        if wire is not None:
            if wire.guaranteed and _HAS_STRUCTURED_OUTPUT.match(self._id):
                body["output_config"] = {"format": {"type": "json_schema", "schema": wire.schema}}
            else:
                messages = instruct(messages, wire)
        system, turns = _split_system(messages)
        blocks: list[list[dict[str, Any]]] = [[{"type": "text", "text": message.content}] for message in turns]
        if 0 < request.shared_chars < len(turns[-1].content):
            blocks[-1] = _split_block(turns[-1].content, request.shared_chars)
        system_block: dict[str, Any] = {"type": "text", "text": system}
        for block in _blocks_to_mark(request, system_block if system else None, [group[-1] for group in blocks]):
            block["cache_control"] = _MARK
        if system:
            body["system"] = [system_block]
        body["messages"] = [
            {"role": message.role, "content": group} for message, group in zip(turns, blocks, strict=True)
        ]
        if request.temperature is not None and _TAKES_TEMPERATURE.match(self._id):
            body["temperature"] = request.temperature
        stops = [stop for stop in request.stop if stop.strip()]  # stops of white space alone are rejected
        if stops:
            body["stop_sequences"] = stops
        return body | self._extra_body

    def _read(self, body: bytes, wire: WireSchema | None) -> Reply:
        data = self._load(body)
        content = data.get("content")
        reason = str(data.get("stop_reason") or "")
        if not isinstance(content, list):
            raise malformed(self._speaker, "a reply without content", body)
        parts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        text = "".join(part for part in parts if isinstance(part, str))
        usage = _read_usage(data.get("usage"))
        if reason == "refusal":
            raise refused(self._speaker, text, usage)
        if reason in _CUT:
            raise truncated(self._speaker, text, usage)
        if reason not in _WHOLE:
            raise malformed(self._speaker, f"a reply that is not finished (stop_reason {reason!r})", body, usage)
        if not text.strip():
            raise empty(self._speaker, reason, usage)
        if wire is not None:
            try:
                text = read_json(text, wire)
            except ValueError as error:
                raise malformed(self._speaker, f"not the JSON asked for ({error})", text.encode(), usage) from None
        return Reply(text, usage, str(data.get("model") or self._id))

    def _load(self, body: bytes) -> dict[str, Any]:
        try:
            data = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise malformed(self._speaker, "a reply that is not JSON", body) from None
        if not isinstance(data, dict):
            raise malformed(self._speaker, "a reply that is no JSON object", body)
        if data.get("error"):
            error = read_error_object(data)
            raise make_fault(self._speaker, error.status or 502, error)
        return data


class MessageStream(ReplyStream):
    """A message in events. What it costs is told in two parts: the prompt at its beginning, the reply at its end."""

    def __init__(self, speaker: Speaker, hear: OnText) -> None:
        super().__init__(speaker, hear)
        self._head: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}
        self._reason: str | None = None

    def add(self, name: str, data: dict[str, Any]) -> None:
        match data.get("type", name):
            case "message_start":
                self._head = {"model": data["message"].get("model")}
                self._usage |= data["message"].get("usage") or {}
            case "content_block_start":
                self._say(data["content_block"].get("text"))
            case "content_block_delta" if data["delta"].get("type") == "text_delta":
                self._say(data["delta"]["text"])
            case "message_delta":
                self._reason = data["delta"].get("stop_reason") or self._reason
                self._usage |= {key: count for key, count in (data.get("usage") or {}).items() if count is not None}
                self.whole = self._reason is not None
            case "message_stop":
                self.whole = True
            case _:
                pass  # pings, thoughts, and whatever they add next

    def as_body(self) -> dict[str, Any]:
        content = [{"type": "text", "text": "".join(self.text)}]
        return {**self._head, "content": content, "stop_reason": self._reason, "usage": self._usage}


def _split_block(text: str, shared_chars: int) -> list[dict[str, Any]]:
    """The same message in two blocks, with a mark at the end of the one that siblings share."""
    shared = {"type": "text", "text": text[:shared_chars], "cache_control": _MARK}
    return [shared, {"type": "text", "text": text[shared_chars:]}]


def _split_system(messages: tuple[Message, ...]) -> tuple[str, list[Message]]:
    """The leading system messages as one text, and the turns; the API has no place for a system message further down."""
    turns = list(messages)
    system: list[str] = []
    while len(turns) > 1 and turns[0].role == "system":
        system.append(turns.pop(0).content)
    return "\n\n".join(system), [Message("user", turn.content) if turn.role == "system" else turn for turn in turns]


def _blocks_to_mark(
    request: Request, system: dict[str, Any] | None, turns: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Where the cache is written. A write costs a quarter more than plain input, so only where a read will follow.

    A node's conversation is sent again with every turn: the system prompt (shared with its siblings) and the newest
    message. Leaf calls with a cache key share everything before their newest message. Other calls share nothing.
    """
    if request.role == "node":
        marked = [system, turns[-1]]
    elif request.cache_key is not None:
        marked = [turns[-2] if len(turns) > 1 else system]
    else:
        marked = []
    return [block for block in marked if block is not None and block["text"]]


def _read_usage(usage: object) -> Usage:
    """Anthropic's ``input_tokens`` leaves out what the cache served or took in; ours counts everything."""
    counts = usage if isinstance(usage, dict) else {}

    def count(name: str) -> int:
        value = counts.get(name)
        return value if isinstance(value, int) else 0

    cached, written = count("cache_read_input_tokens"), count("cache_creation_input_tokens")
    return Usage(
        calls=1,
        input_tokens=count("input_tokens") + cached + written,
        cached_tokens=cached,
        cache_write_tokens=written,
        output_tokens=count("output_tokens"),
    )
