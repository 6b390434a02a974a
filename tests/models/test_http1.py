"""Replies as servers write them, cut at every byte; and connections that TLS protects."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from rlm.models.http1 import NotHttpError, Pool, RawReply

REPLIES = {
    "counted": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", True),
    "counted, in other words": (b"HTTP/1.1 200\r\ncontent-LENGTH:5\r\nX-A: b\r\n\r\nhello", True),
    "chunked": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n", True),
    "chunked, with a trailer": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
        True,
    ),
    "after an informational one": (
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        True,
    ),
    "to be closed": (b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 5\r\n\r\nhello", False),
    "of an old server": (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", False),
}


@pytest.mark.parametrize(("data", "reusable"), REPLIES.values(), ids=REPLIES)
def test_a_reply_is_read_however_it_is_cut(data: bytes, reusable: bool) -> None:
    for cut in range(1, len(data)):
        reply = RawReply()
        assert not reply.feed(data[:cut])
        assert reply.feed(data[cut:])
        assert (reply.status, reply.text(), reply.reusable) == (200, b"hello", reusable)
    reply = RawReply()
    whole = [reply.feed(bytes([byte])) for byte in data]
    assert whole == [False] * (len(data) - 1) + [True]


def test_a_body_without_length_ends_with_the_connection() -> None:
    reply = RawReply()
    assert not reply.feed(b"HTTP/1.1 200 OK\r\n\r\nhel")
    assert not reply.feed(b"lo")
    assert reply.end()
    assert (reply.text(), reply.reusable) == (b"hello", False)


def test_a_counted_body_does_not_end_with_the_connection() -> None:
    reply = RawReply()
    reply.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel")
    assert not reply.end()


def test_a_packed_body_is_unpacked_and_a_broken_one_refused() -> None:
    for body, good in ((gzip.compress(b"hello"), True), (b"hello", False)):
        reply = RawReply()
        head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
        assert reply.feed(head + body)
        if good:
            assert reply.text() == b"hello"
        else:
            with pytest.raises(NotHttpError):
                reply.text()


def test_more_than_was_asked_for_ends_the_connection() -> None:
    reply = RawReply()
    assert reply.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nabc")
    assert (reply.text(), reply.reusable) == (b"a", False)


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a" * 300_000,
    ],
)
def test_what_is_no_reply_is_refused(data: bytes) -> None:
    with pytest.raises(NotHttpError):
        RawReply().feed(data)


@asynccontextmanager
async def closing_server(replies_per_connection: int) -> AsyncIterator[tuple[int, list[int]]]:
    """Answers so many requests on a connection and closes it then without a word."""
    served: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(0)
        try:
            for _ in range(replies_per_connection):
                await reader.readuntil(b"\r\n\r\n")
                served[-1] += 1
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                await writer.drain()
        except asyncio.IncompleteReadError:
            pass
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1], served


async def test_a_connection_that_the_server_closed_is_not_used_again() -> None:
    async with closing_server(1) as (port, served):
        pool = Pool("127.0.0.1", port, tls=False)
        for _ in range(3):
            reply = await pool.post(b"POST / HTTP/1.1\r\n\r\n", b"", 5)
            assert reply.text() == b"ok"
            await asyncio.sleep(0.02)  # its end arrives
        assert served == [1, 1, 1]
        pool.close()
