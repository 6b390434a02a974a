"""Refused parameters: recognised in the words of many providers, adapted, sent again once, and remembered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
import pytest

from rlm.core import errors
from rlm.core.messages import JsonSchema, Message, Reply, Request
from rlm.models.anthropic import AnthropicMessages
from rlm.models.openai_chat import OpenAIChat
from rlm.testing.server import ChatCall, ScriptedReply, ScriptedServer

SCHEMA: JsonSchema = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}
Refuses = Callable[[ChatCall], bool]


def everything(schema: bool = False) -> Request:
    return Request(
        (Message("system", "Be brief."), Message("user", "hello")),
        max_output_tokens=50,
        temperature=0.5,
        stop=("END",),
        schema=SCHEMA if schema else None,
    )


def sends(name: str) -> Refuses:
    return lambda call: name in call.body


def has_system(call: ChatCall) -> bool:
    return any(message["role"] == "system" for message in call.body["messages"])


@dataclass(frozen=True)
class Refusal:
    """One provider's refusal: the requests that it refuses, and the body of its answer."""

    provider: str
    refuses: Refuses
    body: object
    status: int = 400
    streamed: bool = False
    schema: bool = False


def error(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", **more}}


REFUSALS = [
    Refusal(
        "openai max_tokens",
        sends("max_tokens"),
        error(
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
            param="max_tokens",
            code="unsupported_parameter",
        ),
    ),
    Refusal(
        "openai temperature",
        sends("temperature"),
        error(
            "Unsupported value: 'temperature' does not support 0.5 with this model. Only the default (1) value is supported.",
            param="temperature",
            code="unsupported_value",
        ),
    ),
    Refusal(
        "openai system role",
        has_system,
        error(
            "Unsupported value: 'messages[0].role' does not support 'system' with this model.",
            param="messages[0].role",
            code="unsupported_value",
        ),
    ),
    Refusal("azure stop", sends("stop"), error("Unrecognized request argument supplied: stop")),
    Refusal(
        "azure stream_options",
        sends("stream_options"),
        error("Unrecognized request argument supplied: stream_options"),
        streamed=True,
    ),
    Refusal(
        "xai stop",
        sends("stop"),
        {"code": "Client specified an invalid argument", "error": "Argument not supported on this model: stop"},
    ),
    Refusal("grok prose", sends("stop"), {"error": "Model grok-4 does not support parameter stop."}),
    Refusal(
        "fastapi detail",
        sends("stop"),
        {
            "detail": [
                {
                    "type": "extra_forbidden",
                    "loc": ["body", "stop"],
                    "msg": "Extra inputs are not permitted",
                    "input": ["END"],
                }
            ]
        },
        422,
    ),
    Refusal(
        "mistral detail",
        sends("stream_options"),
        {
            "object": "error",
            "message": {
                "detail": [
                    {
                        "type": "extra_forbidden",
                        "loc": ["body", "stream_options"],
                        "msg": "Extra inputs are not permitted",
                    }
                ]
            },
        },
        422,
        streamed=True,
    ),
    Refusal("fireworks", sends("stop"), error("Extra inputs are not permitted, field: 'stop', value: ['END']")),
    Refusal("groq property", sends("temperature"), error("property 'temperature' is unsupported")),
    Refusal("go server", sends("stop"), {"error": 'json: unknown field "stop"'}),
    Refusal(
        "rust server",
        sends("stop"),
        {"error": "Failed to deserialize: unknown field `stop`, expected one of `model`, `max_tokens`, `temperature`"},
        422,
    ),
    Refusal(
        "gemini field", sends("stop"), [error('Invalid JSON payload received. Unknown name "stop": Cannot find field.')]
    ),
    Refusal("gemma system", has_system, [error("Developer instruction is not enabled for models/gemma-3-27b-it")]),
    Refusal("vllm template", has_system, {"object": "error", "message": "System role not supported", "code": 400}),
    Refusal("llama template", has_system, error("Only user and assistant roles are supported!")),
    Refusal(
        "litellm", sends("stop"), error("litellm.UnsupportedParamsError: model does not support parameters: ['stop']")
    ),
    Refusal(
        "bedrock", sends("stop"), {"message": "Malformed input request: #: extraneous key [stop] is not permitted"}
    ),
    Refusal("cohere", sends("stop"), {"message": "unknown field: parameter 'stop' is not a valid field"}, 422),
    Refusal("unnamed", sends("stop"), error("Extra fields not allowed"), 422),
    Refusal(
        "stream refused", sends("stream"), error("Streaming is not supported by this deployment"), 501, streamed=True
    ),
    Refusal(
        "groq format",
        sends("response_format"),
        error("This model does not support response format `json_schema`."),
        schema=True,
    ),
    Refusal(
        "deepseek format", sends("response_format"), error("This response_format type is unavailable now"), schema=True
    ),
    Refusal(
        "llamacpp format",
        sends("response_format"),
        {"error": {"code": 500, "message": "Unsupported param: response_format"}},
        500,
        schema=True,
    ),
    Refusal(
        "openrouter",
        sends("stop"),
        error("Provider returned error", code=400, metadata={"raw": '{"detail":"stop: parameter not supported"}'}),
    ),
    Refusal("error in a 200", sends("stop"), error("Unknown parameter: 'stop'.", code=400), 200),
]


async def call(model: OpenAIChat | AnthropicMessages, request: Request, *, streamed: bool = False) -> Reply:
    try:
        return await (model.stream(request, lambda _: False) if streamed else model.ask(request))
    finally:
        await model.aclose()


@pytest.mark.parametrize("refusal", REFUSALS, ids=[refusal.provider for refusal in REFUSALS])
async def test_refused_parameter_is_adapted_and_remembered(refusal: Refusal) -> None:
    def answer(received: ChatCall) -> ScriptedReply:
        if refusal.refuses(received):
            return ScriptedReply(body=orjson.dumps(refusal.body), status=refusal.status)
        return ScriptedReply('{"n": 3}')

    async with ScriptedServer(answer) as server:
        for _ in range(2):  # the second object belongs to the same process
            model = OpenAIChat("m", api_key=None, base_url=server.base_url)
            reply = await call(model, everything(refusal.schema), streamed=refusal.streamed)
            assert reply.text == '{"n": 3}'
            assert reply.usage.calls == 1
    assert len(server.calls) == 3, "refused once, sent again once, and remembered"
    last = server.calls[-1]
    assert "hello" in last.prompt
    assert "Be brief." in str(last.messages)
    if refusal.provider not in {"unnamed", "openai max_tokens"}:
        kept = {"max_tokens", "stop", "temperature"} - {name for name in last.body if refusal.refuses(last)}
        assert len(kept & set(last.body)) >= 2, "nothing but the refused parameter is left out"


async def test_several_refused_parameters_are_adapted_in_turn() -> None:
    refused = ("stop", "temperature", "max_tokens", "stream_options")

    def answer(received: ChatCall) -> ScriptedReply:
        name = next((name for name in refused if name in received.body), None)
        return ScriptedReply(f"Unknown parameter: '{name}'", status=400) if name else ScriptedReply("ok")

    async with ScriptedServer(answer) as server:
        model = OpenAIChat("m", api_key=None, base_url=server.base_url)
        assert (await call(model, everything(), streamed=True)).text == "ok"
    assert len(server.calls) == 1 + len(refused)
    assert server.calls[-1].body["max_completion_tokens"] == 50


async def test_concurrent_calls_survive_one_refusal() -> None:
    async def answer(received: ChatCall) -> ScriptedReply:
        await asyncio.sleep(0.01)
        return ScriptedReply("stop is not supported", status=400) if "stop" in received.body else ScriptedReply("ok")

    async with ScriptedServer(answer) as server:
        model = OpenAIChat("m", api_key=None, base_url=server.base_url)
        replies = await asyncio.gather(*(model.ask(everything()) for _ in range(20)))
        await model.aclose()
    assert {reply.text for reply in replies} == {"ok"}


async def test_other_models_of_endpoint_are_not_adapted() -> None:
    def answer(received: ChatCall) -> ScriptedReply:
        refused = received.model == "strict" and "stop" in received.body
        return ScriptedReply("stop is not supported", status=400) if refused else ScriptedReply("ok")

    async with ScriptedServer(answer) as server:
        for name in ("strict", "lenient"):
            await call(OpenAIChat(name, api_key=None, base_url=server.base_url), everything())
    assert ["stop" in received.body for received in server.calls] == [True, False, True]


@pytest.mark.parametrize(
    ("message", "largest"),
    [
        ("max_tokens is too large: 50. This model supports at most 20 completion tokens.", 20),
        ("max_tokens: 50 > 20, which is the maximum allowed number of output tokens", 20),
        ("`max_tokens` must be less than or equal to `20`, the maximum value for `max_tokens`", 20),
        ("Invalid max_tokens value, the valid range of max_tokens is [1, 20]", 20),
    ],
)
async def test_limit_is_lowered_to_accepted_maximum(message: str, largest: int) -> None:
    def answer(received: ChatCall) -> ScriptedReply:
        return ScriptedReply(message, status=400) if received.body["max_tokens"] > largest else ScriptedReply("ok")

    async with ScriptedServer(answer) as server:
        await call(OpenAIChat("m", api_key=None, base_url=server.base_url), everything())
    assert [received.body["max_tokens"] for received in server.calls] == [50, largest]


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (400, "the prompt must stop at 8 tokens: maximum context length exceeded", errors.PromptTooLongError),
        (400, "bad field 'foo'", errors.RequestRejectedError),
        (401, "stop is not supported with this key", errors.AuthenticationError),
        (429, "please stop sending: unsupported rate", errors.RateLimitedError),
        (400, "messages must not be empty", errors.RequestRejectedError),
    ],
)
async def test_other_refusals_are_not_sent_again(status: int, message: str, kind: type[errors.ModelError]) -> None:
    async with ScriptedServer(lambda _: ScriptedReply(message, status=status)) as server:
        with pytest.raises(kind):
            await call(OpenAIChat("m", api_key=None, base_url=server.base_url), everything())
    assert len(server.calls) == 1


