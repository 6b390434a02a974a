"""Waits that providers ask for, and requests that no wait helps."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from rlm.core.errors import ModelError, PromptTooLongError, RateLimitedError, RequestRejectedError
from rlm.core.messages import Headroom, Message, Request, Usage
from rlm.models.anthropic import AnthropicMessages
from rlm.models.faults import Source, read_fault
from rlm.models.openai_chat import OpenAIChat
from rlm.models.waits import read_duration, read_headroom
from rlm.testing.server import ScriptedReply, ScriptedServer

SOURCE = Source("openai:m", "https://h/v1", None, None)
NOW_S = 1_700_000_000.0


def fault(status: int, body: Any, **headers: str) -> ModelError:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return read_fault(SOURCE, status, named, orjson.dumps(body), NOW_S)


def error(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, **more}}


RETRY_INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}
IN_BODY = [
    (error("quota", details=[{"@type": "other"}, RETRY_INFO]), 34.5),
    ([error("quota", details=[RETRY_INFO])], 34.5),
    (
        error(
            "Rate limit reached for gpt-4o: Limit 30000, Used 29000, Requested 2000. Please try again in 2.5s. Visit x."
        ),
        2.5,
    ),
    (error("Please try again in 1m30.5s."), 90.5),
    (error("Please try again in 20ms."), 0.02),
    (error("Rate limit exceeded, retry after 5 seconds"), 5),
    (error("Please wait 2 minutes and 3 seconds before you try again"), 123),
    (error("Limit resets in 1h0m2s"), 3602),
    (error("slow down", retry_after=7), 7),
    ({"message": "slow down", "retry_after_ms": 250}, 0.25),
    (error("slow down", metadata={"retry_after_seconds": 12}), 12),
    ({"error": "too many requests, try again in 3s"}, 3),
    (error("slow down"), None),
    (error("version 5 is limited to 3 requests"), None),
]


@pytest.mark.parametrize(("body", "wait_s"), IN_BODY)
def test_wait_in_body_is_read(body: Any, wait_s: float | None) -> None:
    caught = fault(429, body)
    assert isinstance(caught, RateLimitedError)
    assert caught.retry_after_s == (None if wait_s is None else pytest.approx(wait_s))


IN_HEADERS = [
    ({"retry_after_ms": "250", "Retry_After": "9"}, 0.25),
    ({"Retry_After": "9"}, 9),
    ({"Retry_After": "1m2s"}, 62),
    (
        {"x_ratelimit_remaining_requests": "0", "x_ratelimit_reset_requests": "1s", "x_ratelimit_reset_tokens": "6m0s"},
        1,
    ),
    ({"x_ratelimit_remaining_tokens": "0", "x_ratelimit_reset_tokens": "6m0s"}, 360),
    ({"x_ratelimit_remaining_tokens": "500", "x_ratelimit_reset_tokens": "6m0s"}, None),
    ({"anthropic_ratelimit_tokens_remaining": "0", "anthropic_ratelimit_tokens_reset": "2023-11-14T22:13:25Z"}, 5),
    ({"x_ratelimit_reset": "1700000004"}, 4),
    ({"x_ratelimit_reset": "1700000004000"}, 4),
    ({"ratelimit_reset": "8"}, 8),
    ({"x_ratelimit_reset": "soon"}, None),
    ({"x_ratelimit_reset": "9" * 400}, None),
]


@pytest.mark.parametrize(("headers", "wait_s"), IN_HEADERS)
def test_wait_in_headers_is_read(headers: dict[str, str], wait_s: float | None) -> None:
    assert fault(429, error("slow down"), **headers).retry_after_s == (
        None if wait_s is None else pytest.approx(wait_s)
    )


TOO_LARGE = [
    (429, "Request too large for gpt-4o in organization o on tokens per min (TPM): Limit 30000, Requested 60000."),
    (
        413,
        "Request too large for model `llama` on tokens per minute (TPM): Limit 6000, Requested 7000, please reduce your message",
    ),
    (429, "Rate limit: Limit 30,000, Used 0, Requested 45,000. Please try again in 2.5s"),
    (429, "The input or output tokens must be reduced in order to run successfully."),
]


@pytest.mark.parametrize(("status", "message"), TOO_LARGE)
def test_request_above_limit_is_not_retried(status: int, message: str) -> None:
    caught = fault(status, error(message, code="rate_limit_exceeded", type="tokens"), Retry_After="3")
    assert isinstance(caught, PromptTooLongError)
    assert not caught.retryable
    assert caught.retry_after_s is None


def test_wait_is_ignored_in_other_errors() -> None:
    caught = fault(400, error("bad field; try again in 5s"), x_ratelimit_reset_requests="1s")
    assert type(caught) is RequestRejectedError
    assert caught.retry_after_s is None


@pytest.mark.parametrize("text", ["", "5", "s", "5 parsecs", "-3s", "1.2.3s", "9" * 50 + "s"])
def test_other_text_is_no_duration(text: str) -> None:
    assert read_duration(text) is None


USAGE = Usage(1, 400, cached_tokens=100, output_tokens=50)
HEADROOMS: list[tuple[dict[str, str], Headroom | None]] = [
    ({}, None),
    ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m0.5s"}, Headroom(0, 60.5)),
    ({"x-ratelimit-remaining-requests": "7", "x-ratelimit-reset-requests": "120ms"}, Headroom(7, 0.12)),
    (
        {
            "x-ratelimit-remaining-requests": "90",
            "x-ratelimit-reset-requests": "2s",
            "x-ratelimit-remaining-tokens": "1000",
            "x-ratelimit-reset-tokens": "6s",
        },
        Headroom(2, 6),
    ),
    (
        {
            "anthropic-ratelimit-requests-remaining": "49",
            "anthropic-ratelimit-requests-reset": "2023-11-14T22:13:25Z",
            "anthropic-ratelimit-output-tokens-remaining": "120",
            "anthropic-ratelimit-output-tokens-reset": "2023-11-14T22:13:50Z",
        },
        Headroom(2, 30),
    ),
    (
        {
            "anthropic-ratelimit-input-tokens-remaining": "3000",
            "anthropic-ratelimit-input-tokens-reset": "2023-11-14T22:13:25Z",
        },
        Headroom(10, 5),
    ),
    ({"x-ratelimit-remaining-requests": "0"}, None),
    ({"x-ratelimit-remaining-requests": "-1", "x-ratelimit-reset-requests": "1s"}, None),
    ({"x-ratelimit-remaining-requests": "many", "x-ratelimit-reset-requests": "soon"}, None),
    ({"x-ratelimit-remaining-requests": "9" * 400, "x-ratelimit-reset-requests": "1s"}, None),
]


@pytest.mark.parametrize(("headers", "expected"), HEADROOMS)
def test_headers_of_replies_report_headroom(headers: dict[str, str], expected: Headroom | None) -> None:
    found = read_headroom(headers, NOW_S, USAGE)
    assert found == expected


@pytest.mark.parametrize(
    ("provider", "names"),
    [
        (OpenAIChat, ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests")),
        (AnthropicMessages, ("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset")),
    ],
)
async def test_replies_carry_headroom(provider: type[OpenAIChat | AnthropicMessages], names: tuple[str, str]) -> None:
    scripted = ScriptedReply("ok", headers={names[0]: "3", names[1]: "1.5s"})
    async with ScriptedServer([scripted, scripted]) as server:
        model = provider("m", api_key="k", base_url=server.base_url)
        request = Request((Message("user", "x"),))
        whole, streamed = await model.ask(request), await model.stream(request, lambda _: False)
        await model.aclose()
    assert whole.headroom == streamed.headroom == Headroom(3, 1.5)
