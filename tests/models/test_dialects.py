"""One conversation over 24 provider dialects, each played by a scripted server with its quirks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

from rlm.core.errors import MalformedReplyError, RateLimitedError, RequestRejectedError
from rlm.core.messages import JsonSchema, Message, Request, Usage
from rlm.models.dialect import recall
from rlm.models.loose_json import join_halves
from rlm.models.openai_chat import OpenAIChat
from rlm.testing.server import ChatCall, ScriptedReply, ScriptedServer, StreamShape

SCHEMA: JsonSchema = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}
TEXT = "Fine, and 😀 you?"
Quirk = Callable[[ChatCall], ScriptedReply | None]


def refuses(name: str, message: str, status: int = 400) -> Quirk:
    return lambda call: ScriptedReply(message, status=status) if name in call.body else None


def refuses_system(message: str) -> Quirk:
    return lambda call: (
        ScriptedReply(message, status=400) if any(turn["role"] == "system" for turn in call.body["messages"]) else None
    )


def answer(call: ChatCall) -> str:
    """The reply of a good model: JSON if the schema is a parameter or in the prompt."""
    if "response_format" in call.body or "JSON schema" in call.prompt:
        return '{"n": 7}'
    return TEXT


def streams(shape: StreamShape, *, always: bool = False) -> Quirk:
    def quirk(call: ChatCall) -> ScriptedReply | None:
        return ScriptedReply(answer(call), stream=shape) if always or call.body.get("stream") else None

    return quirk


def event(delta: dict[str, Any], **more: Any) -> bytes:
    return b"data: " + orjson.dumps({"choices": [{"delta": delta, **more}]}) + b"\n\n"


def sends_events(*events: bytes, content_type: str = "text/event-stream", always: bool = False) -> Quirk:
    def quirk(call: ChatCall) -> ScriptedReply | None:
        if not (always or call.body.get("stream")):
            return None
        first = (event({"content": answer(call)}),) if not events or answer(call) != TEXT else events
        end = event({}, finish_reason="stop") + b"data: [DONE]\n\n"
        return ScriptedReply(body=b"".join(first) + end, content_type=content_type)

    return quirk


def ignores_schema(call: ChatCall) -> ScriptedReply | None:
    return None if "JSON schema" in call.prompt else ScriptedReply(TEXT)


def never_streams(call: ChatCall) -> ScriptedReply | None:
    return ScriptedReply(answer(call), stream=None)


def fences_json(call: ChatCall) -> ScriptedReply | None:
    text = answer(call)
    return ScriptedReply(f"```json\n{text}\n```") if text != TEXT else None


ESCAPED = orjson.dumps(TEXT).replace("😀".encode(), rb"\ud83d\ude00").decode()


def escapes_emoji(call: ChatCall) -> ScriptedReply | None:
    if call.body.get("stream") or answer(call) != TEXT:
        return None
    choice = f'{{"message": {{"content": {ESCAPED}}}, "finish_reason": "stop"}}'
    return ScriptedReply(body="\ufeff" + f'{{"choices": [{choice}]}}')


SPLIT_ESCAPES = (
    rb'data: {"choices": [{"delta": {"content": "Fine, and \ud83d"}}]}' + b"\n\n",
    rb'data: {"choices": [{"delta": {"content": "\ude00 you?"}}]}' + b"\n\n",
)
FACE = "😀".encode()
SPLIT_BYTES = (
    b'data: {"choices": [{"delta": {"content": "Fine, and ' + FACE[:2] + b'"}}]}\n\n',
    b'data: {"choices": [{"delta": {"content": "' + FACE[2:] + b' you?"}}]}\n\n',
)


@dataclass(frozen=True)
class Played:
    """A provider as the server plays it. ``extra`` is the number of requests beyond one for each reply."""

    name: str
    quirks: tuple[Quirk, ...]
    extra: int = 0
    options: dict[str, Any] = field(default_factory=dict)


DIALECTS = [
    Played("plain", ()),
    Played(
        "reasoning",
        (refuses("max_tokens", "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."),),
        1,
    ),
    Played("no stop", (refuses("stop", "Argument not supported on this model: stop"),), 1),
    Played("no temperature", (refuses("temperature", "temperature is deprecated for this model", 422),), 1),
    Played(
        "no stream options", (refuses("stream_options", "Unrecognized request argument supplied: stream_options"),), 1
    ),
    Played("no stream", (refuses("stream", "streaming is not supported", 501),), 1),
    Played("no system role", (refuses_system("System role not supported"),), 1),
    Played("no format", (refuses("response_format", "This response_format type is unavailable now"),), 1),
    Played(
        "strict gateway",
        (
            refuses("stop", 'json: unknown field "stop"'),
            refuses("temperature", "property 'temperature' is unsupported"),
            refuses("stream_options", "Extra inputs are not permitted, field: 'stream_options'"),
            refuses_system("Only user and assistant roles are supported!"),
        ),
        4,
    ),
    Played("ignores format", (ignores_schema,), 1),
    Played("fenced JSON", (fences_json,)),
    Played("JSON mode only", (), 0, {"schema_mode": "json_object"}),
    Played("instructions only", (), 0, {"schema_mode": "instruct"}),
    Played("never streams", (never_streams,)),
    Played("always streams", (sends_events(always=True),)),
    Played("always streams as JSON type", (sends_events(always=True, content_type="application/json"),)),
    Played("events as plain text", (sends_events(content_type="text/plain"),)),
    Played("events as octets", (sends_events(content_type="application/octet-stream"),)),
    Played("emoji in two escapes", (sends_events(*SPLIT_ESCAPES),)),
    Played("emoji in two events", (sends_events(*SPLIT_BYTES),)),
    Played("emoji in two packets", (streams(StreamShape(write_bytes=1)),)),
    Played("BOM and escapes", (escapes_emoji,)),
    Played("no end marks", (streams(StreamShape(reason=False, done=False, usage=False)),), 1),
    Played("no usage", (streams(StreamShape(usage=False, done=False)),)),
    Played("no finish reason", (streams(StreamShape(reason=False)),)),
    Played("carriage returns", (streams(StreamShape(line_end="\r\n")),)),
]


def play(dialect: Played) -> Callable[[ChatCall], ScriptedReply]:
    def script(call: ChatCall) -> ScriptedReply:
        replies = (quirk(call) for quirk in dialect.quirks)
        return next((reply for reply in replies if reply is not None), None) or ScriptedReply(answer(call))

    return script


@pytest.mark.parametrize("dialect", DIALECTS, ids=[dialect.name for dialect in DIALECTS])
async def test_same_conversation_passes_over_every_dialect(dialect: Played) -> None:
    turns = [Message("system", "Be brief."), Message("user", "How are you?")]
    pieces: list[str] = []

    def listen(text: str) -> bool:
        pieces.append(text)
        return False

    async with ScriptedServer(play(dialect)) as server:
        model = OpenAIChat("m", api_key=None, base_url=server.base_url, **dialect.options)
        for _ in range(2):
            request = Request(tuple(turns), "node", 0, 50, 0.5, stop=("END",))
            reply = await model.stream(request, listen)
            assert reply.text == TEXT
            turns += [Message("assistant", reply.text), Message("user", "And now?")]
        assert "".join(pieces) in {"", TEXT, 2 * TEXT}
        for _ in range(2):
            asked = Request((Message("user", "Which number?"),), max_output_tokens=50, schema=SCHEMA)
            assert (await model.ask(asked)).text == '{"n": 7}'
        await model.aclose()
    assert len(server.calls) == 4 + dialect.extra


def test_table_holds_at_least_24_dialects() -> None:
    assert len({dialect.name for dialect in DIALECTS}) >= 24


async def test_stream_without_end_is_billed_and_remembered() -> None:
    usage = Usage(1, 10, output_tokens=4)
    shape = StreamShape(reason=False, done=False, usage=False)
    async with ScriptedServer(lambda _: ScriptedReply(TEXT, usage=usage, stream=shape)) as server:
        model = OpenAIChat("m", api_key=None, base_url=server.base_url)
        replies = [await model.stream(Request((Message("user", "hello"),)), lambda _: False) for _ in range(2)]
        await model.aclose()
        assert not recall(model.source.address, "m").streams
    assert [reply.usage.calls for reply in replies] == [2, 1]
    assert replies[0].usage.output_tokens > usage.output_tokens + len(TEXT) - 1
    assert replies[1].usage == usage


async def test_failed_fallback_still_bills_stream() -> None:
    shape = StreamShape(reason=False, done=False, usage=False)
    async with ScriptedServer([ScriptedReply(TEXT, stream=shape), ScriptedReply("slow down", status=429)]) as server:
        model = OpenAIChat("m", api_key=None, base_url=server.base_url)
        with pytest.raises(RateLimitedError) as caught:
            await model.stream(Request((Message("user", "hello"),)), lambda _: False)
        await model.aclose()
    assert caught.value.usage is not None
    assert caught.value.usage.output_tokens >= len(TEXT)


INVALID = ["no JSON at all", '{"n": "seven"}', "{}", '{"n": 1, "more": 2}', "[7]"]


@pytest.mark.parametrize("first", INVALID)
async def test_invalid_reply_gets_one_repair_turn(first: str) -> None:
    asked = Request((Message("user", "Which number?"),), schema=SCHEMA)
    async with ScriptedServer([first, '{"n": 7}', '{"n": 8}']) as server:
        model = OpenAIChat("m", api_key=None, base_url=server.base_url)
        reply = await model.ask(asked)
        assert (reply.text, reply.usage.calls) == ('{"n": 7}', 2)
        assert (await model.ask(asked)).text == '{"n": 8}'
        await model.aclose()
    repair = server.calls[1]
    assert [message.role for message in repair.messages] == ["user", "assistant", "user"]
    assert repair.messages[1].text == first.strip()
    assert "not valid" in repair.prompt
    assert "JSON schema" in repair.prompt
    assert "127.0.0.1" not in repair.prompt
    assert "JSON schema" in server.calls[2].prompt, "remembered: the endpoint ignores the parameter"


async def test_second_invalid_reply_reports_both_usages() -> None:
    asked = Request((Message("user", "Which number?"),), schema=SCHEMA)
    async with ScriptedServer(lambda _: '{"n": null}') as server:
        model = OpenAIChat("m", api_key=None, base_url=server.base_url)
        with pytest.raises(MalformedReplyError, match=r"not the JSON asked for.*integer") as caught:
            await model.ask(asked)
        await model.aclose()
    assert len(server.calls) == 2
    assert caught.value.usage is not None
    assert caught.value.usage.calls == 2


MALFORMED: list[Any] = [
    {"properties": 5},
    {"type": "object", "properties": [1]},
    {"type": "array", "items": "string"},
    {"type": "object", "required": "n"},
    {"anyOf": {"type": "string"}},
    {"type": 5},
    {"type": "object", "properties": {"a": {"properties": {"b": 3}}}},
    {"enum": "abc"},
    {"const": 10**5000},
    {"x": object()},
]


@pytest.mark.parametrize("schema", MALFORMED, ids=[f"case {number}" for number in range(len(MALFORMED))])
async def test_malformed_schema_is_a_typed_error(schema: Any) -> None:
    async with ScriptedServer('{"n": 1}') as server:
        model = OpenAIChat("m", api_key=None, base_url=server.base_url)
        with pytest.raises(RequestRejectedError, match="`schema` cannot be used"):
            await model.ask(Request((Message("user", "x"),), schema=schema))
        await model.aclose()
    assert server.calls == []


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        (["a\ud83d", "\ude00b"], "a😀b"),
        (["\ud83d", "\ud83d\ude00"], "\ufffd😀"),
        (["\udcf0", "\udc9f", "\udc98", "\udc80!"], "😀!"),
        (["\udcf0\udc9f", "x"], "\ufffdx"),
        (["\ude00 alone"], "\ufffd alone"),
        (["plain", " é"], "plain é"),
    ],
)
def test_halves_of_characters_are_joined(pieces: list[str], text: str) -> None:
    joined, held = "", ""
    for piece in pieces:
        part, held = join_halves(held + piece)
        joined += part
    assert (joined, held) == (text, "")


async def test_lone_surrogate_in_prompt_is_sent_escaped() -> None:
    async with ScriptedServer(lambda _: ScriptedReply("ok")) as server:
        model = OpenAIChat("m", api_key=None, base_url=server.base_url)
        with pytest.raises(RequestRejectedError):  # the scripted server reads strict JSON
            await model.ask(Request((Message("user", "a\ud800b"),)))
        await model.aclose()
