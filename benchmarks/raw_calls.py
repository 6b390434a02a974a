"""Baseline of the fan-out benchmark: the same calls on raw sockets, with one keep-alive connection per call in flight."""

from __future__ import annotations

import asyncio
import json
from types import TracebackType
from urllib.parse import urlsplit


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._buffer = b""
        self._length = -1
        self._done: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._length < 0 and (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            self._length = end + 4 + int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        if 0 <= self._length <= len(self._buffer) and self._done is not None:
            self._done.set_result(None)

    async def ask(self, request: bytes) -> None:
        self._buffer, self._length = b"", -1
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        await self._done

    def close(self) -> None:
        self._transport.close()


class RawClient:
    """Sends the calls that the engine would send, and discards the replies."""

    def __init__(self, base_url: str) -> None:
        url = urlsplit(base_url)
        self._host, self._port = url.hostname, url.port
        self._path = f"{url.path}/chat/completions"
        self._free: list[_Connection] = []

    async def __aenter__(self) -> RawClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection in self._free:
            connection.close()

    async def _ask(self, *messages: tuple[str, str]) -> None:
        body = {"model": "bench", "messages": [{"role": role, "content": text} for role, text in messages]}
        data = json.dumps(body).encode()
        head = f"POST {self._path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
        request = f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data
        if self._free:
            connection = self._free.pop()
        else:
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(_Connection, self._host, self._port)
        await connection.ask(request)
        self._free.append(connection)

    async def leaf(self, number: int) -> None:
        await self._ask(("user", f"Label item {number}."))

    async def node(self, question: str) -> None:
        await self._ask(("system", "s"), ("user", f"Question: {question}\n"))

    async def fan_out(self, count: int) -> None:
        await asyncio.gather(*(self.leaf(number) for number in range(count)))

    async def tree(self, children: int, leaves: int) -> None:
        async def child(number: int) -> None:
            await self.node(f"child {number}")
            await self.fan_out(leaves)

        await asyncio.gather(*(child(number) for number in range(children)))

    async def runs(self, runs: int, leaves: int) -> None:
        async def run() -> None:
            await self.node("nothing")
            await self.fan_out(leaves)

        await asyncio.gather(*(run() for _ in range(runs)))
