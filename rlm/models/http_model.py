"""Base of all models behind an HTTP API: one attempt, whole or streamed, with every fault in the error tree.

A subclass is one wire format: it writes a request's ``body``, reads a reply's JSON and opens a reader for a streamed reply.
Retries, budgets and concurrency are decided above.
"""

from __future__ import annotations

import hashlib
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, assert_never

import orjson

from rlm.core.billing import is_unbilled
from rlm.core.bounds import most_tokens, text_bytes
from rlm.core.errors import ModelError, ModelNotFoundError, ProviderUnavailableError, RequestRejectedError, SchemaError
from rlm.core.messages import JsonSchema, Reply, Request, Usage
from rlm.core.model_info import ModelInfo
from rlm.core.plain import dump_json
from rlm.models.addresses import Address, parse_address
from rlm.models.bad_replies import empty, malformed, refused, truncated
from rlm.models.counts import AbsurdUsageError
from rlm.models.dialect import MAX_CHANGES, Dialect, adapt_body, adapt_request, learn, recall, remember
from rlm.models.faults import ErrorBody, Source, make_fault, read_error_body, read_error_object, read_fault
from rlm.models.http import HttpEndpoint, HttpReply
from rlm.models.images import check_images
from rlm.models.json_schema import WireSchema, instruct, prepare_schema, unwrap_json
from rlm.models.loose_json import join_halves, load_json
from rlm.models.sse import looks_like_events
from rlm.models.streams import ReplyStream
from rlm.models.waits import read_headroom
from rlm.ports import OnText
from rlm.schemas.replies import does_not_fit, find_violation, repair_turns

Json: TypeAlias = dict[str, Any]
Ending: TypeAlias = Literal["complete", "truncated", "refused", "unfinished"]

# Faults of which a refused parameter can be the cause. Their subclasses have causes of their own.
_ADAPTABLE = frozenset({RequestRejectedError, ModelNotFoundError, ProviderUnavailableError})


@dataclass(frozen=True, slots=True)
class RawReply:
    """A reply as its provider reports it, before it is accepted.

    Attributes:
        ending: the provider's finish reason, classified; ``reason`` is its own word.
        refusal: the provider's explanation of a refusal; the reply's text if there is none.
    """

    text: str
    usage: Usage
    model: str
    reason: str
    ending: Ending = "complete"
    refusal: str = ""
    cost_usd: float | None = None


