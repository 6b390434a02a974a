"""OpenAI's chat completions, which most providers and local servers offer as well.

Servers differ in names of limits, in the place of cached tokens, and in errors inside a 200. All of that is handled here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from rlm.core.bounds import most_tokens, text_bytes
from rlm.core.messages import Message, Request, Text, Usage
from rlm.core.model_info import ModelInfo
from rlm.models.addresses import is_azure, parse_address
from rlm.models.counts import read_cost, read_count
from rlm.models.faults import Source
from rlm.models.http_model import HttpModel, Json, RawReply
from rlm.models.images import accepts_images, encode_base64
from rlm.models.json_schema import SchemaMode, WireSchema
from rlm.models.streams import ReplyStream
from rlm.models.windows import find_window
from rlm.ports import OnText

OPENAI_URL = "https://api.openai.com/v1"

# These models reason before they answer, and reject `max_tokens`, `temperature` and `stop`.
_REASONING = re.compile(r"(ft:)?(o\d(-|$)|gpt-([5-9]|\d\d)(?!.*-chat))")
# These models cache a shared prefix only up to an explicit breakpoint or the newest message.
_BREAKPOINT_CACHE = re.compile(r"gpt-(5\.([6-9]|\d\d)|[6-9]|\d\d)")
_TRUNCATED = frozenset({"length", "max_tokens", "model_length"})
_REFUSED = frozenset({"content_filter", "safety", "refusal", "recitation"})
_CHARS_PER_TOKEN = 4  # for servers that report no usage
_BREAKPOINT = {"mode": "explicit"}


class OpenAIChat(HttpModel):
    """A model behind ``POST {base_url}/chat/completions``.

    Args:
        model_id: the provider's name of the model.
        api_key: sent as a bearer token; None sends none.
        base_url: with or without ``/chat/completions``. Its user and password become basic authorization.
        provider: the first half of the full name.
        window_tokens: by default from the table of model families.
        timeout_s: limit for one whole call; None leaves it to the caller.
        headers, extra_body: added to every request.
        key_variable: the environment variable to name when the key is refused.
        schema_mode: the form in which this provider accepts a JSON schema.
        stream_body: added to streamed requests.
        own_machine: tokens generated after a disconnect are not billed.
        prefix_tokens: see ``ModelInfo``.
    """

    def __init__(
        self,
        model_id: str,
        *,
        api_key: str | None,
        base_url: str = OPENAI_URL,
        provider: str = "openai",
        window_tokens: int | None = None,
        timeout_s: float | None = None,
        headers: Mapping[str, str] | None = None,
        extra_body: Mapping[str, Any] | None = None,
        key_variable: str | None = None,
        schema_mode: SchemaMode = "json_schema",
        stream_body: Mapping[str, Any] | None = None,
        own_machine: bool = False,
        prefix_tokens: int | None = None,
    ) -> None:
        address = parse_address(base_url, "/chat/completions")
        key: dict[str, str] = {}
        if api_key:
            key = {"api-key": api_key} if is_azure(address.url) else {"Authorization": f"Bearer {api_key}"}
        super().__init__(
            model_id,
            provider=provider,
            url=address,
            info=ModelInfo(
                window_tokens or find_window(model_id),
                prefix_tokens=prefix_tokens,
                streams=True,
                images=accepts_images(model_id),
            ),
            headers={**key, **(headers or {})},
            api_key=api_key,
            key_variable=key_variable,
            timeout_s=timeout_s,
            extra_body=extra_body,
            stream_body={"stream_options": {"include_usage": True}, **(stream_body or {})},
        )
        self._own_machine = own_machine
        self._schema_mode: SchemaMode = schema_mode
        self._is_openai = str(address.url) == f"{OPENAI_URL}/chat/completions"
        self._reasons = provider == "openai" and _REASONING.match(model_id) is not None

    def instructs(self, schema: WireSchema) -> bool:
        return self._schema_mode != "json_schema"

    def body(self, request: Request, schema: WireSchema | None) -> Json:
        body: Json = {"model": self.model_id}
        if schema is not None and self._schema_mode != "instruct":
            body["response_format"] = self._response_format(schema)
        body["messages"] = [{"role": message.role, "content": _write_content(message)} for message in request.messages]
        if request.max_output_tokens is not None:
            limit = "max_completion_tokens" if self._is_openai or self._reasons else "max_tokens"
            body[limit] = request.max_output_tokens
        if not self._reasons:
            if request.temperature is not None:
                body["temperature"] = request.temperature
            if request.stop:
                body["stop"] = list(request.stop)
        if self._is_openai:
            self._cache_prefix(body, request)
        return body

    def _cache_prefix(self, body: Json, request: Request) -> None:
        breakpoints = _BREAKPOINT_CACHE.match(self.model_id) is not None
        if request.cache_key is not None:
            body["prompt_cache_key"] = request.cache_key
            if breakpoints and request.role == "leaf":
                _mark_shared_messages(body["messages"])
        if breakpoints and request.shared_chars and isinstance(request.messages[-1].content, str):
            _mark_shared_text(body["messages"][-1], request.shared_chars)

    def _response_format(self, schema: WireSchema) -> Json:
        if self._schema_mode == "json_object":
            return {"type": "json_object"}
        wire = {"name": "reply", "schema": schema.schema, "strict": schema.guaranteed}
        return {"type": "json_schema", "json_schema": wire}

    def read(self, data: Json, request: Request) -> RawReply:
        try:
            choice = data["choices"][0]
            message = choice["message"]
            reason = str(choice.get("finish_reason") or "").lower()
            text = _read_text(message.get("content"))
            refusal = message.get("refusal")
        except (KeyError, IndexError, TypeError, AttributeError):
            raise self.malformed("a reply without choices", data) from None
        self.raise_if_error(choice)
        return RawReply(
            text,
            read_usage(data, request.messages, text),
            str(data.get("model") or self.model_id),
            reason,
            "refused" if reason in _REFUSED or refusal else "truncated" if reason in _TRUNCATED else "complete",
            refusal=str(refusal or ""),
            cost_usd=read_cost(_part(data, "usage").get("cost")),
        )

    def open_stream(self, on_text: OnText) -> ChatStream:
        return ChatStream(self.source, on_text, own_machine=self._own_machine)

    def read_stream(self, stream: ReplyStream, request: Request) -> Json:
        """The reply's JSON. Without usage it is billed at its upper bound, and no further reply is streamed.

        A stream that was cut has no such bound: it is an error, billed at its reservation.
        """
        data = stream.as_body()
        if _reports_usage(data):
            return data
        self.stop_streaming()
        if stream.cut:
            raise self.malformed("a stream that does not report its usage", b"")
        text = "".join(stream.text)
        usage = {"prompt_tokens": most_tokens(request.messages), "completion_tokens": max(1, text_bytes(text))}
        return data | {"usage": usage}


class ChatStream(ReplyStream):
    """A chat completion in chunks. A finish reason completes it; many servers omit the ``[DONE]`` after it."""

    def __init__(self, source: Source, on_text: OnText, *, own_machine: bool) -> None:
        super().__init__(source, on_text)
        self._own_machine = own_machine
        self._head: Json = {}
        self._refusal: list[str] = []
        self._reason: str | None = None

    def add(self, name: str, data: Json) -> None:
        self._head |= {part: data[part] for part in ("model", "usage", "timings") if data.get(part)}
        self._add_usage(data)
        for choice in data.get("choices") or []:
            if choice.get("index", 0) != 0:
                continue
            delta = choice.get("delta") or {}
            if isinstance(delta.get("refusal"), str):
                self._refusal.append(delta["refusal"])
            self.add_text(_read_text(delta.get("content")))
            if choice.get("finish_reason"):
                self._reason, self.complete = str(choice["finish_reason"]), True

    def _add_usage(self, data: Json) -> None:
        """Local servers can report usage with every chunk: vLLM in ``usage``, llama.cpp in ``timings``."""
        timings, reported = _part(data, "timings"), bool(data.get("usage"))
        if not reported and "predicted_n" in timings:
            cached, new = read_count(timings.get("cache_n")), read_count(timings.get("prompt_n"))
            self._head["usage"] = {
                "prompt_tokens": cached + new,
                "completion_tokens": read_count(timings.get("predicted_n")),
                "cached_tokens": cached,
            }
        self.usage_is_exact = self._own_machine and (reported or "predicted_n" in timings)

    def as_body(self) -> Json:
        message = {"content": "".join(self.text), "refusal": "".join(self._refusal) or None}
        return {**self._head, "choices": [{"message": message, "finish_reason": self._reason}]}


def read_usage(data: Mapping[str, Any], messages: tuple[Message, ...], text: str) -> Usage:
    """Tokens as reported, or estimated from characters if the server reports none."""
    if not _reports_usage(data):
        prompt_chars = sum(len(message.text) for message in messages)
        return Usage(1, 1 + prompt_chars // _CHARS_PER_TOKEN, output_tokens=1 + len(text) // _CHARS_PER_TOKEN)
    usage = data["usage"]
    prompt, completion = _part(usage, "prompt_tokens_details"), _part(usage, "completion_tokens_details")
    cached = (
        read_count(prompt.get("cached_tokens"))
        or read_count(usage.get("prompt_cache_hit_tokens"))  # DeepSeek
        or read_count(usage.get("cached_tokens"))  # Moonshot
        or read_count(_part(data, "timings").get("cache_n"))  # llama.cpp before it had details
    )
    input_tokens = read_count(usage.get("prompt_tokens"))
    return Usage(
        calls=1,
        input_tokens=input_tokens,
        cached_tokens=min(cached, input_tokens),
        cache_write_tokens=read_count(prompt.get("cache_write_tokens")),
        output_tokens=read_count(usage.get("completion_tokens")),
        reasoning_tokens=read_count(completion.get("reasoning_tokens")),
    )


def _reports_usage(data: Mapping[str, Any]) -> bool:
    return read_count(_part(data, "usage").get("prompt_tokens")) > 0


def _part(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = data.get(name)
    return value if isinstance(value, dict) else {}


def _read_text(content: object) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(
            part["text"]
            for part in content
            if isinstance(part, dict) and part.get("type", "text") == "text" and isinstance(part.get("text"), str)
        )
    return ""


def _write_content(message: Message) -> str | list[Json]:
    if isinstance(message.content, str):
        return message.content
    return [
        {"type": "text", "text": part.text}
        if isinstance(part, Text)
        else {"type": "image_url", "image_url": {"url": f"data:{part.media_type};base64,{encode_base64(part)}"}}
        for part in message.content
    ]


def _mark_shared_text(message: Json, shared_chars: int) -> None:
    """Splits the message in two parts, with a breakpoint at the end of the prefix that sibling calls share."""
    text: str = message["content"]
    shared = {"type": "text", "text": text[:shared_chars], "prompt_cache_breakpoint": _BREAKPOINT}
    rest = [{"type": "text", "text": text[shared_chars:]}] if text[shared_chars:] else []
    message["content"] = [shared, *rest]


def _mark_shared_messages(messages: list[Json]) -> None:
    """Sets a breakpoint after the last user or system message before the newest: the end of what sibling calls share."""
    for message in reversed(messages[:-1]):
        if message["role"] != "assistant":
            content = message["content"]
            parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
            parts[-1]["prompt_cache_breakpoint"] = _BREAKPOINT
            message["content"] = parts
            return
