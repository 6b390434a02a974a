"""An HTTP client for the ``mcp`` package whose responses are bounded: a server must not fill the memory of this process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import httpx2

MAX_BODY_BYTES = 16 * 1024 * 1024
MAX_STREAM_BYTES = 256 * 1024 * 1024  # of one event stream
CONNECT_S, READ_S = 20.0, 300.0


class _BoundedStream(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream, most: int) -> None:
        self._stream = stream
        self._left = most

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._stream:
            self._left -= len(piece)
            if self._left < 0:
                raise httpx2.ReadError("the server sent too much")
            yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()


class BoundedTransport(httpx2.AsyncHTTPTransport):
    """Limits response bodies. Compressed ones are refused, because they can be of any size when they are decompressed."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """See ``httpx2.AsyncHTTPTransport``."""
        response = await super().handle_async_request(request)
        if response.headers.get("content-encoding", "identity") != "identity":
            await response.aclose()
            raise httpx2.ReadError("the server compressed its response, which was not asked for")
        is_stream = response.headers.get("content-type", "").startswith("text/event-stream")
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _BoundedStream(response.stream, MAX_STREAM_BYTES if is_stream else MAX_BODY_BYTES)
        return response


def bounded_client(headers: Mapping[str, str]) -> httpx2.AsyncClient:
    """A client for one server."""
    return httpx2.AsyncClient(
        headers={"accept-encoding": "identity", **headers},
        timeout=httpx2.Timeout(CONNECT_S, read=READ_S),
        transport=BoundedTransport(),
    )
