"""Streamed replies of both adapters on real sockets: equal to whole ones, or a typed error."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from rlm.core import errors
from rlm.core.billing import is_unbilled
from rlm.core.messages import Message, Reply, Request, Usage
from rlm.models.anthropic import AnthropicMessages
from rlm.models.openai_chat import OpenAIChat
from rlm.ports import can_stream
from rlm.testing.server import ScriptedReply, ScriptedServer, StreamShape

ASK = Request((Message("user", "hello"),), role="node")
TEXT = "Größe: 5 € 😀\n```repl\nprint(1)\n```\nthat was all"
USAGE = Usage(1, 900, 640, 0, 55)
Ask = Callable[..., Awaitable[Reply]]


class Collector:
    """Collects pieces; needs no more after ``enough`` characters."""

    def __init__(self, enough: int | None = None) -> None:
        self.pieces: list[str] = []
        self._enough = enough

    def __call__(self, piece: str) -> bool:
        self.pieces.append(piece)
        return self._enough is not None and sum(map(len, self.pieces)) >= self._enough


def open_model(api: str, server: ScriptedServer, **options: Any) -> OpenAIChat | AnthropicMessages:
    if api == "openai":
        return OpenAIChat("m", api_key="k", base_url=server.base_url, **options)
    return AnthropicMessages("claude-opus-4-8", api_key="k", base_url=server.url)


async def ask(api: str, collector: Collector, *replies: ScriptedReply, **options: Any) -> tuple[Reply, ScriptedServer]:
    async with ScriptedServer(list(replies)) as server:
        model = open_model(api, server, **options)
        assert can_stream(model)
        try:
            return await model.stream(ASK, collector), server
        finally:
            await model.aclose()


BOTH = pytest.mark.parametrize("api", ["openai", "anthropic"])
SHAPES = [
    StreamShape(),
    StreamShape(pieces=[TEXT]),
    StreamShape(pieces=list(TEXT)),
    StreamShape(write_bytes=1),
    StreamShape(write_bytes=7, line_end="\r\n"),
    StreamShape(done=False),
    StreamShape(delay_s=0.003),
]


@BOTH
@pytest.mark.parametrize("shape", SHAPES)
async def test_streamed_reply_equals_whole_reply(api: str, shape: StreamShape) -> None:
    collector = Collector()
    reply, server = await ask(api, collector, ScriptedReply(TEXT, usage=USAGE, stream=shape))
    assert (reply.text, reply.usage) == (TEXT, USAGE)
    assert "".join(collector.pieces) == TEXT
    assert len(collector.pieces) >= min(2, len(shape.pieces or "xx"))
    assert server.calls[0].body["stream"] is True


@BOTH
async def test_server_without_streaming_is_read_whole(api: str) -> None:
    collector = Collector()
    reply, _ = await ask(api, collector, ScriptedReply(TEXT, usage=USAGE, stream=None))
    assert (reply.text, reply.usage, collector.pieces) == (TEXT, USAGE, [])


@BOTH
async def test_cut_stream_is_drained_for_usage(api: str) -> None:
    reply, server = await ask(
        api, Collector(enough=8), ScriptedReply(TEXT, usage=USAGE, stream=StreamShape(delay_s=0.01))
    )
    assert reply.usage == USAGE
    assert not server.calls[0].cancelled


async def test_local_server_with_exact_usage_is_disconnected() -> None:
    text = "word " * 400
    shape = StreamShape(counts=True, delay_s=0.01)
    reply, server = await ask("openai", Collector(enough=30), ScriptedReply(text, stream=shape), own_machine=True)
    assert text.startswith(reply.text)
    assert 30 <= len(reply.text) < 200
    assert 0 < reply.usage.output_tokens < 60
    assert server.calls[0].cancelled or server.calls[0].ended_s is not None


async def test_remote_server_is_never_disconnected() -> None:
    text = "word " * 20
    reply, _ = await ask(
        "openai", Collector(enough=5), ScriptedReply(text, usage=USAGE, stream=StreamShape(counts=True))
    )
    assert reply.usage == USAGE


BROKEN = [
    ("breaks off", StreamShape(break_after=4, delay_s=0.01), errors.ProviderUnreachableError),
    ("nonsense inside", StreamShape(garbage_after=4), errors.MalformedReplyError),
    ("an error inside", StreamShape(error_after=5), errors.ProviderUnreachableError),
]


@BOTH
@pytest.mark.parametrize(("name", "shape", "error"), BROKEN, ids=[row[0] for row in BROKEN])
@pytest.mark.parametrize("enough", [None, 5])
async def test_broken_stream_is_never_a_reply(
    api: str, name: str, shape: StreamShape, error: type[errors.ModelError], enough: int | None
) -> None:
    with pytest.raises(error) as caught:
        await ask(api, Collector(enough), ScriptedReply(TEXT, usage=USAGE, stream=shape))
    assert caught.value.retryable
    assert not is_unbilled(caught.value), "what was sent of a reply is billed"


@BOTH
async def test_error_before_text_has_its_own_type(api: str) -> None:
    with pytest.raises(errors.ProviderUnavailableError, match="overloaded") as caught:
        await ask(api, Collector(), ScriptedReply(TEXT, stream=StreamShape(error_after=0)))
    assert is_unbilled(caught.value)


@BOTH
async def test_truncated_or_empty_stream_raises_with_usage(api: str) -> None:
    with pytest.raises(errors.TruncatedReplyError) as cut:
        await ask(api, Collector(), ScriptedReply(TEXT, usage=USAGE, finish_reason="length"))
    assert (cut.value.text, cut.value.usage) == (TEXT, USAGE)
    with pytest.raises(errors.EmptyReplyError):
        await ask(api, Collector(), ScriptedReply("", usage=USAGE))
    with pytest.raises(errors.RateLimitedError):
        await ask(api, Collector(), ScriptedReply("slow down", status=429))


async def test_stream_without_usage_is_billed_at_upper_bound() -> None:
    async with ScriptedServer(lambda _: ScriptedReply(TEXT, usage=USAGE, stream=StreamShape(usage=False))) as server:
        model = open_model("openai", server)
        first = await model.stream(ASK, Collector())
        second = await model.stream(ASK, Collector())
        await model.aclose()
    assert first.usage.output_tokens == len(TEXT.encode()) > USAGE.output_tokens // 2
    assert first.usage.input_tokens > len("hello")
    assert second.usage == USAGE
    assert ["stream" in call.body for call in server.calls] == [True, False]


async def test_cut_stream_without_usage_is_malformed() -> None:
    with pytest.raises(errors.MalformedReplyError, match="usage") as caught:
        await ask("openai", Collector(enough=5), ScriptedReply(TEXT, stream=StreamShape(usage=False)))
    assert caught.value.usage is None
    assert not is_unbilled(caught.value)


async def test_server_that_refuses_streams_gets_whole_requests() -> None:
    def answer(call: Any) -> ScriptedReply:
        if call.body.get("stream"):
            return ScriptedReply("Your organization must be verified to stream this model.", status=400)
        return ScriptedReply(TEXT, usage=USAGE)

    async with ScriptedServer(answer) as server:
        model = open_model("openai", server)
        replies = [await model.stream(ASK, Collector()) for _ in range(2)]
        await model.aclose()
    assert [reply.text for reply in replies] == [TEXT, TEXT]
    assert len(server.calls) == 3


async def test_llama_cpp_timings_count_as_usage() -> None:
    """As its server sends them with ``timings_per_token``."""
    events = (
        b'data: {"choices":[{"index":0,"delta":{"content":"one "}}],"timings":{"cache_n":7,"prompt_n":3,"predicted_n":1}}\n\n'
        b'data: {"choices":[{"index":0,"delta":{"content":"two "}}],"timings":{"cache_n":7,"prompt_n":3,"predicted_n":2}}\n\n'
        b'data: {"choices":[{"index":0,"delta":{"content":"three"}}],"timings":{"cache_n":7,"prompt_n":3,"predicted_n":3}}\n\n'
    )
    raw = ScriptedReply(body=events, content_type="text/event-stream")
    reply, _ = await ask("openai", Collector(enough=8), raw, own_machine=True)
    assert reply.usage.cached_tokens == 7
    assert reply.usage.input_tokens == 10
