"""Anthropic's Messages API: cache breakpoints, structured outputs, and usage that counts cached tokens separately."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from rlm.core.messages import Message, Request, Text, Usage
from rlm.core.model_info import ModelInfo
from rlm.models.addresses import parse_address
from rlm.models.counts import read_count
from rlm.models.faults import Source
from rlm.models.http_model import Ending, HttpModel, Json, RawReply
from rlm.models.images import accepts_images, encode_base64
from rlm.models.json_schema import WireSchema
from rlm.models.streams import ReplyStream
from rlm.models.windows import find_window
from rlm.ports import OnText

ANTHROPIC_URL = "https://api.anthropic.com"
_API_VERSION = "2023-06-01"

# The API requires `max_tokens`. Without streaming it expects replies that end within ten minutes.
DEFAULT_MAX_OUTPUT_TOKENS = 16_000
_OLD_MAX_OUTPUT_TOKENS = 4_096  # the maximum of Claude 3
_OLD = re.compile(r"claude-3-(opus|sonnet|haiku)")
# Newer models reject sampling parameters (since Opus 4.7); older ones have no structured outputs (before 4.5).
_ACCEPTS_TEMPERATURE = re.compile(r"claude-(3|(opus|sonnet|haiku)-4-([0-6]|\d{8})(-|$))")
_HAS_STRUCTURED_OUTPUT = re.compile(r"claude-(opus|sonnet|haiku|mythos)-(4-[5-9]|[5-9]|\d\d)(-|$)")
# The shortest prompt that each family caches; a breakpoint on a shorter one is ignored.
_PREFIX_TOKENS = (
    (re.compile(r"claude-(3-7-sonnet|(opus|sonnet)-4(-[015])?(-\d{8})?$|opus-4-1)"), 1024),
    (re.compile(r"claude-(3-|sonnet-4-6)"), 2048),
)
_MAX_PREFIX_TOKENS = 4096
_ENDINGS: Mapping[str, Ending] = {
    "end_turn": "complete",
    "stop_sequence": "complete",
    "refusal": "refused",
    "max_tokens": "truncated",
    "model_context_window_exceeded": "truncated",
}
_BREAKPOINT = {"type": "ephemeral"}


class AnthropicMessages(HttpModel):
    """A Claude model behind ``POST {base_url}/v1/messages``.

    Args:
        model_id: Anthropic's name of the model.
        api_key: sent as ``x-api-key``; None sends none (for gateways that add their own).
        base_url: with or without a final ``/v1`` or ``/v1/messages``.
        provider: the first half of the full name.
        window_tokens: by default from the table of model families.
        timeout_s: limit for one whole call; None leaves it to the caller.
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
        key = {"x-api-key": api_key} if api_key else {}
        prefix = next((tokens for family, tokens in _PREFIX_TOKENS if family.match(model_id)), _MAX_PREFIX_TOKENS)
        super().__init__(
            model_id,
            provider=provider,
            url=parse_address(base_url, "/v1/messages"),
            info=ModelInfo(
                window_tokens or find_window(model_id),
                prefix_tokens=prefix,
                streams=True,
                images=accepts_images(model_id),
            ),
            headers={"anthropic-version": _API_VERSION, **key, **(headers or {})},
            api_key=api_key,
            key_variable=key_variable,
            timeout_s=timeout_s,
            extra_body=extra_body,
        )

    def instructs(self, schema: WireSchema) -> bool:
        return not schema.guaranteed or _HAS_STRUCTURED_OUTPUT.match(self.model_id) is None

    def body(self, request: Request, schema: WireSchema | None) -> Json:
        default_limit = _OLD_MAX_OUTPUT_TOKENS if _OLD.match(self.model_id) else DEFAULT_MAX_OUTPUT_TOKENS
        body: Json = {"model": self.model_id, "max_tokens": request.max_output_tokens or default_limit}
        if schema is not None and not self.instructs(schema):
            body["output_config"] = {"format": {"type": "json_schema", "schema": schema.schema}}
        system, turns = _split_system(request.messages)
        contents = [_write_content(message) for message in turns]
        if 0 < request.shared_chars < len(turns[-1].text) and isinstance(turns[-1].content, str):
            contents[-1] = _split_text(turns[-1].text, request.shared_chars)
        system_block: Json | None = {"type": "text", "text": system} if system else None
        for block in _blocks_to_cache(request, system_block, [blocks[-1] for blocks in contents]):
            block["cache_control"] = _BREAKPOINT
        if system_block is not None:
            body["system"] = [system_block]
        body["messages"] = [
            {"role": message.role, "content": blocks} for message, blocks in zip(turns, contents, strict=True)
        ]
        if request.temperature is not None and _ACCEPTS_TEMPERATURE.match(self.model_id):
            body["temperature"] = request.temperature
        stops = [stop for stop in request.stop if stop.strip()]  # the API rejects stops of white space only
        if stops:
            body["stop_sequences"] = stops
        return body

    def read(self, data: Json, request: Request) -> RawReply:
        content = data.get("content")
        reason = str(data.get("stop_reason") or "")
        if not isinstance(content, list):
            raise self.malformed("a reply without content", data)
        texts = [block.get("text") for block in content if isinstance(block, dict) and block.get("type") == "text"]
        return RawReply(
            "".join(text for text in texts if isinstance(text, str)),
            _read_usage(data.get("usage")),
            str(data.get("model") or self.model_id),
            reason,
            _ENDINGS.get(reason, "unfinished"),
        )

    def open_stream(self, on_text: OnText) -> MessageStream:
        return MessageStream(self.source, on_text)


