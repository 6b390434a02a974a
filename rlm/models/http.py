"""HTTP transport: one POST of JSON to one endpoint, at low cost, with transport faults translated to the error tree.

One attempt a call: retries and limits on connections are decided above, for the whole run. It knows no provider's format. The key
is in each request's headers and never in an error message.

Connections and the parser are aiohttp's. Its ``ClientSession`` is not used, because it serves redirects, cookies and traces. It
would take three times as long as everything else here, and a waiting call would hold thirty objects more.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError, StreamWriter

from rlm.core.errors import (
    ConfigurationError,
    MalformedReplyError,
    ModelError,
    ModelTimeoutError,
    ProviderUnreachableError,
)
from rlm.core.public_text import PUBLIC
from rlm.core.values import frozen
from rlm.models.addresses import Address, find_proxy
from rlm.models.bodies import (
    ACCEPTED_ENCODINGS,
    MAX_ERROR_BYTES,
    MAX_REPLY_BYTES,
    MAX_STREAM_BYTES,
    BodyDecoder,
    BodyError,
    BodyTooLargeError,
)
from rlm.models.sockets import MAX_RETRY_S, RETRY_S, Connector, SocketGate, gate, is_out_of_descriptors
from rlm.models.sse import looks_like_events

CONNECT_TIMEOUT_S = 10.0
THIS_MACHINE = frozenset({"127.0.0.1", "::1", "localhost"})
_DNS_TTL_S = 300
_EVENTS = "text/event-stream"
_ONE_WRITE_BYTES = 1 << 20  # of larger bodies, the transport would copy all that the socket does not take
_PIECE_BYTES = 256 << 10
_READ_BYTES = 64 << 10


@frozen
class HttpReply:
    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpEndpoint:
    """An endpoint with persistent connections, and no connection limit of its own: ``sockets`` has that of the process.

    Connections belong to an event loop, so each loop gets its own session at its first call. Proxies come from the environment
    (``HTTPS_PROXY``, ``NO_PROXY``), read once. Without ``timeout_s`` the caller sets the deadline.
    """

    def __init__(
        self,
        address: Address,
        *,
        model: str,
        headers: Mapping[str, str],
        timeout_s: float | None = None,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
    ) -> None:
        self._url = address.url
        self._model = model
        authorization = {"Authorization": address.authorization} if address.authorization else {}
        self._headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": ACCEPTED_ENCODINGS,
            **headers,
            **authorization,
        }
        _check_headers(self._headers, model)
        self._timeout_s = timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._proxy = find_proxy(self._url)
        PUBLIC.add_hosts([self._url.host, None if self._proxy is None else self._proxy.host])
        self._pools: WeakKeyDictionary[asyncio.AbstractEventLoop, _Pool] = WeakKeyDictionary()

    @property
    def address(self) -> str:
        """The URL without its query, fit for error messages."""
        return str(self._url.with_query(None))

    def post(self, body: bytes, feed: Callable[[bytes], bool] | None = None) -> Coroutine[Any, Any, HttpReply]:
        """Sends ``body`` and reads the whole response, whatever its status. Cancelling closes the connection.

        Args:
            body: the JSON of the request.
            feed: receives a streamed response as it arrives, until it returns True. The body of the returned response is then
                empty. The first bytes decide, not the content type. Any other response (an error, a server that does not
                stream) is read whole.

        Raises:
            ProviderUnreachableError, ModelTimeoutError, MalformedReplyError: no complete HTTP response arrived.
        """
        return self._exchange(body, feed) if self._timeout_s is None else self._exchange_in_time(body, feed)

    async def _exchange_in_time(self, body: bytes, feed: Callable[[bytes], bool] | None) -> HttpReply:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._exchange(body, feed)
        except TimeoutError:
            raise ModelTimeoutError(
                f"{self._model}: no complete reply within {self._timeout_s:g} s. "
                "Allow more time (timeout_s), or ask for a shorter reply",
                model=self._model,
            ) from None

    async def _exchange(self, body: bytes, feed: Callable[[bytes], bool] | None) -> HttpReply:
        """One request and its response on one connection, which returns to its pool if both are complete."""
        pool = self._pool()
        fault: ModelError
        connection: aiohttp.connector.Connection | None = None
        writing: asyncio.Task[None] | None = None
        if not pool.sockets.try_acquire():
            await pool.sockets.acquire()
        try:
            connection = await pool.connect()
            protocol = connection.protocol
            if protocol is None or protocol.transport is None:
                raise aiohttp.ServerDisconnectedError
            protocol.set_response_params(read_until_eof=True, auto_decompress=False, read_bufsize=_READ_BYTES)
            writing = _write(protocol, pool.head(len(body), streams=feed is not None), body)
            message, payload = await protocol.read()
            while 100 <= message.code < 200 and message.code != 101:
                message, payload = await protocol.read()
            if feed is None or message.code != 200:
                whole = await _read_body(message.code, message.headers, payload)
            else:
                whole = await _read_events(message.headers, payload, feed)
            if writing is None or writing.done():
                connection.release()  # closes it unless the response was read to its end
            return HttpReply(message.code, message.headers, whole)
        except (aiohttp.ClientError, HttpProcessingError, OSError, BodyError) as error:
            fault = self._translate(error)
        finally:
            if connection is not None:
                if writing is not None and not writing.done():
                    writing.cancel()
                    if connection.transport is not None:
                        connection.transport.abort()  # instead of sending the rest of the body
                connection.close()  # without effect after its release
            pool.sockets.release()
        # Raised outside the handler: aiohttp's errors hold the request's headers, and so the key.
        raise fault

    async def aclose(self) -> None:
        """Closes the connections of this loop, and those of other loops that still run."""
        here = asyncio.get_running_loop()
        for loop, pool in list(self._pools.items()):
            if loop is here:
                await pool.connector.close()
            elif loop.is_running():
                asyncio.run_coroutine_threadsafe(pool.connector.close(), loop)
            elif not loop.is_closed():
                pool.connector.close_idle(pool.connector.idle)
        self._pools.clear()

    def _pool(self) -> _Pool:
        loop = asyncio.get_running_loop()
        pool = self._pools.get(loop)
        if pool is None:
            request = aiohttp.ClientRequest("POST", self._url, headers=self._headers, proxy=self._proxy, loop=loop)
            pool = self._pools[loop] = _Pool(request, self._connect_timeout_s)
        return pool

    def _translate(self, error: Exception) -> ModelError:
        if isinstance(error, BodyError):
            return MalformedReplyError(
                f"{self._model}: {self.address} sent {error}. Check that it implements the API of this provider name",
                model=self._model,
            )
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return _unreached(
                ProviderUnreachableError(
                    f"{self._model}: no connection to {self.address} within {self._connect_timeout_s:g} s. "
                    "Check the address, the network and any proxy",
                    model=self._model,
                )
            )
        if isinstance(error, aiohttp.ClientHttpProxyError | aiohttp.ClientProxyConnectionError):
            return _unreached(self._translate_proxy(error))
        if isinstance(error, aiohttp.ClientSSLError):
            reason, advice = "the TLS handshake failed", "check the address and the certificates of this machine"
        elif isinstance(error, aiohttp.ClientConnectorError):
            reason = error.os_error.strerror or type(error.os_error).__name__
            advice = "is the server running, and is the address right?"
        elif isinstance(error, aiohttp.ClientResponseError | HttpProcessingError):
            return MalformedReplyError(
                f"{self._model}: {self.address} does not answer in HTTP ({error.message}). Check the address",
                model=self._model,
            )
        else:
            reason, advice = f"the connection broke ({type(error).__name__})", "usually a retry succeeds"
        fault = ProviderUnreachableError(
            f"{self._model}: cannot reach {self.address}: {reason}; {advice}", model=self._model
        )
        if not isinstance(error, aiohttp.ClientConnectorError):
            return fault
        refused_here = isinstance(error.os_error, ConnectionRefusedError) and self._url.host in THIS_MACHINE
        fault.hopeless = refused_here or isinstance(error, aiohttp.ClientConnectorDNSError)
        return _unreached(fault)

    def _translate_proxy(
        self, error: aiohttp.ClientHttpProxyError | aiohttp.ClientProxyConnectionError
    ) -> ProviderUnreachableError:
        if isinstance(error, aiohttp.ClientHttpProxyError):
            reason = f"refused the tunnel ({error.status} {error.message})"
        else:
            reason = f"cannot be reached ({error.os_error.strerror or type(error.os_error).__name__})"
        proxy = self._proxy.with_user(None) if self._proxy is not None else ""
        return ProviderUnreachableError(
            f"{self._model}: the proxy {proxy} {reason}, so nothing was sent to {self.address}. "
            f"Check {self._url.scheme.upper()}_PROXY and NO_PROXY in the environment",
            model=self._model,
        )


def _unreached(fault: ProviderUnreachableError) -> ProviderUnreachableError:
    """Marks a fault before any connection was up, so that nothing can have been billed."""
    fault.reached = False
    return fault


class _Pool:
    """The connections of one event loop to an endpoint, and the head that all its requests share."""

    def __init__(self, request: aiohttp.ClientRequest, connect_timeout_s: float) -> None:
        """``request`` says where to connect. It is never sent itself."""
        self.sockets: SocketGate = gate()
        self.connector = Connector(limit=0, ttl_dns_cache=_DNS_TTL_S)
        self.sockets.connectors.add(self.connector)
        self._request = request
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout_s)
        self._heads: dict[bool, bytes] = {}

    async def connect(self) -> aiohttp.connector.Connection:
        """An idle connection, or a new one. Waits while the process has no descriptor for it."""
        delay_s = RETRY_S
        while True:
            try:
                return await self.connector.connect(self._request, [], self._timeout)
            except TimeoutError as error:
                raise aiohttp.ConnectionTimeoutError from error
            except OSError as error:
                if not is_out_of_descriptors(error):
                    raise
            self.sockets.drop_all_idle()
            await asyncio.sleep(delay_s)  # bounded by the deadline of the call
            delay_s = min(2 * delay_s, MAX_RETRY_S)

    def head(self, length: int, *, streams: bool) -> bytes:
        """The request line and the headers of a request with a body of this length. Called with a connection."""
        head = self._heads.get(streams)
        if head is None:
            head = self._heads[streams] = self._write_head(streams=streams)
        return b"%bContent-Length: %d\r\n\r\n" % (head, length)

    def _write_head(self, *, streams: bool) -> bytes:
        request = self._request
        # A proxy of plain HTTP needs the whole address. The connector has added its authorization to the headers.
        target = str(request.url) if request.proxy and not request.is_ssl() else request.url.raw_path_qs
        headers = request.headers.copy()
        headers.pop("Content-Length", None)
        headers.pop("Transfer-Encoding", None)
        if streams:
            headers["Accept"] = _EVENTS
        lines = [f"POST {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), ""]
        return "\r\n".join(lines).encode()


def _check_headers(headers: Mapping[str, str], model: str) -> None:
    """Rejects headers that would end before their value does.

    Raises:
        ConfigurationError: a name or value has a line break or a null byte.
    """
    for name, value in headers.items():
        if any(char in name or char in value for char in "\r\n\0"):
            raise ConfigurationError(f"{model}: the header {name!r} must be one line of text. Remove its line breaks")


def _write(protocol: ResponseHandler, head: bytes, body: bytes) -> asyncio.Task[None] | None:
    """Writes a request. A large body is written piece by piece in a task, because the response can come before its end."""
    assert protocol.transport is not None
    if len(body) <= _ONE_WRITE_BYTES:
        protocol.transport.write(head + body)
        return None
    protocol.transport.write(head)
    return asyncio.create_task(_write_pieces(protocol, memoryview(body)))


async def _write_pieces(protocol: ResponseHandler, body: memoryview) -> None:
    writer = StreamWriter(protocol, asyncio.get_running_loop())
    with contextlib.suppress(OSError, aiohttp.ClientError):  # the reading side gets the error as well
        for start in range(0, len(body), _PIECE_BYTES):
            await writer.write(body[start : start + _PIECE_BYTES])


async def _read_body(status: int, headers: Mapping[str, str], payload: aiohttp.StreamReader) -> bytes:
    """The body. Of a longer error the beginning is enough.

    Raises:
        BodyError: the body of a reply exceeds its limit, or is damaged.
    """
    is_error = status >= 300
    if payload.is_eof() and not is_error and "Content-Encoding" not in headers:
        return payload.read_nowait()  # it has arrived with the head, which is less than the limit
    pieces: list[bytes] = []
    try:
        decoder = _open_decoder(headers, MAX_ERROR_BYTES if is_error else MAX_REPLY_BYTES)
        async for data in payload.iter_any():
            pieces.extend(decoder.feed(data))
    except BodyError:
        if not is_error:
            raise
    return b"".join(pieces)


async def _read_events(
    headers: Mapping[str, str], payload: aiohttp.StreamReader, feed: Callable[[bytes], bool]
) -> bytes:
    """Passes a stream of events to ``feed`` and returns nothing, or returns the whole body of any other response."""
    head = bytearray()
    streams: bool | None = None
    decoder = _open_decoder(headers, MAX_STREAM_BYTES)
    async for data in payload.iter_any():
        for piece in decoder.feed(data):
            if not streams:
                head += piece
            if streams is None:
                streams = looks_like_events(head)
                stop = bool(streams) and feed(bytes(head))
            else:
                stop = streams and feed(piece)
            if stop:
                return b""
            if not streams and len(head) > MAX_REPLY_BYTES:
                raise BodyTooLargeError(MAX_REPLY_BYTES)
    return b"" if streams else bytes(head)


def _open_decoder(headers: Mapping[str, str], limit: int) -> BodyDecoder:
    return BodyDecoder(headers.get("Content-Encoding", ""), limit)
