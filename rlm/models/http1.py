"""HTTP/1.1, as much of it as posting JSON needs: one request at a time on a connection, connections kept and used again.

A third of the CPU of a general client, and none of its import time; what it cannot do (proxies) is done by one (``http_proxy``).
Pure of meaning: statuses, retries and providers are decided above. Exceptions are the socket's own, or ``NotHttpError``.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
import zlib
from collections import deque
from collections.abc import Iterator, Mapping
from functools import cache

MAX_HEAD_BYTES = 256 * 1024
WRITE_BYTES = 1 << 20  # one write of more would hold up the loop
IDLE_S = 15.0  # servers drop connections that nobody uses; ours go before theirs do
DNS_TTL_S = 300.0


class NotHttpError(Exception):
    """The server sent something that is no HTTP/1.1 reply."""


class Headers(Mapping[str, str]):
    """Names in any case; of a repeated one, the last."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._values: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.decode("latin-1").partition(":")
            if not colon or not name or name != name.strip():
                raise NotHttpError(f"a header line reads {line[:60]!r}")
            self._values[name.lower()] = value.strip()

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


class RawReply:
    """A reply while it arrives. ``body`` is whole once ``feed`` has returned True.

    Attributes:
        reusable: whether the connection may serve another request.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._left = 0  # bytes of the body, or of the present chunk, that are still to come
        self._state = "head"
        self.status = 0
        self.headers: Headers = Headers(iter(()))
        self.body = bytearray()
        self.reusable = False

    @property
    def started(self) -> bool:
        return bool(self._buffer) or self._state != "head"

    def feed(self, data: bytes) -> bool:
        """Takes what has arrived; whether the reply is whole. Raises NotHttpError."""
        self._buffer += data
        while self._state != "done" and self._step():
            pass
        if self._state == "done" and self._buffer:
            self.reusable = False  # it sent more than it was asked for
        return self._state == "done"

    def end(self) -> bool:
        """The connection was closed; whether that makes the reply whole."""
        return self._state == "until close"

    def text(self) -> bytes:
        """The body, unpacked. Raises NotHttpError."""
        encoding = self.headers.get("content-encoding", "identity").lower()
        if encoding in ("identity", ""):
            return bytes(self.body)
        if encoding not in ("gzip", "x-gzip", "deflate"):
            raise NotHttpError(f"the body is encoded as {encoding[:40]!r}, which nobody asked for")
        try:
            return zlib.decompress(self.body, 15 + 32)
        except zlib.error as error:
            raise NotHttpError(f"a {encoding} body that is none: {error}") from None

    def _step(self) -> bool:
        """Goes on as far as one part; False when more must come first."""
        match self._state:
            case "head":
                return self._read_head()
            case "body" | "chunk":
                return self._read_counted()
            case "chunk size":
                return self._read_chunk_size()
            case "trailer":
                return self._read_trailer()
            case _:
                self.body += self._buffer
                self._buffer.clear()
                return False

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\r\n")
        if end < 0:
            if len(self._buffer) > MAX_HEAD_BYTES:
                raise NotHttpError("a line without end")
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    def _read_head(self) -> bool:
        buffer = self._buffer
        if buffer and not b"HTTP/1.".startswith(bytes(buffer[:7])):
            raise NotHttpError(f"the reply begins with {bytes(buffer[:30])!r}")
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(buffer) > MAX_HEAD_BYTES:
                raise NotHttpError("headers without end")
            return False
        first, *lines = bytes(buffer[:end]).split(b"\r\n")
        del buffer[: end + 4]
        version, _, rest = first.partition(b" ")
        status = rest[:3]
        if not status.isdigit() or len(version) != 8:
            raise NotHttpError(f"the reply begins with {first[:30]!r}")
        self.status, self.headers = int(status), Headers(iter(lines))
        if self.status < 200 and self.status != 101:
            return True  # informational: the reply itself follows
        connection = self.headers.get("connection", "").lower()
        self.reusable = "close" not in connection and (version != b"HTTP/1.0" or "keep-alive" in connection)
        self._choose_body()
        return True

    def _choose_body(self) -> None:
        length = self.headers.get("content-length")
        if self.status in (204, 304):
            self._state = "done"
        elif "chunked" in self.headers.get("transfer-encoding", "").lower():
            self._state = "chunk size"
        elif length is None:
            self._state, self.reusable = "until close", False
        elif not length.isdecimal():
            raise NotHttpError(f"the body's length reads {length[:30]!r}")
        else:
            self._left = int(length)
            self._state = "body" if self._left else "done"

    def _read_counted(self) -> bool:
        taken = self._buffer[: self._left]
        del self._buffer[: len(taken)]
        self.body += taken
        self._left -= len(taken)
        if self._left:
            return False
        self._state = "done" if self._state == "body" else "chunk size"
        return True

    def _read_chunk_size(self) -> bool:
        line = self._line()
        if line is None:
            return False
        if not line:  # the end of the chunk before
            return True
        try:
            self._left = int(line.partition(b";")[0], 16)
        except ValueError:
            raise NotHttpError(f"the size of a chunk reads {line[:30]!r}") from None
        if self._left < 0:
            raise NotHttpError("a chunk of negative size")
        self._state = "chunk" if self._left else "trailer"
        return True

    def _read_trailer(self) -> bool:
        line = self._line()
        if line == b"":
            self._state = "done"
        return line is not None


class Connection(asyncio.Protocol):
    """One connection. Whoever takes it out of the pool uses it alone."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._reply: RawReply | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self.closed = False
        self.idle_since = 0.0

    async def exchange(self, head: bytes, body: bytes) -> RawReply:
        """Sends a request and reads the whole reply. Cancelled or failed, the connection is closed."""
        reply = self._reply = RawReply()
        waiting = self._waiting = asyncio.get_running_loop().create_future()
        try:
            if len(body) <= WRITE_BYTES:
                self._transport.write(head + body)
            else:
                await self._write_slowly(head, body)
            await waiting
        except BaseException:
            self.closed = True
            self._transport.abort()  # at once, so that the server stops too
            raise
        finally:
            self._waiting = None
        if not reply.reusable:
            self.close()
        return reply

    def close(self) -> None:
        self.closed = True
        self._transport.close()

    async def _write_slowly(self, head: bytes, body: bytes) -> None:
        self._transport.write(head)
        for start in range(0, len(body), WRITE_BYTES):
            self._transport.write(body[start : start + WRITE_BYTES])
            if self._writable is not None:
                await self._writable
            if self.closed:
                return

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def data_received(self, data: bytes) -> None:
        waiting, reply = self._waiting, self._reply
        if waiting is None or reply is None or waiting.done():
            self.close()  # nobody asked
            return
        try:
            if reply.feed(data):
                waiting.set_result(None)
        except NotHttpError as error:
            waiting.set_exception(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self.resume_writing()
        waiting, reply = self._waiting, self._reply
        if waiting is None or reply is None or waiting.done():
            return
        if exc is None and reply.end():
            waiting.set_result(None)
        else:
            waiting.set_exception(exc or ConnectionResetError("the server closed the connection"))

    def pause_writing(self) -> None:
        self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None


class Pool:
    """Connections of one loop to one host: as many as there are requests at once, the most recently used one first.

    Args:
        host, port, tls: where to.
    """

    def __init__(self, host: str, port: int, *, tls: bool) -> None:
        self._host = host
        self._port = port
        self._tls = tls
        self._idle: deque[Connection] = deque()
        self._addresses: list[str] = []
        self._resolved_at = -DNS_TTL_S
        self._resolving = asyncio.Lock()
        self._open: set[Connection] = set()

    async def post(self, head: bytes, body: bytes, connect_timeout_s: float) -> RawReply:
        """One exchange.

        Raises:
            ConnectFailedError, ConnectTimeoutError: nothing was sent.
            OSError, NotHttpError: as they come, after that.
        """
        connection = self._take_idle() or await self._connect(connect_timeout_s)
        try:
            reply = await connection.exchange(head, body)
        finally:
            if connection.closed:
                self._open.discard(connection)
        if not connection.closed:
            connection.idle_since = time.monotonic()
            self._idle.append(connection)
        return reply

    def close(self) -> None:
        for connection in self._open:
            connection.close()
        self._open.clear()
        self._idle.clear()

    def _take_idle(self) -> Connection | None:
        oldest = time.monotonic() - IDLE_S
        while self._idle and (self._idle[0].closed or self._idle[0].idle_since < oldest):
            stale = self._idle.popleft()
            self._open.discard(stale)
            stale.close()
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed:
                return connection
            self._open.discard(connection)
        return None

    async def _connect(self, timeout_s: float) -> Connection:
        try:
            async with asyncio.timeout(timeout_s):
                connection = await self._connect_to_any(await self._resolve())
        except TimeoutError:
            raise ConnectTimeoutError from None
        except OSError as error:  # also of TLS
            raise ConnectFailedError(error) from None
        self._open.add(connection)
        return connection

    async def _connect_to_any(self, addresses: list[str]) -> Connection:
        loop = asyncio.get_running_loop()
        context = tls_context() if self._tls else None
        for number, address in enumerate(addresses, 1):
            try:
                _, connection = await loop.create_connection(
                    Connection, address, self._port, ssl=context, server_hostname=self._host if self._tls else None
                )
            except ssl.SSLError:
                raise
            except OSError:
                if number == len(addresses):
                    self._resolved_at = -DNS_TTL_S
                    raise
            else:
                return connection
        raise OSError(f"{self._host} has no address")

    async def _resolve(self) -> list[str]:
        """A thousand connections at once ask for the address once."""
        async with self._resolving:
            now = time.monotonic()
            if now - self._resolved_at >= DNS_TTL_S:
                found = await asyncio.get_running_loop().getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
                self._addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
                self._resolved_at = now
            return self._addresses


class ConnectTimeoutError(Exception):
    """No connection within the time allowed."""


class ConnectFailedError(Exception):
    """No connection, so nothing was sent. ``cause`` is the socket's own error."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause


@cache
def tls_context() -> ssl.SSLContext:
    return ssl.create_default_context()
