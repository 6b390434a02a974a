"""The scripted server over real sockets, asked by a plain HTTP client: what it records and how it misbehaves."""

from __future__ import annotations

import asyncio
import io
import signal
import subprocess
import sys
import urllib.request
from typing import Any

import aiohttp
import orjson
import pytest

from rlm.core.messages import Usage
from rlm.testing.server import ChatCall, ScriptedReply, ScriptedServer


def chat(*contents: str, **more: Any) -> dict[str, Any]:
    roles = ("user", "assistant")
    messages = [{"role": roles[index % 2], "content": text} for index, text in enumerate(contents)]
    return {"model": "m", "messages": messages, **more}


async def post(server: ScriptedServer, body: object, path: str = "/v1/chat/completions") -> tuple[int, Any]:
    async with aiohttp.ClientSession() as session, session.post(server.url + path, json=body) as response:
        return response.status, orjson.loads(await response.read())


async def test_calls_are_recorded_and_answered() -> None:
    async with ScriptedServer(lambda call: f"{call.number}:{call.turn}:{call.prompt}") as server:
        status, body = await post(server, chat("a", "b", "c"))
    assert status == 200
    assert body["choices"][0]["message"]["content"] == "1:2:c"
    assert body["choices"][0]["finish_reason"] == "stop"
    call = server.calls[0]
    assert (call.model, call.status, call.is_root, call.api) == ("m", 200, False, "openai")
    assert call.ended_s is not None
    assert call.ended_s >= call.started_s
    assert server.usage == {"m": call.usage}


async def test_list_answers_in_order_until_exhausted() -> None:
    async with ScriptedServer(["one", ScriptedReply("two")]) as server:
        answers = [await post(server, chat("x")) for _ in range(3)]
    assert [body["choices"][0]["message"]["content"] for status, body in answers[:2]] == ["one", "two"]
    assert answers[2][0] == 400, "a client must not retry a script that is used up"
    assert "2 replies" in answers[2][1]["error"]["message"]


async def test_failing_script_is_reported_to_both_sides() -> None:
    def script(call: ChatCall) -> str:
        raise KeyError("oops")

    async with ScriptedServer(script) as server:
        status, body = await post(server, chat("x"))
    assert status == 400
    assert "oops" in body["error"]["message"]
    assert "KeyError" in server.script_errors[0]


@pytest.mark.parametrize("body", [[], {}, {"messages": []}, {"messages": "x"}, {"messages": [{"role": "robot"}]}])
async def test_malformed_chat_request_gets_400(body: object) -> None:
    async with ScriptedServer() as server:
        status, answer = await post(server, body)
    assert status == 400
    assert "bad request" in answer["error"]["message"]
    assert server.in_flight == 0


async def test_large_body_is_accepted() -> None:
    data = io.BytesIO(orjson.dumps(chat("x" * 5_000_000)))
    async with (
        ScriptedServer() as server,
        aiohttp.ClientSession() as session,
        session.post(server.base_url + "/chat/completions", data=data) as response,
    ):
        assert response.status == 200


async def test_cached_tokens_follow_longest_known_prefix() -> None:
    long = "p" * 4096
    async with ScriptedServer("a") as server:
        bodies = [(await post(server, chat(prompt)))[1] for prompt in (long, long + "tail", "x" + long)]
    cached = [body["usage"]["prompt_tokens_details"]["cached_tokens"] for body in bodies]
    assert cached[0] == 0
    assert cached[1] % 64 == 0
    assert 4096 // 4 - 64 <= cached[1] <= 4096 // 4
    assert cached[2] == 0


async def test_prefix_is_cached_when_its_call_ends() -> None:
    async with ScriptedServer("a", latency_s=0.1) as server:
        both = await asyncio.gather(post(server, chat("p" * 4096 + "1")), post(server, chat("p" * 4096 + "2")))
        _, later = await post(server, chat("p" * 4096 + "3"))
    assert [body["usage"]["prompt_tokens_details"]["cached_tokens"] for _, body in both] == [0, 0]
    assert later["usage"]["prompt_tokens_details"]["cached_tokens"] > 900


