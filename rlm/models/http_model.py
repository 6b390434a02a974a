"""Base of all models behind an HTTP API: one attempt, whole or streamed, with every fault in the error tree.

A subclass is one wire format: it writes a request's ``body``, reads a reply's JSON and opens a reader for a streamed reply.
Retries, budgets and concurrency are decided above.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, assert_never

import orjson

from rlm.core.errors import ModelError, RequestRejectedError
from rlm.core.messages import Reply, Request, Usage
from rlm.core.model_info import ModelInfo
from rlm.models.bad_replies import empty, malformed, refused, truncated
from rlm.models.faults import Source, make_fault, read_error_object, read_fault
from rlm.models.http import HttpEndpoint, HttpReply
from rlm.models.images import check_images
from rlm.models.json_schema import WireSchema, prepare_schema, read_json
from rlm.models.streams import ReplyStream
from rlm.ports import OnText

Json: TypeAlias = dict[str, Any]
Ending: TypeAlias = Literal["complete", "truncated", "refused", "unfinished"]


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
        url: str,
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
        self.info = info
        self._extra_body = dict(extra_body or {})
        self._stream_body = {"stream": True, **(stream_body or {})}
        self._endpoint = HttpEndpoint(url, model=self.name, headers=headers, timeout_s=timeout_s)
        self.source = Source(self.name, self._endpoint.address, api_key, key_variable)
        self._server_streams = info.streams

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

    async def ask(self, request: Request) -> Reply:
        """See ``rlm.ports.Model.ask``."""
        schema = prepare_schema(request.schema) if request.schema is not None else None
        reply = await self._endpoint.post(self._dump(request, schema))
        return self._accept(self._parse(reply), request, schema)

    async def stream(self, request: Request, on_text: OnText) -> Reply:
        """See ``rlm.ports.StreamingModel.stream``. A server that refuses to stream is not asked to again."""
        if request.schema is not None or not self._server_streams:
            return await self.ask(request)
        stream = self.open_stream(on_text)
        reply = await self._endpoint.post_for_stream(self._dump(request, None, self._stream_body), stream.feed)
        if stream.began:
            stream.finish()
            return self._accept(self.read_stream(stream, request), request, None)
        try:
            data = self._parse(reply)
        except RequestRejectedError:
            if b"stream" not in reply.body:
                raise
            self.stop_streaming()
            return await self.ask(request)  # a refused request does not count as an attempt
        return self._accept(data, request, None)

    def stop_streaming(self) -> None:
        """Makes ``stream`` ask for whole replies from now on."""
        self._server_streams = False

    def read_stream(self, stream: ReplyStream, request: Request) -> Json:
        """The JSON of a streamed reply, as if it had arrived whole."""
        return stream.as_body()

    async def aclose(self) -> None:
        """See ``rlm.ports.Model.aclose``."""
        await self._endpoint.aclose()

    def malformed(self, what: str, data: object, usage: Usage | None = None) -> ModelError:
        """The error for a reply that breaks the protocol; it quotes the beginning of ``data``."""
        return malformed(self.source, what, data if isinstance(data, bytes) else orjson.dumps(data), usage)

    def raise_if_error(self, part: Mapping[str, Any]) -> None:
        """Raises the error inside ``part``, if there is one: some gateways answer 200 and put it into the body."""
        if part.get("error"):
            error = read_error_object(part)
            raise make_fault(self.source, error.status or 502, error)

    def _dump(self, request: Request, schema: WireSchema | None, more: Mapping[str, Any] | None = None) -> bytes:
        check_images(self.name, self.info.images, request.messages)
        body = self.body(request, schema) | self._extra_body
        return orjson.dumps(body if more is None else body | dict(more))

    def _parse(self, reply: HttpReply) -> Json:
        if not 200 <= reply.status < 300:
            raise read_fault(self.source, reply.status, reply.headers, reply.body, time.time())
        try:
            data = orjson.loads(reply.body)
        except orjson.JSONDecodeError:
            raise self.malformed("a reply that is not JSON", reply.body) from None
        if not isinstance(data, dict):
            raise self.malformed("a reply that is not a JSON object", reply.body)
        self.raise_if_error(data)
        return data

    def _accept(self, data: Json, request: Request, schema: WireSchema | None) -> Reply:
        """The reply, if it is complete and not empty; with its JSON alone if there is a schema."""
        raw = self.read(data, request)
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
        text = raw.text
        if schema is not None:
            try:
                text = read_json(text, schema)
            except ValueError as error:
                raise self.malformed(f"not the JSON asked for ({error})", text.encode(), raw.usage) from None
        return Reply(text, raw.usage, raw.model, raw.cost_usd)
