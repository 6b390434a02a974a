"""Everything that is not a whole answer ends in its own typed error, on real sockets, and no key shows in any of them."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

from rlm.core import errors
from rlm.core.messages import Message, Request
from rlm.models.anthropic import AnthropicMessages
from rlm.models.openai_chat import OpenAIChat
from rlm.models.waits import read_retry_after
from rlm.testing.server import ScriptedReply, ScriptedServer

KEY = "team7/0123456789abcdef"  # of no known form: hidden because it is the key, not because it looks like one
ASK = Request((Message("user", "hello"),))


def openai_error(message: str, code: object = None, kind: str | None = None) -> bytes:
    return orjson.dumps({"error": {"message": message, "type": kind, "code": code}})


def choice(content: object, reason: str | None = "stop", **message: Any) -> bytes:
    return orjson.dumps({"choices": [{"message": {"content": content, **message}, "finish_reason": reason}]})


@dataclass
class Case:
    name: str
    reply: ScriptedReply
    error: type[errors.ModelError]
    says: str
    fields: dict[str, object] = field(default_factory=dict)


def refuse(
    status: int, message: str = "no", code: str | None = None, kind: str | None = None, **headers: str
) -> ScriptedReply:
    return ScriptedReply(message, status=status, error_code=code, error_type=kind, headers=headers)


OPENAI = [
    Case("401", refuse(401), errors.AuthenticationError, "Set OPENAI_API_KEY", {"status": 401}),
    Case("403", refuse(403), errors.AuthenticationError, "Set OPENAI_API_KEY"),
    Case(
        "bad key as a 400",
        refuse(400, "API key not valid. Please pass one."),
        errors.AuthenticationError,
        "OPENAI_API_KEY",
    ),
    Case("404", refuse(404), errors.ModelNotFoundError, "Check the model's name and the base URL"),
    Case("model unknown, 400", refuse(400, "Model Not Exist"), errors.ModelNotFoundError, "no such model"),
    Case("model unknown, coded", refuse(400, "x", "model_not_found"), errors.ModelNotFoundError, "no such model"),
    Case("402", refuse(402), errors.OutOfCreditError, "Add credit"),
    Case("quota", refuse(429, "You exceeded", "insufficient_quota"), errors.OutOfCreditError, "Add credit"),
    Case("window, coded", refuse(400, "x", "context_length_exceeded"), errors.PromptTooLongError, "shorter"),
    Case(
        "window, llama.cpp",
        refuse(400, "the request exceeds the available context size", kind="exceed_context_size_error"),
        errors.PromptTooLongError,
        "shorter",
    ),
    Case(
        "window, vLLM",
        refuse(400, "This model's maximum context length is 8 tokens"),
        errors.PromptTooLongError,
        "shorter",
    ),
    Case("413", refuse(413), errors.PromptTooLongError, "shorter"),
    Case("filter", refuse(400, "x", "content_filter"), errors.RefusalError, "Change the prompt"),
    Case("400", refuse(400, "bad field 'foo'"), errors.RequestRejectedError, "bad field 'foo'", {"status": 400}),
    Case("422", refuse(422), errors.RequestRejectedError, "HTTP 422"),
    Case(
        "429 in seconds",
        refuse(429, **{"Retry-After": "7"}),
        errors.RateLimitedError,
        "Lower the concurrency",
        {"retry_after_s": 7.0, "status": 429},
    ),
    Case(
        "429 in ms", refuse(429, **{"retry-after-ms": "250"}), errors.RateLimitedError, "429", {"retry_after_s": 0.25}
    ),
    Case(
        "429 by tokens", refuse(429, "reduce the length of x"), errors.RateLimitedError, "429", {"retry_after_s": None}
    ),
    Case("408", refuse(408), errors.ModelTimeoutError, "Usually a retry succeeds"),
    Case("409", refuse(409), errors.ProviderUnavailableError, "Usually a retry succeeds"),
    Case("425", refuse(425), errors.ProviderUnavailableError, "Usually a retry succeeds"),
    Case("500", refuse(500), errors.ProviderUnavailableError, "HTTP 500"),
    Case(
        "502 in HTML",
        ScriptedReply(status=502, body="<html>Bad Gateway</html>"),
        errors.ProviderUnavailableError,
        "Bad Gateway",
    ),
    Case("503", refuse(503, **{"Retry-After": "3"}), errors.ProviderUnavailableError, "503", {"retry_after_s": 3.0}),
    Case("504", refuse(504), errors.ModelTimeoutError, "HTTP 504"),
    Case("529", refuse(529), errors.ProviderUnavailableError, "HTTP 529"),
    Case(
        "redirect", refuse(307, Location="https://else.where/v1"), errors.RequestRejectedError, "https://else.where/v1"
    ),
    Case("error in a 200", ScriptedReply(body=openai_error("slow down", 429)), errors.RateLimitedError, "slow down"),
    Case("error without code in a 200", ScriptedReply(body=openai_error("oh")), errors.ProviderUnavailableError, "oh"),
    Case(
        "error in a choice",
        ScriptedReply(
            body=orjson.dumps({"choices": [{"message": {"content": ""}, "error": {"code": 502, "message": "up"}}]})
        ),
        errors.ProviderUnavailableError,
        "up",
    ),
    Case(
        "Ollama's error",
        ScriptedReply(status=404, body=b'{"error": "model \'x\' not found"}'),
        errors.ModelNotFoundError,
        "'x'",
    ),
    Case(
        "Gemini's error",
        ScriptedReply(status=400, body=b'[{"error":{"code":400,"message":"mm"}}]'),
        errors.RequestRejectedError,
        "mm",
    ),
    Case(
        "FastAPI's error",
        ScriptedReply(status=422, body=b'{"detail": "missing"}'),
        errors.RequestRejectedError,
        "missing",
    ),
    Case(
        "cut",
        ScriptedReply("half an ans", finish_reason="length"),
        errors.TruncatedReplyError,
        "max_output_tokens",
        {"text": "half an ans"},
    ),
    Case(
        "cut while reasoning",
        ScriptedReply(body=choice(None, "length")),
        errors.TruncatedReplyError,
        "truncated",
        {"text": ""},
    ),
    Case("filtered reply", ScriptedReply("part", finish_reason="content_filter"), errors.RefusalError, "refused"),
    Case("refusal", ScriptedReply(refusal="I can't help with that"), errors.RefusalError, "I can't help with that"),
    Case("empty", ScriptedReply(""), errors.EmptyReplyError, "no text"),
    Case("white space", ScriptedReply(" \n"), errors.EmptyReplyError, "no text"),
    Case("null", ScriptedReply(body=choice(None)), errors.EmptyReplyError, "no text"),
    Case(
        "reasoning alone",
        ScriptedReply(body=choice(None, reasoning_content="so...")),
        errors.EmptyReplyError,
        "no text",
    ),
    Case("no JSON", ScriptedReply(body="<html>hello"), errors.MalformedReplyError, "not JSON"),
    Case("cut JSON", ScriptedReply(body='{"choices": [{"mess'), errors.MalformedReplyError, "not JSON"),
    Case("an empty body", ScriptedReply(body=b""), errors.MalformedReplyError, "begins: with nothing"),
    Case("a list", ScriptedReply(body="[]"), errors.MalformedReplyError, "not a JSON object"),
    Case("no choices", ScriptedReply(body='{"choices": []}'), errors.MalformedReplyError, "without choices"),
    Case("other JSON", ScriptedReply(body='{"hello": 1}'), errors.MalformedReplyError, "without choices"),
    Case(
        "message missing",
        ScriptedReply(body='{"choices": [{"text": "x"}]}'),
        errors.MalformedReplyError,
        "without choices",
    ),
    Case("reset", ScriptedReply(reset=True), errors.ProviderUnreachableError, "the connection broke"),
    Case("cut connection", ScriptedReply("x" * 200, cut=True), errors.ProviderUnreachableError, "the connection broke"),
    Case("hang", ScriptedReply(hang=True), errors.ModelTimeoutError, "timeout_s"),
    Case("slow body", ScriptedReply("x", slow_body_s=30), errors.ModelTimeoutError, "timeout_s"),
    Case("echoed key", refuse(401, f"Incorrect API key provided: {KEY}."), errors.AuthenticationError, "[key]"),
    Case(
        "masked key", refuse(401, "Incorrect API key provided: sk-live-****cdef."), errors.AuthenticationError, "[key]"
    ),
]

ANTHROPIC = [
    Case(
        "401",
        refuse(401, "invalid x-api-key", kind="authentication_error"),
        errors.AuthenticationError,
        "ANTHROPIC_API_KEY",
    ),
    Case("403", refuse(403, kind="permission_error"), errors.AuthenticationError, "ANTHROPIC_API_KEY"),
    Case("404", refuse(404, "model: claude-x", kind="not_found_error"), errors.ModelNotFoundError, "model: claude-x"),
    Case("window", refuse(400, "prompt is too long: 9 tokens > 8 maximum"), errors.PromptTooLongError, "shorter"),
    Case("413", refuse(413, kind="request_too_large"), errors.PromptTooLongError, "shorter"),
    Case("credit", refuse(400, "Your credit balance is too low"), errors.OutOfCreditError, "Add credit"),
    Case("400", refuse(400, "max_tokens: required"), errors.RequestRejectedError, "max_tokens: required"),
    Case(
        "429",
        refuse(429, kind="rate_limit_error", **{"Retry-After": "4"}),
        errors.RateLimitedError,
        "429",
        {"retry_after_s": 4.0},
    ),
    Case("529", refuse(529, "Overloaded", kind="overloaded_error"), errors.ProviderUnavailableError, "Overloaded"),
    Case("500", refuse(500, kind="api_error"), errors.ProviderUnavailableError, "HTTP 500"),
    Case(
        "error in a 200",
        ScriptedReply(body=b'{"type":"error","error":{"type":"overloaded_error","message":"o"}}'),
        errors.ProviderUnavailableError,
        "o",
    ),
    Case(
        "truncated",
        ScriptedReply("half", finish_reason="length"),
        errors.TruncatedReplyError,
        "max_output_tokens",
        {"text": "half"},
    ),
    Case("refusal", ScriptedReply("", finish_reason="content_filter"), errors.RefusalError, "refused"),
    Case("paused", ScriptedReply("wait", finish_reason="pause_turn"), errors.MalformedReplyError, "pause_turn"),
    Case("empty", ScriptedReply(""), errors.EmptyReplyError, "no text"),
    Case(
        "no content", ScriptedReply(body='{"stop_reason": "end_turn"}'), errors.MalformedReplyError, "without content"
    ),
    Case("no JSON", ScriptedReply(body="<html>"), errors.MalformedReplyError, "not JSON"),
    Case("reset", ScriptedReply(reset=True), errors.ProviderUnreachableError, "the connection broke"),
    Case("hang", ScriptedReply(hang=True), errors.ModelTimeoutError, "timeout_s"),
]


async def check(case: Case, model: OpenAIChat | AnthropicMessages) -> None:
    with pytest.raises(errors.ModelError) as caught:
        await model.ask(ASK)
    error = caught.value
    assert type(error) is case.error, error
    assert case.says in str(error)
    assert str(error).startswith(model.name + ":")
    assert error.model == model.name
    for name, value in case.fields.items():
        assert getattr(error, name) == value
    assert len(str(error)) < 1_000
    shown = "".join(traceback.format_exception(error)) + repr(error) + repr(model) + str(vars(error))
    assert KEY not in shown
    assert "cdef" not in shown
    assert error.__context__ is None or "Authorization" not in repr(error.__context__)


@pytest.mark.parametrize("case", OPENAI, ids=lambda case: case.name)
async def test_openai_compatible_faults(case: Case) -> None:
    async with ScriptedServer([case.reply]) as server:
        model = OpenAIChat("m", api_key=KEY, base_url=server.base_url, timeout_s=0.3, key_variable="OPENAI_API_KEY")
        await check(case, model)
        assert len(server.calls) == 1, "a provider tries once"
        await model.aclose()


@pytest.mark.parametrize("case", ANTHROPIC, ids=lambda case: case.name)
async def test_anthropic_faults(case: Case) -> None:
    async with ScriptedServer([case.reply]) as server:
        model = AnthropicMessages(
            "claude-x", api_key=KEY, base_url=server.url, timeout_s=0.3, key_variable="ANTHROPIC_API_KEY"
        )
        await check(case, model)
        assert len(server.calls) == 1
        await model.aclose()


@pytest.mark.parametrize("finish_reason", ["length", "content_filter"])
async def test_rejected_replies_carry_their_usage(finish_reason: str) -> None:
    async with ScriptedServer([ScriptedReply("x" * 400, finish_reason=finish_reason)]) as server:
        model = OpenAIChat("m", api_key=None, base_url=server.base_url)
        with pytest.raises(errors.ModelError) as caught:
            await model.ask(ASK)
        await model.aclose()
        assert caught.value.usage == server.calls[0].usage
        assert server.calls[0].usage.output_tokens == 100


async def test_reply_without_requested_json_is_malformed() -> None:
    asked = Request(ASK.messages, schema={"type": "object", "properties": {}})
    async with ScriptedServer(["sure! here it is", "[1]", "[2]", "{"]) as server:
        model = OpenAIChat("m", api_key=None, base_url=server.base_url)
        for _ in range(2):
            with pytest.raises(errors.MalformedReplyError, match="not the JSON asked for"):
                await model.ask(asked)
        await model.aclose()


def test_errors_state_retryable_and_ends_run() -> None:
    assert not errors.OutOfCreditError.retryable
    assert errors.OutOfCreditError.ends_run
    assert errors.RateLimitedError.retryable


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "2.5"}, 2.5),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:30 GMT"}, 30.0),
        ({"Retry-After": "Wed, 21 Oct 2015 07:00:00 GMT"}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": "9", "retry-after-ms": "1500"}, 1.5),
    ],
)
def test_retry_after_is_read_in_every_form(headers: dict[str, str], seconds: float | None) -> None:
    assert read_retry_after(headers, now_s=1445412480.0) == seconds


@pytest.mark.parametrize(
    ("url", "hopeless"),
    [
        ("http://127.0.0.1:9/v1", True),
        ("http://localhost:9/v1", True),
        ("http://no-such-host.invalid/v1", True),
        ("http://127.0.0.2:9/v1", False),  # as any other machine
    ],
)
async def test_unreachable_address_is_hopeless_if_it_rarely_passes(url: str, hopeless: bool) -> None:
    model = OpenAIChat("m", api_key=KEY, base_url=url)
    with pytest.raises(errors.ProviderUnreachableError) as caught:
        await model.ask(ASK)
    assert (caught.value.hopeless, caught.value.reached) == (hopeless, False)
    await model.aclose()
