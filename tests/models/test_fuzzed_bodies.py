"""Fuzzed bodies of providers: whatever a server sends, a call ends with a reply or with a ModelError, soon.

Bodies are valid ones with parts removed, repeated or replaced by odd values, or bytes at random.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlm.core.errors import ModelError
from rlm.core.messages import Message, Reply, Request, Usage
from rlm.models.anthropic import AnthropicMessages
from rlm.models.openai_chat import OpenAIChat
from rlm.testing.server import ScriptedReply, ScriptedServer

ASK = Request((Message("user", "hello"),))
ASK_JSON = Request((Message("user", "hello"),), schema={"type": "object", "properties": {"a": {"type": "integer"}}})
SECONDS = 5.0  # a call at most, on a busy machine
FUZZ = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

NUMBERS = ("1e999", "-1e999", "NaN", "Infinity", "1" + "0" * 5_000, "-0.0", "1e-400", "-5", "9" * 25, "1.5")
ODD: list[Any] = [
    *(None, True, False, 0, -1, 10**30, 1.5, "", "x", "\ud800", "\0", "<think>", [], {}, [[]], [None], {"": 0}),
    *(
        {"text": 5},
        [{"type": "text"}],
        [{"type": 5, "text": None}],
        "y" * 5_000,
        *(f"@{number}@" for number in NUMBERS),
    ),
]
"""Values in place of parts. Text between @ becomes a number that Python's JSON writer would not write."""

