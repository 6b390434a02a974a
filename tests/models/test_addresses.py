"""Addresses as users paste them, and the headers that follow from them."""

from __future__ import annotations

import asyncio

import pytest

from rlm.core.errors import ConfigurationError, RequestRejectedError
from rlm.core.messages import Message, Request
from rlm.models.addresses import is_loopback, parse_address
from rlm.models.anthropic import AnthropicMessages
from rlm.models.openai_chat import OpenAIChat
from rlm.testing.server import ScriptedReply, ScriptedServer

CHAT = "/chat/completions"
ADDRESSES = [
    ("https://h/v1", "https://h/v1/chat/completions"),
    ("  https://h/v1/ \n", "https://h/v1/chat/completions"),
    ("https://h/v1/chat/completions", "https://h/v1/chat/completions"),
    ("https://h/v1/chat/completions/", "https://h/v1/chat/completions"),
    ("https://h/v1/responses", "https://h/v1/chat/completions"),
    (
        "https://h/openai/deployments/D?api-version=2024-10-21",
        "https://h/openai/deployments/D/chat/completions?api-version=2024-10-21",
    ),
    (
        "https://h/openai/deployments/D/chat/completions?api-version=V&x=a%26b",
        "https://h/openai/deployments/D/chat/completions?api-version=V&x=a%26b",
    ),
    ("https://h/v1#part", "https://h/v1/chat/completions"),
    ("HTTP://[::1]:8080/a%20b", "http://[::1]:8080/a%20b/chat/completions"),
    ("https://user:pa%40ss@h/v1", "https://h/v1/chat/completions"),
]


@pytest.mark.parametrize(("given", "used"), ADDRESSES)
def test_pasted_address_is_normalised(given: str, used: str) -> None:
    assert str(parse_address(given, CHAT).url) == used


@pytest.mark.parametrize("given", ["https://h", "https://h/v1", "https://h/v1/messages", "https://h/v1/messages/"])
def test_anthropic_address_can_be_whole(given: str) -> None:
    assert str(parse_address(given, "/v1/messages").url) == "https://h/v1/messages"


@pytest.mark.parametrize(
    "given", ["h:1", "", "https://user:pass-word@ho st/v1", "https://h:99999/v1", "ftp://u:pass-word@h"]
)
def test_unusable_address_is_refused_without_password(given: str) -> None:
    with pytest.raises(ConfigurationError, match="https://host/v1") as caught:
        parse_address(given, CHAT)
    assert "pass-word" not in str(caught.value)


async def test_user_and_password_become_basic_authorization() -> None:
    async with ScriptedServer(["ok", ScriptedReply("no", status=400)]) as server:
        url = server.base_url.replace("://", "://user:pass-word@")
        model = OpenAIChat("m", api_key="sk-from-environment", base_url=url)
        ask = Request((Message("user", "x"),))
        assert (await model.ask(ask)).text == "ok"
        with pytest.raises(RequestRejectedError) as caught:
            await model.ask(ask)
        await model.aclose()
    assert server.calls[0].headers["Authorization"] == "Basic dXNlcjpwYXNzLXdvcmQ="
    assert "pass-word" not in f"{caught.value!r} {model!r} {model.source!r}"


async def test_azure_query_is_sent_with_own_key_header() -> None:
    lines: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.extend((await reader.readuntil(b"\r\n\r\n")).split(b"\r\n"))
        writer.write(b"HTTP/1.1 400 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        model = OpenAIChat(
            "m", api_key="secret", base_url=f"http://127.0.0.1:{port}/openai/deployments/D?api-version=V"
        )
        with pytest.raises(RequestRejectedError) as caught:
            await model.ask(Request((Message("user", "x"),)))
        await model.aclose()
    assert lines[0] == b"POST /openai/deployments/D/chat/completions?api-version=V HTTP/1.1"
    assert b"api-key: secret" in lines
    assert not any(line.lower().startswith(b"authorization") for line in lines)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "a.localhost",
        "127.0.0.1",
        "127.255.1.2",
        "127.1",
        "2130706433",
        "0x7f.1",
        "::1",
        "::ffff:127.0.0.1",
        "0.0.0.0",
    ],
)
def test_every_form_of_this_machine_is_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["localhost.example", "128.0.0.1", "10.0.0.1", "::2", "example.com", "127.example", None]
)
def test_other_hosts_are_not_loopback(host: str | None) -> None:
    assert not is_loopback(host)


def test_anthropic_gateway_gets_key_and_basic_authorization() -> None:
    model = AnthropicMessages("m", api_key="k", base_url="http://u:p@127.0.0.1:1/v1")
    assert model.source.address == "http://127.0.0.1:1/v1/messages"
