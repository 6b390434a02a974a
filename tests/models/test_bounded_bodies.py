"""Bounded bodies: endless, compressed and absurd replies end in typed errors, in little memory."""

from __future__ import annotations

import asyncio
import gzip
import resource
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import repeat

import orjson
import pytest

from rlm.core.billing import is_unbilled
from rlm.core.errors import MalformedReplyError, ModelError, ProviderUnavailableError, RequestRejectedError
from rlm.core.messages import Message, Request
from rlm.models.anthropic import AnthropicMessages
from rlm.models.openai_chat import OpenAIChat
from rlm.testing.server import ScriptedReply, ScriptedServer

ASK = Request((Message("user", "hello"),))
MIB = 1 << 20
REPLY = orjson.dumps({"choices": [{"message": {"content": "fine"}, "finish_reason": "stop"}]})
EVENT = b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n'


@asynccontextmanager
async def raw_server(
    headers: str, pieces: Callable[[], Iterator[bytes]], status: str = "200 OK"
) -> AsyncIterator[list[int]]:
    """A server that sends ``pieces`` until the client closes; yields its port, and later how many bytes it sent."""
    numbers: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n\r\n".encode())
        sent = 0
        try:
            for piece in pieces():
                writer.write(piece)
                sent += len(piece)
                await writer.drain()
        except OSError:
            pass
        finally:
            numbers.append(sent)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    numbers.append(server.sockets[0].getsockname()[1])
    async with server:
        yield numbers


def gzip_bomb(size: int) -> bytes:
    compressor = zlib.compressobj(9, wbits=31)
    return b"".join(compressor.compress(bytes(MIB)) for _ in range(size // MIB)) + compressor.flush()


BOMB = gzip_bomb(512 * MIB)
HOSTILE = [
    ("plain", "Content-Length: 4294967296", lambda: repeat(b" " * 65536)),
    ("plain without length", "", lambda: repeat(b" " * 65536)),
    ("gzip bomb", "Content-Encoding: gzip", lambda: iter([BOMB])),
    ("deflate bomb", "Content-Encoding: deflate", lambda: iter([zlib.compress(bytes(64 * MIB))])),
    ("endless events", "Content-Type: text/event-stream", lambda: repeat(EVENT.replace(b"a", b"a" * 1000) * 60)),
    ("endless comment", "Content-Type: text/event-stream", lambda: repeat(b": " + b"x" * 65536)),
    ("endless pings", "Content-Type: text/event-stream", lambda: repeat(b": ping" + b" " * 1000 + b"\n\n")),
    (
        "bomb of events",
        "Content-Type: text/event-stream\r\nContent-Encoding: gzip",
        lambda: iter([gzip_bomb(128 * MIB)]),
    ),
    ("unknown encoding", "Content-Encoding: br", lambda: iter([b"abc"])),
    ("stacked encodings", "Content-Encoding: gzip, gzip", lambda: iter([gzip.compress(gzip.compress(REPLY))])),
    ("damaged encoding", "Content-Encoding: gzip", lambda: iter([b"\x1f\x8b\x08garbage"])),
]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("name", "headers", "pieces"), HOSTILE, ids=[row[0] for row in HOSTILE])
async def test_hostile_body_is_refused_in_little_memory(
    name: str, headers: str, pieces: Callable[[], Iterator[bytes]], streamed: bool
) -> None:
    async with raw_server(headers, pieces) as numbers:
        model = OpenAIChat("m", api_key=None, base_url=f"http://127.0.0.1:{numbers[0]}/v1")
        before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(MalformedReplyError) as caught:
            await (model.stream(ASK, lambda _: False) if streamed else model.ask(ASK))
        await model.aclose()
        grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib
    assert grown_kib < 200 * 1024
    assert not is_unbilled(caught.value), "the reservation is charged"


async def test_long_error_page_is_read_in_part() -> None:
    async with raw_server("Content-Type: text/html", lambda: repeat(b"overloaded " * 6000), "503 No") as numbers:
        model = OpenAIChat("m", api_key=None, base_url=f"http://127.0.0.1:{numbers[0]}/v1")
        with pytest.raises(ProviderUnavailableError, match="overloaded"):
            await model.ask(ASK)
        await model.aclose()


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(REPLY)),
        ("deflate", zlib.compress(REPLY)),
        ("deflate", zlib.compress(REPLY)[2:-4]),
        ("identity", REPLY),
        ("GZIP", gzip.compress(REPLY)),
    ],
)
async def test_compressed_reply_is_read(encoding: str, body: bytes) -> None:
    async with raw_server(f"Content-Encoding: {encoding}", lambda: iter([body[:7], body[7:]])) as numbers:
        model = OpenAIChat("m", api_key=None, base_url=f"http://127.0.0.1:{numbers[0]}/v1")
        assert (await model.ask(ASK)).text == "fine"
        await model.aclose()