class MessageStream(ReplyStream):
    """A message in events. Its usage arrives in two parts: the prompt's first, the reply's last."""

    def __init__(self, source: Source, on_text: OnText) -> None:
        super().__init__(source, on_text)
        self._head: Json = {}
        self._usage: Json = {}
        self._reason: str | None = None

    def add(self, name: str, data: Json) -> None:
        match data.get("type", name):
            case "message_start":
                self._head = {"model": data["message"].get("model")}
                self._usage |= data["message"].get("usage") or {}
            case "content_block_start":
                self.add_text(data["content_block"].get("text"))
            case "content_block_delta" if data["delta"].get("type") == "text_delta":
                self.add_text(data["delta"]["text"])
            case "message_delta":
                self._reason = data["delta"].get("stop_reason") or self._reason
                self._usage |= {key: count for key, count in (data.get("usage") or {}).items() if count is not None}
                self.complete = self._reason is not None
            case "message_stop":
                self.complete = True
            case _:
                pass  # pings, thoughts, and event types of the future

    def as_body(self) -> Json:
        content = [{"type": "text", "text": "".join(self.text)}]
        return {**self._head, "content": content, "stop_reason": self._reason, "usage": self._usage}


def _write_content(message: Message) -> list[Json]:
    return [
        {"type": "text", "text": part.text}
        if isinstance(part, Text)
        else {
            "type": "image",
            "source": {"type": "base64", "media_type": part.media_type, "data": encode_base64(part)},
        }
        for part in message.parts
    ]


def _split_text(text: str, shared_chars: int) -> list[Json]:
    """The text in two blocks, with a breakpoint at the end of the prefix that sibling calls share."""
    shared = {"type": "text", "text": text[:shared_chars], "cache_control": _BREAKPOINT}
    return [shared, {"type": "text", "text": text[shared_chars:]}]


def _split_system(messages: tuple[Message, ...]) -> tuple[str, list[Message]]:
    """The leading system messages as one text, and the turns. The API has no system messages between turns."""
    turns = list(messages)
    system: list[str] = []
    while len(turns) > 1 and turns[0].role == "system":
        system.append(turns.pop(0).text)
    return "\n\n".join(system), [Message("user", turn.content) if turn.role == "system" else turn for turn in turns]


def _blocks_to_cache(request: Request, system: Json | None, newest: list[Json]) -> list[Json]:
    """The blocks that get a cache breakpoint. A write costs a quarter more than plain input, so a read must follow.

    A node's conversation is sent again with every turn: the system prompt (shared with its siblings) and the newest
    message. Leaf calls with a cache key share everything before their newest message. Other calls share nothing.

    Args:
        newest: the last block of each turn.
    """
    if request.role == "node":
        blocks = [system, newest[-1]]
    elif request.cache_key is not None:
        blocks = [newest[-2] if len(newest) > 1 else system]
    else:
        blocks = []
    return [block for block in blocks if block is not None and block.get("text") != ""]


def _read_usage(usage: object) -> Usage:
    """Anthropic's ``input_tokens`` excludes tokens read from or written to the cache; ours counts all of them."""
    counts = usage if isinstance(usage, dict) else {}

    def count(name: str) -> int:
        return read_count(counts.get(name))

    cached, written = count("cache_read_input_tokens"), count("cache_creation_input_tokens")
    return Usage(
        calls=1,
        input_tokens=count("input_tokens") + cached + written,
        cached_tokens=cached,
        cache_write_tokens=written,
        output_tokens=count("output_tokens"),
    )
