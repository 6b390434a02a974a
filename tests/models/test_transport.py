"""The connection itself: addresses, deadlines, cancellation, a thousand calls at once, several loops, proxies."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from rlm.core.errors import (
    ConfigurationError,
    MalformedReplyError,
    ModelTimeoutError,
    PromptTooLongError,
    ProviderUnreachableError,
)
from rlm.core.messages import Message, Request
from rlm.models.openai_chat import OpenAIChat
from rlm.testing.server import ChatCall, ScriptedReply, ScriptedServer


def say(text: str) -> Request:
    return Request((Message("user", text),))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def until_idle(server: ScriptedServer) -> None:
    for _ in range(300):
        if not server.in_flight:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the server still has calls open")


@pytest.mark.parametrize("url", ["", "localhost:8080/v1", "ftp://host/v1", "http://", "http://[bad/v1"])
def test_unusable_address_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigurationError, match="https://host/v1"):
        OpenAIChat("m", api_key=None, base_url=url)


async def test_closed_port_is_unreachable_and_named() -> None:
    port = free_port()
    model = OpenAIChat("m", api_key=None, base_url=f"http://user:pass@127.0.0.1:{port}/v1")
    with pytest.raises(ProviderUnreachableError, match=rf"127\.0\.0\.1:{port}/v1.*is the server running") as caught:
        await model.ask(say("x"))
    assert "pass" not in str(caught.value)
    await model.aclose()


async def test_unknown_host_is_unreachable() -> None:
    model = OpenAIChat("m", api_key=None, base_url="http://no-such-host.invalid/v1")
    with pytest.raises(ProviderUnreachableError, match=r"no-such-host\.invalid"):
        await model.ask(say("x"))
    await model.aclose()


async def test_server_without_http_is_reported() -> None:
    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"SSH-2.0-OpenSSH_9.9\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(shout, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        model = OpenAIChat("m", api_key="sk-secret-key", base_url=f"http://127.0.0.1:{port}/v1")
        with pytest.raises(MalformedReplyError, match="does not answer in HTTP") as caught:
            await model.ask(say("x"))
        assert "sk-secret-key" not in repr(caught.value.__context__)
        await model.aclose()


async def test_cancelled_call_closes_its_connection_only() -> None:
    async with ScriptedServer(lambda call: ScriptedReply("ok", hang=call.prompt == "hang")) as server:
        model = OpenAIChat("m", api_key=None, base_url=server.base_url)
        task = asyncio.ensure_future(model.ask(say("hang")))
        while not server.calls:
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until_idle(server)
        assert server.calls[0].cancelled
        assert (await model.ask(say("again"))).text == "ok"
        await model.aclose()


async def test_outer_timeout_is_not_translated() -> None:
    async with ScriptedServer([ScriptedReply(hang=True)]) as server:
        model = OpenAIChat("m", api_key=None, base_url=server.base_url)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await model.ask(say("x"))
        await model.aclose()


async def test_deadline_covers_endless_body() -> None:
    async with ScriptedServer([ScriptedReply("x" * 1000, slow_body_s=60)]) as server:
        model = OpenAIChat("m", api_key=None, base_url=server.base_url, timeout_s=0.2)
        with pytest.raises(ModelTimeoutError, match=r"0\.2 s"):
            await model.ask(say("x"))
        await until_idle(server)
        await model.aclose()


async def test_thousand_concurrent_calls_are_not_queued() -> None:
    def script(call: ChatCall) -> str:
        return call.prompt

    with ScriptedServer.in_thread(script, latency_s=0.5) as server:
        model = OpenAIChat("m", api_key="k", base_url=server.base_url)
        began = time.monotonic()
        replies = await asyncio.gather(*(model.ask(say(str(number))) for number in range(1000)))
        elapsed = time.monotonic() - began
        await model.aclose()
    assert [reply.text for reply in replies] == [str(number) for number in range(1000)]
    assert server.in_flight_max > 200, "calls must not queue for connections"
    assert elapsed < 5  # 1.1 s on an idle machine; a pool of 100 connections would need more than 5


async def test_connections_are_reused() -> None:
    ports: set[object] = set()

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ports.add(writer.get_extra_info("peername"))
        body = b'{"choices":[{"message":{"content":"ok"},"finish_reason":"stop"}]}'
        while await reader.readuntil(b"\r\n\r\n"):
            await reader.readuntil(b"}]}")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await note(reader, writer)
        except asyncio.IncompleteReadError:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        model = OpenAIChat("m", api_key=None, base_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
        for _ in range(5):
            await model.ask(say("x"))
        await model.aclose()
    assert len(ports) == 1


async def test_prompts_of_several_megabytes_are_sent() -> None:
    async with ScriptedServer(lambda call: str(len(call.prompt))) as server:
        model = OpenAIChat("m", api_key=None, base_url=server.base_url)
        assert (await model.ask(say("ä" * 3_000_000))).text == "3000000"
        await model.aclose()


async def test_early_refusal_of_large_body_is_read() -> None:
    """A server can refuse a request by its head, and never read the body."""

    asked, closed = asyncio.Event(), asyncio.Event()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = b'{"error": {"message": "too large for this gateway"}}'
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await asked.wait()
        writer.close()
        closed.set()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0, limit=1 << 16) as server:
        model = OpenAIChat("m", api_key=None, base_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
        with pytest.raises(PromptTooLongError, match="too large for this gateway"):
            async with asyncio.timeout(10):
                await model.ask(say("x" * 30_000_000))
        asked.set()
        await closed.wait()
        await model.aclose()


async def test_informational_responses_are_skipped() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = b'{"choices":[{"message":{"content":"ok"},"finish_reason":"stop"}]}'
        writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        model = OpenAIChat("m", api_key=None, base_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
        assert (await model.ask(say("x"))).text == "ok"
        await model.aclose()


@pytest.mark.parametrize("value", ["a\nX-Other: b", "a\r", "a\0"])
def test_header_with_line_break_is_refused(value: str) -> None:
    with pytest.raises(ConfigurationError, match=r"X-Team.*line breaks"):
        OpenAIChat("m", api_key=None, base_url="http://127.0.0.1:9/v1", headers={"X-Team": value})


def test_one_model_serves_several_event_loops() -> None:
    with ScriptedServer.in_thread("ok") as server:
        model = OpenAIChat("m", api_key=None, base_url=server.base_url)

        async def once() -> str:
            reply = await model.ask(say("x"))
            await model.aclose()
            await model.aclose()  # safe to call twice
            return reply.text

        assert [asyncio.run(once()) for _ in range(3)] == ["ok"] * 3


def test_proxy_variables_apply_except_on_loopback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("no_proxy", "here.invalid")

    async def ask(base_url: str) -> str:
        model = OpenAIChat("m", api_key=None, base_url=base_url)
        try:
            return (await model.ask(say("x"))).text
        finally:
            await model.aclose()

    with pytest.raises(ProviderUnreachableError, match=r"here\.invalid"):  # asked for directly: no such host
        asyncio.run(ask("http://here.invalid/v1"))
    with ScriptedServer.in_thread("direct") as server:
        assert asyncio.run(ask(server.base_url)) == "direct"  # a loopback address never goes through a proxy
        assert asyncio.run(ask(server.base_url.replace("127.0.0.1", "localhost"))) == "direct"
    with pytest.raises(ProviderUnreachableError, match="the proxy"):  # nothing listens at its address
        asyncio.run(ask("http://elsewhere.invalid/v1"))