OPENAI: dict[str, Any] = {
    "id": "c",
    "model": "m",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": '{"a": 1}', "refusal": None}, "finish_reason": "stop"}
    ],
    "usage": {
        "prompt_tokens": 5,
        "completion_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 1},
        "completion_tokens_details": {"reasoning_tokens": 1},
        "cost": 0.1,
    },
}
OPENAI_CHUNKS: list[Any] = [
    {"model": "m", "choices": [{"index": 0, "delta": {"role": "assistant", "content": "he"}, "finish_reason": None}]},
    {"choices": [{"index": 0, "delta": {"content": "llo"}, "finish_reason": "stop"}], "usage": None},
    {"choices": [], "usage": OPENAI["usage"], "timings": {"predicted_n": 3, "cache_n": 1, "prompt_n": 4}},
]
ANTHROPIC: dict[str, Any] = {
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": '{"a": 1}'}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 5, "cache_read_input_tokens": 1, "cache_creation_input_tokens": 1, "output_tokens": 3},
}
ANTHROPIC_CHUNKS: list[Any] = [
    {"type": "message_start", "message": {**ANTHROPIC, "content": []}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hello"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}},
    {"type": "message_stop"},
]
ERRORS: dict[str, Any] = {
    "type": "error",
    "error": {"type": "t", "message": "try again in 2s", "code": "c", "param": None, "details": [{"retryDelay": "3s"}]},
}
HEADERS = ("0", "-1", "1e999", "nan", "9" * 400, "soon", "Wed, 99 Foo 2026", "\xff", "3600000", "0x10")


def places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def replaced(tree: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    copy = dict(tree) if isinstance(tree, dict) else list(tree)
    copy[path[0]] = replaced(tree[path[0]], path[1:], value)
    return copy


def removed(tree: Any, path: tuple[Any, ...]) -> Any:
    copy = dict(tree) if isinstance(tree, dict) else list(tree)
    if len(path) == 1:
        del copy[path[0]]
    else:
        copy[path[0]] = removed(tree[path[0]], path[1:])
    return copy


@st.composite
def fuzzed(draw: st.DrawFn, tree: Any) -> Any:
    """The tree with up to three of its parts replaced or removed."""
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(list(places(tree))))
        is_removed = path and draw(st.integers(0, 3)) == 0
        tree = removed(tree, path) if is_removed else replaced(tree, path, draw(st.sampled_from(ODD)))
        if not isinstance(tree, dict | list):
            break
    return tree


def write(tree: Any) -> bytes:
    text = json.dumps(tree)
    for number in NUMBERS:
        text = text.replace(f'"@{number}@"', number)
    return text.encode("utf-8", "surrogatepass")


def deep(levels: int) -> bytes:
    return b'{"choices": ' + b"[" * levels + b"]" * levels + b"}"


def bodies(tree: Any) -> st.SearchStrategy[bytes]:
    return (
        fuzzed(tree).map(write)
        | st.binary(max_size=200)
        | st.integers(0, 100_000).map(deep)
        | st.tuples(fuzzed(tree).map(write), st.integers(0, 400)).map(lambda pair: pair[0][: pair[1]])
        | fuzzed(tree).map(lambda body: b"{" + write(body)[1:-1] + b"," + write(body)[1:-1] + b"}")  # keys twice
        | fuzzed(tree).map(lambda body: write(body).replace(b"e", b"\xff\xfe"))
    )


def streams(chunks: list[Any]) -> st.SearchStrategy[bytes]:
    events = fuzzed(chunks).map(lambda tree: tree if isinstance(tree, list) else [tree])
    return events.map(lambda tree: b"".join(b"data: " + write(event) + b"\n\n" for event in tree)) | st.binary(
        max_size=200
    )


class Fuzz:
    """One server with one reply at a time, and the models that ask it."""

    def __init__(self) -> None:
        self.reply = ScriptedReply()
        self.outcomes: Counter[str] = Counter()
        self.models: dict[str, Callable[[], OpenAIChat | AnthropicMessages]] = {}

    def connect(self, server: ScriptedServer) -> None:
        self.models = {
            "openai": lambda: OpenAIChat("m", api_key="k", base_url=server.base_url, window_tokens=10_000),
            "anthropic": lambda: AnthropicMessages("m", api_key="k", base_url=server.url, window_tokens=10_000),
        }

    def answer(self, _: object) -> ScriptedReply:
        return self.reply

    def ask(self, api: str, reply: ScriptedReply, *, stream: bool = False, request: Request = ASK) -> None:
        """One call of a new model: adapters remember what a server refuses."""
        self.reply = reply
        began = time.perf_counter()
        outcome = asyncio.run(self._ask(api, stream, request))
        assert time.perf_counter() - began < SECONDS
        self.outcomes[type(outcome).__name__] += 1
        if isinstance(outcome, Reply):
            assert isinstance(outcome.text, str)
            assert outcome.text
            usage: Usage = outcome.usage
            assert all(type(count) is int and count >= 0 for count in (usage.input_tokens, usage.output_tokens))
            assert outcome.cost_usd is None or 0 <= outcome.cost_usd < 1e6
        else:
            str(outcome).encode()

    async def _ask(self, api: str, stream: bool, request: Request) -> Reply | ModelError:
        model = self.models[api]()
        try:
            return await (model.stream(request, lambda _: False) if stream else model.ask(request))
        except ModelError as error:
            return error
        finally:
            await model.aclose()


@contextmanager
def fuzz() -> Iterator[Fuzz]:
    current = Fuzz()
    with ScriptedServer.in_thread(current.answer) as server:
        current.connect(server)
        yield current


@pytest.fixture(scope="module")
def server() -> Iterator[Fuzz]:
    with fuzz() as running:
        yield running


@FUZZ
@given(bodies(OPENAI), st.booleans())
def test_openai_bodies(server: Fuzz, body: bytes, has_schema: bool) -> None:
    server.ask("openai", ScriptedReply(body=body), request=ASK_JSON if has_schema else ASK)


@FUZZ
@given(bodies(ANTHROPIC), st.booleans())
def test_anthropic_bodies(server: Fuzz, body: bytes, has_schema: bool) -> None:
    server.ask("anthropic", ScriptedReply(body=body), request=ASK_JSON if has_schema else ASK)


@FUZZ
@given(streams(OPENAI_CHUNKS))
def test_openai_streams(server: Fuzz, body: bytes) -> None:
    server.ask("openai", ScriptedReply(body=body, content_type="text/event-stream"), stream=True)


@pytest.mark.parametrize(
    ("count", "stream"), [("-5", True), ("9" * 25, True), ("-5", False), ("1e999", False), ("NaN", False)]
)
def test_absurd_usage_is_malformed(server: Fuzz, count: str, stream: bool) -> None:
    chunks = [*OPENAI_CHUNKS[:2], {"choices": [], "usage": {"prompt_tokens": f"@{count}@", "completion_tokens": 3}}]
    events = b"".join(b"data: " + write(chunk) + b"\n\n" for chunk in chunks)
    before = server.outcomes["MalformedReplyError"]
    body = events if stream else write({**OPENAI, "usage": chunks[2]["usage"]})
    server.ask("openai", ScriptedReply(body=body, content_type="text/event-stream"), stream=stream)
    assert server.outcomes["MalformedReplyError"] == before + 1


@FUZZ
@given(streams(ANTHROPIC_CHUNKS))
def test_anthropic_streams(server: Fuzz, body: bytes) -> None:
    server.ask("anthropic", ScriptedReply(body=body, content_type="text/event-stream"), stream=True)


@FUZZ
@given(
    bodies(ERRORS),
    st.sampled_from([400, 401, 403, 404, 408, 413, 422, 429, 500, 503, 529, 599]),
    st.sampled_from(HEADERS),
    st.sampled_from(["openai", "anthropic"]),
    st.booleans(),
)
def test_error_bodies(server: Fuzz, body: bytes, status: int, wait: str, api: str, stream: bool) -> None:
    names = ("Retry-After", "retry-after-ms", "x-ratelimit-reset-requests", "anthropic-ratelimit-tokens-reset")
    headers = dict.fromkeys(names, wait)
    server.ask(api, ScriptedReply(body=body, status=status, headers=headers), stream=stream)