class HttpModel(ABC):
    """A model behind one endpoint.

    Args:
        model_id: the provider's name of the model.
        provider: the first half of the full name.
        url: the address of the endpoint.
        info: what the model can do.
        headers: added to every request.
        api_key: hidden in error messages; ``headers`` carries it to the provider.
        key_variable: the environment variable to name when the key is refused.
        timeout_s: limit for one whole call; None leaves it to the caller.
        extra_body, stream_body: added to every request, and to every streamed one.
    """

    def __init__(
        self,
        model_id: str,
        *,
        provider: str,
        url: str | Address,
        info: ModelInfo,
        headers: Mapping[str, str],
        api_key: str | None = None,
        key_variable: str | None = None,
        timeout_s: float | None = None,
        extra_body: Mapping[str, Any] | None = None,
        stream_body: Mapping[str, Any] | None = None,
    ) -> None:
        self.model_id = model_id
        self.name = f"{provider}:{model_id}"
        key = hashlib.sha256((api_key or "").encode()).hexdigest()[:16]
        self.info = replace(info, endpoint=f"{url} {key}")
        self._extra_body = dict(extra_body or {})
        self._stream_body = {"stream": True, **(stream_body or {})}
        address = parse_address(url) if isinstance(url, str) else url
        self._endpoint = HttpEndpoint(address, model=self.name, headers=headers, timeout_s=timeout_s)
        self.source = Source(self.name, self._endpoint.address, api_key, key_variable)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    @abstractmethod
    def body(self, request: Request, schema: WireSchema | None) -> Json:
        """The JSON of a request, without ``extra_body``."""

    @abstractmethod
    def read(self, data: Json, request: Request) -> RawReply:
        """Reads the JSON of a reply with a success status.

        Raises:
            ModelError: for anything that ``RawReply`` cannot express.
        """

    @abstractmethod
    def open_stream(self, on_text: OnText) -> ReplyStream:
        """A reader for one streamed reply."""

    def instructs(self, schema: WireSchema) -> bool:
        """True if the model has no parameter for the schema, so that the prompt must carry it."""
        return False

    def ask(self, request: Request) -> Coroutine[Any, Any, Reply]:
        """See ``rlm.ports.Model.ask``. Not a coroutine function: every waiting call would hold one more frame."""
        return self._ask_plain(request) if request.schema is None else self._ask_json(request, request.schema)

    async def stream(self, request: Request, on_text: OnText) -> Reply:
        """See ``rlm.ports.StreamingModel.stream``. A server that refuses to stream is not asked to again."""
        if request.schema is not None:
            return await self._ask_json(request, request.schema)
        return await self._ask_plain(request, on_text)

    async def _ask_plain(
        self,
        request: Request,
        on_text: OnText | None = None,
        schema: WireSchema | None = None,
        *,
        instructs: bool = False,
    ) -> Reply:
        """One accepted reply. A request whose parameters are refused costs nothing, and is sent again without them."""
        address, model = self.source.address, self.model_id
        dialect = recall(address, model)
        changes = 0
        while True:
            stream = self.open_stream(on_text) if on_text is not None and dialect.streams else None
            body = self._write(request, schema, dialect, streams=stream is not None, instructs=instructs)
            reply = await self._endpoint.post(_dump(body), None if stream is None else stream.feed)
            if stream is not None:
                stream.close()
                if stream.lacks_end:
                    return await self._ask_whole(request, stream)
            began = stream is not None and stream.began
            try:
                data = (
                    self._end_stream(stream, request) if stream is not None and began else self._parse(reply, request)
                )
            except ModelError as fault:
                refusal = stream.refusal if stream is not None and began else read_error_body(reply.body)
                change = self._adapt(dialect, fault, refusal, body)
                if change is None or changes == MAX_CHANGES:
                    raise
                dialect, changes = change, changes + 1
            else:
                if dialect is not recall(address, model):
                    remember(address, model, dialect)
                return self._accept(data, request, schema, reply.headers)

    async def _ask_json(self, request: Request, schema: JsonSchema) -> Reply:
        """One reply in JSON. An invalid one gets one repair turn."""
        wire = self._prepare(schema)
        reply = await self._ask_plain(request, None, wire)
        violation = await find_violation(reply.text, wire.validator)
        return reply if violation is None else await self._repair(request, wire, reply, violation)

    async def _ask_whole(self, request: Request, stream: ReplyStream) -> Reply:
        """Asks a server that marks no end of its streams for a whole reply. The stream counts at its upper bound."""
        self.stop_streaming()
        unused = Usage(1, most_tokens(request.messages), output_tokens=text_bytes("".join(stream.text)))
        try:
            reply = await self._ask_plain(request)
        except ModelError as error:
            if error.usage is not None or is_unbilled(error):
                error.usage = unused + (error.usage or Usage())
            raise
        return replace(reply, usage=unused + reply.usage, cost_usd=None)

    def _prepare(self, schema: JsonSchema) -> WireSchema:
        try:
            return prepare_schema(schema)
        except SchemaError as error:
            raise RequestRejectedError(f"`schema` cannot be used: {error}. Correct it", model=self.name) from None

    async def _repair(self, request: Request, schema: WireSchema, reply: Reply, violation: str) -> Reply:
        """Asks once more, with the invalid reply and its error in the conversation and the schema in the prompt."""
        repair = replace(request, messages=(*request.messages, *repair_turns(reply.text, violation)))
        try:
            second = await self._ask_plain(repair, None, schema, instructs=True)
        except ModelError as error:
            error.usage = (error.usage or Usage()) + reply.usage
            raise
        usage = reply.usage + second.usage
        remaining = await find_violation(second.text, schema.validator)
        if remaining is not None:
            raise does_not_fit(self.name, remaining, usage)
        if not self.instructs(schema):
            remember(self.source.address, self.model_id, Dialect(ignores_schema=True))
        costs = (reply.cost_usd, second.cost_usd)
        cost_usd = None if None in costs else sum(cost for cost in costs if cost is not None)
        return replace(second, usage=usage, cost_usd=cost_usd)

    def _adapt(self, dialect: Dialect, fault: ModelError, refusal: ErrorBody | None, body: Json) -> Dialect | None:
        """The dialect that avoids a refusal; None if it was not about a parameter."""
        if refusal is None or type(fault) not in _ADAPTABLE:
            return None
        change = learn(dialect, fault.status or 400, refusal, body)
        return None if change == dialect else change

    def _write(
        self, request: Request, schema: WireSchema | None, dialect: Dialect, *, streams: bool, instructs: bool
    ) -> Json:
        check_images(self.name, self.info.images, request.messages)
        request = adapt_request(request, dialect)
        if schema is not None and (instructs or dialect.schema_in_prompt or self.instructs(schema)):
            request = replace(request, messages=instruct(request.messages, schema))
        body = self.body(request, schema) | self._extra_body
        return adapt_body(body | self._stream_body if streams else body, dialect)

    def _end_stream(self, stream: ReplyStream, request: Request) -> Json:
        stream.finish()
        try:
            return self.read_stream(stream, request)
        except AbsurdUsageError as error:
            raise self.malformed(f"a stream with {error}", b"") from None

    def stop_streaming(self) -> None:
        """Makes ``stream`` ask for whole replies from now on."""
        remember(self.source.address, self.model_id, Dialect().leave_out("stream"))

    def read_stream(self, stream: ReplyStream, request: Request) -> Json:
        """The JSON of a streamed reply, as if it had arrived whole."""
        return stream.as_body()

    async def aclose(self) -> None:
        """See ``rlm.ports.Model.aclose``."""
        await self._endpoint.aclose()

    def malformed(self, what: str, data: object, usage: Usage | None = None) -> ModelError:
        """The error for a reply that breaks the protocol; it quotes the beginning of ``data``."""
        body = data if isinstance(data, bytes) else dump_json(data).encode(errors="backslashreplace")
        return malformed(self.source, what, body, usage)

    def raise_if_error(self, part: Mapping[str, Any]) -> None:
        """Raises the error inside ``part``, if there is one: some gateways answer 200 and put it into the body."""
        if part.get("error"):
            error = read_error_object(part)
            raise make_fault(self.source, error.status or 502, error)

    def _parse(self, reply: HttpReply, request: Request) -> Json:
        if not 200 <= reply.status < 300:
            raise read_fault(self.source, reply.status, reply.headers, reply.body, time.time())
        if not reply.body.startswith(b"{") and looks_like_events(reply.body):  # a server that always streams
            stream = self.open_stream(lambda _: False)
            stream.feed(reply.body)
            return self._end_stream(stream, request)
        try:
            data = load_json(reply.body)
        except ValueError:
            raise self.malformed("a reply that is not JSON", reply.body) from None
        if not isinstance(data, dict):
            raise self.malformed("a reply that is not a JSON object", reply.body)
        self.raise_if_error(data)
        return data

    def _accept(self, data: Json, request: Request, schema: WireSchema | None, headers: Mapping[str, str]) -> Reply:
        """The reply, if it is complete and not empty; with its JSON alone if there is a schema."""
        try:
            raw = self.read(data, request)
        except AbsurdUsageError as error:  # without usage, the whole reservation is charged
            raise self.malformed(f"a reply with {error}", data) from None
        match raw.ending:
            case "refused":
                raise refused(self.source, raw.refusal or raw.text, raw.usage)
            case "truncated":
                raise truncated(self.source, raw.text, raw.usage)
            case "unfinished":
                raise self.malformed(f"an unfinished reply (it ended with {raw.reason!r})", data, raw.usage)
            case "complete":
                pass
            case _:
                assert_never(raw.ending)
        if not raw.text.strip():
            raise empty(self.source, raw.reason, raw.usage)
        text = "".join(join_halves(raw.text)).encode("utf-8", "replace").decode()
        if schema is not None and (value := unwrap_json(text, schema)) is not None:
            text = value
        return Reply(text, raw.usage, raw.model, raw.cost_usd, read_headroom(headers, time.time(), raw.usage))


def _dump(body: Json) -> bytes:
    """The JSON of a body. A lone surrogate stays one, escaped."""
    try:
        return orjson.dumps(body)
    except TypeError:
        return json.dumps(body, allow_nan=False).encode()