async def test_anthropic_cache_reads_only_marked_blocks() -> None:
    def body(turns: list[str], marked: bool) -> dict[str, Any]:
        block: dict[str, Any] = {"type": "text", "text": turns[-1]}
        if marked:
            block["cache_control"] = {"type": "ephemeral"}
        earlier = [
            {"role": ("user", "assistant")[index % 2], "content": [{"type": "text", "text": text}]}
            for index, text in enumerate(turns[:-1])
        ]
        return {"model": "c", "max_tokens": 9, "messages": [*earlier, {"role": "user", "content": [block]}]}

    async with ScriptedServer("a") as server:
        usages = [
            (await post(server, request, "/v1/messages"))[1]["usage"]
            for request in (
                body(["u" * 400], marked=False),
                body(["u" * 400], marked=True),
                body(["u" * 400, "a" * 40, "v" * 80], marked=True),
            )
        ]
    assert [usage["cache_read_input_tokens"] for usage in usages] == [0, 0, 100]
    assert [usage["cache_creation_input_tokens"] for usage in usages] == [0, 100, 30]


async def test_streams_carry_text_reason_and_usage() -> None:
    async with (
        ScriptedServer("three small words") as server,
        aiohttp.ClientSession() as session,
        session.post(
            server.base_url + "/chat/completions", json=chat("x", stream=True, stream_options={"include_usage": True})
        ) as response,
    ):
        lines = [line.removeprefix("data: ") for line in (await response.text()).split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    chunks = [orjson.loads(line) for line in lines[:-1]]
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks if chunk["choices"])
    assert text == "three small words"
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["usage"]["completion_tokens"] == 4


async def test_concurrency_and_disconnects_are_recorded() -> None:
    async with ScriptedServer(lambda call: ScriptedReply("ok", hang=call.prompt == "hang"), latency_s=0.1) as server:
        await asyncio.gather(*(post(server, chat(str(number))) for number in range(20)))
        assert server.in_flight_max == 20
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(post(server, chat("hang")), 0.2)
        for _ in range(200):
            if server.in_flight == 0:
                break
            await asyncio.sleep(0.01)
        assert server.in_flight == 0
    assert server.calls[-1].cancelled
    assert server.calls[-1].usage == Usage()


@pytest.mark.parametrize("reply", [ScriptedReply("x", reset=True), ScriptedReply("x" * 100, cut=True)])
async def test_resets_and_cuts_break_connection(reply: ScriptedReply) -> None:
    async with ScriptedServer([reply, "fine"]) as server:
        with pytest.raises(aiohttp.ClientError):
            await post(server, chat("x"))
        status, _ = await post(server, chat("x"))
    assert status == 200


async def test_slow_body_is_sent_slowly() -> None:
    async with ScriptedServer([ScriptedReply("slow", slow_body_s=0.2)]) as server:
        began = asyncio.get_running_loop().time()
        status, body = await post(server, chat("x"))
        assert asyncio.get_running_loop().time() - began >= 0.2
    assert (status, body["choices"][0]["message"]["content"]) == (200, "slow")


def test_thread_serves_blocking_clients() -> None:
    with ScriptedServer.in_thread("from a thread") as server:
        request = urllib.request.Request(server.base_url + "/chat/completions", orjson.dumps(chat("x")))
        with urllib.request.urlopen(request) as response:
            body = orjson.loads(response.read())
        with urllib.request.urlopen(server.base_url + "/models") as response:
            assert orjson.loads(response.read())["data"][0]["id"] == "scripted"
    assert body["choices"][0]["message"]["content"] == "from a thread"


def test_process_prints_url_and_ends_on_sigterm() -> None:
    command = [sys.executable, "-m", "rlm.testing.server", "--text", "hello"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        request = urllib.request.Request(url + "/chat/completions", orjson.dumps(chat("x")))
        with urllib.request.urlopen(request) as response:
            assert orjson.loads(response.read())["choices"][0]["message"]["content"] == "hello"
        with urllib.request.urlopen(url.removesuffix("/v1") + "/stats") as response:
            assert orjson.loads(response.read())["calls"] == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