async def test_failed_adaptation_is_not_remembered() -> None:
    async with ScriptedServer(lambda _: ScriptedReply("stop is not supported", status=400)) as server:
        for _ in range(2):
            with pytest.raises(errors.RequestRejectedError, match="stop is not supported"):
                await call(OpenAIChat("m", api_key=None, base_url=server.base_url), everything())
    assert ["stop" in received.body for received in server.calls] == [True, False, True, False]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("temperature", "`temperature` is deprecated for this model."),
        ("stop_sequences", "stop_sequences: Extra inputs are not permitted"),
        ("cache_control", "system.0.cache_control: Extra inputs are not permitted"),
        ("output_config", "output_config: Extra inputs are not permitted"),
    ],
)
async def test_anthropic_refusals_are_adapted(name: str, message: str) -> None:
    def answer(received: ChatCall) -> ScriptedReply:
        refused = f'"{name}"' in orjson.dumps(received.body).decode()
        return ScriptedReply(message, status=400) if refused else ScriptedReply('{"n": 3}')

    request = Request(
        everything().messages, "node", 0, 50, 0.5, SCHEMA if name == "output_config" else None, ("END",), cache_key="k"
    )
    model_id = "claude-sonnet-4-5"
    async with ScriptedServer(answer) as server:
        model = AnthropicMessages(model_id, api_key=None, base_url=server.url)
        assert (await call(model, request)).text == '{"n": 3}'
    assert len(server.calls) == 2
