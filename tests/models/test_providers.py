"""Both HTTP adapters against the scripted server: requests as sent, replies as read, on real sockets."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from rlm.core.messages import Message, Reply, Request, Role, Usage
from rlm.models.anthropic import AnthropicMessages
from rlm.models.openai_chat import OPENAI_URL, OpenAIChat
from rlm.testing.server import ScriptedReply, ScriptedServer, ServerScript


def request(*contents: str, system: str = "", **more: Any) -> Request:
    roles: tuple[Role, Role] = ("user", "assistant")
    turns = [Message(roles[index % 2], text) for index, text in enumerate(contents)]
    return Request(tuple([Message("system", system)] * bool(system) + turns), **more)


async def ask_openai(
    script: ServerScript, asked: Request, **options: Any
) -> tuple[Reply, dict[str, Any], dict[str, str]]:
    options = {"model_id": "some-model", "api_key": "sk-secret", **options}
    async with ScriptedServer(script) as server:
        model = OpenAIChat(base_url=server.base_url, **options)
        try:
            reply = await model.ask(asked)
        finally:
            await model.aclose()
        return reply, server.calls[0].body, dict(server.calls[0].headers)


async def ask_anthropic(
    script: ServerScript, asked: Request, **options: Any
) -> tuple[Reply, dict[str, Any], dict[str, str]]:
    options = {"model_id": "claude-opus-4-8", "api_key": "sk-ant-secret", **options}
    async with ScriptedServer(script) as server:
        model = AnthropicMessages(base_url=server.url, **options)
        try:
            reply = await model.ask(asked)
        finally:
            await model.aclose()
        return reply, server.calls[0].body, dict(server.calls[0].headers)


async def test_openai_request_and_reply_round_trip() -> None:
    usage = Usage(1, 900, 640, 0, 55, 20)
    asked = request("a", "b", "c", system="s", max_output_tokens=77, temperature=0.5, stop=("END",), cache_key="k")
    reply, body, headers = await ask_openai(
        [ScriptedReply("the answer", usage=usage)],
        asked,
        headers={"X-Team": "blue"},
        extra_body={"seed": 1},
    )
    assert reply == Reply("the answer", usage, "some-model")
    assert body == {
        "model": "some-model",
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b"},
            {"role": "user", "content": "c"},
        ],
        "max_tokens": 77,
        "temperature": 0.5,
        "stop": ["END"],
        "seed": 1,
    }, "prompt_cache_key is OpenAI's own field: other servers may reject it"
    assert headers["Authorization"] == "Bearer sk-secret"
    assert headers["X-Team"] == "blue"


async def test_no_key_sends_no_authorization() -> None:
    _, _, headers = await ask_openai("ok", request("a"), api_key=None)
    assert "Authorization" not in headers


@pytest.mark.parametrize("model_id", ["o3-mini", "o4-mini", "gpt-5", "gpt-5-mini", "gpt-5.6-sol", "gpt-6-luna"])
async def test_openai_reasoning_models_get_accepted_parameters(model_id: str) -> None:
    asked = request("a", max_output_tokens=9, temperature=0.1, stop=("x",))
    _, body, _ = await ask_openai("ok", asked, model_id=model_id)
    assert body.pop("max_completion_tokens") == 9
    assert set(body) == {"model", "messages"}


@pytest.mark.parametrize("model_id", ["gpt-4o-mini", "gpt-5-chat-latest", "opus", "o-model"])
async def test_other_models_get_common_parameters(model_id: str) -> None:
    _, body, _ = await ask_openai(
        "ok", request("a", max_output_tokens=9, temperature=0.1, stop=("x",)), model_id=model_id
    )
    assert (body["max_tokens"], body["temperature"], body["stop"]) == (9, 0.1, ["x"])


CONTENT = [
    ("plain", "plain"),
    ([{"type": "text", "text": "two "}, {"type": "text", "text": "parts"}], "two parts"),
    ([{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "said"}], "said"),
]


@pytest.mark.parametrize(("content", "text"), CONTENT)
async def test_reply_content_can_be_text_or_parts(content: object, text: str) -> None:
    message = {"role": "assistant", "content": content, "reasoning_content": "never the answer"}
    raw = orjson.dumps({"choices": [{"message": message, "finish_reason": "stop"}]})
    reply, _, _ = await ask_openai([ScriptedReply(body=raw)], request("a"))
    assert reply.text == text


USAGES = [
    ({"prompt_tokens": 10, "completion_tokens": 2}, Usage(1, 10, 0, 0, 2)),
    ({"prompt_tokens": 10, "completion_tokens": 2, "prompt_cache_hit_tokens": 8}, Usage(1, 10, 8, 0, 2)),
    ({"prompt_tokens": 10, "completion_tokens": 2, "cached_tokens": 8}, Usage(1, 10, 8, 0, 2)),
    (
        {
            "prompt_tokens": 2000,
            "completion_tokens": 50,
            "prompt_tokens_details": {"cached_tokens": 1024, "cache_write_tokens": 512},
            "completion_tokens_details": {"reasoning_tokens": 40},
        },
        Usage(1, 2000, 1024, 512, 50, 40),
    ),
    ({"prompt_tokens": 10, "completion_tokens": None, "prompt_tokens_details": None}, Usage(1, 10)),
    (None, Usage(1, 1 + 400 // 4, output_tokens=1 + 8 // 4)),
    ("nonsense", Usage(1, 1 + 400 // 4, output_tokens=1 + 8 // 4)),
]


@pytest.mark.parametrize(("reported", "expected"), USAGES)
async def test_usage_is_read_in_every_shape(reported: object, expected: Usage) -> None:
    choice = {"message": {"role": "assistant", "content": "8 chars."}, "finish_reason": "stop"}
    raw = orjson.dumps({"model": "m-0613", "choices": [choice], "usage": reported})
    reply, _, _ = await ask_openai([ScriptedReply(body=raw)], request("x" * 400))
    assert (reply.usage, reply.model) == (expected, "m-0613")


async def test_reported_cost_is_returned() -> None:
    choice = {"message": {"content": "hi"}, "finish_reason": "stop"}
    raw = orjson.dumps({"choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": 5, "cost": 0.0025}})
    reply, _, _ = await ask_openai([ScriptedReply(body=raw)], request("a"))
    assert reply.cost_usd == 0.0025


def test_openai_fields_are_sent_to_openai_only() -> None:
    own = OpenAIChat("gpt-5.6-sol", api_key="k", base_url=OPENAI_URL + "/")
    shared = Request(
        (Message("user", "shared part"), Message("user", "chunk")), role="leaf", cache_key="k1", max_output_tokens=5
    )
    body = own.body(shared, None)
    assert (body["prompt_cache_key"], body["max_completion_tokens"]) == ("k1", 5)
    marked = body["messages"][0]["content"][0]
    assert (marked["text"], marked["prompt_cache_breakpoint"]) == ("shared part", {"mode": "explicit"})
    assert body["messages"][1] == {"role": "user", "content": "chunk"}


PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}},
    "required": ["name"],
}


async def test_guaranteed_schemas_are_sent_as_strict() -> None:
    reply, body, _ = await ask_openai('{"name": "Ada"}', request("who?", schema=PERSON))
    assert orjson.loads(reply.text) == {"name": "Ada"}
    sent = body["response_format"]["json_schema"]
    assert sent["strict"] is True
    assert sent["schema"]["additionalProperties"] is False
    assert body["messages"] == [{"role": "user", "content": "who?"}]


async def test_schema_with_other_root_is_wrapped() -> None:
    labels = {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 2}
    reply, body, _ = await ask_openai('{"value": ["a", "b"]}', request("label", schema=labels))
    assert orjson.loads(reply.text) == ["a", "b"]
    sent = body["response_format"]["json_schema"]
    assert (sent["strict"], sent["schema"]["type"], sent["schema"]["properties"]["value"]) == (False, "object", labels)


async def test_schema_becomes_instruction_without_native_support() -> None:
    reply, body, _ = await ask_openai(
        '```json\n{"name": "Ada"}\n```', request("who?", schema=PERSON), schema_mode="json_object"
    )
    assert orjson.loads(reply.text) == {"name": "Ada"}
    assert body["response_format"] == {"type": "json_object"}
    assert body["messages"][0]["content"].startswith("who?\n\nReply with JSON alone")


async def test_anthropic_request_and_usage_round_trip() -> None:
    usage = Usage(1, 900, 640, 100, 55)
    asked = request("a", "b", "c", system="s", role="node", max_output_tokens=77, stop=("END", "  "))
    reply, body, headers = await ask_anthropic([ScriptedReply("the answer", usage=usage)], asked)
    mark = {"cache_control": {"type": "ephemeral"}}
    assert reply == Reply("the answer", usage, "claude-opus-4-8")
    assert body == {
        "model": "claude-opus-4-8",
        "max_tokens": 77,
        "system": [{"type": "text", "text": "s", **mark}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "a"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "b"}]},
            {"role": "user", "content": [{"type": "text", "text": "c", **mark}]},
        ],
        "stop_sequences": ["END"],
    }
    assert (headers["x-api-key"], headers["anthropic-version"]) == ("sk-ant-secret", "2023-06-01")


async def test_growing_conversation_hits_anthropic_cache() -> None:
    async with ScriptedServer(["r" * 800, "done"]) as server:
        model = AnthropicMessages("claude-opus-4-8", api_key="k", base_url=server.base_url)  # with /v1: also fine
        first = await model.ask(request("q" * 4000, system="s" * 4000, role="node"))
        second = await model.ask(request("q" * 4000, "r" * 800, "next", system="s" * 4000, role="node"))
        await model.aclose()
    assert (first.usage.cached_tokens, first.usage.cache_write_tokens) == (0, 2000)
    assert (second.usage.cached_tokens, second.usage.cache_write_tokens) == (2000, 201)
    assert second.usage.input_tokens >= 2201


CACHE_MARKS = [
    (request("alone"), []),
    (request("alone", cache_key="k"), []),
    (request("chunk", system="shared", cache_key="k"), ["shared"]),
    (Request((Message("user", "shared"), Message("user", "chunk")), cache_key="k"), ["shared"]),
    (request("q", system="rules", role="node"), ["rules", "q"]),
]


@pytest.mark.parametrize(("asked", "marked"), CACHE_MARKS)
async def test_cache_breakpoints_only_before_expected_reads(asked: Request, marked: list[str]) -> None:
    _, body, _ = await ask_anthropic("ok", asked)
    blocks = [*body.get("system", []), *(block for message in body["messages"] for block in message["content"])]
    assert [block["text"] for block in blocks if "cache_control" in block] == marked


@pytest.mark.parametrize(
    ("model_id", "temperature", "limit"),
    [
        ("claude-3-haiku-20240307", 0.3, 4096),
        ("claude-sonnet-4-20250514", 0.3, 16_000),
        ("claude-opus-4-6", 0.3, 16_000),
        ("claude-opus-4-7", None, 16_000),
        ("claude-sonnet-5", None, 16_000),
    ],
)
async def test_anthropic_models_get_accepted_parameters(model_id: str, temperature: float | None, limit: int) -> None:
    _, body, _ = await ask_anthropic("ok", request("a", temperature=0.3), model_id=model_id)
    assert (body.get("temperature"), body["max_tokens"]) == (temperature, limit)


@pytest.mark.parametrize(("model_id", "native"), [("claude-opus-4-8", True), ("claude-sonnet-4-20250514", False)])
async def test_anthropic_schemas_are_native_or_instructions(model_id: str, native: bool) -> None:
    reply, body, _ = await ask_anthropic('{"name":"Ada"}', request("who?", schema=PERSON), model_id=model_id)
    assert orjson.loads(reply.text) == {"name": "Ada"}
    assert ("output_config" in body) is native
    assert ("JSON schema" in body["messages"][0]["content"][0]["text"]) is not native


async def test_late_or_lone_system_messages_become_user_messages() -> None:
    asked = Request((Message("user", "a"), Message("system", "note")))
    _, body, _ = await ask_anthropic("ok", asked)
    assert [message["role"] for message in body["messages"]] == ["user", "user"]
    _, body, _ = await ask_anthropic("ok", Request((Message("system", "only"),)))
    assert "system" not in body
    assert body["messages"][0]["role"] == "user"


async def test_anthropic_thinking_is_not_part_of_reply() -> None:
    content = [{"type": "thinking", "thinking": "hm", "signature": "x"}, {"type": "text", "text": "yes"}]
    raw = orjson.dumps(
        {"content": content, "stop_reason": "end_turn", "usage": {"input_tokens": 3, "output_tokens": 4}}
    )
    reply, _, _ = await ask_anthropic([ScriptedReply(body=raw)], request("a"))
    assert (reply.text, reply.usage) == ("yes", Usage(1, 3, output_tokens=4))
