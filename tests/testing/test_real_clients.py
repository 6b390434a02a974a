"""The providers' own client libraries, as clients of the scripted server: it must be what they expect.

Skipped if they are not installed: only these tests need them.
"""

from __future__ import annotations

import warnings

import pytest

from rlm.testing.server import ScriptedReply, ScriptedServer

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what third parties warn of at import is theirs
    openai = pytest.importorskip("openai")
    anthropic = pytest.importorskip("anthropic")


async def test_openai_reads_replies_usage_and_models() -> None:
    async with (
        ScriptedServer("hello there") as server,
        openai.AsyncOpenAI(api_key="k", base_url=server.base_url) as client,
    ):
        messages = [{"role": "system", "content": "s" * 400}, {"role": "user", "content": "u"}]
        first = await client.chat.completions.create(model="m", messages=messages)
        second = await client.chat.completions.create(model="m", messages=messages)
        models = [model.id async for model in client.models.list()]
    assert first.choices[0].message.content == "hello there"
    assert first.usage.prompt_tokens == server.calls[0].usage.input_tokens
    assert second.usage.prompt_tokens_details.cached_tokens == 64
    assert models == ["scripted"]
    assert server.calls[0].is_root


async def test_openai_reads_streams() -> None:
    async with (
        ScriptedServer("a few words") as server,
        openai.AsyncOpenAI(api_key="k", base_url=server.base_url) as client,
    ):
        stream = await client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "u"}], stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "a few words"
    assert chunks[-1].usage.completion_tokens == 2


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (ScriptedReply("no", status=401), "AuthenticationError"),
        (ScriptedReply("no", status=404), "NotFoundError"),
        (ScriptedReply("no", status=429), "RateLimitError"),
        (ScriptedReply("no", status=500), "InternalServerError"),
        (ScriptedReply(reset=True), "APIConnectionError"),
    ],
)
async def test_openai_recognises_errors(reply: ScriptedReply, error: str) -> None:
    async with (
        ScriptedServer([reply]) as server,
        openai.AsyncOpenAI(api_key="k", base_url=server.base_url, max_retries=0) as client,
    ):
        with pytest.raises(getattr(openai, error)):
            await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "u"}])


async def test_anthropic_reads_replies_and_cached_tokens() -> None:
    system = [{"type": "text", "text": "s" * 400, "cache_control": {"type": "ephemeral"}}]
    async with ScriptedServer("hello") as server, anthropic.AsyncAnthropic(api_key="k", base_url=server.url) as client:
        first, second = [
            await client.messages.create(
                model="claude-x", max_tokens=50, system=system, messages=[{"role": "user", "content": "u"}]
            )
            for _ in range(2)
        ]
    assert (first.content[0].text, first.stop_reason) == ("hello", "end_turn")
    assert (first.usage.cache_creation_input_tokens, first.usage.cache_read_input_tokens) == (100, 0)
    assert (second.usage.cache_creation_input_tokens, second.usage.cache_read_input_tokens) == (0, 100)


async def test_anthropic_recognises_errors() -> None:
    async with (
        ScriptedServer([ScriptedReply("busy", status=529, error_type="overloaded_error")]) as server,
        anthropic.AsyncAnthropic(api_key="k", base_url=server.url, max_retries=0) as client,
    ):
        with pytest.raises(anthropic.APIStatusError, match="busy"):
            await client.messages.create(model="c", max_tokens=5, messages=[{"role": "user", "content": "u"}])
