"""Chat completions as OpenAI defined them and most providers and local servers offer them.

One ask is one attempt. It must know nothing of retries, budgets or concurrency. Where servers differ (names of limits,
where cached tokens are counted, errors inside a 200), the difference is handled here and nowhere above.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

import orjson

from rlm.core.bounds import most_tokens, text_bytes
from rlm.core.errors import RequestRejectedError
from rlm.core.messages import Message, Reply, Request, Usage
from rlm.models.bad_replies import empty, malformed, refused, truncated
from rlm.models.faults import Speaker, make_fault, read_error_object, read_fault
from rlm.models.http import HttpEndpoint
from rlm.models.json_schema import SchemaMode, WireSchema, instruct, prepare_schema, read_json
from rlm.models.streams import ReplyStream
from rlm.models.windows import window_tokens as known_window
from rlm.ports import OnText

OPENAI_URL = "https://api.openai.com/v1"

# They reason before they answer, and reject `max_tokens`, `temperature` and `stop`.
_REASONING = re.compile(r"(ft:)?(o\d(-|$)|gpt-([5-9]|\d\d)(?!.*-chat))")
# From here on a shared prefix is cached only up to an explicit mark or the newest message.
_MARKED_CACHE = re.compile(r"gpt-(5\.([6-9]|\d\d)|[6-9]|\d\d)")
_CUT = frozenset({"length", "max_tokens", "model_length"})
_DECLINED = frozenset({"content_filter", "safety", "refusal", "recitation"})
_CHARS_PER_TOKEN = 4  # for servers that report no usage


class OpenAIChat:
    """A model behind ``POST {base_url}/chat/completions``.

    Args:
        model_id: the provider's name of the model.
        api_key: sent as a bearer token; None sends none.
        base_url: ends before ``/chat/completions``.
        provider: first half of the full name.
        window_tokens: by default from a table of model families.
        timeout_s: for one whole call; None leaves it to whoever asks.
        headers, extra_body: added to every request.
        key_variable: the environment variable to name when the key is refused.
        schema_mode: how this provider is told a JSON schema.
        stream_body: added to requests that are streamed.
        own_machine: nobody bills what is written after a call is hung up.
        prefix_tokens: from how many tokens on a beginning that calls share is cached; 0: to no use; None: not known.
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
        self._id = model_id
        self.prefix_tokens = prefix_tokens
        self._stream_body = {"stream": True, "stream_options": {"include_usage": True}, **(stream_body or {})}
        self._own_machine = own_machine
        self._streams = True
        self._name = f"{provider}:{model_id}"
        self._window_tokens = window_tokens or known_window(model_id)
        self._extra_body = dict(extra_body or {})
        self._schema_mode: SchemaMode = schema_mode
        self._is_openai = base_url.rstrip("/") == OPENAI_URL
        self._reasons = provider == "openai" and _REASONING.match(model_id) is not None
        authorization = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._endpoint = HttpEndpoint(
            base_url.rstrip("/") + "/chat/completions",
            model=self._name,
            headers={**authorization, **(headers or {})},
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
        return f"OpenAIChat({self._name!r})"

    async def ask(self, request: Request) -> Reply:
        wire = prepare_schema(request.schema) if request.schema is not None else None
        reply = await self._endpoint.post(orjson.dumps(self._body(request, wire)))
        if not 200 <= reply.status < 300:
            raise read_fault(self._speaker, reply.status, reply.headers, reply.body, time.time())
        return self._read(reply.body, request, wire)

    async def stream(self, request: Request, hear: OnText) -> Reply:
        """As ``ask``, streamed. A server that refuses streams, or reports no usage in them, is not asked for one again."""
        if not self._streams or request.schema is not None:
            return await self.ask(request)
        stream = ChatStream(self._speaker, hear, own_machine=self._own_machine)
        body = orjson.dumps(self._body(request, None) | self._stream_body)
        reply = await self._endpoint.post_for_stream(body, stream.take)
        if not 200 <= reply.status < 300:
            fault = read_fault(self._speaker, reply.status, reply.headers, reply.body, time.time())
            if isinstance(fault, RequestRejectedError) and b"stream" in reply.body:
                self._streams = False
                return await self.ask(request)  # what was turned away is no attempt yet
            raise fault
        if not stream.began:
            return self._read(reply.body, request, None)
        stream.finish()
        if stream.usage is None:
            return self._read_unreported(stream, request)
        return self._read(orjson.dumps(stream.as_body()), request, None)

    def _read_unreported(self, stream: ChatStream, request: Request) -> Reply:
        """A stream without usage: counted with more tokens than it can have; one that was cut counts with its hold."""
        self._streams = False
        if stream.heard_enough:
            raise malformed(self._speaker, "a stream that does not report its usage", b"")
        text = "".join(stream.text)
        usage = {"prompt_tokens": most_tokens(request.messages), "completion_tokens": max(1, text_bytes(text))}
        return self._read(orjson.dumps(stream.as_body() | {"usage": usage}), request, None)

    async def aclose(self) -> None:
        await self._endpoint.aclose()

    def _body(self, request: Request, wire: WireSchema | None) -> dict[str, Any]:
        messages = request.messages
        body: dict[str, Any] = {"model": self._id}
        if wire is not None:
            if self._schema_mode != "json_schema":
                messages = instruct(messages, wire)
            if self._schema_mode != "instruct":
                body["response_format"] = self._response_format(wire)
        body["messages"] = [{"role": message.role, "content": message.content} for message in messages]
        if request.max_output_tokens is not None:
            limit = "max_completion_tokens" if self._is_openai or self._reasons else "max_tokens"
            body[limit] = request.max_output_tokens
        if not self._reasons:
            if request.temperature is not None:
                body["temperature"] = request.temperature
            if request.stop:
                body["stop"] = list(request.stop)
        if self._is_openai and request.cache_key is not None:
            body["prompt_cache_key"] = request.cache_key
            if request.role == "leaf" and _MARKED_CACHE.match(self._id):
                _mark_shared_part(body["messages"])
        if self._is_openai and request.shared_chars and _MARKED_CACHE.match(self._id):
            _mark_beginning(body["messages"][-1], request.shared_chars)
        return body | self._extra_body

    def _response_format(self, wire: WireSchema) -> dict[str, Any]:
        if self._schema_mode == "json_object":
            return {"type": "json_object"}
        schema = {"name": "reply", "schema": wire.schema, "strict": wire.guaranteed}
        return {"type": "json_schema", "json_schema": schema}

    def _read(self, body: bytes, request: Request, wire: WireSchema | None) -> Reply:
        data = self._load(body)
        try:
            choice = data["choices"][0]
            message = choice["message"]
            reason = str(choice.get("finish_reason") or "").lower()
            text = _content_text(message.get("content"))
            refusal = message.get("refusal")
        except (KeyError, IndexError, TypeError, AttributeError):
            raise malformed(self._speaker, "a reply without choices", body) from None
        self._raise_if_error(choice)
        usage = read_usage(data, request.messages, text)
        if reason in _DECLINED or refusal:
            raise refused(self._speaker, str(refusal or text), usage)
        if reason in _CUT:
            raise truncated(self._speaker, text, usage)
        if not text.strip():
            raise empty(self._speaker, reason, usage)
        if wire is not None:
            try:
                text = read_json(text, wire)
            except ValueError as error:
                raise malformed(self._speaker, f"not the JSON asked for ({error})", text.encode(), usage) from None
        return Reply(text, usage, str(data.get("model") or self._id), _reported_cost(data))

    def _load(self, body: bytes) -> dict[str, Any]:
        try:
            data = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise malformed(self._speaker, "a reply that is not JSON", body) from None
        if not isinstance(data, dict):
            raise malformed(self._speaker, "a reply that is no JSON object", body)
        self._raise_if_error(data)
        return data

    def _raise_if_error(self, part: Mapping[str, Any]) -> None:
        """Some gateways answer 200 and put the error inside, for the whole reply or for its choice."""
        if part.get("error"):
            error = read_error_object(part)
            raise make_fault(self._speaker, error.status or 502, error)


class ChatStream(ReplyStream):
    """A chat completion in chunks. It is whole when a choice says why it ended; ``[DONE]`` after it is often forgotten."""

    def __init__(self, speaker: Speaker, hear: OnText, *, own_machine: bool) -> None:
        super().__init__(speaker, hear)
        self._own_machine = own_machine
        self._head: dict[str, Any] = {}
        self._refusal: list[str] = []
        self._reason: str | None = None

    @property
    def usage(self) -> dict[str, Any] | None:
        usage = self._head.get("usage")
        return usage if isinstance(usage, dict) and _count(usage.get("prompt_tokens")) else None

    def add(self, name: str, data: dict[str, Any]) -> None:
        self._head |= {part: data[part] for part in ("model", "usage", "timings") if data.get(part)}
        self._take_count(data)
        for choice in data.get("choices") or []:
            if choice.get("index", 0) != 0:
                continue
            delta = choice.get("delta") or {}
            if isinstance(delta.get("refusal"), str):
                self._refusal.append(delta["refusal"])
            self._say(_content_text(delta.get("content")))
            if choice.get("finish_reason"):
                self._reason, self.whole = str(choice["finish_reason"]), True

    def _take_count(self, data: dict[str, Any]) -> None:
        """Servers on one's own machine can count with every chunk: vLLM in ``usage``, llama.cpp in ``timings``."""
        timings, reported = _part(data, "timings"), bool(data.get("usage"))
        if not reported and "predicted_n" in timings:
            cached, new = _count(timings.get("cache_n")), _count(timings.get("prompt_n"))
            written = _count(timings.get("predicted_n"))
            self._head["usage"] = {
                "prompt_tokens": cached + new,
                "completion_tokens": written,
                "cached_tokens": cached,
            }
        self.usage_is_current = self._own_machine and (reported or "predicted_n" in timings)

    def as_body(self) -> dict[str, Any]:
        message = {"content": "".join(self.text), "refusal": "".join(self._refusal) or None}
        return {**self._head, "choices": [{"message": message, "finish_reason": self._reason}]}


def read_usage(data: Mapping[str, Any], messages: tuple[Message, ...], text: str) -> Usage:
    """Tokens as reported; estimated from characters where a server reports none."""
    usage = data.get("usage")
    if not isinstance(usage, dict) or not _count(usage.get("prompt_tokens")):
        prompt_chars = sum(len(message.content) for message in messages)
        return Usage(1, 1 + prompt_chars // _CHARS_PER_TOKEN, output_tokens=1 + len(text) // _CHARS_PER_TOKEN)
    prompt, completion = _part(usage, "prompt_tokens_details"), _part(usage, "completion_tokens_details")
    cached = (
        _count(prompt.get("cached_tokens"))
        or _count(usage.get("prompt_cache_hit_tokens"))  # DeepSeek
        or _count(usage.get("cached_tokens"))  # Moonshot
        or _count(_part(data, "timings").get("cache_n"))  # llama.cpp before it had details
    )
    input_tokens = _count(usage.get("prompt_tokens"))
    return Usage(
        calls=1,
        input_tokens=input_tokens,
        cached_tokens=min(cached, input_tokens),
        cache_write_tokens=_count(prompt.get("cache_write_tokens")),
        output_tokens=_count(usage.get("completion_tokens")),
        reasoning_tokens=_count(completion.get("reasoning_tokens")),
    )


def _part(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = data.get(name)
    return value if isinstance(value, dict) else {}


def _count(value: object) -> int:
    return int(value) if isinstance(value, (int, float)) and value > 0 else 0


def _reported_cost(data: Mapping[str, Any]) -> float | None:
    cost = _part(data, "usage").get("cost")
    return float(cost) if isinstance(cost, (int, float)) and not isinstance(cost, bool) else None


def _content_text(content: object) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(
            part["text"]
            for part in content
            if isinstance(part, dict) and part.get("type", "text") == "text" and isinstance(part.get("text"), str)
        )
    return ""


def _mark_beginning(message: dict[str, Any], shared_chars: int) -> None:
    """The same message in two parts, with a mark at the end of the one that siblings share."""
    text: str = message["content"]
    shared = {"type": "text", "text": text[:shared_chars], "prompt_cache_breakpoint": {"mode": "explicit"}}
    rest = [{"type": "text", "text": text[shared_chars:]}] if text[shared_chars:] else []
    message["content"] = [shared, *rest]


def _mark_shared_part(messages: list[dict[str, Any]]) -> None:
    """Marks the end of the last user or system message before the newest: there the part that siblings share ends."""
    for message in reversed(messages[:-1]):
        if message["role"] != "assistant":
            part = {"type": "text", "text": message["content"], "prompt_cache_breakpoint": {"mode": "explicit"}}
            message["content"] = [part]
            return