ABSURD_OPENAI = [
    {"prompt_tokens": -5, "completion_tokens": 1},
    {"prompt_tokens": 5, "completion_tokens": -1},
    {"prompt_tokens": 10**12, "completion_tokens": 1},
    {"prompt_tokens": 5, "completion_tokens": 10**15},
    {"prompt_tokens": 5, "completion_tokens": 1, "cost": -0.5},
    {"prompt_tokens": 5, "completion_tokens": 1, "cost": 1e30},
    {"prompt_tokens": 5, "completion_tokens": 1, "completion_tokens_details": {"reasoning_tokens": -3}},
    {"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": -3}},
    {"prompt_tokens": 1e300, "completion_tokens": 1},
]
ABSURD_ANTHROPIC = [
    {"input_tokens": -5, "output_tokens": 1},
    {"input_tokens": 5, "output_tokens": 10**15},
    {"input_tokens": 5, "output_tokens": 1, "cache_read_input_tokens": -1},
    {"input_tokens": 5, "output_tokens": 1, "cache_creation_input_tokens": 10**12},
]


async def refuse_usage(model: OpenAIChat | AnthropicMessages) -> ModelError:
    with pytest.raises(MalformedReplyError, match="usage") as caught:
        await model.ask(ASK)
    await model.aclose()
    return caught.value


@pytest.mark.parametrize("usage", ABSURD_OPENAI, ids=str)
async def test_absurd_openai_usage_charges_reservation(usage: dict[str, object]) -> None:
    body = orjson.dumps({"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], "usage": usage})
    async with ScriptedServer([ScriptedReply(body=body)]) as server:
        error = await refuse_usage(OpenAIChat("m", api_key=None, base_url=server.base_url))
    assert error.usage is None
    assert not is_unbilled(error)


@pytest.mark.parametrize("usage", ABSURD_ANTHROPIC, ids=str)
async def test_absurd_anthropic_usage_charges_reservation(usage: dict[str, object]) -> None:
    body = orjson.dumps({"content": [{"type": "text", "text": "x"}], "stop_reason": "end_turn", "usage": usage})
    async with ScriptedServer([ScriptedReply(body=body)]) as server:
        error = await refuse_usage(AnthropicMessages("m", api_key=None, base_url=server.url))
    assert error.usage is None
    assert not is_unbilled(error)


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("https://other.example/v1", "https://other.example/v1"),
        ("https://other.example/\x1b[31m\x9b2J", r"https://other.example/\x1b[31m\x9b2J"),
        ("https://x/\u202egpj.exe", r"https://x/\u202egpj.exe"),
        ("https://x/" + "a" * 5000, "a ..."),
    ],
)
async def test_redirect_address_is_escaped(location: str, shown: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 307 Moved\r\nContent-Length: 0\r\nLocation: " + location.encode() + b"\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        model = OpenAIChat("m", api_key=None, base_url=f"http://127.0.0.1:{port}/v1")
        with pytest.raises((RequestRejectedError, MalformedReplyError)) as caught:
            await model.ask(ASK)
        await model.aclose()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000
    if isinstance(caught.value, RequestRejectedError):
        assert shown in str(caught.value)
